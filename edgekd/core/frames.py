"""The frame that a model with its resize inside takes, the part of it that it looks at, and the
weights by which it reduces that part.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Self

# Pixels along a side that become one. With these, the file gives the pixels of Pillow's BILINEAR.
# Pillow divides by rounded weights, so that with 6 a mean halfway between two pixels goes either
# way. With 5 this happens to one value in 50,000 of noise, at the edge. With more than 7 the frame
# costs more than the network.
FACTORS = (2, 3, 4, 5, 7)
USUAL_FACTOR = 3
MOST = 127  # the largest code of an int8 weight


@dataclasses.dataclass(frozen=True)
class Filter:
    """A weighted mean of pixels side by side, by whole numbers: sum(weights * pixels) / total.

    An int8 file multiplies the pixels by `codes`, which are the weights times `fineness`, adds
    `nudge`, and divides by `divisor`. The nudge is about a quarter of the least difference between
    two means. It moves a mean that lies halfway between two codes up, as Pillow rounds it, and
    moves no other mean past a half. So kernels that round halves differently give the same pixels.
    """

    weights: tuple[int, ...]

    @property
    def fineness(self) -> int:
        """What weights are multiplied by, so that they use the int8 range."""
        return MOST // max(self.weights)

    @property
    def codes(self) -> list[int]:
        """The weights as an int8 file holds them."""
        return [weight * self.fineness for weight in self.weights]

    @property
    def divisor(self) -> int:
        """The sum of `codes`."""
        return sum(self.weights) * self.fineness

    @property
    def nudge(self) -> int:
        """What is added to the sum of products."""
        return self.fineness // 4


@dataclasses.dataclass(frozen=True)
class Frame:
    """A frame of `height` x `width` pixels for a network of `px` x `px`.

    The file cuts out the largest centred square whose side is one of FACTORS times `px`, and
    reduces it as Pillow's BILINEAR does: a triangle of weights, `factor` pixels to either side,
    along the rows and then along the columns, each time rounded to whole pixels. Weights outside
    the square are left out. Raises ValueError for a frame that is smaller than the smallest square.
    """

    height: int
    width: int
    px: int

    @classmethod
    def of(cls, sides: Sequence[int], px: int) -> Self | None:
        """The frame of a list [height, width]; None for an empty one."""
        return cls(int(sides[0]), int(sides[1]), px) if sides else None

    @property
    def sides(self) -> list[int]:
        """[height, width]."""
        return [self.height, self.width]

    @property
    def factor(self) -> int:
        """Pixels along a side that become one."""
        fitting = [each for each in FACTORS if each * self.px <= min(self.height, self.width)]
        return max(fitting)

    @property
    def whole(self) -> bool:
        """Whether the file looks at all of it."""
        return self.sides == [self.side, self.side]

    @property
    def side(self) -> int:
        """The side of the square that the file looks at."""
        return self.factor * self.px

    @property
    def top(self) -> int:
        """The first row of the square."""
        return (self.height - self.side) // 2

    @property
    def left(self) -> int:
        """The first column of the square."""
        return (self.width - self.side) // 2

    @property
    def filter(self) -> Filter:
        """Of every place of the result but the first and the last.

        That of place i begins `outside` pixels before pixel factor * i.
        """
        # At pixel p the triangle is 1 - |p + 0.5 - centre| / factor. The centre of a place is the
        # middle of a pixel where the factor is odd, and lies between two where it is even.
        step = 2 - self.factor % 2
        rising = range(1, step * self.factor + 1, step)
        falling = list(reversed(rising))
        return Filter((*rising, *falling[self.factor % 2 :]))

    @property
    def outside(self) -> int:
        """Pixels of the first filter that lie before the first pixel of the square."""
        return self.factor // 2

    @property
    def first_filter(self) -> Filter:
        """Of the first place: it begins at the first pixel. The last place has its mirror image."""
        return Filter(self.filter.weights[self.outside :])

    @property
    def last_filter(self) -> Filter:
        """Of the last place: it ends at the last pixel."""
        return Filter(self.first_filter.weights[::-1])
