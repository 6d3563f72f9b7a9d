"""The losses of `methods` as modules: each with the adapters it needs, from what student and teacher show of a batch.

A term is called as term(seen, batch) and gives a scalar. Its adapters are dropped when training ends.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from edgekd.core import plugins
from edgekd.core.artifacts import Labels
from edgekd.core.errors import RecipeError
from edgekd.settings.loss_catalogue import Term
from edgekd.training import adapters
from edgekd.training.batches import Batch
from edgekd.training.losses import (
    explanation_losses,
    feature_losses,
    label_losses,
    logit_losses,
    relation_losses,
)
from edgekd.training.robustness import attack
from edgekd.training.views import generator

CLEAN = 1 / 6  # RSLAD's share of the clean views, 5/6 for the attacked ones


@dataclasses.dataclass(frozen=True)
class Seen:
    """What the student showed of a batch: float32 `logits` [b, k], `pooled` [b, d], the map `last` [b, d, h, w] that is
    averaged to it, and the maps of the taps.
    """

    logits: Tensor
    pooled: Tensor
    last: Tensor
    taps: Mapping[str, Tensor]


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a term is built from: the student, the shapes it shows, and what the teacher's knowledge holds.

    `teacher`: widths of the teacher's "pooled" and "grid" features. `signed`: whether its pooled features can be
    negative. `peer()` makes a second student. `groups` int64 [n]: each image's group, where groups are known. `mean` and
    `std`: the student's normalisation.
    """

    student: nn.Module
    taps: list[str]
    shapes: Mapping[str, torch.Size]  # "pooled", "last" and each tap
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
        """The loss on labels: cross-entropy, or that of each label's sigmoid."""
        return label_losses.fit(self.labels)(logits, targets, weights)

    def follow(self, logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Plain KD, or for several labels an image KD a label, mean over labels as `fit` is."""
        return logit_losses.follow(logits, teacher, temperature, self.labels)


def said(batch: Batch, name: str) -> Tensor:
    """One of the teacher's answers, which the objective made sure of."""
    value = getattr(batch, name)
    assert isinstance(value, Tensor), name
    return value


class Pure(nn.Module):
    """A term without weights of its own."""

    def __init__(self, value: Callable[[Seen, Batch], Tensor]) -> None:
        super().__init__()
        self.value = value

    def forward(self, seen: Seen, batch: Batch) -> Tensor:
        return self.value(seen, batch)


class Pooled(nn.Module):
    """VkD: an orthogonal projection of the pooled features."""

    def __init__(self, at: Setting) -> None:
        super().__init__()
        self.project = adapters.Orthogonal(
            at.shapes["pooled"][1], at.teacher["pooled"], generator("adapter", at.seed)
        )

    def forward(self, seen: Seen, batch: Batch) -> Tensor:
        return feature_losses.pooled(self.project(seen.pooled), said(batch, "pooled"))


class OnGrid(nn.Module):
    """A loss between the last tap's map, projected to the teacher's width, and the teacher's map at the student's size."""

    def __init__(self, at: Setting, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.tap, self.loss = at.taps[-1], loss
        self.project = adapters.Grid(at.shapes[self.tap][1], at.teacher["grid"])

    def forward(self, seen: Seen, batch: Batch) -> Tensor:
        own = self.project(seen.taps[self.tap])
        return self.loss(own, adapters.resize_map(said(batch, "grid"), own.shape[-1]))


class OfaExits(nn.Module):
    """OFA on a small classifier at each tap."""

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


class Srd(nn.Module):
    """SRD: batch-normalised projection, log of a high power of the difference."""

    def __init__(self, at: Setting, power: float) -> None:
        super().__init__()
        self.power = power
        self.adapter = adapters.Normed(at.shapes["pooled"][1], at.teacher["pooled"])

    def forward(self, seen: Seen, batch: Batch) -> Tensor:
        return feature_losses.srd(
            *self.adapter(seen.pooled, said(batch, "pooled")), power=self.power
        )


class Pefd(nn.Module):
    """PEFD: the mean of several projections, cosine."""

    def __init__(self, at: Setting, projectors: float) -> None:
        super().__init__()
        self.project = adapters.Ensemble(
            at.shapes["pooled"][1], at.teacher["pooled"], int(projectors), at.signed
        )

    def forward(self, seen: Seen, batch: Batch) -> Tensor:
        return feature_losses.cosine(self.project(seen.pooled), said(batch, "pooled"))


class Infonce(nn.Module):
    """InfoNCE between linear embeddings of both networks' pooled features."""

    def __init__(self, at: Setting, temperature: float, width: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.student = nn.Linear(at.shapes["pooled"][1], int(width))
        self.teacher = nn.Linear(at.teacher["pooled"], int(width))

    def forward(self, seen: Seen, batch: Batch) -> Tensor:
        return feature_losses.infonce(
            self.student(seen.pooled),
            self.teacher(said(batch, "pooled")),
            temperature=self.temperature,
            images=batch.rows,
        )


class Fair(nn.Module):
    """MFD on a linear projection of the pooled features; needs to know each image's group."""

    groups: Tensor

    def __init__(self, at: Setting) -> None:
        super().__init__()
        if at.groups is None:
            raise RecipeError(
                "distil.losses.fair needs each image's group",
                "name a CSV of image,group in distil.groups",
            )
        self.register_buffer("groups", at.groups, persistent=False)
        # The teacher is brought to the student: a projection of the student's features could learn to drop what tells
        # groups apart, and the loss would be small while the student itself still sees it.
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
    """A loss between class activation maps; the student's classifier must read the average of its last map."""

    def __init__(self, at: Setting, name: str, loss: Callable[[Tensor, Batch], Tensor]) -> None:
        super().__init__()
        head = at.student.get_classifier()  # type: ignore[operator]
        if (
            not isinstance(head, nn.Linear)
            or len(at.shapes["last"]) != 4
            or at.shapes["last"][1] != head.in_features
        ):
            raise RecipeError(
                f"distil.losses.{name} needs a student whose classifier reads the average of its last map",
                "use a MobileNetV2, an EfficientNet or a ResNet, or leave this loss out",
            )
        self.loss, self.student = loss, [head]  # in a list: the head stays the student's own

    def forward(self, seen: Seen, batch: Batch) -> Tensor:
        return self.loss(explanation_losses.cams(seen.last, self.student[0].weight), batch)


class SelfExits(nn.Module):
    """Be Your Own Teacher: at each tap a classifier learns from the labels, and from the network's own last answer.

    (1 - share) labels + share T^2 KL(last || exit) + hint (1 - cosine with the last features), mean over exits. The last
    answer is a constant here. The hint is a cosine where the paper has a squared distance, whose size depends on width.
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
    """Deep mutual learning: a peer trained beside the student, and T^2 KL both ways, each seeing the other as constant."""

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
    """RSLAD: KL to the teacher's clean answer, 5/6 on attacked views and 1/6 on clean ones; no label takes part."""

    calls: Tensor

    def __init__(self, at: Setting, epsilon: float, steps: float, temperature: float) -> None:
        super().__init__()
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (at.mean, at.std))
        self.student, self.temperature, self.steps, self.seed = (
            [at.student],
            temperature,
            int(steps),
            at.seed,
        )
        self.box = {"epsilon": epsilon / std, "low": -mean / std, "high": (1 - mean) / std}
        self.register_buffer(
            "calls", torch.zeros((), dtype=torch.int64)
        )  # kept, so that a resumed run draws the same

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
            **self.box,
        )
        attacked = label_losses.kd(self.student[0](moved), teacher, self.temperature)
        return (1 - CLEAN) * attacked + CLEAN * label_losses.kd(
            seen.logits, teacher, self.temperature
        )


def _scores(logits: Tensor, labels: Labels) -> Tensor:
    return logits if labels == "many" else logit_losses.odds(logits)


def _e2kd(own: Tensor, batch: Batch) -> Tensor:
    return explanation_losses.e2kd(
        own,
        adapters.resize_map(said(batch, "cams"), own.shape[-1]),
        said(batch, "logits").argmax(1),
    )


PLACES = {
    "attention",
    "cat",
    "e2kd",
}  # losses that compare where, and say nothing of a map with one place


def build(term: Term, at: Setting) -> nn.Module:
    """The module of a term. Raises RecipeError for a student or a setting that it does not fit."""
    p = dict(term.parameters)
    if term.name in PLACES and at.shapes["last"][-1] < 2:
        raise RecipeError(
            f"distil.losses.{term.name} compares places, and the student's last map has one",
            "raise data.input_px: a MobileNet divides it by 32",
        )
    match term.name:
        case "kd_standardised" | "per_label" as name:
            function = getattr(logit_losses, name)
            return Pure(lambda s, b: function(s.logits, said(b, "logits"), **p))
        case "dkd" | "nkd" as name:
            function = getattr(logit_losses, name)
            return Pure(lambda s, b: function(s.logits, said(b, "logits"), b.targets, **p))
        case "dist":
            return Pure(lambda s, b: logit_losses.dist(s.logits, said(b, "logits"), **p))
        case "dist_batch":
            over = logit_losses.dist_batch_many if at.labels == "many" else logit_losses.dist_batch
            return Pure(lambda s, b: over(s.logits, said(b, "logits"), **p))
        case "rank":
            return Pure(
                lambda s, b: logit_losses.rank(
                    _scores(s.logits, at.labels), _scores(said(b, "logits"), at.labels), **p
                )
            )
        case "srd":
            return Srd(at, **p)
        case "pefd":
            return Pefd(at, **p)
        case "infonce":
            return Infonce(at, **p)
        case "hcl":
            return OnGrid(at, feature_losses.hcl)
        case "attention":
            return Pure(
                lambda s, b: feature_losses.attention(
                    s.taps[at.taps[-1]],
                    adapters.resize_map(said(b, "grid"), s.taps[at.taps[-1]].shape[-1]),
                )
            )
        case "rkd":
            return Pure(lambda s, b: relation_losses.rkd(s.pooled, said(b, "pooled"), **p))
        case "sp":
            return Pure(lambda s, b: relation_losses.sp(s.pooled, said(b, "pooled")))
        case "cat":
            side = int(p["side"])
            return Maps(
                at, "cat", lambda own, b: explanation_losses.cat(own, said(b, "cams"), side=side)
            )
        case "e2kd":
            return Maps(at, "e2kd", _e2kd)
        case "self_exits":
            return SelfExits(at, **p)
        case "mutual":
            return Mutual(at, **p)
        case "robust":
            return Robust(at, **p)
        case "fair":
            return Fair(at)
    if term.method.function:
        value = plugins.load(term.method.function, f"the loss {term.name!r}", term.provider)
        return Pure(lambda s, b: value(s, b, **p))
    raise RecipeError(f"distil.losses.{term.name} has no module")
