"""fit(): the training loop that the teacher, distillation and quantization-aware training share.

It knows nothing of distillation: a function computes the loss of each batch. After every epoch the
whole state is saved, so that a killed run resumes at the next epoch. A loss that is not finite
stops the run and keeps the last good epoch. Several processes can share each batch (`processes`).
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from edgekd.core.context import Checkpoint, Progress, mute, silent
from edgekd.networks.compute import Compute
from edgekd.training.device_steps import DeviceSteps
from edgekd.training.fit_plan import FitPlan, Step
from edgekd.training.gpu_memory import out_of_memory
from edgekd.training.optimisers import optimiser, rated
from edgekd.training.processes import team
from edgekd.training.steps import HostSteps, Run, Steps
from edgekd.training.views import generator

# Fewest time constants of the averaged weights in one training; their first value then counts e^-5.
MEMORY = 5

# One row for each epoch: "epoch" (from 1), "loss" (mean over the epoch), and validation figures.
HistoryRow = dict[str, float]


def shuffled(
    count: int, batch: int, seed: int, epoch: int, weights: Tensor | None = None
) -> Iterator[Tensor]:
    """The row numbers of each batch of one epoch, int64 [b].

    With `weights` [count], rows are drawn with replacement, in proportion to them. Each process
    gets an equal share of every batch. Rows that do not fill the last batch are left out, because
    batch norm fails on a batch of one.
    """
    stream = generator("order", seed, epoch)
    if weights is None:
        order = torch.randperm(count, generator=stream)
    else:
        order = torch.multinomial(weights.double(), count, replacement=True, generator=stream)
    batch = min(batch, count)
    for start in range(0, count - batch + 1, batch):
        yield team().share(order[start : start + batch])


def balanced(labels: Tensor, classes: int) -> Tensor:
    """A weight for each row, float32 [n], that gives every class the same share; their mean is 1.

    A row without a label (-1) has the weight 1 and does not count for the balance.
    """
    known = labels >= 0
    counts = torch.bincount(labels[known], minlength=classes).clamp(min=1).float()
    weights = torch.ones(len(labels))
    own = 1 / counts[labels[known]]
    weights[known] = own * (len(own) / own.sum())
    return weights


class _Saved(Protocol):
    """An optimiser, as far as a checkpoint needs it."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


def _snapshot(run: Run[Any], kept: _Saved, history: list[HistoryRow]) -> bytes:
    """Everything that is needed to go on after this epoch."""
    buffer = io.BytesIO()
    torch.save(
        {
            "module": run.module.state_dict(),
            "optimiser": kept.state_dict(),
            "history": history,
            "average": run.average.state_dict() if run.average is not None else None,
            # Of the CPU. A GPU has a generator of its own, so that with dropout a resumed training
            # there is not the uninterrupted one bit for bit.
            "random": torch.get_rng_state(),
        },
        buffer,
    )
    return buffer.getvalue()


def _resume(run: Run[Any], kept: _Saved, state: bytes) -> list[HistoryRow]:
    """Load a snapshot, maybe of another device, and return its history. One that does not fit is
    ignored.
    """
    try:
        loaded = torch.load(io.BytesIO(state), weights_only=True, map_location="cpu")
        run.module.load_state_dict(loaded["module"])
        kept.load_state_dict(loaded["optimiser"])
        if run.average is not None:
            run.average.load_state_dict(loaded["average"])
        torch.set_rng_state(loaded["random"])  # dropout draws from it
        return list(loaded["history"])
    except Exception:  # a damaged or foreign snapshot raises many types; start again then
        return []


def epochs_in(state: bytes | None) -> int:
    """The epochs that a checkpoint of `fit` holds; 0 for None or one that cannot be read."""
    if state is None:
        return 0
    try:
        return len(torch.load(io.BytesIO(state), weights_only=True, map_location="cpu")["history"])
    except Exception:  # a damaged or foreign snapshot raises many types
        return 0


def _same(_step: Step) -> Hashable:
    """The `variant` of a loss that computes the same in every step."""
    return None


def fit[B](
    module: nn.Module,
    kept: nn.Module,
    batches: Callable[[int], Iterable[B]],
    loss: Callable[[B, Step], Tensor],
    plan: FitPlan,
    *,
    what: str,
    steps: int,
    checkpoint: Checkpoint,
    evaluate: Callable[[nn.Module], Mapping[str, float]] | None = None,
    progress: Progress = silent,
    compute: Compute = Compute(),  # noqa: B008 - it is frozen
    variant: Callable[[Step], Hashable] = _same,
    capturable: bool = True,
    say: Callable[[str], None] = mute,
    pause_after: int | None = None,
) -> list[HistoryRow]:
    """Train `module` in place; returns one row for each epoch that is done.

    `kept`: the part whose weights are used afterwards (the student without its adapters). With
    `plan.ema` it ends with its averaged weights. `batches(epoch)` yields `steps` batches.
    `evaluate(network)` gives figures for the row of an epoch. `what`: for messages; it begins with
    the name of the stage. `module` and the batches are on `compute.device`. For `variant`,
    `capturable` and `say` see `steps.Run`. `pause_after`: stop once so many epochs are done in all,
    with the present weights; a later call with the same checkpoint goes on as if without a pause.

    Raises TrainingDiverged at the first loss or gradient that is not finite. On a GPU it is raised
    up to half a second later, and names the same step. Raises OutOfMemory when a batch does not fit
    into the memory of a GPU.
    """
    together = team()
    together.align(module)
    decay = min(plan.ema, max(0.0, 1 - MEMORY / (plan.epochs * steps)))
    average = (
        AveragedModel(kept, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
        if plan.ema
        else None
    )
    run = Run(module, kept, average, loss, plan, what, steps, compute, variant, capturable, say)
    made, taken = _steps(run, decay)
    state = checkpoint.load()
    history = [] if state is None else _resume(run, made, state)
    with taken.at_work():
        for epoch in range(len(history), min(plan.epochs, pause_after or plan.epochs)):
            module.train()
            losses = _epoch(run, taken, batches(epoch), epoch, progress)
            module.eval()
            row: HistoryRow = {"epoch": epoch + 1, "loss": sum(losses) / max(1, len(losses))}
            if evaluate is not None:
                judged = kept if average is None else average.module
                row |= together.once(functools.partial(evaluate, judged))
            history.append(row)
            checkpoint.save(_snapshot(run, made, history))
    if average is not None and len(history) == plan.epochs:
        kept.load_state_dict(average.module.state_dict())
    module.eval()
    return history


def _steps[B](run: Run[B], decay: float) -> tuple[_Saved, Steps[B]]:
    """The optimiser of a run, and what takes its steps, for its device."""
    if run.compute.is_host and run.compute.training != torch.float16:
        own = optimiser(run.module, run.plan)
        return own, HostSteps(run, own)
    on_device = rated(run.module, run.plan, run.compute.device)
    return on_device, DeviceSteps(run, on_device, decay)


def _epoch[B](
    run: Run[B], taken: Steps[B], batches: Iterable[B], epoch: int, progress: Progress
) -> list[float]:
    """Train for one epoch; returns the losses of its steps."""
    losses: list[float] = []
    step, batch, fits = Step(epoch * run.steps, run.total, epoch), None, True
    try:
        for number, batch in enumerate(batches):
            step = Step(epoch * run.steps + number, run.total, epoch)
            if known := taken.take(batch, step):
                losses += known
                progress(run.what, step.index + 1, run.total, loss=losses[-1], epoch=epoch + 1)
        if known := taken.known():
            losses += known
            progress(run.what, step.index + 1, run.total, loss=losses[-1], epoch=epoch + 1)
    except torch.OutOfMemoryError:
        fits = False  # until here, the error's frames hold on to the memory that it needed
    if not fits:
        raise out_of_memory(run, batch, step)
    return losses
