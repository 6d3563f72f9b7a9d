"""In which order the axes of a tensor lie in the file, and what views do to that order.

ONNX and torch keep maps as NCHW, the file as NHWC. Transposes and reshapes of attention change the
order again. A tensor of the file therefore has an order: the axes of the ONNX tensor, outermost
first. A Transpose only changes the order, and the file has a TRANSPOSE only where an operator needs
another one. Axes of one element may stand anywhere, since they move no code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

MAP = (0, 2, 3, 1)  # NCHW in the file's order
# Kernels take at most four dimensions: many operators check it.
MAX_RANK = 4


def natural(rank: int) -> tuple[int, ...]:
    """The order of a tensor that no view has touched: that of a map for four dimensions."""
    return MAP if rank == MAX_RANK else tuple(range(rank))


def long_axes(axes: Sequence[int], sizes: Sequence[int]) -> list[int]:
    """The axes of an order that have more than one element."""
    return [axis for axis in axes if sizes[axis] > 1]


def file_axes(sizes: Sequence[int], axes: Sequence[int]) -> list[int]:
    """The axes of an order that are dimensions in the file.

    Beyond four dimensions, those of one element are left out, the first of them first.
    """
    kept = list(axes)
    while len(kept) > MAX_RANK and any(sizes[axis] == 1 for axis in kept):
        kept.remove(next(axis for axis in kept if sizes[axis] == 1))
    return kept


def file_shape(sizes: Sequence[int], axes: Sequence[int]) -> list[int]:
    """The shape in the file of a tensor of these sizes, in this order."""
    return [sizes[axis] for axis in file_axes(sizes, axes)]


def with_short_axes(
    order: Sequence[int], sizes: Sequence[int], preferred: Sequence[int] | None = None
) -> tuple[int, ...]:
    """A whole order with these long axes.

    It is the preferred one or the natural one if they fit, then that of the axes themselves, and
    else has the short axes first.
    """
    rank = len(sizes)
    for candidate in (preferred, natural(rank), range(rank)):
        if candidate is not None and long_axes(list(candidate), sizes) == list(order):
            return tuple(candidate)
    return (*(axis for axis in range(rank) if axis not in order), *order)


def permuted(axes: Sequence[int], order: Sequence[int]) -> tuple[int, ...]:
    """The order of the output of a Transpose with this `order`, which moves no code."""
    place = {old: new for new, old in enumerate(order)}
    return tuple(place[axis] for axis in axes)


def reshaped(
    source: Sequence[int], axes: Sequence[int], target: Sequence[int]
) -> tuple[int, ...] | None:
    """The order of the output of a Reshape that moves no code; None where it must move some.

    `source`, `target`: the sizes before and after. The sizes fall into groups of equal products.
    Inside a group the axes must follow each other in the file as they do in the tensor.
    """
    order = long_axes(axes, source)
    found: list[int] = []
    groups = _groups(source, target)
    starts = {before[0]: (before, after) for before, after in groups if before}
    index = 0
    while index < len(order):
        group = starts.get(order[index])
        if group is None:
            return None
        before, after = group
        if order[index : index + len(before)] != before:
            return None
        found += after
        index += len(before)
    return with_short_axes(found, target)


def _groups(source: Sequence[int], target: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The smallest groups of long axes (before, after) with equal products."""
    before = [axis for axis, size in enumerate(source) if size > 1]
    after = [axis for axis, size in enumerate(target) if size > 1]
    groups: list[tuple[list[int], list[int]]] = []
    while before or after:
        left, right = [before.pop(0)], [after.pop(0)]
        while True:
            here = math.prod(source[axis] for axis in left)
            there = math.prod(target[axis] for axis in right)
            if here == there:
                break
            if here < there:
                left.append(before.pop(0))
            else:
                right.append(after.pop(0))
        groups.append((left, right))
    return groups


def merged_transpose(
    sizes: Sequence[int], before: Sequence[int], after: Sequence[int]
) -> tuple[list[int], list[int], list[int]]:
    """(shape in, order, shape out) of the TRANSPOSE from one order of axes to another.

    Axes that stay together count as one, and short axes are left out, so that it has as few
    dimensions as it can.
    """
    old, new = long_axes(before, sizes), long_axes(after, sizes)
    runs: list[list[int]] = []
    for axis in new:
        place = old.index(axis)
        if runs and old.index(runs[-1][-1]) == place - 1:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    by_place = sorted(range(len(runs)), key=lambda run: old.index(runs[run][0]))
    lengths = [math.prod(sizes[axis] for axis in run) for run in runs]
    return (
        [lengths[run] for run in by_place],
        [by_place.index(run) for run in range(len(runs))],
        lengths,
    )
