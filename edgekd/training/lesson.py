"""Lesson: what every student of a build is taught, before and after a cut; its batches, its teacher, its judge."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.core.artifacts import Dataset, Knowledge, Network
from edgekd.core.context import Checkpoint, Progress
from edgekd.core.errors import RecipeError
from edgekd.data import datasets, tables
from edgekd.evaluation import metrics
from edgekd.networks.inference import logits_of
from edgekd.settings.recipe import DistilConfig, ViewsConfig
from edgekd.training import objective, views
from edgekd.training.batches import Feed, arrays, cells
from edgekd.training.corrector import Corrector
from edgekd.training.fit import FitPlan, balanced, fit
from edgekd.training.loss_modules import Setting
from edgekd.training.losses import label_losses
from edgekd.training.objective import Objective
from edgekd.training.oracle_settings import OracleSettings
from edgekd.training.teacher_oracle import Oracle


@dataclasses.dataclass(frozen=True)
class Groups:
    """Names of the groups that a recipe tells apart, and each image's by number, int64 [n]."""

    names: list[str]
    numbers: Tensor


@dataclasses.dataclass(frozen=True)
class Lesson:
    """Batches, what the teacher says of them, and how an answer is judged: the same for a student before and after a cut.

    `taps`: the student's modules that feature losses read. `seed`: of adapters' first weights. `teacher`: widths of its
    features, by kind; `signed`: whether its pooled ones can be negative. `oracle`: the teacher itself, where it is asked as
    training goes. `log`: what is known of logged answers. `peer()`: a second student.
    """

    feed: Feed
    val: Tensor  # rows of the data set
    config: DistilConfig
    plan: objective.Plan
    taps: list[str]
    class_weights: Tensor | None
    seed: int
    teacher: Mapping[str, int]
    signed: bool
    oracle: Oracle | None
    groups: Groups | None
    log: Mapping[str, Any] | None
    peer: Callable[[], nn.Module] | None

    def fit_plan(self, epochs: int, lr: float) -> FitPlan:
        """How long and how fast, with distillation's own settings for the rest."""
        config = self.config
        return FitPlan(
            epochs,
            lr,
            config.weight_decay,
            config.warmup,
            config.schedule,
            config.ema,
            config.optimiser,
        )

    def distiller(self, student: nn.Module) -> Objective:
        """The student with fresh adapters of the shapes that it has now."""
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
        return Objective(config, self.plan, at, self.class_weights, corrector)

    def evaluate(self, kept: nn.Module) -> dict[str, float]:
        """Quick figures on the validation split."""
        answers = logits_of(
            kept, (self.feed.render.plain(rows) for rows in self.val.split(self.config.batch))
        )
        return metrics.quick(answers, self.feed.labels[self.val].numpy())

    def read(self) -> dict[str, str]:
        """The student's modules that losses in force compare with the teacher, and by which; "" is the pooled features."""
        found: dict[str, str] = {}
        where = {"grid": self.taps[-1:], "pooled": [""], "cams": [""]}
        for term, _ in self.plan.terms:
            taps = (
                self.taps
                if term.name == "self_exits"
                else [m for part in term.method.needs for m in where.get(part, [])]
            )
            found |= dict.fromkeys(taps, f"the loss {term.name}")
        keyed = {name for name, _, _ in self.plan.keyed}
        if "exits" in keyed:
            found |= dict.fromkeys(self.taps, "the exits")
        if "grid" in keyed:
            found[self.taps[-1]] = "the grid loss"
        if "pooled" in keyed:
            found[""] = "the pooled loss"
        return found

    def teach(
        self,
        student: nn.Module,
        plan: FitPlan,
        what: str,
        checkpoint: Checkpoint,
        progress: Progress,
        first_epoch: int = 0,
    ) -> list[dict[str, Any]]:
        """Train the student in place; gives a history row an epoch. `first_epoch`: of the views and orders shown.

        Where the teacher only corrects, a row tells how many "teacher_calls" and "views_shown" there were so far.
        """
        distiller = self.distiller(student)

        def judged(kept: nn.Module) -> dict[str, float]:
            asked = distiller.corrector
            calls = (
                {}
                if asked is None
                else {"teacher_calls": int(asked.calls), "views_shown": int(asked.shown)}
            )
            return self.evaluate(kept) | calls

        return fit(
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
        )

    def facts(self) -> dict[str, Any]:
        """For the report: the weights in force, what was left out or replaced, what the log was like."""
        found: dict[str, Any] = {"losses": self.plan.weights(self.feed.kind)}
        if self.plan.notes:
            found["notes"] = self.plan.notes
        if self.log is not None:
            found[str(self.log["source"])] = dict(self.log)
        return found


def lesson(
    dataset: Dataset,
    knowledge: Knowledge | None,
    config: DistilConfig,
    taps: list[str],
    view: ViewsConfig,
    renderer: views.Renderer,
    seed: int,
    *,
    teacher: Network | None = None,
    asking: OracleSettings | None = None,
    peer: Callable[[], nn.Module] | None = None,
) -> Lesson:
    """The lesson of a build. `seed`: the build's own, which drew the views; `config.seed` is added for the student's.

    `asking`: how `teacher` itself is asked (config.answers "live" or "corrected"), in place of cached knowledge. Raises
    RecipeError for a loss or a mode that this data or this teacher does not allow.
    """
    classes = len(dataset.classes)
    oracle = None
    if asking is not None and teacher is not None:
        with (
            torch.random.fork_rng()
        ):  # building it must not move adapters' first weights: cached and live start alike
            oracle = Oracle(teacher, datasets.pixels(dataset), asking)
    said = arrays(knowledge) if knowledge is not None else {}
    labels = torch.from_numpy(datasets.labels(dataset))
    train = (
        torch.tensor(knowledge.rows)
        if knowledge is not None
        else torch.from_numpy(datasets.taught(dataset))
    )
    example = {name: value[0] for name, value in said.items()}
    first_view = views.draw(view, seed, 0, len(labels), train)
    if oracle is not None:
        example = oracle.ask(train[:1], first_view)
        if config.answers == "corrected":
            example = {"logits": example["logits"]}  # its memory holds no features
    logged = knowledge is not None and knowledge.facts.get("source") == "log"
    _check(config, view, logged, bool(example))
    withheld = config.labels == "withheld"
    shown = labels.clone()

    def answers() -> Tensor:
        first = said["logits"][0] if oracle is None else oracle.ask(train, first_view)["logits"]
        return first.float().argmax(1) if dataset.labels == "one" else (first >= 0).long()

    if withheld and config.balance != "none":  # balances the classes as the teacher sees them
        shown[train] = answers()
    class_weights = None
    known = shown[train]
    known = known[(known.view(len(known), -1) >= 0).all(1)]
    if dataset.labels == "many" and config.balance != "none":
        class_weights = label_losses.label_weights(known)
    elif (
        config.balance == "loss"
    ):  # a class that no image has, or that the teacher never answers, gets no weight
        class_weights = torch.zeros(classes).scatter(0, known, balanced(known, classes))
    groups = None
    if config.groups:
        names, numbers = tables.groups(Path(config.groups), dataset.images)
        groups = Groups(names, torch.tensor(numbers))
    drawn_as = shown
    if (
        dataset.labels == "one"
        and config.balance in ("sample", "group")
        and bool((shown[train] < 0).any())
    ):
        # Images without a label are drawn as the teacher sees them: left alone, they would undo the others' balance.
        drawn_as = shown.clone()
        drawn_as[train] = torch.where(shown[train] < 0, answers(), shown[train])
    drawn = cells(config.balance, drawn_as, None if groups is None else groups.numbers)
    feed = Feed(
        renderer,
        train,
        shown,
        classes,
        view,
        seed,
        config.batch,
        drawn,
        config.label_smoothing,
        said,
        config.seed,
        oracle.ask if oracle is not None and config.answers == "live" else None,
        withheld,
    )
    what = objective.plan(config, example, classes, dataset.labels)
    return Lesson(
        feed,
        torch.from_numpy(datasets.rows(dataset, "val")),
        config,
        what,
        taps,
        class_weights,
        seed + config.seed,
        {name: example[name].shape[1] for name in ("pooled", "grid") if name in example},
        "pooled" in example and bool((example["pooled"] < 0).any()),
        oracle,
        groups,
        knowledge.facts
        if knowledge is not None and knowledge.facts.get("source") in ("log", "clients")
        else None,
        peer,
    )


def _check(config: DistilConfig, view: ViewsConfig, logged: bool, taught: bool) -> None:
    """Raise RecipeError for modes that cannot go together."""
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
    if view.mixup and (logged or config.answers == "corrected"):
        what = "a log" if logged else 'distil.answers = "corrected"'
        raise RecipeError(
            f"views.mixup shows mixed images, and {what} has answers about whole ones",
            "set views.mixup=0",
        )
