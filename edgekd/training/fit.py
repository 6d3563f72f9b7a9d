"""fit(): the one training loop that teacher, distil and qat share.

It knows nothing of distillation: a loss closure sees each batch. After every epoch the whole state is kept, so that a
killed run goes on at the next epoch; a loss that is not finite stops the run and leaves the last good epoch. Under a launcher
several processes share each batch (`processes`).
"""

from __future__ import annotations

import dataclasses
import functools
import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from edgekd.core.context import Checkpoint, Progress, silent
from edgekd.core.errors import TrainingDiverged
from edgekd.training.processes import team
from edgekd.training.views import generator

MOMENTUM = 0.9  # Nesterov; with batches of 32 it remembers about 300 images
MEMORY = 5  # time constants of the averaged weights that a training must hold: e^-5 of its first weights is then left
RATES = {
    "random": 0.05,
    "pretrained": 0.01,
}  # a recipe's lr of 0; for Nesterov's momentum and batches of 32
CLIP = 5.0  # gradient norm; batch norm keeps healthy gradients far below it, so it only tames the first steps


@dataclasses.dataclass(frozen=True)
class FitPlan:
    """How long and how fast. `schedule`: "cosine" (warm-up, then cosine to 0), "onecycle" or "constant".

    `ema`: decay a step of the averaged weights, less in a training too short for it. `optimiser`: "sgd" (Nesterov
    momentum) or "adamw".
    """

    epochs: int
    lr: float
    weight_decay: float
    warmup: float = 0.1
    schedule: str = "cosine"
    ema: float = 0.0
    optimiser: str = "sgd"


def first_rate(asked: float, origin: str) -> float:
    """The learning rate asked for, or where that is 0 the one that suits weights from `origin` (`networks.pretrained`)."""
    return asked or RATES["random" if origin == "random" else "pretrained"]


@dataclasses.dataclass(frozen=True)
class Step:
    """Where training stands: `index` of `total` steps, counted from 0 over all epochs."""

    index: int
    total: int
    epoch: int

    @property
    def share(self) -> float:
        """Share of the steps already taken, 0 .. 1."""
        return self.index / max(1, self.total)


def shuffled(
    count: int, batch: int, seed: int, epoch: int, weights: Tensor | None = None
) -> Iterator[Tensor]:
    """Row numbers (int64 [b]) of one epoch. With `weights` [count], rows are drawn with replacement by weight.

    Processes at work together get each a share of every batch, as many rows as the others. The last rows that do not fill
    a batch are left out: a batch of one breaks batch norm.
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
    """A weight a row, float32 [n], that gives every class the same share; the mean weight is 1.

    A row without a label (-1) weighs 1 and takes no part in the balance.
    """
    known = labels >= 0
    counts = torch.bincount(labels[known], minlength=classes).clamp(min=1).float()
    weights = torch.ones(len(labels))
    own = 1 / counts[labels[known]]
    weights[known] = own * (len(own) / own.sum())
    return weights


def _decayed(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay for matrices and filters only: decaying biases and norm scales helps nothing (Goyal et al. 2017)."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _optimiser(module: nn.Module, plan: FitPlan) -> torch.optim.Optimizer:
    groups = _decayed(module, plan.weight_decay)
    if plan.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=plan.lr)
    return torch.optim.SGD(groups, lr=plan.lr, momentum=MOMENTUM, nesterov=True)


def rate(plan: FitPlan, share: float) -> float:
    """The learning rate's factor at this share of the steps."""
    if plan.schedule == "constant":
        return 1.0
    rising = max(plan.warmup, 0.3) if plan.schedule == "onecycle" else plan.warmup
    if share < rising:
        return (share + 1e-3) / (rising + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (share - rising) / (1 - rising)))


def fit(
    module: nn.Module,
    kept: nn.Module,
    batches: Callable[[int], Iterable[Any]],
    loss: Callable[[Any, Step], Tensor],
    plan: FitPlan,
    *,
    what: str,
    steps: int,
    checkpoint: Checkpoint,
    evaluate: Callable[[nn.Module], Mapping[str, float]] | None = None,
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """Train `module` in place and return one history row an epoch.

    `kept` is the part whose weights matter afterwards (the student without its adapters); with `plan.ema` it ends with
    its averaged weights. `batches(epoch)` yields `steps` batches. `evaluate(kept or its average)` adds figures to the
    row. Raises TrainingDiverged at the first loss that is not finite.
    """
    total, together = plan.epochs * steps, team()
    together.align(module)
    optimiser = _optimiser(module, plan)
    decay = min(plan.ema, max(0.0, 1 - MEMORY / total))
    average = (
        AveragedModel(kept, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
        if plan.ema
        else None
    )
    history: list[dict[str, Any]] = []
    state = checkpoint.load()
    if state is not None:
        history = _resume(state, module, optimiser, average)
    for epoch in range(len(history), plan.epochs):
        module.train()
        losses = []
        for number, batch in enumerate(batches(epoch)):
            step = Step(epoch * steps + number, total, epoch)
            for group in optimiser.param_groups:
                group["lr"] = plan.lr * rate(plan, step.share)
            with together.batch_norm():
                value = loss(batch, step)
            shown = together.mean(value)
            if not torch.isfinite(shown):
                raise _diverged(what, step, number, steps, plan)
            optimiser.zero_grad(set_to_none=True)
            value.backward()
            together.average_gradients(module)
            norm = nn.utils.clip_grad_norm_(module.parameters(), CLIP)
            if not torch.isfinite(norm):
                raise _diverged(what, step, number, steps, plan)
            optimiser.step()
            if average is not None:
                average.update_parameters(kept)
            losses.append(float(shown.detach()))
            progress(what, step.index + 1, total, loss=losses[-1], epoch=epoch + 1)
        module.eval()
        row: dict[str, Any] = {"epoch": epoch + 1, "loss": sum(losses) / max(1, len(losses))}
        if evaluate is not None:
            row |= together.once(
                functools.partial(evaluate, average.module if average is not None else kept)
            )
        history.append(row)
        checkpoint.save(_snapshot(module, optimiser, average, history))
    if average is not None:
        kept.load_state_dict(average.module.state_dict())
    module.eval()
    return history


def _diverged(what: str, step: Step, number: int, steps: int, plan: FitPlan) -> TrainingDiverged:
    stage = what.split()[0]
    return TrainingDiverged(
        f"{what}: the loss is not finite at step {number + 1} of {steps} in epoch {step.epoch + 1}; "
        f"the state after epoch {step.epoch} is kept",
        f"lower the learning rate, for example --set {stage}.lr={plan.lr / 4:g}",
    )


def _snapshot(
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    average: nn.Module | None,
    history: list[dict[str, Any]],
) -> bytes:
    buffer = io.BytesIO()
    torch.save(
        {
            "module": module.state_dict(),
            "optimiser": optimiser.state_dict(),
            "history": history,
            "average": average.state_dict() if average is not None else None,
        },
        buffer,
    )
    return buffer.getvalue()


def _resume(
    state: bytes, module: nn.Module, optimiser: torch.optim.Optimizer, average: nn.Module | None
) -> list[dict[str, Any]]:
    """Load a snapshot; one that does not fit is ignored, and training starts from its first epoch."""
    try:
        loaded = torch.load(io.BytesIO(state), weights_only=True)
        module.load_state_dict(loaded["module"])
        optimiser.load_state_dict(loaded["optimiser"])
        if average is not None:
            average.load_state_dict(loaded["average"])
        return list(loaded["history"])
    except (
        Exception
    ):  # a torn or foreign snapshot has no common error type; starting over is always right
        return []
