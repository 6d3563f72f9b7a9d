"""What each training batch is compared with: mixed labels, and the teacher's knowledge of the very same views."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from edgekd import losses, views
from edgekd.artifacts import Knowledge
from edgekd.recipe import ViewsConfig
from edgekd.training import balanced, shuffled


@dataclasses.dataclass(frozen=True)
class Batch:
    """`images` float32 [b, c, px, px] normalised; `targets` float32 [b, k]; the teacher's part is None without one."""

    images: Tensor
    targets: Tensor
    logits: Tensor | None = None  # float32 [b, k]
    pooled: Tensor | None = None  # float32 [b, d]
    grid: Tensor | None = None  # float32 [b, d, h, w]


def arrays(knowledge: Knowledge) -> dict[str, Tensor]:
    """The knowledge's blobs as float16 tensors [views, n, ...], copied once into memory."""
    lead = (knowledge.views, len(knowledge.rows))
    shapes = {"logits": (*lead, knowledge.classes), "pooled": (*lead, knowledge.features),
              "grid": (*lead, *knowledge.grid_shape)}
    found = {}
    for name, shape in shapes.items():
        blob = getattr(knowledge, name)
        if len(blob):
            found[name] = torch.from_numpy(np.frombuffer(bytearray(blob), np.float16).reshape(shape))
    return found


@dataclasses.dataclass(frozen=True)
class Feed:
    """Batches of seeded views of the training images `train` (rows into the data set).

    `labels`: int64, one for every image of the data set. `seed` draws the views, `repeat` the order in which they come
    as well. `balance`: "sample" draws classes evenly.
    """

    render: views.Renderer
    train: Tensor
    labels: Tensor
    classes: int
    config: ViewsConfig
    seed: int
    batch: int
    balance: str = "none"
    smoothing: float = 0.0
    knowledge: dict[str, Tensor] | None = None
    repeat: int = 0

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        return len(self.train) // min(self.batch, len(self.train))

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """One pass over (about) as many images as there are; epoch e shows view e mod views.per_image."""
        number = epoch % self.config.per_image
        drawn = views.draw(self.config, self.seed, number, len(self.labels), self.train)
        weights = balanced(self.labels[self.train], self.classes) if self.balance == "sample" else None
        for order in shuffled(len(self.train), self.batch, self.seed + self.repeat, epoch, weights):
            rows = self.train[order]
            own, other = (losses.soften(self.labels[r], self.classes, self.smoothing)
                          for r in (rows, drawn.partner[rows]))
            said = {name: array[number, order].float() for name, array in (self.knowledge or {}).items()}
            yield Batch(self.render.views(rows, drawn), losses.mixed(own, other, drawn.share[rows]), **said)
