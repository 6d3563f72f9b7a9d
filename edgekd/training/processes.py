"""The processes that share one build, however they were started:

    edgekd build --processes 2 ...
    torchrun --nproc-per-node 2 -m edgekd build ...
    accelerate launch --multi_gpu --num_processes 2 -m edgekd build ...

Each process renders and runs its share of every batch. Gradients, the statistics of batch norm and
int8 ranges are those of the whole batch, and losses that compare images with each other see all of
it. The network is therefore the one that a single process would train, up to rounding. Everything
but training runs on the main process, which alone writes files, while the others wait.

Hugging Face Accelerate does the communication; it is imported under a launcher only. Without a
launcher there is one process, and the functions here return what they are given.
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
from edgekd.core.errors import RecipeError, WorkerLost

if TYPE_CHECKING:
    from torch import Tensor, nn

# Longest wait for other processes. Decoding a large data set, which one process does, takes hours.
PATIENCE = timedelta(days=2)
# Longest wait for the launcher's key-value store.
BOARD_WAIT = timedelta(seconds=5)
# Key in that store: the number of the first process that failed.
CLAIM = "edgekd/failed"
# Set for processes that `edgekd build --processes` has started (`edgekd.app.process_launcher`).
WATCHED = "EDGEKD_WATCHED"
# What gloo writes in a RuntimeError when the process at the other end of a connection has ended.
_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Timed out")


@dataclasses.dataclass(frozen=True)
class Team:
    """A group of `size` processes, in which this one has the number `rank`."""

    rank: int = 0
    size: int = 1

    @property
    def main(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """A context in which `team()` returns this team."""
        token = _AT_WORK.set(self)
        try:
            yield
        finally:
            _AT_WORK.reset(token)

    # --- deciding together ------------------------------------------------------------------------

    def tell[A](self, value: A) -> A:
        """The main process's value, on all processes.

        It must be plain data, because it is sent as a pickle between these processes.
        """
        if self.size == 1:
            return value
        from accelerate.utils import broadcast_object_list

        with _contact():
            return broadcast_object_list([value])[0]

    def once[A](self, make: Callable[[], A]) -> A:
        """The result of `make()`, which only the main process calls, on all processes.

        Meanwhile the others wait, and the main process works as a team of one.
        """
        with Team().at_work():
            made = make() if self.main else None
        return self.tell(made)  # type: ignore[return-value]

    def spread[U, A](self, work: Callable[[U], A], units: Sequence[U]) -> Iterator[tuple[U, A]]:
        """(unit, work(unit)) for all units, in order, on every process.

        Each process computes every size-th unit only.
        """
        if self.size == 1:
            yield from ((unit, work(unit)) for unit in units)
            return
        from accelerate.utils import gather_object

        for start in range(0, len(units), self.size):
            turn = units[start : start + self.size]
            own = [work(turn[self.rank])] if self.rank < len(turn) else []
            with _contact():
                every = gather_object(own)
            yield from zip(turn, every, strict=True)

    def checkpoint(self, kept: Checkpoint) -> Checkpoint:
        """A checkpoint that the main process writes and all processes read."""
        return kept if self.size == 1 else _SharedCheckpoint(self, kept)

    # --- training together ------------------------------------------------------------------------

    def share(self, rows: Tensor) -> Tensor:
        """This process's part of a batch; the parts of all processes, in order, are the batch.

        Raises RecipeError for a batch that cannot be divided evenly. The mean of the parts' means
        would not be the mean of the batch.
        """
        if len(rows) % self.size:
            raise RecipeError(
                f"a batch of {len(rows)} images cannot be shared evenly by {self.size} processes",
                f"set teacher.batch, distil.batch and qat.batch to multiples of {self.size}",
            )
        return rows.chunk(self.size)[self.rank]

    def gather(self, part: Tensor) -> Tensor:
        """The parts of all processes in one tensor, in order; gradients flow back to each part."""
        return part if self.size == 1 else _gather(part, self)

    def mean(self, value: Tensor) -> Tensor:
        """The mean over the processes, without gradient."""
        if self.size == 1:
            return value
        from accelerate.utils import reduce

        with _contact():
            return reduce(value.detach().clone(), "mean")

    def extremes(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """The smallest `low` and the largest `high` of all processes."""
        if self.size == 1:
            return low, high
        lows, highs = self.gather(low.reshape(1)), self.gather(high.reshape(1))
        return lows.amin(), highs.amax()

    def align(self, module: nn.Module) -> None:
        """Copy the main process's weights and buffers to every process."""
        if self.size > 1:
            from accelerate.utils import broadcast

            with _contact():
                broadcast(list(module.state_dict(keep_vars=False).values()))

    def average_gradients(self, module: nn.Module) -> None:
        """Replace every gradient by its mean over the processes, in one message.

        This happens after the backward pass and not in its hooks. Losses may therefore leave
        adapters out, compute gradients themselves, or call parts of the network.
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
        """A context in which batch norm in training uses the statistics of the whole batch."""
        if self.size == 1:
            return contextlib.nullcontext()
        from edgekd.training.whole_batch_norm import WholeBatchNorm

        return WholeBatchNorm(self.gather, self.size, lambda: team().size == 1)


_AT_WORK: contextvars.ContextVar[Team] = contextvars.ContextVar(
    "at work",
    default=Team(),  # noqa: B039 - it is frozen
)


def team() -> Team:
    """The processes that work together at present.

    In a stage that is shared these are the launcher's; otherwise it is this process alone.
    """
    return _AT_WORK.get()


def under_launcher() -> bool:
    """Whether a launcher has started this process beside others."""
    size = os.environ.get("WORLD_SIZE", "1")
    return "RANK" in os.environ and size.isdecimal() and int(size) > 1


@functools.cache
def launched() -> Team:
    """The processes of the launcher that set RANK and WORLD_SIZE, or this process alone.

    Raises RecipeError where a launcher has set these two alone.
    """
    if not under_launcher():
        return Team()
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if name not in os.environ:
            raise RecipeError(
                f"RANK and WORLD_SIZE are set, as by a launcher of several processes, but {name} "
                "is not",
                "start it with torchrun or accelerate, or unset RANK and WORLD_SIZE",
            )
    import torch
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
    return Team(state.process_index, state.num_processes)


def first_to_fail() -> bool:
    """Whether this is the first process that failed.

    If it is not, an earlier process has already printed its error, and this process stopped because
    of that failure.
    """
    if not under_launcher():
        return True
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    rank = os.environ["RANK"]
    try:  # over a connection of its own: the process group may have failed or never existed
        board = TCPStore(
            os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), timeout=BOARD_WAIT
        )
        return board.compare_set(CLAIM, "", rank) == rank.encode()
    # No store: the main process, which kept it, is gone; or no launcher has started this process.
    except (RuntimeError, KeyError, ValueError):
        return rank == "0"


def watched() -> bool:
    """Whether the command that started this process watches it, and says itself when it is lost."""
    return WATCHED in os.environ


@contextlib.contextmanager
def _contact() -> Iterator[None]:
    """A context for messages between processes. Raises WorkerLost when one cannot be delivered."""
    try:
        yield
    except RuntimeError as error:
        from torch.distributed import DistError

        if not isinstance(error, DistError) and not any(word in str(error) for word in _LOST):
            raise
        raise WorkerLost(
            "another process of this build has ended, or its machine cannot be reached",
            "its own output may say why; the same command continues after the last whole epoch",
        ) from error


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
    """The autograd function of `Team.gather`, made on first use so that torch loads late."""
    import torch
    from accelerate.utils import gather, reduce

    class Gather(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, part: Tensor, among: Team) -> Tensor:
            ctx.among = among
            with _contact():
                return gather(part.contiguous())

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
            # Every process's loss depends on this part. The mean over processes is taken later, of
            # the weights' gradients.
            with _contact():
                whole = reduce(grads[0].contiguous(), "sum")
            return whole.chunk(ctx.among.size)[ctx.among.rank], None

    return Gather


def _gather(part: Tensor, among: Team) -> Tensor:
    return _gather_function().apply(part, among)
