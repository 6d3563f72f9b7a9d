"""Grey values of more than 8 bits: what is white, decided once for a whole data set.

A file may say what white is (BitsStored of DICOM, a 12-bit TIFF or JPEG 2000, a PGM's maximum).
Then that holds for the file. A 16-bit PNG says nothing, and many detectors write 10 to 14 bits into
it. Its white is decided from all such images together (`decide`), never from one image alone: one
bright pixel would otherwise make one image darker than its neighbours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgekd.core.errors import DataError
from edgekd.data.left_out import places

Grey16 = NDArray[np.uint16]

# White in a Dataset with 16-bit pixels.
FULL = 65_535
# Bits that 16-bit files are used for. Detectors of radiographs have 10, 12 or 14; 8 is an image
# that a program widened.
USUAL_BITS = (8, 10, 12, 14, 16)
# Of the images, at most this share may have stray pixels, or be much darker than the others. More
# are a set of their own with another depth.
FEW = 0.05
# Of an image's pixels, at most this share, or one pixel, are strays, such as a detector's defects.
STRAY = 0.001
# An image that never reaches 1/16 of white (4 bits less) is much darker than the others. It may
# have fewer bits.
DARK_BITS = 4

# Names of groups. That of PNGs with significant bits ends in their number.
INTEGERS, FRACTIONS, SIGNIFICANT = "integers", "fractions", "sBIT "
SCALED = "scaled"  # values that already reach from 0 to 65535


@dataclasses.dataclass(frozen=True)
class Wide:
    """A grey image of more than 8 bits, as stored.

    `values`: [height, width], unsigned integers or floats. `black`, `white`: the values that the
    file shows black and white; `white` is None where the file does not say it. `group`: which
    images share one white then. `inverted`: black and white are to be exchanged, after scaling.
    """

    values: NDArray[np.generic]
    white: float | None
    black: float = 0.0
    group: str = INTEGERS
    inverted: bool = False


@dataclasses.dataclass(frozen=True)
class Extremes:
    """How bright an image is that does not say what white is.

    `above`: {bits: pixels brighter than these bits can be}. `pixels`: how many it has.
    """

    name: str
    group: str
    high: float
    pixels: int
    above: Mapping[int, int]


def extremes(wide: Wide, name: str) -> Extremes:
    """What `decide` needs to know of an image."""
    high = float(wide.values.max())
    tops = {bits: 2**bits - 1 for bits in (*USUAL_BITS, stated_bits(wide.group))}
    above = {
        bits: int(np.count_nonzero(wide.values > top)) if high > top else 0
        for bits, top in tops.items()
    }
    return Extremes(name, wide.group, high, wide.values.size, above)


def stated_bits(group: str) -> int:
    """The significant bits that a group of PNGs states; 16 for any other group."""
    _, stated, bits = group.partition(SIGNIFICANT)
    return int(bits) if stated else 16


def scaled(wide: Wide, white: float) -> Grey16:
    """The image as uint16 [height, width], black 0 and white 65535. Values beyond are clipped."""
    share = (wide.values.astype(np.float64) - wide.black) / (white - wide.black)
    levels = np.rint(np.clip(share, 0.0, 1.0) * FULL).astype(np.uint16)
    return FULL - levels if wide.inverted else levels


def narrowed_alone(wide: Wide, name: str) -> NDArray[np.uint8]:
    """The image as uint8 [height, width], with its white decided from itself alone."""
    white = wide.white
    if white is None:
        white = decide([extremes(wide, name)])[0][wide.group]
    share = (wide.values.astype(np.float64) - wide.black) * (255 / (white - wide.black))
    levels = np.rint(np.clip(share, 0.0, 255.0)).astype(np.uint8)
    return 255 - levels if wide.inverted else levels


def narrowed(levels: NDArray[np.uint8] | Grey16) -> NDArray[np.uint8]:
    """Levels as the network's input has them: 16 bits are rounded to 8, 8 bits stay as they are."""
    if levels.dtype == np.uint8:
        return np.asarray(levels, np.uint8)
    return np.asarray((levels.astype(np.uint32) * 255 + FULL // 2) // FULL, np.uint8)


def decide(found: Sequence[Extremes]) -> tuple[dict[str, float], list[str]]:
    """What is white in each group of images, and sentences about images that stand out.

    Integers use the fewest of `USUAL_BITS` that hold all images but strays. Floats reach to 1 or to
    255. Raises DataError for a mix: many images with far fewer bits than the others.
    """
    whites: dict[str, float] = {}
    said: list[str] = []
    for group in sorted({each.group for each in found}):
        own = [each for each in found if each.group == group]
        if group == FRACTIONS:
            whites[group] = 1.0 if max(each.high for each in own) <= 1 else 255.0
            continue
        stated = group.startswith(SIGNIFICANT)
        bits, strays = _bits(own, (stated_bits(group), 16) if stated else USUAL_BITS)
        dark = [] if stated else _dark(own, bits)
        whites[group] = float(2**bits - 1)
        if strays:
            said.append(
                f"{_images(strays)} single pixels above {2**bits - 1}, and the other images of "
                f"unknown depth fit into {bits} bits: {_named(strays)}. These pixels become white; "
                "if that is wrong, set data.bits"
            )
        if dark:
            said.append(
                f"{_images(dark)} no value above {2 ** (bits - DARK_BITS) - 1}, and the other "
                f"images of unknown depth have {bits} bits: {_named(dark)}. They stay dark; if "
                "that is wrong, convert them"
            )
    return whites, said


def _bits(own: Sequence[Extremes], candidates: Sequence[int]) -> tuple[int, list[Extremes]]:
    """The fewest bits that hold all images but a few strays, and these strays."""
    for bits in candidates:
        over = [each for each in own if each.above[bits]]
        few = len(over) <= max(1, FEW * len(own)) and len(over) < len(own)
        if not over or (
            few and all(each.above[bits] <= max(1, STRAY * each.pixels) for each in over)
        ):
            return bits, over
    return 16, []


def _dark(own: Sequence[Extremes], bits: int) -> list[Extremes]:
    """The images that use far fewer bits. Raises DataError when they are many."""
    top = 2 ** (bits - DARK_BITS) - 1
    dark = [each for each in own if 0 < each.high <= top]
    if len(dark) > max(1, FEW * len(own)):
        bright = [each for each in own if each.high > top]
        raise DataError(
            f"{_images(dark)} no value above {top} ({_named(dark)}), and {_images(bright)} values "
            f"up to {max(each.high for each in bright):g} ({_named(bright)}): that looks like two "
            "bit depths, and no file says which it has",
            f"convert them to one depth, or take all of them as {bits} bits with "
            f"--set data.bits={bits}",
        )
    return dark


def _images(found: Sequence[Extremes]) -> str:
    return "1 image has" if len(found) == 1 else f"{len(found)} images have"


def _named(found: Sequence[Extremes]) -> str:
    return places([each.name for each in found])


def widened(levels: NDArray[np.uint8] | Grey16) -> Grey16:
    """Levels of 8 bits as 16 bits; those of 16 bits as they are. 255 becomes 65535."""
    if levels.dtype == np.uint16:
        return np.asarray(levels, np.uint16)
    return levels.astype(np.uint16) * np.uint16(FULL // 255)
