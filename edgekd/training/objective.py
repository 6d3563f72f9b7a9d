"""The recipe's loss: a student with the adapters its losses need, and the weighted sum of what they say of a batch.

    value = (1 - alpha) labels + alpha KD + sum over terms of ramp * weight * term

`Objective.student` alone is kept when training ends.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekd.core.artifacts import Labels
from edgekd.core.errors import RecipeError
from edgekd.networks import builders
from edgekd.settings import loss_catalogue
from edgekd.settings.recipe import DistilConfig
from edgekd.training import loss_modules as terms
from edgekd.training import teacher_blend
from edgekd.training.batches import Batch
from edgekd.training.corrector import Corrector
from edgekd.training.fit import Step
from edgekd.training.loss_modules import Seen, Setting
from edgekd.training.losses import feature_losses
from edgekd.training.processes import Team, team

# The losses that have a key of their own in [distil], and what of the teacher's answers each reads.
KEYED = {"pooled": "pooled", "grid": "grid", "exits": "logits"}


@dataclasses.dataclass(frozen=True)
class Plan:
    """Which losses are in force: (name, weight, share of the steps over which it grows), and sentences on what is not."""

    alpha: float  # 0 without a teacher
    keyed: list[tuple[str, float, float]]
    terms: list[tuple[loss_catalogue.Term, float]]
    notes: list[str]

    def weights(self, labels: Labels = "one") -> dict[str, float]:
        """The weights in force, by name, for the report."""
        kd = "logits" if labels == "one" else "per_label"
        named = {
            "labels": 1 - self.alpha,
            kd: self.alpha,
            **{name: weight for name, weight, _ in self.keyed},
            **{term.name: term.weight for term, _ in self.terms},
        }
        return {name: weight for name, weight in named.items() if weight}


def plan(config: DistilConfig, said: Iterable[str], classes: int, labels: Labels = "one") -> Plan:
    """What of the recipe applies when the teacher's answers are `said` (their names; none without a teacher).

    Without a teacher every loss that needs one is left out; of a teacher that cannot say it (logged answers have no
    features), only those with a key of their own are, since one of them is on by default. Each leaves a note. Raises
    RecipeError for a loss that is undefined here, or that needs what this teacher cannot say.
    """
    loss_catalogue.check(config.losses, classes, labels)
    has, notes = set(said), []
    keyed = []
    for name, needed in KEYED.items():
        weight = float(getattr(config, name))
        if not weight or not has:
            continue
        if needed not in has:
            notes.append(
                f"distil.{name} was left out: the teacher's answers hold no {needed} features"
            )
        elif name == "exits" and labels == "many":
            notes.append(
                "distil.exits was left out: OFA is defined on one softmax over the classes"
            )
        else:
            keyed.append((name, weight, config.ramp))
    chosen = []
    for term in config.losses:
        missing = [part for part in term.method.needs if part not in has]
        if missing and has:
            raise RecipeError(
                f"distil.losses.{term.name} needs the teacher's {' and '.join(missing)}, which its answers "
                "do not hold",
                "leave it out, or train from the teacher itself",
            )
        if missing:
            notes.append(f"distil.losses.{term.name} was left out: there is no teacher")
        else:
            ramp = term.ramp if term.ramp is not None else config.ramp if term.method.grows else 0.0
            chosen.append((term, ramp))
    if labels == "many" and has and config.alpha:
        notes.append(
            "KD is a label's own, through sigmoids (per_label): an image may have several labels"
        )
    return Plan(config.alpha if has else 0.0, keyed, chosen, notes)


class Objective(nn.Module):
    """A student with the adapters that its losses need; `loss` is their weighted sum on one batch."""

    def __init__(
        self,
        config: DistilConfig,
        what: Plan,
        at: Setting,
        class_weights: Tensor | None = None,
        corrector: Corrector | None = None,
    ) -> None:
        super().__init__()
        self.student = at.student
        self.config, self.what, self.at, self.class_weights = config, what, at, class_weights
        keyed = {
            "pooled": lambda: terms.Pooled(at),
            "grid": lambda: terms.OnGrid(at, feature_losses.grid),
            "exits": lambda: terms.OfaExits(at),
        }
        self.terms = nn.ModuleDict(
            {
                **{f"own_{name}": keyed[name]() for name, _, _ in what.keyed},
                **{term.name: terms.build(term, at) for term, _ in what.terms},
            }
        )
        self.schedule = [
            *((weight, ramp) for _, weight, ramp in what.keyed),
            *((term.weight, ramp) for term, ramp in what.terms),
        ]
        self.to(memory_format=torch.channels_last)
        self.corrector = corrector

    def see(self, images: Tensor) -> Seen:
        """One forward pass of the student, with what the terms read on the way."""
        with builders.watch(self.student, self.at.taps if len(self.terms) else []) as taps:
            last = self.student.forward_features(images)  # type: ignore[operator]
            pooled = self.student.forward_head(last, pre_logits=True)  # type: ignore[operator]
        logits = self.student.get_classifier()(F.dropout(pooled, self.config.drop, self.training))  # type: ignore[operator]
        return Seen(logits, pooled, last, taps)

    def loss(self, batch: Batch, step: Step) -> Tensor:
        """The recipe's loss on one batch; a term with a ramp grows linearly from 0 over that share of the steps."""
        seen, batch = self._whole(self.see(batch.images), batch)
        with Team().at_work():  # each process looks at all of it
            return self.value(
                seen, batch if self.corrector is None else self.corrector(batch, seen.logits), step
            )

    def _whole(self, seen: Seen, batch: Batch) -> tuple[Seen, Batch]:
        """What all processes saw of the batch that they share, since many losses compare its images with each other."""
        together = team()
        if together.size == 1:
            return seen, batch
        parts = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
        if not any(isinstance(term, terms.Mutual | terms.Robust) for term in self.terms.values()):
            del parts["images"]  # nobody will look at them again
        whole: dict[str, Any] = {
            name: together.gather(part) for name, part in parts.items() if isinstance(part, Tensor)
        }
        return (
            Seen(
                together.gather(seen.logits),
                together.gather(seen.pooled),
                together.gather(seen.last),
                {tap: together.gather(part) for tap, part in seen.taps.items()},
            ),
            dataclasses.replace(batch, **whole),
        )

    def value(self, seen: Seen, batch: Batch, step: Step) -> Tensor:
        """The loss of what was seen."""
        alpha, weights = self.what.alpha, None
        if batch.others is not None and batch.logits is not None:
            every = torch.cat([batch.logits[:, None], batch.others], 1)
            weights = (
                teacher_blend.sureness(every)
                if self.config.labels == "withheld"
                else teacher_blend.confidence(every, batch.targets)
            )
            batch = dataclasses.replace(batch, logits=teacher_blend.blend(every, weights))
        value = (1 - alpha) * self.at.fit(seen.logits, batch.targets, self.class_weights)
        if alpha:
            assert batch.logits is not None
            value = value + alpha * (
                self.at.follow(seen.logits, batch.logits, self.config.temperature)
                if weights is None
                else teacher_blend.kd(seen.logits, every, weights, self.config.temperature)
            )
        for (weight, ramp), term in zip(self.schedule, self.terms.values(), strict=True):
            grown = min(1.0, step.share / ramp) if ramp else 1.0
            value = value + grown * weight * term(seen, batch)
        return value


def shapes(student: nn.Module, taps: list[str], px: int, channels: int) -> Mapping[str, torch.Size]:
    """Shapes of what `see` finds in one image: "pooled", "last" and each tap."""
    with torch.inference_mode(), builders.watch(student, taps) as seen:
        last = student.forward_features(torch.zeros(1, channels, px, px))  # type: ignore[operator]
        pooled = student.forward_head(last, pre_logits=True)  # type: ignore[operator]
    return {"pooled": pooled.shape, "last": last.shape, **{tap: seen[tap].shape for tap in taps}}
