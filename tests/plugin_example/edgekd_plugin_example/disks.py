"""A data source that draws its images: small and large white disks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgekd.core.errors import DataError
from edgekd.data.sources import Item, Source, SourceFacts

PX = 32
RADIUS = {"small": 4, "large": 9}


class Disks:
    """`count` images of disks at random places."""

    labels = None

    def __init__(self, count: int) -> None:
        self.name = f"disks:{count}"
        self.count = count
        self.facts = SourceFacts(
            licence="CC0-1.0", source="disks drawn by the example plug-in", synthetic=True
        )

    def items(self) -> list[Item]:
        """Every image: small and large disks in turn."""
        return [Item(f"{i:05d}", list(RADIUS)[i % 2]) for i in range(self.count)]

    def load(self, item: Item) -> NDArray[np.uint8]:
        """One image, uint8 [32, 32]."""
        radius = RADIUS[item.label]
        x, y = np.random.default_rng(int(item.name)).integers(radius, PX - radius, 2)
        rows, columns = np.ogrid[:PX, :PX]
        return np.uint8(255) * ((rows - y) ** 2 + (columns - x) ** 2 <= radius**2).astype(np.uint8)

    def native_px(self) -> int:
        """The side of every image."""
        return PX

    def fingerprint(self) -> str:
        """The name decides every pixel."""
        return self.name


def open_disks(argument: str) -> Source:
    """The source of `--data disks:COUNT`."""
    if not argument.isdecimal():
        raise DataError(f"disks:{argument}: {argument!r} is no number", "for example disks:200")
    return Disks(int(argument))
