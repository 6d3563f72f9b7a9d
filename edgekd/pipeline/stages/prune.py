"""data, knowledge, distil -> prune: the student made narrower, a cut at a time, and taught again after each."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from edgekd.core.artifacts import Dataset, Knowledge, Network
from edgekd.core.context import Context
from edgekd.core.errors import GateFailed, UnsupportedNetwork
from edgekd.data import datasets as data
from edgekd.networks import builders, channel_groups, pruning_plan, widths
from edgekd.networks.pruning_plan import Limits, Plan
from edgekd.settings.model_specs import ModelSpec
from edgekd.settings.recipe import DistilConfig, PruneConfig, ViewsConfig
from edgekd.training import views
from edgekd.training.fit import Step
from edgekd.training.lesson import Lesson, lesson
from edgekd.training.processes import team


def run(
    dataset: Dataset,
    knowledge: Knowledge | None,
    teacher: Network | None,
    student: Network,
    *,
    config: PruneConfig,
    distil: DistilConfig,
    model: ModelSpec,
    view: ViewsConfig,
    groups_sha256: str,
    multiple: int,
    asking: Mapping[str, Any] | None,
    context: Context,
) -> Network:
    """Cut `config.steps` times on the way to the ratio or the MACs asked for, with distil's own lesson after each cut.

    The plan is printed before the first channel goes. Raises GateFailed when MACs would not fall, and UnsupportedNetwork
    for a network that cannot be traced or that computes otherwise than planned when it is cut.
    """
    # A peer would start from random weights, and the student has nothing to learn from one.
    distil = dataclasses.replace(
        distil, losses=tuple(term for term in distil.losses if term.name != "mutual")
    )
    taught = lesson(
        dataset,
        knowledge,
        distil,
        builders.taps(model, builders.restore(student)),
        view,
        views.Renderer(data.pixels(dataset), student.px, student.mean, student.std),
        context.seed,
        teacher=teacher,
        asking=asking,
    )
    work = _Work(student, config, taught, multiple, context)
    work.resume()
    work.announce()
    while work.step < config.steps:
        work.cut()
        work.teach()
    return work.result()


class _Work:
    """The network on its way: what was cut, what was learnt, and the one checkpoint that holds both."""

    def __init__(
        self, student: Network, config: PruneConfig, taught: Lesson, multiple: int, context: Context
    ) -> None:
        self.student, self.config, self.taught, self.context = student, config, taught, context
        self.net = builders.restore(student)
        self.dense = builders.size(self.net, student.px, len(student.mean))
        self.first_survey = self._survey()
        full = {group.name: group.width for group in self.first_survey.groups}
        self.limits = Limits(config.scope, multiple, full)
        self.step = 0  # fine-tunings that are done
        self.is_cut = False  # whether the next one's cut is
        self.snapshot: bytes | None = None  # of the fine-tuning under way
        self.history: list[dict[str, Any]] = []
        self.widths: dict[str, list[int]] = {}  # where they differ from the builder's
        self.cuts: list[dict[str, Any]] = []

    def _survey(self) -> channel_groups.Survey:
        if self.config.importance == "taylor":
            _gradients(self.net, self.taught, self.config.batches)
        classifier = _name_of(self.net, self.net.get_classifier())  # type: ignore[operator]
        keep = {
            module or classifier: f"read by {loss}" for module, loss in self.taught.read().items()
        }
        return channel_groups.survey(
            self.net, self.student.px, len(self.student.mean), self.config.importance, keep
        )

    def _plan(self, found: channel_groups.Survey, share: float) -> Plan:
        """The plan for `share` (0 .. 1) of the way."""
        config, macs = self.config, self.dense["macs"]
        if config.ratio:
            return pruning_plan.by_ratio(
                found.groups, found.layers, self.limits, config.ratio * share
            )
        target = config.target_macs * (macs if config.target_macs <= 1 else 1)
        return pruning_plan.by_macs(
            found.groups, found.layers, self.limits, macs - (macs - target) * share
        )

    def announce(self) -> None:
        """Print what the whole way will take, and refuse it here, before any training, when that is nothing."""
        if self.step or self.is_cut:
            if self.step < self.config.steps:
                self.context.say(f"prune: goes on at cut {self.step + 1} of {self.config.steps}")
            return
        whole = self._plan(self.first_survey, 1.0)
        falls = whole.macs < whole.macs_before
        if self.config.steps > 1 or not falls:
            self.context.say(
                pruning_plan.table(
                    whole, f"prune: all {self.config.steps} cuts together, as the weights are now"
                )
            )
        if not falls:
            asked = (
                f"ratio {self.config.ratio:g}"
                if self.config.ratio
                else f"target_macs {self.config.target_macs:g}"
            )
            raise GateFailed(
                f"prune: MACs do not fall: {asked} leaves all {whole.macs_before / 1e6:.2f} M; widths are rounded to "
                f"multiples of {self.limits.multiple}, and the plan says what stays whole and why",
                "ask for more (--set prune.ratio=0.3 or prune.target_macs=0.65), or for a smaller prune.multiple",
            )

    def cut(self) -> None:
        """Plan the next cut on the weights of now, print it, and make it."""
        if self.is_cut:
            return
        found = self._survey() if self.step else self.first_survey
        plan = self._plan(found, (self.step + 1) / self.config.steps)
        self.context.say(
            pruning_plan.table(plan, f"prune: cut {self.step + 1} of {self.config.steps}")
        )
        px, channels = self.student.px, len(self.student.mean)
        channel_groups.cut(found, plan, self.net)
        try:
            now = builders.size(self.net, px, channels)
        except RuntimeError as error:
            raise UnsupportedNetwork(
                f"{self.student.arch} does not run any more after the cut: {str(error).splitlines()[0]}",
                "its code names channels by number: take another student, or no [prune]",
            ) from error
        if now["macs"] != plan.macs:
            raise UnsupportedNetwork(
                f"{self.student.arch} has {now['macs']} MACs after the cut, and the plan said {plan.macs}",
                "its graph was not read rightly: take another student, or no [prune]",
            )
        self.cuts.append(
            {"cut": self.step + 1, **now, "channels": sum(map(len, plan.cuts.values()))}
        )
        self.widths = widths.of(self.net, builders.create(self.student.arch, self.student.options))
        self.is_cut = True
        self.save(None)

    def teach(self) -> None:
        """Fine-tune after a cut; one that took nothing needs none."""
        config = self.config
        if self.cuts[-1]["channels"]:
            torch.manual_seed(
                self.taught.seed + self.step
            )  # adapters' first weights, the same after a resume
            plan = self.taught.fit_plan(config.epochs, config.lr)
            first = (
                self.taught.config.epochs + self.step * config.epochs
            )  # views go on from where distil's ended
            rows = self.taught.teach(
                self.net,
                plan,
                f"prune {self.step + 1}/{config.steps}",
                _Inner(self),
                self.context.progress,
                first,
            )
            done = len(self.history)
            self.history += [
                {**row, "epoch": done + row["epoch"], "cut": self.step + 1} for row in rows
            ]
        self.step, self.is_cut = self.step + 1, False
        self.save(None)

    def result(self) -> Network:
        """The artifact. Raises GateFailed when MACs did not fall after all."""
        student = self.student
        size = builders.size(self.net, student.px, len(student.mean))
        if size["macs"] >= self.dense["macs"]:
            raise GateFailed(
                f"prune: MACs did not fall: {size['macs']} of {self.dense['macs']} are left",
                "raise prune.ratio, or lower prune.target_macs",
            )
        facts = {
            "name": student.facts["name"],
            "weights": f"pruned from {student.facts['weights']}",
            "licence": student.facts["licence"],
            **self.taught.facts(),
            **size,
            "before": self.dense,
            "cuts": self.cuts,
            "groups": self._groups(),
        }
        return Network(
            arch=student.arch,
            options={**student.options, widths.KEY: self.widths},
            px=student.px,
            mean=student.mean,
            std=student.std,
            history=self.history,
            facts=facts,
            state=builders.to_bytes(self.net.state_dict()),
        )

    def _groups(self) -> list[dict[str, Any]]:
        """What each group was and is."""
        now = {
            name: len(module.weight)
            for name, module in self.net.named_modules()
            if isinstance(module, nn.Conv2d | nn.Linear)
        }
        return [
            {
                "group": group.name,
                "before": group.width,
                "after": now[group.name],
                "whole": group.whole,
            }
            for group in self.first_survey.groups
        ]

    def save(self, snapshot: bytes | None) -> None:
        """Keep where the work stands."""
        buffer = io.BytesIO()
        torch.save(
            {
                "step": self.step,
                "is_cut": self.is_cut,
                "cuts": self.cuts,
                "history": self.history,
                "widths": self.widths,
                "state": self.net.state_dict(),
                "snapshot": None
                if snapshot is None
                else torch.frombuffer(bytearray(snapshot), dtype=torch.uint8),
            },
            buffer,
        )
        self.context.checkpoint.save(buffer.getvalue())

    def resume(self) -> None:
        """Go on from the checkpoint; one that does not fit is ignored, and pruning starts from the distilled student."""
        data_ = self.context.checkpoint.load()
        if data_ is None:
            return
        try:
            kept = torch.load(io.BytesIO(data_), weights_only=True)
            net = builders.create(
                self.student.arch, {**self.student.options, widths.KEY: kept["widths"]}
            )
            net.load_state_dict(kept["state"])
            snapshot = None if kept["snapshot"] is None else kept["snapshot"].numpy().tobytes()
            self.step, self.is_cut, self.cuts, self.history = (
                kept[k] for k in ("step", "is_cut", "cuts", "history")
            )
            self.net, self.snapshot, self.widths = net, snapshot, kept["widths"]
        except (
            Exception
        ):  # a torn or foreign checkpoint has no common error type; starting over is always right
            return


class _Inner:
    """The training loop's checkpoint, kept within the stage's own."""

    def __init__(self, work: _Work) -> None:
        self.work = work

    def save(self, data: bytes) -> None:
        self.work.save(data)

    def load(self) -> bytes | None:
        snapshot, self.work.snapshot = self.work.snapshot, None
        return snapshot


def _gradients(net: nn.Module, taught: Lesson, batches: int) -> None:
    """Sum the gradients of the loss over training batches; feature losses, whose adapters know nothing yet, weigh 0."""
    distiller = taught.distiller(net).eval()  # batch norm's statistics stay what they are
    net.zero_grad()
    for _, batch in zip(range(batches), taught.feed.epoch(0), strict=False):
        distiller.loss(batch, Step(0, 1, 0)).backward()
    team().average_gradients(net)


def _name_of(net: nn.Module, module: nn.Module) -> str:
    return next(name for name, found in net.named_modules() if found is module)
