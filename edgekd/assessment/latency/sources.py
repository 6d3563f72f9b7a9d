"""What measurements from different sources have to do with each other, as factors on one fit.

A source is a set of measurements made in one place under the same conditions: board, runtime with
its version, kernel library, threads. A fit rests on one source. What another source measured,
divided by what the fit says, is a ratio for each network, and from these ratios come

* a level for each kernel library: the geometric mean over its sources, each of equal weight,
* a factor for each source.

Both are shrunk. A source's mean counts its n networks against OWN_PRIOR more at the level of its
library, and a library's level counts the networks of its sources against OWN_PRIOR more at 1:

    log level  = mean_s(log mean_s) * n / (n + OWN_PRIOR)
    log factor = log level + (log mean_s - log level) * n / (n + OWN_PRIOR)

The library of the fit's own source stays at 1, because the fit already states its times. This is
the best linear predictor of a model with random effects when the variance between sources equals
the variance within them (Robinson 1991, Statistical Science 6:15). They are about equal here:
0.066 and 0.061 in log units for the int8 rows of the Pi 4.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from edgekd.assessment.latency.model import Conditions, Factor

OWN_PRIOR = 1.0  # networks; see above


@dataclasses.dataclass(frozen=True)
class Source:
    """One source. `logs`: network -> log(measured / the fit's time). `origin`: where they are."""

    conditions: Conditions
    logs: Mapping[str, float]
    origin: tuple[str, ...]

    @property
    def mean(self) -> float:
        """Mean log-ratio over the networks."""
        return sum(self.logs.values()) / len(self.logs)


def shrunk(mean: float, count: int, towards: float = 0.0) -> float:
    """A mean log-ratio of `count` networks, drawn to `towards` as above."""
    return towards + (mean - towards) * count / (count + OWN_PRIOR)


def level(sources: Sequence[Source], kernels: str, own: str) -> float:
    """The log level of a kernel library. `own`: the library of the fit's own source.

    It is 0 for a library that no source has, and for one that a source does not state (""): its
    sources need not be alike.
    """
    means = [source for source in sources if source.conditions.kernels == kernels]
    if kernels in (own, "") or not means:
        return 0.0
    count = sum(len(source.logs) for source in means)
    return shrunk(sum(source.mean for source in means) / len(means), count)


def factor(source: Source, sources: Sequence[Source], own: Conditions) -> Factor:
    """The factor from the fit's conditions `own` to those of a source."""
    at = level(sources, source.conditions.kernels, own.kernels)
    return Factor(
        f"{source.conditions.runtime_words} over {own.runtime_words}",
        math.exp(shrunk(source.mean, len(source.logs), at)),
        {network: math.exp(log) for network, log in source.logs.items()},
        source.origin,
        counted="networks measured there",
    )


def between(sources: Sequence[Source], own: Conditions) -> Factor | None:
    """How far sources with the same kernel library lie apart, as a factor of 1 with a spread.

    It is what is not known about another board, its cooling, its clock governor and its build of
    the runtime. None with fewer than 2 sources that state their kernel library.
    """
    apart: dict[str, float] = {}
    for source in sources:
        conditions = source.conditions
        alike = [other.mean for other in sources if other.conditions.kernels == conditions.kernels]
        if conditions.kernels == own.kernels:
            middle = 0.0
        elif conditions.kernels and len(alike) > 1:
            middle = sum(alike) / len(alike)
        else:
            continue
        apart[f"{conditions.board}, {conditions.runtime_words}"] = math.exp(source.mean - middle)
    if len(apart) < 2:
        return None
    origin = tuple(dict.fromkeys(place for source in sources for place in source.origin))
    return Factor("boards and builds of one kernel library", 1.0, apart, origin, counted="sources")
