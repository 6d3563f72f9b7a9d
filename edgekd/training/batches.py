"""What each training batch is compared with: mixed labels, and the teacher's knowledge of the very same views."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from edgekd.core.artifacts import Knowledge, Labels
from edgekd.settings.recipe import ViewsConfig
from edgekd.training import views
from edgekd.training.fit import balanced, shuffled
from edgekd.training.losses import label_losses


@dataclasses.dataclass(frozen=True)
class Batch:
    """`images` float32 [b, c, px, px] normalised; `targets` float32 [b, k]; the teacher's part is None without one."""

    images: Tensor
    targets: Tensor
    logits: Tensor | None = None  # float32 [b, k]
    pooled: Tensor | None = None  # float32 [b, d]
    grid: Tensor | None = None  # float32 [b, d, h, w]
    cams: Tensor | None = None  # float32 [b, k, h, w]
    others: Tensor | None = None  # float32 [b, m, k]: logits of further teachers
    rows: Tensor | None = None  # int64 [b]: which images these are
    drawn: views.Views | None = None  # the epoch's view of every image


def arrays(knowledge: Knowledge) -> dict[str, Tensor]:
    """The knowledge's blobs as float16 tensors [views, n, ...], copied once into memory."""
    lead = (knowledge.views, len(knowledge.rows))
    shapes = {
        "logits": (*lead, knowledge.classes),
        "pooled": (*lead, knowledge.features),
        "grid": (*lead, *knowledge.grid_shape),
        "cams": (*lead, knowledge.classes, knowledge.cam_side, knowledge.cam_side),
        "others": (*lead, knowledge.teachers - 1, knowledge.classes),
    }
    found = {}
    for name, shape in shapes.items():
        blob = getattr(knowledge, name)
        if len(blob):
            found[name] = torch.from_numpy(
                np.frombuffer(bytearray(blob), np.float16).reshape(shape)
            )
    return found


def cells(balance: str, labels: Tensor, groups: Tensor | None) -> Tensor | None:
    """What `Feed` draws evenly, int64 [n]: the classes, or each group of each class; None where all images weigh the same.

    `labels` as `Feed` takes them: of several an image, no drawing is even for all at once, and groups alone are. `groups`:
    int64 [n], needed by "group".
    """
    if balance == "group":
        assert groups is not None
        if labels.ndim == 2:
            return groups
        return torch.where(labels < 0, -1, labels * (int(groups.max()) + 1) + groups)
    return labels if balance == "sample" and labels.ndim == 1 else None


@dataclasses.dataclass(frozen=True)
class Feed:
    """Batches of seeded views of the training images `train` (rows into the data set).

    `labels`: int64, one for every image of the data set, or 0 or 1 for each label [n, classes]. `seed` draws the views,
    `repeat` the order in which they come as well. `cells`: int64, one for every image, -1 for none; each is drawn as often
    as the others. The teacher's part comes from `knowledge` (cached; one view of it then holds for every view) or from
    `ask` (live). `withheld`: the targets are the teacher's probabilities in place of the labels, as they are of an image
    without a label (-1), or mixed with one.
    """

    render: views.Renderer
    train: Tensor
    labels: Tensor
    classes: int
    config: ViewsConfig
    seed: int
    batch: int
    cells: Tensor | None = None
    smoothing: float = 0.0
    knowledge: dict[str, Tensor] | None = None
    repeat: int = 0
    ask: Callable[[Tensor, views.Views], dict[str, Tensor]] | None = None
    withheld: bool = False

    @property
    def kind(self) -> Labels:
        """How many labels an image has."""
        return "many" if self.labels.ndim == 2 else "one"

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        return len(self.train) // min(self.batch, len(self.train))

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """One pass over (about) as many images as there are; epoch e shows view e mod views.per_image."""
        number = epoch % self.config.per_image
        drawn = views.draw(self.config, self.seed, number, len(self.labels), self.train)
        cells = None if self.cells is None else self.cells[self.train]
        weights = None if cells is None else balanced(cells, int(cells.max()) + 1)
        for order in shuffled(len(self.train), self.batch, self.seed + self.repeat, epoch, weights):
            rows = self.train[order]
            said = self._said(number, order, rows, drawn)
            yield Batch(
                self.render.views(rows, drawn),
                self._targets(rows, drawn, said),
                rows=rows,
                drawn=drawn,
                **said,
            )

    def _targets(self, rows: Tensor, drawn: views.Views, said: dict[str, Tensor]) -> Tensor:
        """Probabilities float32 [b, k] that each view is to be given."""
        partners, share = drawn.partner[rows], drawn.share[rows]
        own, other = (
            label_losses.soften(self.labels[r].clamp(min=0), self.classes, self.smoothing)
            for r in (rows, partners)
        )
        targets = label_losses.mixed(own, other, share)
        unknown, unknown_partner = (
            (self.labels[r].view(len(r), -1) < 0).any(1) for r in (rows, partners)
        )
        asked = unknown | (unknown_partner & (share < 1)) | torch.tensor(self.withheld)
        if not bool(asked.any()):
            return targets
        answers = said["logits"].softmax(1) if self.kind == "one" else said["logits"].sigmoid()
        return torch.where(asked[:, None], answers, targets)

    def _said(
        self, number: int, order: Tensor, rows: Tensor, drawn: views.Views
    ) -> dict[str, Tensor]:
        if self.ask is not None:
            return {name: value.float() for name, value in self.ask(rows, drawn).items()}
        return {
            name: array[number % len(array), order].float()
            for name, array in (self.knowledge or {}).items()
        }
