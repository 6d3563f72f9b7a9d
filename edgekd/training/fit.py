"""fit(): the training loop that the teacher, distillation and quantization-aware training share.

It knows nothing of distillation: a function computes the loss of each batch. After every epoch the
whole state is saved, so that a killed run resumes at the next epoch. A loss that is not finite
stops the run and keeps the last good epoch. Several processes can share each batch (`processes`).
"""

from __future__ import annotations

import dataclasses
import functools
import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from edgekd.core.context import Checkpoint, Progress, silent
from edgekd.core.errors import TrainingDiverged
from edgekd.settings.model_specs import RANDOM_WEIGHTS
from edgekd.training.processes import team
from edgekd.training.views import generator

# Nesterov momentum. With batches of 32 it averages over about 300 images.
MOMENTUM = 0.9
# Fewest time constants of the averaged weights in one training; their first value then counts e^-5.
MEMORY = 5
# Learning rates that a recipe's lr = 0 stands for, by where the weights come from. They suit
# Nesterov momentum and batches of 32.
RATES = {"random": 0.05, "pretrained": 0.01}
# Largest norm of the gradient. With batch norm it is usually far smaller, so that this only limits
# the first steps.
CLIP = 5.0

Schedule = Literal["cosine", "onecycle", "constant"]
Optimiser = Literal["sgd", "adamw"]

# One row for each epoch: "epoch" (from 1), "loss" (mean over the epoch), and validation figures.
HistoryRow = dict[str, float]


@dataclasses.dataclass(frozen=True)
class FitPlan:
    """How long and how fast to train.

    `warmup`: share of the steps in which the learning rate rises. `schedule`: "cosine" (warm-up,
    then a cosine to 0), "onecycle" (a warm-up over at least 30 % of the steps) or "constant".
    `ema`: decay per step of the averaged weights, which is reduced in a short training; 0 means no
    average. `optimiser`: "sgd" (with Nesterov momentum) or "adamw".
    """

    epochs: int
    lr: float
    weight_decay: float
    warmup: float = 0.1
    schedule: Schedule = "cosine"
    ema: float = 0.0
    optimiser: Optimiser = "sgd"


def first_rate(asked: float, origin: str) -> float:
    """The learning rate: `asked`, or if that is 0 the one for weights from `origin`.

    `origin`: as `networks.builders.pretrained` says it; "random" for random weights.
    """
    return asked or RATES["random" if origin == RANDOM_WEIGHTS else "pretrained"]


@dataclasses.dataclass(frozen=True)
class Step:
    """Where training stands: `index` of `total` steps, counted from 0 over all epochs."""

    index: int
    total: int
    epoch: int

    @property
    def share(self) -> float:
        """Share of the steps that are done, 0 to 1."""
        return self.index / max(1, self.total)


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


def _optimiser(module: nn.Module, plan: FitPlan) -> torch.optim.Optimizer:
    """The optimiser of all parameters. Only matrices and filters decay.

    Decay of biases and of norms' scales does not help (Goyal et al. 2017, arXiv 1706.02677).
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": plan.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if plan.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=plan.lr)
    return torch.optim.SGD(groups, lr=plan.lr, momentum=MOMENTUM, nesterov=True)


def rate(plan: FitPlan, share: float) -> float:
    """The factor of the learning rate after this share of the steps."""
    if plan.schedule == "constant":
        return 1.0
    rising = max(plan.warmup, 0.3) if plan.schedule == "onecycle" else plan.warmup
    if share < rising:
        return (share + 1e-3) / (rising + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (share - rising) / (1 - rising)))


@dataclasses.dataclass(frozen=True)
class _Run[B]:
    """One training under way. `steps`: batches in an epoch. `average`: of the kept weights."""

    module: nn.Module
    kept: nn.Module
    optimiser: torch.optim.Optimizer
    average: AveragedModel | None
    loss: Callable[[B, Step], Tensor]
    plan: FitPlan
    what: str
    steps: int

    @property
    def total(self) -> int:
        """Steps of all epochs."""
        return self.plan.epochs * self.steps

    @property
    def judged(self) -> nn.Module:
        """The network that counts: the averaged one if there is an average."""
        return self.kept if self.average is None else self.average.module

    def step(self, batch: B, step: Step) -> float:
        """One step of the optimiser; returns the loss. Raises TrainingDiverged."""
        together = team()
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.lr * rate(self.plan, step.share)
        with together.batch_norm():
            value = self.loss(batch, step)
        shown = together.mean(value)
        if not torch.isfinite(shown):
            raise self._diverged(step)
        self.optimiser.zero_grad(set_to_none=True)
        value.backward()
        together.average_gradients(self.module)
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), CLIP)
        if not torch.isfinite(norm):
            raise self._diverged(step)
        self.optimiser.step()
        if self.average is not None:
            self.average.update_parameters(self.kept)
        return float(shown.detach())

    def _diverged(self, step: Step) -> TrainingDiverged:
        number = step.index - step.epoch * self.steps + 1
        stage = self.what.split()[0]
        return TrainingDiverged(
            f"{self.what}: the loss is not finite at step {number} of {self.steps} in epoch "
            f"{step.epoch + 1}; the state after epoch {step.epoch} is kept",
            f"lower the learning rate, for example --set {stage}.lr={self.plan.lr / 4:g}",
        )

    def snapshot(self, history: list[HistoryRow]) -> bytes:
        """Everything that is needed to go on after this epoch."""
        buffer = io.BytesIO()
        torch.save(
            {
                "module": self.module.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "history": history,
                "average": self.average.state_dict() if self.average is not None else None,
            },
            buffer,
        )
        return buffer.getvalue()

    def resume(self, state: bytes) -> list[HistoryRow]:
        """Load a snapshot and return its history; one that does not fit is ignored."""
        try:
            loaded = torch.load(io.BytesIO(state), weights_only=True)
            self.module.load_state_dict(loaded["module"])
            self.optimiser.load_state_dict(loaded["optimiser"])
            if self.average is not None:
                self.average.load_state_dict(loaded["average"])
            return list(loaded["history"])
        except Exception:  # a damaged or foreign snapshot raises many types; start again then
            return []


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
) -> list[HistoryRow]:
    """Train `module` in place; returns one row for each epoch.

    `kept`: the part whose weights are used afterwards (the student without its adapters). With
    `plan.ema` it ends with its averaged weights. `batches(epoch)` yields `steps` batches.
    `evaluate(network)` gives figures for the row of an epoch. `what`: for messages; it begins with
    the name of the stage.

    Raises TrainingDiverged at the first loss or gradient that is not finite.
    """
    together = team()
    together.align(module)
    decay = min(plan.ema, max(0.0, 1 - MEMORY / (plan.epochs * steps)))
    average = (
        AveragedModel(kept, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
        if plan.ema
        else None
    )
    run = _Run(module, kept, _optimiser(module, plan), average, loss, plan, what, steps)
    state = checkpoint.load()
    history = [] if state is None else run.resume(state)
    for epoch in range(len(history), plan.epochs):
        module.train()
        losses: list[float] = []
        for number, batch in enumerate(batches(epoch)):
            step = Step(epoch * steps + number, run.total, epoch)
            losses.append(run.step(batch, step))
            progress(what, step.index + 1, run.total, loss=losses[-1], epoch=epoch + 1)
        module.eval()
        row: HistoryRow = {"epoch": epoch + 1, "loss": sum(losses) / max(1, len(losses))}
        if evaluate is not None:
            row |= together.once(functools.partial(evaluate, run.judged))
        history.append(row)
        checkpoint.save(run.snapshot(history))
    if average is not None:
        kept.load_state_dict(average.module.state_dict())
    module.eval()
    return history
