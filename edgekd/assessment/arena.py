"""The peak of the tensor arena: planned as TFLite's interpreter plans it, and measured in one.

TFLite keeps all activations in one block. Its planner (tflite/arena_planner.cc and
simple_memory_arena.cc) first places the tensors that live through the whole inference. It then
places the others from large to small, each in the smallest gap among the tensors that are alive at
the same time, aligned to 64 bytes. A device must have the peak of that plan, which is less than the
sum of the tensors. The scratch tensors of kernels are not in the file: `measure` sees them, `plan`
does not.
"""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from edgekd.assessment.workload import VIEWS, bytes_of
from edgekd.core.errors import ModelFileError
from edgekd.tflite.flatbuffer import LiteGraph

ALIGNMENT = 64  # bytes: kDefaultTensorAlignment in tflite/arena_planner.h
# Last use of a graph's input or output: the caller may read it at any time.
FOREVER = math.inf
# Exit status of the process that measures, when the interpreter refuses the file. Python itself
# exits with 1, and other programs with 2.
REFUSED = 3
# A file that makes the interpreter hang is stopped. Reading and allocating take about a second.
APART_TIMEOUT_S = 60


@dataclasses.dataclass(frozen=True)
class Life:
    """A tensor in the arena.

    It must exist from the operator `first` to the operator `last`, which may be FOREVER. `offset`:
    where it lies, in bytes.
    """

    tensor: int
    bytes: int
    first: int
    last: float
    offset: int = 0


@dataclasses.dataclass(frozen=True)
class Plan:
    """Where every tensor lies.

    `peak_bytes`: end of the highest tensor. `busiest_op`: index of the operator at which most bytes
    are alive, which are `busiest_bytes`.
    """

    lives: tuple[Life, ...]
    peak_bytes: int
    busiest_op: int
    busiest_bytes: int


def lifetimes(graph: LiteGraph) -> list[Life]:
    """The life of every activation tensor, in the order of the indices; constants have none."""
    first: dict[int, int] = {}
    last: dict[int, float] = {}
    for index in graph.inputs:
        first[index], last[index] = 0, FOREVER  # preserve_inputs: an input survives the inference
    for position, op in enumerate(graph.ops):
        for index in op.outputs:
            first.setdefault(index, position)
            last.setdefault(index, position)  # an output that nothing reads ends at once
        for index in op.inputs:
            if index in first:
                last[index] = max(last.get(index, position), position)
    for index in graph.outputs:
        if index in first:
            last[index] = FOREVER
    owner = _owners(graph, first)
    lives: dict[int, Life] = {}
    for index in sorted(first):
        root = owner.get(index, index)
        size = bytes_of(graph.tensors[index])
        if root in lives:
            before = lives[root]
            lives[root] = Life(
                root,
                max(before.bytes, size),
                min(before.first, first[index]),
                max(before.last, last[index]),
            )
        else:
            lives[root] = Life(root, size, first[index], last[index])
    return [lives[index] for index in sorted(lives)]


def _owners(graph: LiteGraph, first: dict[int, int]) -> dict[int, int]:
    """{output of a view: tensor whose bytes it shares}, followed through chains.

    LiteRT gives the input and the output of a view one place (kTfLiteInplaceOpDataUnmodified),
    except for a graph's inputs and outputs. The input must have no other reader, because the shared
    bytes could then be needed twice.
    """
    readers: dict[int, int] = {}
    for op in graph.ops:
        for index in op.inputs:
            readers[index] = readers.get(index, 0) + 1
    owner: dict[int, int] = {}
    ends = {*graph.inputs, *graph.outputs}
    for op in graph.ops:
        source, output = op.inputs[0] if op.inputs else -1, op.outputs[0]
        if (
            op.name in VIEWS
            and source in first
            and readers[source] == 1
            and not {source, output} & ends
        ):
            owner[output] = owner.get(source, source)
    return owner


def plan(graph: LiteGraph) -> Plan:
    """The arena of a graph, by the planner's own order and best-fit rule."""
    lives = lifetimes(graph)
    order = sorted(
        lives,
        key=lambda life: (
            (0, life.tensor, 0, 0)
            if life.first == 0 and life.last == FOREVER
            else (1, 0, -life.bytes, life.first)
        ),
    )
    placed: list[Life] = []
    for life in order:
        offset = _best_fit(
            life,
            sorted(
                (other for other in placed if _overlap(life, other)), key=lambda other: other.offset
            ),
        )
        placed.append(dataclasses.replace(life, offset=offset))
    peak = max((life.offset + life.bytes for life in placed), default=0)
    alive = [
        sum(life.bytes for life in lives if life.first <= op <= life.last)
        for op in range(len(graph.ops))
    ]
    busiest = max(range(len(alive)), key=lambda op: alive[op], default=0)
    return Plan(
        tuple(sorted(placed, key=lambda life: life.tensor)),
        peak,
        busiest,
        alive[busiest] if alive else 0,
    )


def _overlap(one: Life, other: Life) -> bool:
    return one.first <= other.last and other.first <= one.last


def _best_fit(life: Life, neighbours: list[Life]) -> int:
    """Offset of the smallest gap that the tensor fits into, or else of the end.

    `neighbours`: tensors that are alive at the same time, sorted by offset.
    """
    best: int | None = None
    slack, end = math.inf, 0
    for other in neighbours:
        start = _aligned(end)
        if start + life.bytes <= other.offset and other.offset - start < slack:
            best, slack = start, other.offset - end
        end = max(end, other.offset + other.bytes)
    return _aligned(end) if best is None else best


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


def measure(interpreter: Any) -> int:
    """Bytes from the lowest to the highest activation of an allocated interpreter.

    Scratch tensors are included. Python's interpreter does not give the size of the arena, but
    tensors are views of it and have addresses. The arena is the block that holds the first input,
    which tells it from the constants. The interpreter must have been made with the built-in or the
    reference kernels, because a delegate has memory of its own.
    """
    spans = []
    details = interpreter.get_tensor_details()
    home = _address(interpreter, interpreter.get_input_details()[0]["index"])
    for detail in details:
        span = _address(interpreter, detail["index"])
        if span is not None:
            spans.append(span)
    return _block(spans, home)


def _address(interpreter: Any, index: int) -> tuple[int, int] | None:
    """(address of the first byte, of the byte after the last), None for a tensor without data."""
    try:
        view = interpreter.tensor(index)()
    except (ValueError, RuntimeError):
        return None
    start = view.__array_interface__["data"][0]
    return (start, start + view.nbytes) if view.nbytes else None


def _block(spans: list[tuple[int, int]], home: tuple[int, int] | None) -> int:
    """Length of the run of spans around `home`, which a gap of more than one alignment ends."""
    if home is None:
        return 0
    low, high = home
    grown = True
    while grown:
        grown = False
        for start, end in spans:
            if start <= high + ALIGNMENT and end >= low - ALIGNMENT and (start < low or end > high):
                low, high, grown = min(low, start), max(high, end), True
    return high - low


@dataclasses.dataclass(frozen=True)
class Allocation:
    """What an interpreter made of a file: `arena_bytes`, or `refusal`, why it did not take it.

    Both are empty where no interpreter gave an answer: none is installed, or it hung.
    """

    arena_bytes: int | None = None
    refusal: str = ""


def measure_apart(data: bytes) -> Allocation:
    """`measure` a .tflite with the reference kernels, in another process.

    A file that crashes the interpreter then crashes only that process. It is stopped after
    APART_TIMEOUT_S.
    """
    home = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH", "")]))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "edgekd.assessment.arena"],
            input=data,
            capture_output=True,
            check=False,
            timeout=APART_TIMEOUT_S,
            env={**os.environ, "PYTHONPATH": path},
        )
    except (subprocess.TimeoutExpired, OSError):
        return Allocation()
    said = done.stdout.decode(errors="replace").strip()
    if done.returncode == REFUSED:
        return Allocation(refusal=said)
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        return Allocation(refusal=f"the interpreter crashed ({name}) when it allocated this file")
    words = said.split()
    whole = done.returncode == 0 and bool(words) and words[-1].isdigit()
    return Allocation(int(words[-1])) if whole else Allocation()


def main() -> int:
    """Print the bytes of the arena of the .tflite on stdin, or why the interpreter refuses it."""
    from edgekd.tflite.runtime import LiteRunner

    try:
        print(measure(LiteRunner(sys.stdin.buffer.read(), kernels="reference").interpreter))
    except ModelFileError as error:
        print(error.what)
        return REFUSED
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
