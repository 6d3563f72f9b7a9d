"""Lesson: what every student of a build learns from: its batches, its losses, and how it is judged.

The lesson is the same for a student before and after pruning.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from edgekd.core.artifacts import Dataset, Json
from edgekd.core.context import Checkpoint, Progress, mute
from edgekd.core.errors import RecipeError
from edgekd.data import datasets, tables
from edgekd.evaluation import metrics
from edgekd.networks.compute import Compute
from edgekd.networks.inference import ON_CPU, logits_of
from edgekd.settings import loss_reading
from edgekd.settings.loss_reading import Place
from edgekd.settings.recipe import DistilConfig
from edgekd.training import batch_rule, objective, views
from edgekd.training.batches import Feed, cells
from edgekd.training.corrector import Corrector
from edgekd.training.fit import HistoryRow, balanced, fit
from edgekd.training.fit_plan import FitPlan
from edgekd.training.loss_modules import Setting
from edgekd.training.losses import label_losses
from edgekd.training.objective import Objective
from edgekd.training.teacher_answers import TeacherAnswers
from edgekd.training.teacher_oracle import Oracle

# Sources of answers, in `Knowledge.facts`, that the report describes: a log, and clients.
REPORTED = ("log", "clients")


@dataclasses.dataclass(frozen=True)
class Groups:
    """The names of the groups in `distil.groups`, and each image's group by number, int64 [n]."""

    names: list[str]
    numbers: Tensor


@dataclasses.dataclass(frozen=True)
class Lesson:
    """What a student learns from, and how it is judged.

    `val`: rows of the validation images. `taps`: the student's modules that feature losses read.
    `seed`: for the first weights of adapters. `teacher`: widths of the teacher's features, by kind.
    `signed`: whether its pooled features can be negative. `oracle`: the teacher itself, if it is
    asked during training. `origin`: the facts of the stage that made the answers, if the report
    describes them. `peer()` makes a second student. `compute`: where students are trained; before
    and after that they are on the CPU. `say`: prints a text for the user.
    """

    feed: Feed
    val: Tensor
    config: DistilConfig
    plan: objective.Plan
    taps: list[str]
    class_weights: Tensor | None
    seed: int
    teacher: Mapping[str, int]
    signed: bool
    oracle: Oracle | None
    groups: Groups | None
    origin: dict[str, Json] | None
    peer: Callable[[], nn.Module] | None
    compute: Compute = ON_CPU
    say: Callable[[str], None] = mute

    def fit_plan(self, epochs: int, lr: float) -> FitPlan:
        """How long and how fast to train, with the settings of distillation for the rest.

        Where the build chooses the batch, rate and average are scaled to it (`batch_rule`).
        """
        config = self.config
        plan = FitPlan(
            epochs,
            lr,
            config.weight_decay,
            config.warmup,
            config.schedule,
            config.ema,
            config.optimiser,
        )
        return plan if config.batch else batch_rule.scaled(plan, self.feed.batch)

    def distiller(self, student: nn.Module) -> Objective:
        """The student with new adapters that fit its present shapes, both moved to the device."""
        render, config, feed = self.feed.render, self.config, self.feed
        mean, std = render.mean.flatten().tolist(), render.std.flatten().tolist()
        at = Setting(
            student,
            self.taps,
            objective.shapes(student, self.taps, render.px, len(mean)),
            feed.classes,
            feed.kind,
            self.seed,
            mean,
            std,
            self.teacher,
            self.signed,
            self.peer,
            self.groups.numbers if self.groups else None,
        )
        corrector = None
        if self.oracle is not None and config.answers == "corrected":
            corrector = Corrector(self.oracle, len(feed.labels), feed.classes, config.top_k)
        made = Objective(
            config, self.plan, at, self.class_weights, corrector, self.compute.training
        )
        return self.compute.place(made)

    def evaluate(self, kept: nn.Module) -> dict[str, float]:
        """Quick figures on the validation split."""
        answers = logits_of(
            kept, (self.feed.render.plain(rows) for rows in self.val.split(self.feed.batch))
        )
        return metrics.quick(answers, self.feed.labels[self.val].long().numpy())

    def read(self) -> dict[str, str]:
        """{module of the student that losses compare with the teacher: by which loss}.

        The key "" stands for the pooled features.
        """
        where = {Place.POOLED: [""], Place.LAST: self.taps[-1:], Place.TAPS: self.taps}
        terms = [each.loss for each in self.plan.terms]
        found: dict[str, str] = {}
        for place, loss in loss_reading.places(terms, [each.loss for each in self.plan.keyed]):
            found |= dict.fromkeys(where[place], loss)
        return found

    def teach(
        self,
        student: nn.Module,
        plan: FitPlan,
        what: str,
        checkpoint: Checkpoint,
        progress: Progress,
        first_epoch: int = 0,
        pause_after: int | None = None,
    ) -> list[HistoryRow]:
        """Train the student in place; returns one row for each epoch that is done.

        `first_epoch`: number of the first epoch, for views and orders. With distil.answers =
        "corrected" each row has the "teacher_calls" and the "views_shown" so far. `pause_after`: as
        for `fit`.
        """
        distiller = self.distiller(student)

        def judged(kept: nn.Module) -> dict[str, float]:
            corrector = distiller.corrector
            if corrector is None:
                return self.evaluate(kept)
            calls = {
                "teacher_calls": int(corrector.calls),
                "views_shown": int(corrector.shown),
            }
            return self.evaluate(kept) | calls

        history = fit(
            distiller,
            student,
            lambda epoch: self.feed.epoch(first_epoch + epoch),
            distiller.loss,
            plan,
            what=what,
            steps=self.feed.steps,
            checkpoint=checkpoint,
            evaluate=judged,
            progress=progress,
            compute=self.compute,
            capturable=distiller.capturable,
            say=self.say,
            pause_after=pause_after,
        )
        student.cpu()
        return history

    def facts(self) -> dict[str, Json]:
        """For the report: weights of the losses, a batch that the build chose, notes, a log."""
        found: dict[str, Json] = {"losses": self.plan.weights(self.feed.kind)}
        if not self.config.batch:
            found["batch"] = self.feed.batch
        if self.plan.notes:
            found["notes"] = self.plan.notes
        if self.origin is not None:
            found[str(self.origin["source"])] = dict(self.origin)
        return found


def lesson(
    dataset: Dataset,
    answers: TeacherAnswers,
    config: DistilConfig,
    taps: list[str],
    renderer: views.Renderer,
    peer: Callable[[], nn.Module] | None = None,
    compute: Compute = ON_CPU,
    say: Callable[[str], None] = mute,
) -> Lesson:
    """The lesson of a build.

    `taps`: the student's modules that feature losses read. `renderer`: draws the views at the
    student's size, on the device of `compute`. `peer()` makes a second student. `config.seed` is
    added to the seed of the answers for what belongs to the student.

    Raises RecipeError for a loss or a mode that this data or this teacher does not allow.
    """
    labels = torch.from_numpy(datasets.training_labels(dataset))
    train, oracle = answers.train, answers.oracle
    example = answers.example(config.answers)
    _check(config, answers, bool(example))
    if config.labels == "withheld" and config.balance != "none":
        labels[train] = answers.first_labels(dataset.labels)
    groups = _groups(config.groups, dataset)
    feed = Feed(
        renderer,
        datasets.identities(dataset),
        train,
        labels,
        len(dataset.classes),
        answers.view,
        answers.seed,
        batch_rule.chosen(config.batch, len(train), renderer.px, compute),
        _cells(config.balance, labels, groups, answers),
        config.label_smoothing,
        answers.said,
        config.seed,
        oracle.ask if oracle is not None and config.answers == "live" else None,
        config.labels == "withheld",
    )
    return Lesson(
        feed=feed,
        val=torch.from_numpy(datasets.rows(dataset, "val")),
        config=config,
        plan=objective.plan(config, example, feed.classes, dataset.labels),
        taps=taps,
        class_weights=_class_weights(config.balance, labels[train], feed.classes),
        seed=answers.seed + config.seed,
        teacher={name: example[name].shape[1] for name in ("pooled", "grid") if name in example},
        signed=answers.signed(example),
        oracle=oracle,
        groups=groups,
        origin=answers.facts if answers.facts.get("source") in REPORTED else None,
        peer=peer,
        compute=compute,
        say=say,
    )


def _groups(path: str, dataset: Dataset) -> Groups | None:
    """The groups of a CSV (image,group), or None for the path ""."""
    if not path:
        return None
    names, numbers = tables.groups(Path(path), [row["name"] for row in dataset.images])
    return Groups(names, torch.tensor(numbers))


def _class_weights(balance: str, shown: Tensor, classes: int) -> Tensor | None:
    """The weights of classes in the loss, or None. `shown`: labels of the training images."""
    known = shown[~(shown.view(len(shown), -1) < 0).any(1)]
    if shown.ndim == 2 and balance != "none":
        return label_losses.label_weights(known)
    if balance == "loss":
        # A class without images, or one that the teacher never answers, gets no weight.
        return torch.zeros(classes).scatter(0, known, balanced(known, classes))
    return None


def _cells(
    balance: str, labels: Tensor, groups: Groups | None, teacher: TeacherAnswers
) -> Tensor | None:
    """The cells that are drawn equally often (see `batches.cells`).

    Images without a label count for the class that the teacher sees in them. Otherwise they would
    undo the balance of the others.
    """
    train = teacher.train
    counted = labels
    if labels.ndim == 1 and balance in ("sample", "group") and bool((labels[train] < 0).any()):
        counted = labels.clone()
        own = labels[train]
        counted[train] = torch.where(own < 0, teacher.first_labels("one"), own)
    return cells(balance, counted, None if groups is None else groups.numbers)


def _check(config: DistilConfig, answers: TeacherAnswers, taught: bool) -> None:
    """Raise RecipeError for modes that exclude each other. `taught`: whether there are answers."""
    if config.labels == "withheld" and not taught:
        raise RecipeError(
            'distil.labels = "withheld" needs a teacher whose answers stand in for the labels',
            "name a teacher, or a log in distil.logs",
        )
    if config.labels == "withheld" and config.answers == "corrected":
        raise RecipeError(
            'distil.answers = "corrected" compares with labels that distil.labels withholds',
            'use distil.answers = "cached" or "live"',
        )
    if answers.view.mixup and (answers.logged or config.answers == "corrected"):
        what = "a log" if answers.logged else 'distil.answers = "corrected"'
        raise RecipeError(
            f"views.mixup shows mixed images, but {what} has answers about unmixed ones only",
            "set views.mixup=0",
        )
