"""Losses as modules, each with the adapters that it needs.

A module is called as module(seen, batch), with what the student shows of a batch and the batch with
the teacher's answers, and returns a scalar. Its adapters are dropped when training ends.
`loss_builder` makes the modules that a recipe names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from edgekd.core.artifacts import Labels
from edgekd.core.errors import RecipeError
from edgekd.training import adapters, orthogonal
from edgekd.training.batches import Batch
from edgekd.training.losses import (
    explanation_losses,
    feature_losses,
    label_losses,
    logit_losses,
)
from edgekd.training.robustness import attack
from edgekd.training.views import generator

# RSLAD's share of the clean views; the attacked ones have 5/6.
CLEAN = 1 / 6


@dataclasses.dataclass(frozen=True)
class Seen:
    """What the student shows of a batch, all float32.

    `logits` [b, k]. `pooled` [b, d]: what the classifier reads. `last` [b, d, h, w]: the map that
    is averaged to `pooled`. `taps`: {module: its map [b, d, h, w]}.
    """

    logits: Tensor
    pooled: Tensor
    last: Tensor
    taps: Mapping[str, Tensor]


@dataclasses.dataclass(frozen=True)
class Setting:
    """What the module of a loss is built from: the student, its shapes, and the teacher's.

    `taps`: modules whose maps feature losses read. `shapes`: of "pooled", "last" and each tap, for
    one image. `mean`, `std`: the student's normalisation. `teacher`: widths of the teacher's
    "pooled" and "grid" features. `signed`: whether its pooled features can be negative. `peer()`
    makes a second student. `groups`: the group of each image, int64 [n], if groups are known.
    """

    student: nn.Module
    taps: list[str]
    shapes: Mapping[str, torch.Size]
    classes: int
    labels: Labels
    seed: int
    mean: list[float]
    std: list[float]
    teacher: Mapping[str, int] = dataclasses.field(default_factory=dict)
    signed: bool = True
    peer: Callable[[], nn.Module] | None = None
    groups: Tensor | None = None

    def fit(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """The loss on labels: cross-entropy, of one softmax or of each label's sigmoid."""
        return label_losses.fit(self.labels)(logits, targets, weights)

    def follow(self, logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Plain KD; with several labels for an image, KD of each label, averaged as in `fit`."""
        return logit_losses.follow(logits, teacher, temperature, self.labels)


def said(batch: Batch, name: str) -> Tensor:
    """One of the teacher's answers, which `objective.plan` has checked to be there."""
    value = getattr(batch, name)
    assert isinstance(value, Tensor), name
    return value


class Pure(nn.Module):
    """A loss without weights of its own. `reads`: whether the CPU reads what a GPU computes."""

    def __init__(self, value: Callable[[Seen, Batch], Tensor], reads: bool = False) -> None:
        super().__init__()
        self.value, self.reads = value, reads

    def forward(self, seen: Seen, batch: Batch) -> Tensor:
        return self.value(seen, batch)


class Pooled(nn.Module):
    """VkD: an orthogonal projection of the pooled features."""

    def __init__(self, at: Setting) -> None:
        super().__init__()
        self.project = orthogonal.Orthogonal(
            at.shapes["pooled"][1], at.teacher["pooled"], generator("adapter", at.seed)
        )

    def forward(self, seen: Seen, batch: Batch) -> Tensor:
        return feature_losses.pooled(self.project(seen.pooled), said(batch, "pooled"))


class OnGrid(nn.Module):
    """A loss between the map of the last tap and the teacher's map.

    The student's map is projected to the teacher's width, and the teacher's map resized to the
    student's size.
    """

    def __init__(self, at: Setting, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.tap, self.loss = at.taps[-1], loss
        self.project = adapters.Grid(at.shapes[self.tap][1], at.teacher["grid"])

    def forward(self, seen: Seen, batch: Batch) -> Tensor:
        own = self.project(seen.taps[self.tap])
        return self.loss(own, adapters.resize_map(said(batch, "grid"), own.shape[-1]))


class OfaExits(nn.Module):
    """OFA with a small classifier at each tap."""

    def __init__(self, at: Setting) -> None:
        super().__init__()
        self.taps = at.taps
        self.exits = nn.ModuleList(adapters.Exit(at.shapes[tap][1], at.classes) for tap in at.taps)

    def forward(self, seen: Seen, batch: Batch) -> Tensor:
        return torch.stack(
            [
                logit_losses.ofa(leave(seen.taps[tap]), said(batch, "logits"), batch.targets)
                for tap, leave in zip(self.taps, self.exits, strict=True)
            ]
        ).mean()


class Fair(nn.Module):
    """MFD on a linear projection of the teacher's pooled features; needs each image's group."""

    groups: Tensor
    reads = True  # on the CPU, which classes and groups are in the batch

    def __init__(self, at: Setting) -> None:
        super().__init__()
        if at.groups is None:
            raise RecipeError(
                "distil.losses.fair needs each image's group",
                "name a CSV of image,group in distil.groups",
            )
        self.register_buffer("groups", at.groups, persistent=False)
        # The teacher's features are projected, and not the student's: such a projection could learn
        # to drop what distinguishes the groups. The loss would then be small although the student
        # still depends on it.
        self.project = nn.Linear(at.teacher["pooled"], at.shapes["pooled"][1])

    def forward(self, seen: Seen, batch: Batch) -> Tensor:
        assert batch.rows is not None
        return feature_losses.fair(
            seen.pooled,
            self.project(said(batch, "pooled")),
            batch.targets.argmax(1),
            self.groups[batch.rows],
        )


class Maps(nn.Module):
    """A loss between class activation maps. `name`: for messages.

    Raises RecipeError for a student whose classifier does not read the average of its last map.
    """

    def __init__(self, at: Setting, name: str, loss: Callable[[Tensor, Batch], Tensor]) -> None:
        super().__init__()
        head = at.student.get_classifier()  # type: ignore[operator]
        if (
            not isinstance(head, nn.Linear)
            or len(at.shapes["last"]) != 4
            or at.shapes["last"][1] != head.in_features
        ):
            raise RecipeError(
                f"distil.losses.{name} needs a student whose classifier reads the average of its "
                "last map",
                "use a MobileNetV2, an EfficientNet or a ResNet, or leave this loss out",
            )
        # In a list, so that the head is not registered as a part of this module.
        self.loss, self.student = loss, [head]

    def forward(self, seen: Seen, batch: Batch) -> Tensor:
        return self.loss(explanation_losses.cams(seen.last, self.student[0].weight), batch)


class SelfExits(nn.Module):
    """Be Your Own Teacher: at each tap a classifier learns from labels and from the last logits.

    (1 - share) labels + share T^2 KL(last || exit) + hint (1 - cosine with the last features), mean
    over exits. The last logits and features are constants here. The hint is a cosine, where the
    paper (Zhang et al. 2019, arXiv 1905.08094) has a squared distance, whose size depends on the
    width.
    """

    def __init__(self, at: Setting, share: float, temperature: float, hint: float) -> None:
        super().__init__()
        self.at, self.share, self.temperature, self.hint = at, share, temperature, hint
        exits = [adapters.Exit(at.shapes[tap][1], at.classes) for tap in at.taps]
        pooled = at.shapes["pooled"][1]
        self.exits = nn.ModuleList(exits)
        self.widen = nn.ModuleList(nn.Linear(leave.head.in_features, pooled) for leave in exits)

    def forward(self, seen: Seen, batch: Batch) -> Tensor:
        each = []
        for tap, leave, widen in zip(self.at.taps, self.exits, self.widen, strict=True):
            features = leave.features(seen.taps[tap])  # type: ignore[operator]
            logits = leave.head(features)  # type: ignore[operator]
            each.append(
                (1 - self.share) * self.at.fit(logits, batch.targets)
                + self.share * self.at.follow(logits, seen.logits.detach(), self.temperature)
                + self.hint * feature_losses.cosine(widen(features), seen.pooled.detach())
            )
        return torch.stack(each).mean()


class Mutual(nn.Module):
    """Deep mutual learning: a peer trained beside the student, with T^2 KL in both directions.

    Each network's logits are constants in the other's loss.
    """

    def __init__(self, at: Setting, temperature: float) -> None:
        super().__init__()
        assert at.peer is not None
        self.at, self.temperature, self.peer = at, temperature, at.peer()

    def forward(self, seen: Seen, batch: Batch) -> Tensor:
        other = self.peer(batch.images)
        return (
            self.at.follow(seen.logits, other.detach(), self.temperature)
            + self.at.fit(other, batch.targets)
            + self.at.follow(other, seen.logits.detach(), self.temperature)
        )


class Robust(nn.Module):
    """RSLAD: KL to the teacher's answer about clean views, without labels.

    Attacked views count 5/6, clean views 1/6.
    """

    calls: Tensor
    reads = True  # `calls` on the CPU, where the attacks' first noise is drawn

    def __init__(self, at: Setting, epsilon: float, steps: float, temperature: float) -> None:
        super().__init__()
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (at.mean, at.std))
        # In a list, so that the student is not registered as a part of this module.
        self.student = [at.student]
        self.temperature, self.steps, self.seed = temperature, int(steps), at.seed
        self.box = {"epsilon": epsilon / std, "low": -mean / std, "high": (1 - mean) / std}
        # In the checkpoint, so that a resumed run draws the same attacks.
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, seen: Seen, batch: Batch) -> Tensor:
        teacher = said(batch, "logits")
        stream = generator("attack", self.seed, int(self.calls))
        self.calls += 1
        moved = attack(
            self.student[0],
            batch.images,
            lambda logits: label_losses.kd(logits, teacher, 1.0),
            steps=self.steps,
            stream=stream,
            **{name: bound.to(batch.images.device) for name, bound in self.box.items()},
        )
        attacked = label_losses.kd(self.student[0](moved), teacher, self.temperature)
        return (1 - CLEAN) * attacked + CLEAN * label_losses.kd(
            seen.logits, teacher, self.temperature
        )
