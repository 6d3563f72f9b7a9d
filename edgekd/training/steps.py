"""One training run as data, and its steps on the CPU. Steps on a GPU are in `device_steps`."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Hashable
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from edgekd.core.errors import TrainingDiverged
from edgekd.networks.compute import Compute
from edgekd.training import before_step
from edgekd.training.fit_plan import FitPlan, Step, rate
from edgekd.training.optimisers import FACTOR
from edgekd.training.processes import team

# Largest norm of the gradient. With batch norm it is usually far smaller, so that this only limits
# the first steps.
CLIP = 5.0
# The setting of a stage's learning rate, where it is not STAGE.lr.
RATE_OF = {"pretrain": "distil.pretrain_lr"}


@dataclasses.dataclass(frozen=True)
class Run[B]:
    """One training under way.

    `kept`: the part of `module` whose weights are used afterwards. `average`: of its weights, if
    they are averaged. `loss` reads a step only through `step.share` or `step.clock`, and through
    `variant(step)`, which tells apart steps that compute different things. `steps`: batches in an
    epoch. `capturable`: whether the loss may be captured as a CUDA graph. `say`: prints a text for
    the user.
    """

    module: nn.Module
    kept: nn.Module
    average: AveragedModel | None
    loss: Callable[[B, Step], Tensor]
    plan: FitPlan
    what: str
    steps: int
    compute: Compute
    variant: Callable[[Step], Hashable]
    capturable: bool
    say: Callable[[str], None]

    @property
    def total(self) -> int:
        """Steps of all epochs."""
        return self.plan.epochs * self.steps

    def rate(self, step: Step) -> float:
        """The learning rate of a step."""
        return self.plan.lr * rate(self.plan, step.share)

    def diverged(self, step: Step) -> TrainingDiverged:
        """The error for a step whose loss or gradient is not finite."""
        number = step.index - step.epoch * self.steps + 1
        stage = self.what.split()[0]
        setting = RATE_OF.get(stage, f"{stage}.lr")
        return TrainingDiverged(
            f"{self.what}: the loss is not finite at step {number} of {self.steps} in epoch "
            f"{step.epoch + 1}; the state after epoch {step.epoch} is kept",
            f"lower the learning rate, for example --set {setting}={self.plan.lr / 4:g}",
        )


class Steps[B](Protocol):
    """Takes the steps of a run on one kind of device."""

    def at_work(self) -> contextlib.AbstractContextManager[object]:
        """A context around all steps."""

    def take(self, batch: B, step: Step) -> list[float]:
        """One step of the optimiser. Returns the losses that have become known, in order.

        Raises TrainingDiverged.
        """

    def known(self) -> list[float]:
        """The losses of all steps that `take` has not returned yet. Raises TrainingDiverged."""


class HostSteps[B]:
    """Steps on the CPU, where every loss is known at once."""

    def __init__(self, run: Run[B], optimiser: torch.optim.Optimizer) -> None:
        self.run, self.optimiser = run, optimiser
        self.early = before_step.parts(run.module)

    def at_work(self) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext()

    def take(self, batch: B, step: Step) -> list[float]:
        run, together = self.run, team()
        for group in self.optimiser.param_groups:
            group["lr"] = run.rate(step) * group.get(FACTOR, 1.0)
        for module in self.early:
            module.before_step()
        with together.batch_norm():
            value = run.loss(batch, step)
        shown = together.mean(value)
        if not torch.isfinite(shown):
            raise run.diverged(step)
        self.optimiser.zero_grad(set_to_none=True)
        value.backward()
        together.average_gradients(run.module)
        norm = nn.utils.clip_grad_norm_(run.module.parameters(), CLIP)
        if not torch.isfinite(norm):
            raise run.diverged(step)
        self.optimiser.step()
        if run.average is not None:
            run.average.update_parameters(run.kept)
        return [float(shown.detach())]

    def known(self) -> list[float]:
        return []
