"""The processes that share one build, as `torchrun` or `accelerate launch` start them; without a launcher, this one alone.

    torchrun --nproc-per-node 2 -m edgekd build ...
    accelerate launch --multi_gpu --num_processes 2 -m edgekd build ...

Each process renders and runs its share of every batch. Gradients, batch norm's statistics and int8 ranges are those of the
whole batch, and losses that compare images with each other see all of it, so that the network is the one that one process
would train, but for rounding. What is no training runs on the main process, which alone writes; the others wait.

Stands on Hugging Face Accelerate, which is imported under a launcher only. Alone, every function here gives back what it
was given.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from edgekd.core.context import Checkpoint
from edgekd.core.errors import RecipeError

if TYPE_CHECKING:
    from torch import Tensor, nn

# A wait this long is a fault: decoding a large data set, which one process does, takes hours and not days.
PATIENCE = timedelta(days=2)
BOARD_WAIT = timedelta(seconds=5)
CLAIM = "edgekd/failed"  # key under which the first process to fail puts its number


@dataclasses.dataclass(frozen=True)
class Team:
    """This process among `size`, by its `rank`."""

    rank: int = 0
    size: int = 1

    @property
    def main(self) -> bool:
        """Whether this is the process that writes and talks."""
        return self.rank == 0

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Within it, `team()` is this one."""
        token = _AT_WORK.set(self)
        try:
            yield
        finally:
            _AT_WORK.reset(token)

    # --- deciding together -------------------------------------------------------------------------------------------

    def tell[A](self, value: A) -> A:
        """The main process's value, to all. It must be plain data: it travels as a pickle between our own processes."""
        if self.size == 1:
            return value
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

    def once[A](self, make: Callable[[], A]) -> A:
        """What `make()` gives on the main process, which is at work alone meanwhile, to all; the others wait."""
        with Team().at_work():
            made = make() if self.main else None
        return self.tell(made)  # type: ignore[return-value]

    def spread[U, A](self, work: Callable[[U], A], units: Sequence[U]) -> Iterator[tuple[U, A]]:
        """(unit, work(unit)) for all units, in order, on every process; each works on every size-th unit only."""
        if self.size == 1:
            yield from ((unit, work(unit)) for unit in units)
            return
        from accelerate.utils import gather_object

        for start in range(0, len(units), self.size):
            turn = units[start : start + self.size]
            own = [work(turn[self.rank])] if self.rank < len(turn) else []
            yield from zip(turn, gather_object(own), strict=True)

    def checkpoint(self, kept: Checkpoint) -> Checkpoint:
        """A checkpoint that the main process writes and all go on from."""
        return kept if self.size == 1 else _SharedCheckpoint(self, kept)

    # --- training together -------------------------------------------------------------------------------------------

    def share(self, rows: Tensor) -> Tensor:
        """This process's part of a batch: one after the other, the parts are the batch.

        Raises RecipeError for a batch that cannot be divided evenly: means over parts would not be means over the batch.
        """
        if len(rows) % self.size:
            raise RecipeError(
                f"a batch of {len(rows)} images cannot be shared evenly by {self.size} processes",
                f"set teacher.batch, distil.batch and qat.batch to multiples of {self.size}",
            )
        return rows.chunk(self.size)[self.rank]

    def gather(self, part: Tensor) -> Tensor:
        """The parts of all processes, one after the other; gradients find their way back to each."""
        return part if self.size == 1 else _gather(part, self)

    def mean(self, value: Tensor) -> Tensor:
        """The mean over the processes; no gradient."""
        if self.size == 1:
            return value
        from accelerate.utils import reduce

        return reduce(value.detach().clone(), "mean")

    def extremes(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """The lowest and the highest of all processes' values."""
        if self.size == 1:
            return low, high
        lows, highs = self.gather(low.reshape(1)), self.gather(high.reshape(1))
        return lows.amin(), highs.amax()

    def align(self, module: nn.Module) -> None:
        """Let every process start from the main one's weights and buffers."""
        if self.size > 1:
            from accelerate.utils import broadcast

            broadcast(list(module.state_dict(keep_vars=False).values()))

    def average_gradients(self, module: nn.Module) -> None:
        """Put the mean over the processes into every gradient, in one message.

        After the backward pass and not in its hooks, so that any loss will do: one that leaves adapters out, differentiates
        within, or calls parts of the network.
        """
        if self.size == 1:
            return
        import torch

        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        flat = self.mean(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, mean in zip(
            gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True
        ):
            gradient.copy_(mean.view_as(gradient))

    def batch_norm(self) -> contextlib.AbstractContextManager[object]:
        """Within it, batch norm in training takes the statistics of the whole batch."""
        return contextlib.nullcontext() if self.size == 1 else _whole_batch_norm(self)


_AT_WORK: contextvars.ContextVar[Team] = contextvars.ContextVar("at work", default=Team())  # noqa: B039 - it is frozen


def team() -> Team:
    """The processes that work on the same thing right now: in a shared stage those of the launcher, else this one alone."""
    return _AT_WORK.get()


def _launched() -> bool:
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


@functools.cache
def launched() -> Team:
    """The processes of the launcher whose variables RANK and WORLD_SIZE are set; without one, this process alone."""
    if not _launched():
        return Team()
    import torch
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
    return Team(state.process_index, state.num_processes)


def first_to_fail() -> bool:
    """Whether no other process has failed before: that one has told why, and this one ends for want of it."""
    if not _launched():
        return True
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    rank = os.environ["RANK"]
    try:  # a connection of its own: the process group may be what failed, or was never there
        board = TCPStore(
            os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), timeout=BOARD_WAIT
        )
        return board.compare_set(CLAIM, "", rank) == rank.encode()
    except (
        RuntimeError
    ):  # no board: the main process keeps it where the launcher does not, and is gone
        return rank == "0"


@dataclasses.dataclass(frozen=True)
class _SharedCheckpoint:
    among: Team
    kept: Checkpoint

    def save(self, data: bytes) -> None:
        if self.among.main:
            self.kept.save(data)

    def load(self) -> bytes | None:
        return self.among.once(self.kept.load)


@functools.cache
def _gather_function() -> Any:
    """The autograd function of `Team.gather`; made when it is first needed, as torch is."""
    import torch
    from accelerate.utils import gather, reduce

    class Gather(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, part: Tensor, among: Team) -> Tensor:
            ctx.among = among
            return gather(part.contiguous())

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
            # Every process's loss depends on this part; the mean over processes comes with the weights' gradients.
            whole = reduce(grads[0].contiguous(), "sum")
            return whole.chunk(ctx.among.size)[ctx.among.rank], None

    return Gather


def _gather(part: Tensor, among: Team) -> Tensor:
    return _gather_function().apply(part, among)


def _whole_batch_norm(among: Team) -> contextlib.AbstractContextManager[object]:
    """Torch's SyncBatchNorm needs a GPU; this works wherever the processes can talk, and for subclasses of BatchNorm2d."""
    import torch
    from torch.nn import functional as F
    from torch.overrides import TorchFunctionMode

    def normalise(
        x: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if (
            not training or team().size == 1
        ):  # at work alone within: what is seen is the whole batch already
            return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
        wide = x if x.dtype == torch.float64 else x.float()
        axes = [0, *range(2, x.ndim)]
        own_var, own_mean = torch.var_mean(wide, axes, correction=0)
        means, variances = among.gather(torch.stack([own_mean, own_var])[None]).unbind(
            1
        )  # [processes, channels]
        mean = means.mean(0)
        var = (variances + (means - mean).square()).mean(0)
        if running_mean is not None and running_var is not None:
            count = among.size * x.numel() // x.shape[1]
            with torch.no_grad():
                running_mean.lerp_(mean.to(running_mean.dtype), momentum)
                running_var.lerp_((var * (count / (count - 1))).to(running_var.dtype), momentum)
        shape = [1, -1, *[1] * (x.ndim - 2)]
        scale = torch.rsqrt(var + eps)
        shift = -mean * scale
        if weight is not None:
            scale, shift = scale * weight, shift * weight
        if bias is not None:
            shift = shift + bias
        return (wide * scale.view(shape) + shift.view(shape)).to(x.dtype)

    class WholeBatchNorm(TorchFunctionMode):
        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            return (normalise if function is F.batch_norm else function)(*args, **(kwargs or {}))

    return WholeBatchNorm()
