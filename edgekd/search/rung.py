"""Rungs: how far each candidate is trained before the better ones go on (successive halving).

The rungs of the student's training pause after some epochs; a candidate that is promoted goes on
from there, and the last of these rungs is the whole training. So a finalist's build takes the
trained student from the store, byte for byte the one that a build without a search would train.

Pruning comes after the whole training. Candidates that differ only in the share pruned, or in the
number format, are one training until then (`trial.Trials.family`), and share its score. A last rung
prunes and fine-tunes, and tells them apart. There is no cheaper honest way: a student that is cut
early is another network than the one that a build cuts at the end.
"""

from __future__ import annotations

import dataclasses
import enum

# Each rung trains so many times as long as the one before, and about one in so many candidates is
# promoted.
FACTOR = 3
# Rungs of the student's training; the first has FACTOR ** (RUNGS - 1) times fewer epochs than the
# last.
RUNGS = 3


class Part(enum.StrEnum):
    """The stage of a build that a rung trains in."""

    DISTIL = "distil"
    PRUNE = "prune"


@dataclasses.dataclass(frozen=True)
class Rung:
    """How far candidates are trained before they are compared.

    `number`: from 0. `epochs`: of the student's training, in all and not since the rung before.
    `part`: PRUNE cuts and fine-tunes the whole trained student; then `epochs` is the whole number.
    """

    number: int
    epochs: int
    part: Part = Part.DISTIL


def rungs(epochs: int, *, pruned: bool, count: int = RUNGS, factor: int = FACTOR) -> list[Rung]:
    """The rungs of a search whose students train for `epochs` epochs, the cheapest first.

    `pruned`: whether there are candidates to prune, which adds a last rung. A training that is too
    short for `count` different rungs has fewer.
    """
    shares = (factor**power for power in reversed(range(count)))
    lengths = sorted({max(1, round(epochs / share)) for share in shares})
    parts = [(length, Part.DISTIL) for length in lengths]
    if pruned:
        parts.append((epochs, Part.PRUNE))
    return [Rung(number, length, part) for number, (length, part) in enumerate(parts)]
