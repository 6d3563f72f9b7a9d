"""Two neighbours on each side: what bilinear filters without antialiasing read."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from edgekd.data.resizers.antialiased import Weights

Places = NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """For each of n results the two source places that it reads, int64 [n], and the share of the
    second one, float64 [n].
    """

    first: Places
    second: Places
    share: Weights

    def weights(self, source: int) -> Weights:
        """As a matrix [n, source]."""
        found = np.zeros((len(self.first), source))
        rows = np.arange(len(self.first))
        np.add.at(found, (rows, self.first), 1.0 - self.share)
        np.add.at(found, (rows, self.second), self.share)
        return found


def half_pixel(source: int, target: int) -> Neighbours:
    """Neighbours of (x + 0.5) * source / target - 0.5: pixels have their centres at halves. A place
    outside the image becomes the nearest one inside.
    """
    # In float32, as OpenCV and Skia count.
    place = ((np.arange(target) + 0.5) * (source / target) - 0.5).astype(np.float32)
    below = np.floor(place)
    share = (place - below).astype(np.float64)
    first = below.astype(np.int64)
    return Neighbours(
        np.clip(first, 0, source - 1),
        np.clip(first + 1, 0, source - 1),
        share,
    )
