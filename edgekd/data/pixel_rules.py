"""The rules by which the image files of a data set become pixels of one size.

The stage "data" makes them from the settings and from all images together. It stores what it
decided (`Depth`), so that the stage "inputs" makes the same pixels from the same files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping
from types import MappingProxyType

from edgekd.core.artifacts import Json
from edgekd.core.records import UNSET, from_json, present
from edgekd.data.bit_depth import FRACTIONS, SCALED, Wide
from edgekd.data.depth_record import Depth, WindowKind
from edgekd.settings.recipe import DataConfig


@dataclasses.dataclass(frozen=True)
class Window:
    """How the values of a DICOM file become grey levels. `number`: which window, from 1."""

    kind: WindowKind = WindowKind.FILE
    number: int = 1


FIRST_WINDOW = Window()


@dataclasses.dataclass(frozen=True)
class PixelRules:
    """How the image files of a data set become pixels of one size.

    `px`, `fit`: as in `images.fit`. `window`: for DICOM files. `bits`: data.bits, or 0. `whites`:
    what `bit_depth.decide` found, by group.
    """

    px: int
    fit: str
    window: Window = FIRST_WINDOW
    bits: int = 0
    whites: Mapping[str, float] = MappingProxyType({})

    def key(self) -> Hashable:
        """Equal for rules that make the same pixels."""
        return self.px, self.fit, self.window, self.bits, frozenset(self.whites.items())

    def white(self, wide: Wide) -> float | None:
        """What is white in an image, or None where it is not decided yet."""
        if self.bits and wide.group not in (SCALED, FRACTIONS):
            return 2.0**self.bits - 1
        return self.whites.get(wide.group) if wide.white is None else wide.white

    def depth(self, images: int, clipped: int) -> Depth:
        """What is stored of these rules. `images`, `clipped`: as in `Depth`."""
        return Depth(
            images=images,
            clipped=clipped,
            whites=dict(self.whites),
            bits=self.bits or UNSET,
            window=UNSET if self.window == FIRST_WINDOW else self.window.kind,
            window_number=UNSET if self.window == FIRST_WINDOW else self.window.number,
        )


def from_settings(config: DataConfig, px: int) -> PixelRules:
    """The rules of a recipe, before the images are seen."""
    window = Window(WindowKind(config.window), config.window_number)
    return PixelRules(px, config.fit, window, config.bits)


def from_facts(facts: Mapping[str, Json], px: int, fit: str) -> PixelRules:
    """The rules that a data set was made by (`Dataset.facts`), for images of another size."""
    if "depth" not in facts:
        return PixelRules(px, fit)
    depth = from_json(Depth, facts["depth"], "the facts of the data set")
    window = Window(
        present(depth.window) or FIRST_WINDOW.kind,
        present(depth.window_number) or FIRST_WINDOW.number,
    )
    return PixelRules(px, fit, window, present(depth.bits) or 0, depth.whites)
