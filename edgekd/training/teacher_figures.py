"""How well a teacher answers the validation and the test images."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgekd.core.artifacts import Dataset, Json
from edgekd.core.records import to_json
from edgekd.data import datasets
from edgekd.evaluation import class_order, metrics
from edgekd.networks.inference import logits_of
from edgekd.training.views import Renderer


@dataclasses.dataclass(frozen=True)
class TeacherFigures:
    """A teacher with the images that it is judged by.

    `render`: draws the images at its size. `batch`: images a forward pass.
    """

    net: nn.Module
    render: Renderer
    dataset: Dataset
    batch: int
    dtype: torch.dtype

    def both(self) -> dict[str, Json]:
        """Figures on validation and test, as `metrics.evaluate` returns them."""
        return {split: self._figures(split) for split in ("val", "test")}

    def _figures(self, split: str) -> Json:
        rows, labels = self._rows(split), datasets.training_labels(self.dataset)
        found: Any = metrics.evaluate(self.answers(rows), labels[rows.numpy()].astype(np.int64))
        return to_json(found)

    def better_order(self) -> list[int] | None:
        """See `class_order`, on the validation images; None for several labels."""
        if self.dataset.labels == "many":
            return None
        rows, labels = self._rows("val"), datasets.training_labels(self.dataset)
        return class_order.better_order(metrics.confusion(self.answers(rows), labels[rows.numpy()]))

    def told(self, name: str, origin: str) -> list[str]:
        """What a teacher that is used as it is has to say: that, and a doubtful order of its
        classes.
        """
        found = [f"{name} teaches as it is, with the weights {origin}"]
        if (order := self.better_order()) is not None:
            found.append(
                f"{name}: its outputs fit the classes better in another order; output "
                f"{order[0] + 1} answers to {self.dataset.classes[0]!r}, the first class. Put the "
                "rows of its classifier into the order of the classes"
            )
        return found

    def _rows(self, split: str) -> Tensor:
        return torch.from_numpy(datasets.rows(self.dataset, split))

    def answers(self, rows: Tensor) -> np.ndarray:
        """Logits float32 [b, k] of the plain images `rows`, int64 [b]."""
        images = (self.render.plain(part) for part in rows.split(self.batch))
        return logits_of(self.net, images, self.dtype)
