"""What apps do to an image before the model: other resizers, other cuts, and usual mistakes.

Each variant turns an image of any size, uint8 [h, w] or [h, w, 3], into one of the model's input
size. They show what the model's accuracy is worth in an app that does not follow deployment.json.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgekd.core.resizer_names import Resizer
from edgekd.data import images
from edgekd.data.resizers.algorithms import fitted

Pixels = NDArray[np.uint8]

# Messengers and web uploads recompress photographs to a quality of 60 to 80.
JPEG_QUALITY = 60


class VariantKind(enum.StrEnum):
    """What an app does otherwise."""

    RESIZER = "resizer"
    FIT = "fit"  # how an image that is not square is made square
    ORIENTATION = "orientation"  # the EXIF orientation of a photograph
    COMPRESSION = "compression"
    CHANNELS = "channels"


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to make the model's input. `name`: the resizer, the fit mode, or a word for it.

    `make(image)` gives uint8 [px, px] or [px, px, 3].
    """

    kind: VariantKind
    name: str
    make: Callable[[Pixels], Pixels]


def variants(px: int, fit: str, coloured: bool) -> list[Variant]:
    """All variants of a model that takes px x px pixels, fitted by `fit` with Pillow's bilinear.

    `coloured`: whether any image has colours; without them their order means nothing.
    """
    found = [
        Variant(VariantKind.RESIZER, name.value, _by(px, fit, name))
        for name in Resizer
        if name is not Resizer.PILLOW
    ]
    found += [
        Variant(VariantKind.FIT, mode, _by(px, mode, Resizer.PILLOW))
        for mode in images.FIT_MODES
        if mode != fit
    ]
    found.append(
        Variant(VariantKind.ORIENTATION, "turned", lambda image: images.fit(turned(image), px, fit))
    )
    found.append(
        Variant(
            VariantKind.COMPRESSION,
            f"jpeg{JPEG_QUALITY}",
            lambda image: images.fit(images.through_jpeg(image, JPEG_QUALITY), px, fit),
        )
    )
    if coloured:
        found.append(
            Variant(
                VariantKind.CHANNELS,
                "bgr",
                lambda image: images.as_rgb(images.fit(image, px, fit))[..., ::-1],
            )
        )
    return found


def _by(px: int, fit: str, resizer: Resizer) -> Callable[[Pixels], Pixels]:
    return lambda image: fitted(image, px, fit, resizer)


def turned(image: Pixels) -> Pixels:
    """An upright image as the file of a phone that was held upright stores it: turned by 90 degrees
    (EXIF orientation 6). An app that ignores the orientation sees this.
    """
    return np.ascontiguousarray(np.rot90(image))
