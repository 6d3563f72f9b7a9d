"""Training batches: images with their targets, and the teacher's answers about the same views."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from edgekd.core.artifacts import Labels
from edgekd.networks.compute import moved, pinned
from edgekd.settings.recipe import ViewsConfig
from edgekd.training import threads, views
from edgekd.training.ahead import ahead
from edgekd.training.cached_answers import CachedAnswers
from edgekd.training.counted_random import Numbers
from edgekd.training.fit import balanced, shuffled
from edgekd.training.losses import label_losses
from edgekd.training.processes import Team

NO_IMAGES = torch.empty(0)  # of a batch whose views are not rendered yet


@dataclasses.dataclass(frozen=True)
class Batch:
    """A batch of images. All tensors are float32 but `rows`; what no teacher gives is None.

    `images` [b, c, px, px], normalised. `targets` [b, k]: probabilities of the classes. The
    teacher's answers: `logits` [b, k], `pooled` [b, d], `grid` [b, d, h, w], `cams` [b, k, h, w]
    (class activation maps), `others` [b, m, k] (logits of further teachers). `rows`: which images
    of the data set these are, int64 [b]. `drawn`: the epoch's view of every image.
    `antialiased` [b, c, px, px]: the same views resized by Pillow, where a feed is asked for them
    and they differ.
    """

    images: Tensor
    targets: Tensor
    logits: Tensor | None = None
    pooled: Tensor | None = None
    grid: Tensor | None = None
    cams: Tensor | None = None
    others: Tensor | None = None
    rows: Tensor | None = None
    drawn: views.Views | None = None
    antialiased: Tensor | None = None

    @property
    def clearest(self) -> Tensor:
        """The views as a teacher should see them: `antialiased`, where they are, else `images`."""
        return self.images if self.antialiased is None else self.antialiased

    def moved(self, device: torch.device) -> Batch:
        """The batch on a device, but `drawn`, which stays on the CPU."""
        return self if device.type == "cpu" else self.each(lambda part: moved(part, device))

    def each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with every tensor changed, but `drawn`."""
        parts = {
            field.name: change(part)
            for field in dataclasses.fields(self)
            if isinstance(part := getattr(self, field.name), Tensor)
        }
        return dataclasses.replace(self, **parts)  # type: ignore[arg-type]

    def gathered(self, together: Team, images: bool) -> Batch:
        """The batch that the processes share; `images`: whether the images are gathered, too."""

        def every(part: Tensor | None) -> Tensor | None:
            return None if part is None else together.gather(part)

        return dataclasses.replace(
            self,
            images=together.gather(self.images) if images else self.images,
            targets=together.gather(self.targets),
            logits=every(self.logits),
            pooled=every(self.pooled),
            grid=every(self.grid),
            cams=every(self.cams),
            others=every(self.others),
            rows=every(self.rows),
        )


def cells(balance: str, labels: Tensor, groups: Tensor | None) -> Tensor | None:
    """The cell of each image, int64 [n]; `Feed` draws every cell equally often.

    A cell is a class, or for the balance "group" a group of a class. None means that all images are
    drawn equally often. `labels`: as in `Feed`; when an image may have several, no draw is even for
    all of them at once, and a cell is a group. `groups`: int64 [n], needed for "group".
    """
    if balance == "group":
        assert groups is not None
        if labels.ndim == 2:
            return groups
        return torch.where(labels < 0, -1, labels * (int(groups.max()) + 1) + groups)
    return labels if balance == "sample" and labels.ndim == 1 else None


@dataclasses.dataclass(frozen=True)
class Feed:
    """Batches of seeded views of the training images.

    `images`: what stands for each image of the data set (`datasets.identities`). `train`: rows of
    the data set. `labels`: int64 [n] for every image of the data set, or 0 and 1
    for each label, [n, classes]; -1 means no label. Several labels may also be
    float32, with probabilities, and NaN for a label that the loss leaves out. `seed` draws the
    views, and together with `repeat` the order of the images. `cells`: as the function `cells`
    gives them.

    The teacher's answers come from `knowledge` (cached; a single view of it serves for all views)
    or from `ask` (live). With `withheld` the targets are the teacher's probabilities in place of
    the labels. Images without a label, and those mixed with one, always have such targets.
    `antialiased`: whether batches hold their views as Pillow resizes them, too.
    """

    render: views.Renderer
    images: Numbers
    train: Tensor
    labels: Tensor
    classes: int
    config: ViewsConfig
    seed: int
    batch: int
    cells: Tensor | None = None
    smoothing: float = 0.0
    knowledge: CachedAnswers | None = None
    repeat: int = 0
    ask: Callable[[Tensor, views.Views], dict[str, Tensor]] | None = None
    withheld: bool = False
    antialiased: bool = False

    @property
    def kind(self) -> Labels:
        """Whether an image has one label or may have several."""
        return "many" if self.labels.ndim == 2 else "one"

    @property
    def steps(self) -> int:
        """Batches in one epoch."""
        return len(self.train) // min(self.batch, len(self.train))

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Batches with about as many images as there are; epoch e shows view e mod per_image.

        They are on the device that the views are rendered on. On the CPU they are made ahead. On a
        GPU, all but the rendering is done ahead; a teacher that is asked live needs the GPU itself.
        """
        if self.render.device.type == "cpu":
            yield from ahead(self._drawn(self._gathered(epoch)), threads.preparing() > 0)
        else:
            yield from self._drawn(ahead(self._gathered(epoch), self.ask is None))

    def _drawn(self, gathered: Iterable[tuple[views.Sight, Batch]]) -> Iterator[Batch]:
        """The batches with their images."""
        for sight, batch in gathered:
            moved = batch.moved(self.render.device)
            yield dataclasses.replace(
                moved,
                images=self.render.draw(sight),
                antialiased=self.render.draw_antialiased(sight) if self.antialiased else None,
            )

    def _gathered(self, epoch: int) -> Iterator[tuple[views.Sight, Batch]]:
        """What each view of an epoch is rendered from, and its batch without images."""
        number = epoch % self.config.per_image
        drawn = views.draw(self.config, self.seed, number, self.images, self.train)
        cells = None if self.cells is None else self.cells[self.train]
        weights = None if cells is None else balanced(cells, int(cells.max()) + 1)
        for order in shuffled(len(self.train), self.batch, self.seed + self.repeat, epoch, weights):
            rows = self.train[order]
            said = self._said(number, order, rows, drawn)
            targets = self._targets(rows, drawn, said)
            batch = Batch(NO_IMAGES, targets, rows=rows, drawn=drawn, **said)
            if self.ask is None:
                batch = batch.each(functools.partial(pinned, device=self.render.device))
            yield self.render.gather(rows, drawn), batch

    def _targets(self, rows: Tensor, drawn: views.Views, said: dict[str, Tensor]) -> Tensor:
        """The target probabilities of each view, float32 [b, k]."""
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
        logits = said["logits"].cpu()
        answers = logits.softmax(1) if self.kind == "one" else logits.sigmoid()
        return torch.where(asked[:, None], answers, targets)

    def _said(
        self, number: int, order: Tensor, rows: Tensor, drawn: views.Views
    ) -> dict[str, Tensor]:
        if self.ask is not None:
            return {name: value.float() for name, value in self.ask(rows, drawn).items()}
        if self.knowledge is None:
            return {}
        return {name: value.float() for name, value in self.knowledge.take(number, order).items()}
