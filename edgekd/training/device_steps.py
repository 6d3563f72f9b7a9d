"""Training steps on a GPU, which the CPU starts without waiting for them.

Losses stay on the device until progress is shown. On an NVIDIA GPU the steps are captured as a CUDA
graph where that is possible (`captured_step`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import time
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from edgekd.training import before_step
from edgekd.training.captured_step import CapturedStep
from edgekd.training.fit_plan import Step
from edgekd.training.optimisers import RatedOptimiser, clip
from edgekd.training.processes import team
from edgekd.training.steps import CLIP, Run

# Losses that are kept on the device at most, and seconds after which they are read. Reading waits
# for the device, which takes about as long as one step. Steps that wait keep their pinned memory:
# 22 MB each for 512 images of 120 px that are copied to the device.
KEPT = 64
READ_EVERY = 0.5
# Of the gradient scaler, as in torch.amp.GradScaler: the first scale, its factors after gradients
# that are not finite and after a row of finite ones, and the length of that row.
FIRST_SCALE = 2.0**16
BACKOFF, GROWTH, INTERVAL = 0.5, 2.0, 2000


class DeviceSteps[B]:
    """The steps of a run on a GPU."""

    def __init__(self, run: Run[B], optimiser: RatedOptimiser, decay: float) -> None:
        device = run.compute.device
        self.run, self.optimiser = run, optimiser
        self.clock = torch.zeros((), device=device)
        self.value = torch.zeros((), device=device)
        self.losses = torch.zeros(KEPT, device=device)
        self.waiting: list[Step] = []
        self.read_at = time.monotonic()
        self.early = before_step.parts(run.module)
        self.average = None if run.average is None else _Average(run.average, run.kept, decay)
        self.scaler = _Scaler(device) if run.compute.training == torch.float16 else None
        graphs = device.type == "cuda" and run.compute.cuda_graphs and team().size == 1
        self.captured = CapturedStep(self._body, run) if graphs and run.capturable else None

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """A CUDA stream of their own for all steps: a graph can only be captured on such a one."""
        if self.run.compute.device.type != "cuda":
            yield
            return
        before = torch.cuda.current_stream()
        own = torch.cuda.Stream()
        own.wait_stream(before)
        try:
            with torch.cuda.stream(own):
                yield
        finally:
            before.wait_stream(own)

    def take(self, batch: B, step: Step) -> list[float]:
        self._prepare(step)
        timed = dataclasses.replace(step, clock=self.clock)
        if self.captured is None or not self.captured.take(batch, timed):
            self._body(batch, timed)
        self.losses[len(self.waiting)].copy_(self.value)
        self.waiting.append(step)
        late = time.monotonic() - self.read_at >= READ_EVERY
        return self.known() if late or len(self.waiting) == KEPT else []

    def known(self) -> list[float]:
        found = self.losses[: len(self.waiting)].tolist()
        for step, value in zip(self.waiting, found, strict=True):
            if not math.isfinite(value):
                raise self.run.diverged(step)
        self.waiting.clear()
        self.read_at = time.monotonic()
        return found

    def _prepare(self, step: Step) -> None:
        """Write what changes from step to step into tensors on the device, without waiting."""
        self.clock.fill_(step.share)
        self.optimiser.prepare(self.run.rate(step))
        if self.average is not None:
            self.average.prepare()
        for module in self.early:
            module.before_step()

    def _body(self, batch: B, step: Step) -> None:
        """The step on the device: reads nothing on the CPU, and can therefore be captured."""
        run, together = self.run, team()
        with together.batch_norm():
            value = run.loss(batch, step)
        if gradients := self._gradients():  # they keep their place in memory
            torch._foreach_zero_(gradients)
        (value if self.scaler is None else value * self.scaler.scale).backward()
        together.average_gradients(run.module)
        gradients = self._gradients()
        with torch.no_grad():
            if self.scaler is None:
                finite = torch.isfinite(clip(gradients, CLIP))
                self._update()
            else:
                # Gradients that are not finite only mean that the scale was too large.
                finite = torch.isfinite(value)
                self.scaler.unscale(gradients)
                clip(gradients, CLIP)
                with self.scaler.skipping(self._changing()):
                    self._update()
            shown = together.mean(value).detach()
            self.value.copy_(torch.where(finite, shown, torch.nan))

    def _gradients(self) -> list[Tensor]:
        return [p.grad for p in self.run.module.parameters() if p.grad is not None]

    def _update(self) -> None:
        self.optimiser.update()
        if self.average is not None:
            self.average.update()

    def _changing(self) -> list[Tensor]:
        averaged = [] if self.average is None else self.average.averaged
        return [*self.optimiser.tensors(), *averaged]


class _Average:
    """Updates an AveragedModel as `update_parameters` does, without reading its counter."""

    def __init__(self, average: AveragedModel, kept: torch.nn.Module, decay: float) -> None:
        self.average, self.decay = average, decay
        pairs = list(
            zip(
                itertools.chain(average.module.parameters(), average.module.buffers()),
                itertools.chain(kept.parameters(), kept.buffers()),
                strict=True,
            )
        )
        pairs = [(mean.detach(), now.detach()) for mean, now in pairs]
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        self.averaged, self.now = [mean for mean, _ in floats], [now for _, now in floats]
        counters = [pair for pair in pairs if not pair[0].is_floating_point()]
        self.counted, self.counts = [mean for mean, _ in counters], [now for _, now in counters]

    def prepare(self) -> None:
        """Before the first step, let the average be the weights, as it is after one update."""
        self.first = int(self.average.n_averaged) == 0
        self.average.n_averaged += 1  # a tensor on the CPU

    def update(self) -> None:
        """Move the average towards the weights; the first time, copy them."""
        if self.first:
            torch._foreach_copy_(self.averaged, self.now)
        else:
            torch._foreach_lerp_(self.averaged, self.now, 1 - self.decay)
        if self.counts:
            torch._foreach_copy_(self.counted, self.counts)


class _Scaler:
    """Scales losses for float16, as torch.amp.GradScaler does, without reading on the CPU."""

    def __init__(self, device: torch.device) -> None:
        self.scale = torch.full((), FIRST_SCALE, device=device)
        self.row = torch.zeros((), dtype=torch.int32, device=device)
        self.found = torch.zeros((), device=device)

    def unscale(self, gradients: list[Tensor]) -> None:
        """Divide gradients by the scale, and note whether one is not finite."""
        self.found.zero_()
        torch._amp_foreach_non_finite_check_and_unscale_(
            gradients, self.found, self.scale.reciprocal()
        )

    @contextlib.contextmanager
    def skipping(self, changing: list[Tensor]) -> Iterator[None]:
        """A context whose changes to these tensors are undone if a gradient was not finite. Then
        adapt the scale.
        """
        before = [part.clone() for part in changing]
        yield
        for part, old in zip(changing, before, strict=True):
            part.copy_(torch.where(self.found > 0, old, part))
        torch._amp_update_scale_(self.scale, self.row, self.found, GROWTH, BACKOFF, INTERVAL)
