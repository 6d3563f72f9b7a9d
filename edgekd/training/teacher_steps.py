"""What each step of making a teacher gained it, on the validation images.

A step is one way to make or to ask the teacher, such as a head on other features. The report shows
them beside each other.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgekd.core.artifacts import Dataset, Json
from edgekd.data import datasets
from edgekd.evaluation import metrics
from edgekd.training.losses import label_losses


@dataclasses.dataclass(frozen=True)
class TeacherStep:
    """One step. `figures`: top-1, and AUC where every class has an image, on validation images.

    `cross_entropy`: on the same images; it also says how well the answers' confidence fits.
    `held_out`: the cross-entropy in the cross-validation on training images that chose the step,
    if there was one. `kept`: whether the teacher that teaches has this step.
    """

    what: str
    figures: dict[str, float]
    cross_entropy: float
    kept: bool
    held_out: float | None = None

    @property
    def top1(self) -> float:
        return self.figures["top1"]

    def to_json(self) -> Json:
        """The step as report.json has it (`reporting.network_record.TeacherStep`)."""
        found: dict[str, Json] = {"step": self.what, **self.figures}
        found |= {"cross_entropy": self.cross_entropy, "kept": self.kept}
        return found if self.held_out is None else {**found, "held_out": self.held_out}


@dataclasses.dataclass(frozen=True)
class Judge:
    """The validation images. `labels`: as `datasets.training_labels` has them, int64."""

    rows: Tensor
    labels: NDArray[np.int64]

    @classmethod
    def of(cls, dataset: Dataset) -> Judge:
        rows = datasets.rows(dataset, "val")
        return cls(torch.from_numpy(rows), datasets.training_labels(dataset)[rows].astype(np.int64))

    def step(
        self, what: str, logits: Tensor, kept: bool = True, held_out: float | None = None
    ) -> TeacherStep:
        """The step of a teacher that answers the validation images with `logits` [n, k]."""
        kind = metrics.kind(self.labels)
        truth = label_losses.soften(torch.from_numpy(self.labels), logits.shape[1], 0.0)
        loss = label_losses.fit(kind)(logits.float(), truth, None)
        return TeacherStep(
            what, metrics.quick(logits.numpy(), self.labels), float(loss), kept, held_out
        )
