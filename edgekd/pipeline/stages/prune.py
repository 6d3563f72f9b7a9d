"""data, knowledge, teacher, distil -> prune: the student is made narrower in several cuts, wide
pointwise layers become low-rank pairs, and it is fine-tuned after each of these steps.
"""

from __future__ import annotations

import dataclasses
import io

import torch
from torch import nn

from edgekd.core.artifacts import Dataset, Json, Knowledge, Network
from edgekd.core.context import Context
from edgekd.core.errors import GateFailed
from edgekd.data import on_demand
from edgekd.networks import (
    builders,
    channel_groups,
    compute,
    low_rank,
    network_size,
    pruning_check,
    pruning_plan,
    weight_files,
    widths,
)
from edgekd.networks.pruning_plan import Limits, Plan
from edgekd.pipeline.stage_settings import PruneSettings
from edgekd.training import loss_gradients, low_rank_step, views
from edgekd.training.lesson import Lesson, lesson
from edgekd.training.teacher_answers import TeacherAnswers
from edgekd.training.view_sizes import Resizing


@compute.in_full_float32
def run(
    dataset: Dataset,
    knowledge: Knowledge | None,
    teacher: Network | None,
    student: Network,
    *,
    settings: PruneSettings,
    context: Context,
) -> Network:
    """Cut `config.cuts` times until the ratio or the MACs of the recipe are reached, then divide
    wide pointwise layers in two, and fine-tune after each of these steps.

    Fine-tuning repeats what distillation did. Each plan is printed before it is carried out.
    Raises GateFailed when the MACs would not fall, and UnsupportedNetwork for a network that cannot
    be traced, or that has other MACs after a cut than planned.
    """
    # A peer would start from random weights, from which the student has nothing to learn.
    on = compute.of(context)
    losses = tuple(term for term in settings.distil.losses if term.name != "mutual")
    pixels = on_demand.pixels(dataset, context.source)
    answers = TeacherAnswers.of(
        dataset,
        knowledge,
        settings.view,
        context.seed,
        teacher=teacher,
        asking=settings.oracle,
        pixels=pixels,
        compute=on,
    )
    taught = lesson(
        dataset,
        answers,
        dataclasses.replace(settings.distil, losses=losses),
        builders.taps(settings.model, builders.restore(student)),
        views.Renderer(
            pixels,
            student.px,
            student.mean,
            student.std,
            on.device,
            Resizing.of(settings.view.resizers, settings.frame, student.px),
        ),
        compute=on,
        say=context.say,
    )
    work = _Work(student, settings, taught, context)
    work.resume()
    work.announce()
    while work.step < settings.config.trainings:
        work.cut()
        work.teach()
    return work.result()


class _Work:
    """The state of pruning: the network, the cuts so far, and the fine-tuning. One checkpoint holds
    all of it.

    `step`: fine-tunings that are finished. `is_cut`: whether the cut of the next step is made.
    `snapshot`: the checkpoint of the fine-tuning that was under way. `options`: of the network's
    builder, with the widths and the ranks that it has by now. `pairs`: what the report says of
    low-rank pairs.
    """

    def __init__(
        self, student: Network, settings: PruneSettings, taught: Lesson, context: Context
    ) -> None:
        self.student, self.settings, self.taught, self.context = student, settings, taught, context
        self.config = settings.config
        self.net = builders.restore(student)
        self.dense = network_size.size(self.net, student.px, len(student.mean))
        self.first_survey = self._survey() if self.config.cuts else channel_groups.NOTHING
        full = {group.name: group.width for group in self.first_survey.groups}
        self.limits = Limits(self.config.scope, settings.multiple, full)
        self.step = 0
        self.is_cut = False
        self.snapshot: bytes | None = None
        self.history: list[dict[str, Json]] = []
        self.options = dict(student.options)
        self.cuts: list[dict[str, Json]] = []
        self.pairs: dict[str, Json] = {}

    def _survey(self) -> channel_groups.Survey:
        """The groups of channels that can be cut, with the importance of each channel."""
        if self.config.importance == "taylor":
            loss_gradients.add_up(self.net, self.taught, self.config.batches)
        classifier = _name_of(self.net, self.net.get_classifier())  # type: ignore[operator]
        keep = {
            module or classifier: f"read by {loss}" for module, loss in self.taught.read().items()
        }
        return channel_groups.survey(
            self.net, self.student.px, len(self.student.mean), self.config.importance, keep
        )

    def _plan(self, found: channel_groups.Survey, share: float) -> Plan:
        """The plan that covers `share` (0 to 1) of the way from the dense student to the target."""
        return pruning_plan.towards(
            self.config, found.groups, found.layers, self.limits, share, self.dense["macs"]
        )

    def announce(self) -> None:
        """Print the plan of all cuts together. Raises GateFailed, before any training, when the
        MACs would not fall.
        """
        config = self.config
        if self.step or self.is_cut:
            if self.step < config.trainings:
                self.context.say(f"prune: continues at {self._next()}")
            return
        if not config.cuts:
            return
        whole = self._plan(self.first_survey, 1.0)
        falls = whole.macs < whole.macs_before
        if config.steps > 1 or not falls:
            title = f"prune: all {config.steps} cuts together, by the weights as they are now"
            self.context.say(pruning_plan.table(whole, title))
        pruning_plan.check_falls(whole, config, self.limits.multiple)

    def _next(self) -> str:
        """The step that comes next, for a message."""
        if self.step < self.config.cuts:
            return f"cut {self.step + 1} of {self.config.cuts}"
        return "low ranks"

    def cut(self) -> None:
        """Make the next step: a cut of channels, or after the last one low-rank pairs.

        Each is planned by the weights as they are now, and the plan is printed. Raises what
        `_cut_channels` and `low_rank_step.carry_out` raise.
        """
        if self.is_cut:
            return
        if self.step < self.config.cuts:
            self._cut_channels()
        else:
            self._divide_layers()
        self.is_cut = True
        self.save(None)

    def _cut_channels(self) -> None:
        """Raises UnsupportedNetwork when the network does not run after the cut, or has other MACs
        than planned.
        """
        found = self._survey() if self.step else self.first_survey
        plan = self._plan(found, (self.step + 1) / self.config.cuts)
        self.context.say(pruning_plan.table(plan, f"prune: {self._next()}"))
        channel_groups.cut(found, plan, self.net)
        size = pruning_check.size_after(self.net, plan, self.student)
        channels = sum(map(len, plan.cuts.values()))
        self.cuts.append({"cut": self.step + 1, **size, "channels": channels})
        built = builders.create(self.student.arch, self.student.options)
        self.options[widths.KEY] = widths.of(self.net, built)

    def _divide_layers(self) -> None:
        """Make low-rank pairs of the layers that the device runs faster so."""
        settings, student = self.settings, self.student
        assert settings.prices is not None
        made = low_rank_step.carry_out(
            self.net,
            self.taught,
            self.config,
            settings.multiple,
            settings.prices,
            self.context.say,
        )
        size = network_size.size(self.net, student.px, len(student.mean))
        row = {"cut": self.step + 1, **size, "channels": 0, "layers": len(made.ranks)}
        self.cuts.append(row)
        self.options[low_rank.KEY], self.pairs = made.ranks, made.facts

    def teach(self) -> None:
        """Fine-tune after a step. One that changed nothing needs no fine-tuning."""
        config, last = self.config, self.cuts[-1]
        if last["channels"] or last.get("layers"):
            # The first weights of adapters are then the same after a resume.
            torch.manual_seed(self.taught.seed + self.step)
            # The views continue after those that distillation ended with.
            first_epoch = self.taught.config.epochs + self.step * config.epochs
            rows = self.taught.teach(
                self.net,
                self.taught.fit_plan(config.epochs, config.lr),
                f"prune {self.step + 1}/{config.trainings}",
                _Inner(self),
                self.context.progress,
                first_epoch,
            )
            done = len(self.history)
            self.history += [
                {**row, "epoch": done + row["epoch"], "cut": self.step + 1} for row in rows
            ]
        self.step, self.is_cut = self.step + 1, False
        self.save(None)

    def result(self) -> Network:
        """The artifact. Raises GateFailed when the MACs did not fall."""
        student = self.student
        size = network_size.size(self.net, student.px, len(student.mean))
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
            "groups": channel_groups.outcome(self.first_survey, self.net),
            **self.pairs,
        }
        return Network(
            arch=student.arch,
            options=self.options,
            px=student.px,
            mean=student.mean,
            std=student.std,
            history=self.history,
            facts=facts,
            state=weight_files.to_bytes(self.net.state_dict()),
        )

    def save(self, snapshot: bytes | None) -> None:
        """Write the checkpoint. `snapshot`: the checkpoint of a fine-tuning that is under way."""
        inner = (
            None if snapshot is None else torch.frombuffer(bytearray(snapshot), dtype=torch.uint8)
        )
        buffer = io.BytesIO()
        torch.save(
            {
                "step": self.step,
                "is_cut": self.is_cut,
                "cuts": self.cuts,
                "history": self.history,
                "options": self.options,
                "pairs": self.pairs,
                "state": self.net.state_dict(),
                "snapshot": inner,
            },
            buffer,
        )
        self.context.checkpoint.save(buffer.getvalue())

    def resume(self) -> None:
        """Continue from the checkpoint. Without one that fits, pruning starts from the distilled
        student.
        """
        saved = self.context.checkpoint.load()
        if saved is None:
            return
        try:
            kept = torch.load(io.BytesIO(saved), weights_only=True)
            net = builders.create(self.student.arch, kept["options"])
            net.load_state_dict(kept["state"])
            snapshot = None if kept["snapshot"] is None else kept["snapshot"].numpy().tobytes()
            self.step, self.is_cut, self.cuts, self.history = (
                kept[k] for k in ("step", "is_cut", "cuts", "history")
            )
            self.net, self.snapshot = net, snapshot
            self.options, self.pairs = kept["options"], kept["pairs"]
        # A checkpoint that is torn or of another network raises errors of many types. Starting over
        # is always right.
        except Exception:
            return


class _Inner:
    """The checkpoint of the training loop, kept inside the stage's own."""

    def __init__(self, work: _Work) -> None:
        self.work = work

    def save(self, data: bytes) -> None:
        self.work.save(data)

    def load(self) -> bytes | None:
        snapshot, self.work.snapshot = self.work.snapshot, None
        return snapshot


def _name_of(net: nn.Module, module: nn.Module) -> str:
    """The module's name in `net.named_modules()`."""
    return next(name for name, found in net.named_modules() if found is module)
