"""iOS: vImageScale of Accelerate, and MPSImageLanczosScale, which resample with Lanczos.

Apple documents that vImage takes Lanczos-3 unless kvImageHighQualityResampling is set, and no more:
developer.apple.com, Accelerate, "kvImageHighQualityResampling", and Metal Performance Shaders,
"MPSImageLanczosScale". How places at the edges are treated and how results are rounded is not
documented. Here the edge pixel is repeated and results are rounded to the nearest.

It was not compared with an iPhone. `UIImage.draw` and CGContext have an interpolation quality whose
algorithm Apple does not document.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgekd.data.resizers.antialiased import Weights, lanczos3

Pixels = NDArray[np.uint8]

REACH = 3  # of Lanczos-3, in results


def resize(image: Pixels, width: int, height: int) -> Pixels:
    """uint8 [h, w] or [h, w, 3] at another size."""
    if image.shape[:2] == (height, width):
        return np.ascontiguousarray(image)
    rows, columns = (
        weights(source, target).astype(np.float32)
        for source, target in ((image.shape[0], height), (image.shape[1], width))
    )
    mixed = np.tensordot(rows, image.astype(np.float32), (1, 0))
    mixed = np.moveaxis(np.tensordot(columns, mixed, (1, 1)), 0, 1)
    return np.asarray(np.clip(np.rint(mixed), 0, 255), np.uint8)


def weights(source: int, target: int) -> Weights:
    """The same along one side, without rounding."""
    scale = source / target
    wide = max(scale, 1.0)
    edge = int(np.ceil(REACH * wide))  # places that a result may read beyond the image
    places = np.arange(-edge, source + edge)
    centre = (np.arange(target) + 0.5) * scale
    found = lanczos3((places - centre[:, None] + 0.5) / wide)
    inside = found[:, edge : edge + source].copy()
    inside[:, 0] += found[:, :edge].sum(1)
    inside[:, -1] += found[:, edge + source :].sum(1)
    return np.asarray(inside / inside.sum(1, keepdims=True))
