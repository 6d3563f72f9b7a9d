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
import math
from collections.abc import Sequence

# Each rung trains about so many times as long as the one before, and one in so many candidates is
# promoted.
FACTOR = 3
# Rungs of the student's training, where it is long enough: a ninth, a third, and the whole of it.
RUNGS = 3
# Steps of the optimiser before the first rung. On two data sets of 700 images, the AUC after 147
# steps had a rank correlation of 0.83 with the final test AUC. After 42 steps it was 0.25 and 0.30,
# after 105 steps 0.77 and 0.43 (docs/measured/search.md). No longer training was measured.
FEWEST_STEPS = 140
BATCH = 32  # what a build on a CPU chooses where distil.batch is 0 (`training.batch_rule.BASE`)


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


def fewest_epochs(images: int, batch: int) -> int:
    """The epochs of the first rung, at least: FEWEST_STEPS steps.

    `images`: for training. `batch`: as distil.batch; 0 stands for the batch on a CPU.
    """
    steps = max(1, images // (batch or BATCH))
    return math.ceil(FEWEST_STEPS / steps)


def lengths(epochs: int, fewest: int = 1) -> tuple[int, ...]:
    """The epochs at each rung of a training of `epochs` epochs, in all: by about FACTOR from rung
    to rung, and at least `fewest` at the first one (see `fewest_epochs`).
    """
    first = max(fewest, round(epochs / FACTOR ** (RUNGS - 1)), 1)
    if first >= epochs:
        return (epochs,)
    times = epochs / first
    count = max(1, round(math.log(times, FACTOR)))
    return tuple(sorted({round(epochs / times ** (part / count)) for part in range(count + 1)}))


def rungs(epochs: Sequence[int], *, pruned: bool) -> list[Rung]:
    """Rungs of these lengths, the cheapest first. `pruned`: whether a last one prunes."""
    parts = [(end, Part.DISTIL) for end in epochs]
    if pruned:
        parts.append((epochs[-1], Part.PRUNE))
    return [Rung(number, end, part) for number, (end, part) in enumerate(parts)]
