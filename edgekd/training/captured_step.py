"""A training step as a CUDA graph: recorded once, then replayed by a single call.

A step of a small network starts some 2,000 kernels, and waits for Python to start each. A graph
starts all of them at once. What it computes is fixed when it is captured: the batch is copied into
the tensors that the graph reads, and numbers that change from step to step are tensors, too.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Hashable

import torch
from torch import Tensor

from edgekd.training.fit_plan import Step
from edgekd.training.steps import Run

# Steps before a capture, which make lasting tensors and let libraries choose their kernels. They
# are steps of the training like all others.
WARM_UP = 4
# Part of torch's warning where the CPU waits for the GPU, which no captured step can do.
WAITED = "called a synchronizing CUDA operation"


class CapturedStep[B]:
    """Takes steps of a run by capturing `body(batch, step)`, anew when a step's variant changes.

    All is done on the current stream, which must not be the default one.
    """

    def __init__(self, body: Callable[[B, Step], None], run: Run[B]) -> None:
        self.body, self.run = body, run
        self.possible = True
        self.variant: Hashable = None
        self.steps = 0  # of this variant, before its capture
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs: list[Tensor] = []

    def take(self, batch: B, step: Step) -> bool:
        """Take a step. Returns False, and has done nothing, where it cannot be a captured one."""
        if not self.possible:
            return False
        variant = self.run.variant(step)
        if variant != self.variant:
            self._forget()
            self.variant = variant
        if self.graph is not None:
            return self._replay(batch)
        self.steps += 1
        if self.steps < WARM_UP:
            return False
        if self.steps == WARM_UP:
            self._watched(batch, step)
            return True
        return self._capture(batch, step) and self._replay(batch)

    def _forget(self) -> None:
        if self.graph is not None:
            torch.cuda.synchronize()
            self.graph.reset()
        self.graph, self.inputs, self.steps = None, [], 0

    def _watched(self, batch: B, step: Step) -> None:
        """A step in which torch tells whether the CPU waits for the GPU. If so, none is captured:
        a capture that fails would cost more than it could gain.
        """
        before = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                self.body(batch, step)
            finally:
                torch.cuda.set_sync_debug_mode(before)
        waits = [each for each in told if WAITED in str(each.message)]
        if waits:
            where = f"{waits[0].filename.rpartition('/')[2]}, line {waits[0].lineno}"
            self._give_up(f"a loss waits for the GPU ({where})")

    def _capture(self, batch: B, step: Step) -> bool:
        """Record the step. Records only: the batch is not learnt from. Returns whether it worked.

        A capture that fails leaves torch's generator of random numbers on the GPU unusable
        ("Offset increment outside graph capture"). It then gets a copy of its state from before.
        """
        fixed = _copy(batch)
        generator = torch.cuda.default_generators[torch.cuda.current_device()]
        before = generator.clone_state()
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads may go on to allocate memory meanwhile.
            with torch.cuda.graph(
                graph, stream=torch.cuda.current_stream(), capture_error_mode="thread_local"
            ):
                self.body(fixed, step)
        except torch.OutOfMemoryError:
            generator.graphsafe_set_state(before)
            raise
        except RuntimeError as error:
            generator.graphsafe_set_state(before)
            torch.cuda.synchronize()
            self._give_up(str(error).strip().partition("\n")[0][:200])
            return False
        self.graph, self.inputs = graph, tensors(fixed)
        return True

    def _replay(self, batch: B) -> bool:
        """Take the captured step on a batch. Returns False for a batch of another form."""
        given = tensors(batch)
        if [(t.shape, t.dtype) for t in given] != [(t.shape, t.dtype) for t in self.inputs]:
            return False
        torch._foreach_copy_(self.inputs, given)
        assert self.graph is not None
        self.graph.replay()
        return True

    def _give_up(self, why: str) -> None:
        self.possible = False
        self._forget()
        self.run.say(
            f"{self.run.what}: steps are not captured as a CUDA graph, which is slower: {why}"
        )


def tensors(batch: object) -> list[Tensor]:
    """The tensors of a batch: of the fields of a dataclass, or of the items of a tuple."""
    return [part for part in _parts(batch).values() if isinstance(part, Tensor)]


def _parts(batch: object) -> dict[str, object]:
    if dataclasses.is_dataclass(batch):
        return {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    assert isinstance(batch, tuple)
    return {str(place): part for place, part in enumerate(batch)}


def mapped[B](batch: B, change: Callable[[Tensor], Tensor]) -> B:
    """The batch with every tensor changed."""
    parts = {
        name: change(part) if isinstance(part, Tensor) else part
        for name, part in _parts(batch).items()
    }
    if isinstance(batch, tuple):
        return type(batch)(parts.values())
    return dataclasses.replace(batch, **parts)  # type: ignore[type-var]


def _copy[B](batch: B) -> B:
    return mapped(batch, torch.clone)
