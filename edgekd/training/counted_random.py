"""Random numbers that are a function of what they are for: of an image, a seed, and a name.

SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", OOPSLA):
number k of a stream is `scramble` of its start plus k times GOLDEN. Every number can be computed
alone, so that an image's numbers depend neither on how many images there are nor on their order.
All arithmetic is that of unsigned 64-bit integers, modulo 2^64.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.uint64]

GOLDEN = 0x9E3779B97F4A7C15
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def scramble(numbers: Numbers) -> Numbers:
    """A bijection of 64-bit integers that changes about half of the bits for each changed bit."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * _FIRST
    numbers = (numbers ^ (numbers >> np.uint64(27))) * _SECOND
    return numbers ^ (numbers >> np.uint64(31))


def number(*parts: object) -> np.uint64:
    """A 64-bit number that depends on all parts and on nothing else (sha256 of their texts)."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return np.uint64(int.from_bytes(digest[:8], "little"))


def drawn(starts: Numbers, name: str) -> Numbers:
    """The number called `name` of each stream in `starts` [n]."""
    steps = int(number(name)) * GOLDEN % 2**64  # as an int, which does not warn of an overflow
    return scramble(starts + np.uint64(steps))


def shares(starts: Numbers, name: str) -> NDArray[np.float64]:
    """As `drawn`, uniform in 0 <= x < 1 with 53 bits."""
    return (drawn(starts, name) >> np.uint64(11)).astype(np.float64) * 2.0**-53
