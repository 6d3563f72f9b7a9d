"""95 % intervals of a share, and how many images it takes to tell a share from a bound."""

from __future__ import annotations

import math

Interval = tuple[float, float]  # lower bound, upper bound

Z95 = 1.959964  # two-sided 95 % point of the normal distribution


def wilson(share: float, n: int) -> Interval:
    """95 % score interval of a share of n (Wilson 1927)."""
    centre = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n)) / (1 + Z95**2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def images_to_tell(share: float, bound: float) -> int | None:
    """The number of images from which the interval of `share` no longer holds `bound`.

    The score interval ends at the bound where (share - bound)^2 = z^2 * bound * (1 - bound) / n
    (Wilson 1927). None if the share equals the bound: no number of images tells them apart.
    """
    if share == bound:
        return None
    return math.floor(Z95**2 * bound * (1 - bound) / (share - bound) ** 2) + 1


def difference(before: float, before_ci: Interval, after: float, after_ci: Interval) -> Interval:
    """95 % interval of `after` less `before`, from the interval of each.

    Newcombe 1998, Statistics in Medicine 17, 873-890, method 10, which assumes that the two are
    independent. Figures from the same images are not, and their interval is too wide rather than
    too narrow.
    """
    value = after - before
    low = value - math.hypot(after - after_ci[0], before_ci[1] - before)
    high = value + math.hypot(after_ci[1] - after, before - before_ci[0])
    return low, high
