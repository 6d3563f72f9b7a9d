"""Non-negative least squares."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

TOLERANCE = 1e-9  # of the active-set solver, on columns scaled to unit length
# Share of the largest gradient within which others count as equal: a million times the rounding of
# float64.
TIED = 1e-9

Array = npt.NDArray[np.float64]


def nnls(matrix: Array, target: Array) -> Array:
    """The x [n] >= 0 that minimises |Ax - b|, for A [m, n] and b [m].

    The active-set method of Lawson and Hanson, Solving Least Squares Problems (1974), chapter 23.
    Of columns that are multiples of each other, the first is chosen, on any machine: the last bits
    of their gradients differ, and a profile must not depend on them.
    """
    length = np.linalg.norm(matrix, axis=0)
    length[length == 0] = 1.0
    scaled = matrix / length
    count = scaled.shape[1]
    solution, passive = np.zeros(count), np.zeros(count, bool)
    for _ in range(10 * count):  # far above what the method needs, which is finite
        gradient = scaled.T @ (target - scaled @ solution)
        candidates = ~passive & (gradient > TOLERANCE)
        if not candidates.any():
            break
        largest = gradient[candidates].max()
        passive[np.argmax(candidates & (gradient > (1 - TIED) * largest))] = True
        while True:
            trial = np.zeros(count)
            trial[passive] = np.linalg.lstsq(scaled[:, passive], target, rcond=None)[0]
            negative = passive & (trial <= 0)
            if not negative.any():
                break
            step = np.min(
                solution[negative] / np.maximum(solution[negative] - trial[negative], 1e-300)
            )
            solution = solution + step * (trial - solution)
            passive &= solution > TOLERANCE
            solution[~passive] = 0.0
        solution = trial
    found: Array = solution / length
    return found
