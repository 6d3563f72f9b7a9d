"""The frame that a model with its resize inside takes, and the part of it that it looks at."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Self

# Pixels along a side that become one. The mean of an odd number of codes never lies halfway between
# two codes, and runtimes round halves differently: of means of four, one in four is a half. With
# more than 7 the frame costs more than the network.
FACTORS = (3, 5, 7)


@dataclasses.dataclass(frozen=True)
class Frame:
    """A frame of `height` x `width` pixels for a network of `px` x `px`.

    The file cuts out the largest centred square whose side is one of FACTORS times `px`, and takes
    the mean of each `factor` x `factor` pixels of it. Raises ValueError for a frame that is smaller
    than the smallest of them.
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
