"""Half-widths of 90 % prediction intervals, in log units, from held-out predictions.

With CONFORMAL_ROWS rows or more the interval is split-conformal on the absolute log-ratio of
held-out predictions (Vovk et al. 2005, Algorithmic Learning in a Random World; Barber et al. 2021,
arXiv 1905.02928). With fewer rows it is Student's prediction interval on the same log-ratios.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

COVERAGE = 0.9  # share of new measurements that an interval claims to hold
# The 90 % conformal rank exists from 9 rows on, but with fewer than 20 it is the worst row or the
# next-worst.
CONFORMAL_ROWS = 20
# Half-width for a single row, which tells nothing of its spread: a factor of 4 either way.
ONE_ROW = math.log(4.0)
# Student's t at 95 % (two-sided 90 %) for 1 to 30 degrees of freedom: NIST/SEMATECH e-Handbook of
# Statistical Methods, table 1.3.6.7.2.
# fmt: off
T95 = (
    6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812,
    1.796, 1.782, 1.771, 1.761, 1.753, 1.746, 1.740, 1.734, 1.729, 1.725,
    1.721, 1.717, 1.714, 1.711, 1.708, 1.706, 1.703, 1.701, 1.699, 1.697,
)
# fmt: on


def student_halfwidth(deviations: Sequence[float], centred: bool = True) -> float:
    """Half-width of the 90 % prediction interval of one more draw: t s sqrt(1 + 1/n).

    `centred`: the deviations are from their own mean, which leaves n - 1 degrees of freedom;
    otherwise they are from held-out predictions, with n degrees of freedom.
    """
    count = len(deviations)
    freedom = count - 1 if centred else count
    if freedom < 1:
        return ONE_ROW
    deviation = math.sqrt(sum(x * x for x in deviations) / freedom)
    return T95[min(freedom, len(T95)) - 1] * deviation * math.sqrt(1 + 1 / count)


def conformal_quantile(scores: Sequence[float], coverage: float = COVERAGE) -> float:
    """The ceil((n + 1) coverage)-th smallest of n held-out scores.

    It is the largest score where n is too small for that rank.
    """
    ordered = sorted(scores)
    rank = math.ceil((len(ordered) + 1) * coverage)
    return ordered[min(rank, len(ordered)) - 1]


def halfwidth(logs: Sequence[float]) -> float:
    """Half-width of the 90 % interval that held-out log-ratios give, in log units."""
    if len(logs) >= CONFORMAL_ROWS:
        return conformal_quantile([abs(log) for log in logs])
    return student_halfwidth(logs, centred=False)
