"""The loss of a recipe: a student with the adapters of its losses, and their weighted sum.

    value = (1 - alpha) labels + alpha KD + sum over losses of ramp * weight * loss

Only `Objective.student` is kept when training ends.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekd.core.artifacts import Labels
from edgekd.core.errors import RecipeError
from edgekd.networks import watching
from edgekd.networks.compute import autocast, device_of
from edgekd.networks.inference import classify
from edgekd.settings import loss_catalogue
from edgekd.settings.loss_reading import KEYED
from edgekd.settings.recipe import DistilConfig
from edgekd.training import loss_builder, loss_modules, teacher_blend
from edgekd.training.batches import Batch
from edgekd.training.corrector import Corrector
from edgekd.training.fit_plan import Step
from edgekd.training.loss_modules import Seen, Setting
from edgekd.training.losses import feature_losses
from edgekd.training.processes import Team, team


@dataclasses.dataclass(frozen=True)
class Scheduled[L]:
    """A loss with its weight. `ramp`: share of the steps over which the weight grows from 0."""

    loss: L
    weight: float
    ramp: float


@dataclasses.dataclass(frozen=True)
class Plan:
    """Which losses are used. `notes`: sentences on those that were left out.

    `alpha`: the share of KD, 0 without a teacher. `keyed`: losses of KEYED, by name. `terms`: those
    of the table [distil.losses].
    """

    alpha: float
    keyed: list[Scheduled[str]]
    terms: list[Scheduled[loss_catalogue.Term]]
    notes: list[str]

    def weights(self, labels: Labels = "one") -> dict[str, float]:
        """{loss: its weight}, for the report; losses with the weight 0 are left out."""
        kd = "logits" if labels == "one" else "per_label"
        named = {
            "labels": 1 - self.alpha,
            kd: self.alpha,
            **{each.loss: each.weight for each in self.keyed},
            **{each.loss.name: each.weight for each in self.terms},
        }
        return {name: weight for name, weight in named.items() if weight}


def plan(config: DistilConfig, said: Iterable[str], classes: int, labels: Labels = "one") -> Plan:
    """Which losses of the recipe apply. `said`: names of the teacher's answers, if there is one.

    Without a teacher, every loss that needs one is left out, with a note. With a teacher whose
    answers lack something (logged answers have no features), losses of KEYED are left out with a
    note, because one of them is on by default.

    Raises RecipeError for a loss that is undefined for these classes or labels, and for one of
    [distil.losses] that needs an answer which this teacher does not give.
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
            keyed.append(Scheduled(name, weight, config.ramp))
    chosen = []
    for term in config.losses:
        missing = [part for part in term.method.needs if part not in has]
        if missing and has:
            raise RecipeError(
                f"distil.losses.{term.name} needs the teacher's {' and '.join(missing)}, which its "
                "answers do not hold",
                "leave it out, or train from the teacher itself",
            )
        if missing:
            notes.append(f"distil.losses.{term.name} was left out: there is no teacher")
        else:
            ramp = term.ramp if term.ramp is not None else config.ramp if term.method.grows else 0.0
            chosen.append(Scheduled(term, term.weight, ramp))
    if labels == "many" and has and config.alpha:
        notes.append(
            "KD is computed for each label, on sigmoids (per_label): an image may have several "
            "labels"
        )
    return Plan(config.alpha if has else 0.0, keyed, chosen, notes)


class Objective(nn.Module):
    """A student with the adapters of its losses; `loss` is their weighted sum on one batch.

    `precision`: of the student's matrix products. Losses, adapters, the pooled features that the
    classifier reads, and the classifier itself are in float32.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        config: DistilConfig,
        what: Plan,
        at: Setting,
        class_weights: Tensor | None = None,
        corrector: Corrector | None = None,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.student = at.student
        self.config, self.what, self.at, self.precision = config, what, at, precision
        self.register_buffer("class_weights", class_weights, persistent=False)
        keyed = {
            "pooled": lambda: loss_modules.Pooled(at),
            "grid": lambda: loss_modules.OnGrid(at, feature_losses.grid),
            "exits": lambda: loss_modules.OfaExits(at),
        }
        # Under these names the adapters are in checkpoints.
        self.terms = nn.ModuleDict(
            {
                **{f"own_{each.loss}": keyed[each.loss]() for each in what.keyed},
                **{each.loss.name: loss_builder.build(each.loss, at) for each in what.terms},
            }
        )
        self.schedule = [
            *((each.weight, each.ramp) for each in what.keyed),
            *((each.weight, each.ramp) for each in what.terms),
        ]
        self.to(memory_format=torch.channels_last)
        self.corrector = corrector

    @property
    def capturable(self) -> bool:
        """Whether the loss can be captured as a CUDA graph: nothing in it waits for the GPU."""
        parts = [self.corrector, *self.terms.values()]
        return not any(getattr(part, "reads", False) for part in parts)

    def see(self, images: Tensor) -> Seen:
        """One forward pass of the student, with the maps that the losses read."""
        with (
            watching.watch(self.student, self.at.taps if len(self.terms) else []) as taps,
            autocast(self.precision, images.device),
        ):
            last = self.student.forward_features(images)  # type: ignore[operator]
            pooled = self.student.forward_head(last, pre_logits=True)  # type: ignore[operator]
        last, pooled = _wide(last), _wide(pooled)
        dropped = F.dropout(pooled, self.config.drop, self.training)
        logits = classify(self.student, last, dropped)
        taps = {name: _wide(tap) for name, tap in taps.items()}
        return Seen(logits, pooled, watching.channels_first(self.student, last), taps)

    def loss(self, batch: Batch, step: Step) -> Tensor:
        """The recipe's loss on one batch. A loss with a ramp grows linearly over its steps."""
        seen, batch = self._whole(self.see(batch.images), batch)
        with Team().at_work():  # every process computes the loss of the whole batch
            if self.corrector is not None:
                batch = self.corrector(batch, seen.logits)
            return self.value(seen, batch, step)

    def _whole(self, seen: Seen, batch: Batch) -> tuple[Seen, Batch]:
        """What all processes see of the batch that they share.

        Many losses compare the images of a batch with each other.
        """
        together = team()
        if together.size == 1:
            return seen, batch
        reread = (loss_modules.Mutual, loss_modules.Robust)  # these look at the images again
        needs_images = any(isinstance(term, reread) for term in self.terms.values())
        return (
            Seen(
                together.gather(seen.logits),
                together.gather(seen.pooled),
                together.gather(seen.last),
                {tap: together.gather(part) for tap, part in seen.taps.items()},
            ),
            batch.gathered(together, needs_images),
        )

    def value(self, seen: Seen, batch: Batch, step: Step) -> Tensor:
        """The loss of one batch, given what the student shows of it."""
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
            value = value + grown(step, ramp) * weight * term(seen, batch)
        return value


def _wide(values: Tensor) -> Tensor:
    """Half precision as float32; losses need its range. float64 stays."""
    return values if values.dtype == torch.float64 else values.float()


def grown(step: Step, ramp: float) -> float | Tensor:
    """The share of its weight that a loss has, 0 to 1. `ramp`: the share of steps that it takes."""
    if not ramp:
        return 1.0
    if step.clock is not None:
        return (step.clock / ramp).clamp(max=1.0)
    return min(1.0, step.share / ramp)


def shapes(student: nn.Module, taps: list[str], px: int, channels: int) -> Mapping[str, torch.Size]:
    """Shapes of what `Objective.see` gives for one image: "pooled", "last" and each tap."""
    with torch.inference_mode(), watching.watch(student, taps) as seen:
        image = torch.zeros(1, channels, px, px, device=device_of(student))
        last = student.forward_features(image)  # type: ignore[operator]
        pooled = student.forward_head(last, pre_logits=True)  # type: ignore[operator]
        last = watching.channels_first(student, last)
    return {"pooled": pooled.shape, "last": last.shape, **{tap: seen[tap].shape for tap in taps}}
