"""A fitted latency model of one device, and what it predicts.

    t = sum_j c_j x_j

`x` are counts that follow from shapes (`workload.features`, `edgetpu_cost.features`), and every
`c_j` >= 0 has a meaning: milliseconds for a multiply-accumulate, a byte or an operator.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import msgspec

from edgekd.assessment.latency.intervals import student_halfwidth
from edgekd.core.records import UNSET, Record, UnsetType, present

# How far outside the range of the rows a share of the time may lie before a network counts as
# foreign.
SLACK = 0.05
REACH = 2.0  # how many times longer or shorter than any row a network may take, likewise


class Conditions(Record, frozen=True):
    """How times were measured. `kernels`: the kernel library; `governor`: of the CPU's clock.

    "" where the source does not state it.
    """

    board: str
    runtime: str
    kernels: str
    threads: int
    governor: str = ""

    @property
    def runtime_words(self) -> str:
        """The runtime and its kernel library, such as "TFLite 2.18 with XNNPACK"."""
        return self.runtime + (f" with {self.kernels}" if self.kernels else "")

    def words(self) -> str:
        """All of it in one phrase."""
        governor = f"governor {self.governor}" if self.governor else "governor not stated"
        return f"{self.board}, {self.runtime_words}, {_threads(self.threads)}, {governor}"


class Factor(Record, frozen=True):
    """A ratio of times between two runtimes or two boards.

    `ratios`: {model: ratio}, from models measured on both; `value` is their geometric mean, or
    that mean shrunk (sources.py). With no ratios, `assumed` holds (factor, low, high), and `what`
    says why. `counted`: what the ratios are of.
    """

    what: str
    value: float
    ratios: dict[str, float]
    sources: tuple[str, ...]
    assumed: tuple[float, float, float] | None = None
    counted: str = "models measured on both"

    @property
    def spread(self) -> float:
        """Half-width of the 90 % interval of the factor, in log units.

        It is Student's prediction interval, which is wide for few ratios.
        """
        if self.assumed is not None:
            return max(abs(math.log(bound / self.assumed[0])) for bound in self.assumed[1:])
        return student_halfwidth([math.log(ratio / self.value) for ratio in self.ratios.values()])

    def words(self) -> str:
        """What it multiplies by and why, in one phrase."""
        if not self.ratios:
            return f"times {self.value:.2f} for {self.what} (assumed, never measured)"
        counted = f"{self.what} ({len(self.ratios)} {self.counted})"
        return (
            f"the spread of {counted}"
            if self.value == 1
            else f"times {self.value:.2f} for {counted}"
        )


def measured_factor(what: str, ratios: Mapping[str, float], sources: Sequence[str]) -> Factor:
    """The factor of models that were measured on both sides."""
    mean = math.exp(sum(map(math.log, ratios.values())) / len(ratios))
    return Factor(what, mean, dict(ratios), tuple(sources))


def assumed_factor(
    what: str, assumed: tuple[float, float, float], sources: Sequence[str]
) -> Factor:
    """A factor (value, low, high) that nobody has measured."""
    return Factor(what, assumed[0], {}, tuple(sources), assumed)


class Errors(Record, frozen=True):
    """What a fit predicted wrongly on rows that it had not seen, as shares of the measured time.

    `family_mean`: each family predicted from the others, None with a single family. `coverage`:
    share of the rows that lie within their 90 % interval.
    """

    mean: float
    worst: float
    family_mean: float | None
    coverage: float


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Predicted milliseconds, the bounds of the 90 % interval, and what the prediction rests on."""

    latency_ms: float
    low_ms: float
    high_ms: float
    basis: str


class LatencyModel(Record, frozen=True, kw_only=True):
    """A fitted model of one device, runtime, thread count and precision.

    `coefficients`: milliseconds a unit, by feature. `unseen`: classes of MACs that no row holds.
    `near` and `far`: half-widths in log units of the 90 % interval, for networks whose time divides
    over the features as the rows' does, and for other networks. `shares`: feature -> least and
    greatest share of the rows' predicted time. `span`: least and most milliseconds of the rows.
    `factors` multiply the result, each with a spread of its own. `conditions`: those of the
    predicted times, with the factors applied; UNSET where they are those of the rows. `by_threads`:
    what another number of threads multiplies the predicted times by, by that number.
    """

    device: str
    runtime: str
    threads: int
    precision: str
    rows: int
    families: tuple[str, ...]
    coefficients: dict[str, float]
    unseen: tuple[str, ...]
    near: float
    far: float
    shares: dict[str, tuple[float, float]]
    span: tuple[float, float]
    errors: Errors
    factors: tuple[Factor, ...] = ()
    conditions: Conditions | UnsetType = UNSET
    by_threads: dict[str, Factor] | UnsetType = UNSET

    def with_threads(self, threads: int) -> LatencyModel:
        """The model for another number of threads; the same model where nothing is known of it."""
        factor = (present(self.by_threads) or {}).get(str(threads))
        at = present(self.conditions)
        if factor is None or at is None:
            return self
        return msgspec.structs.replace(
            self,
            factors=(*self.factors, factor),
            conditions=msgspec.structs.replace(at, threads=threads),
            by_threads=UNSET,
        )

    def cost(self, features: Mapping[str, float]) -> float:
        """Predicted milliseconds of these features.

        The costs of single operators add up to the cost of the whole model.
        """
        total = sum(cost * features[name] for name, cost in self.coefficients.items())
        return total * self._scale()

    def predict(self, features: Mapping[str, float]) -> Estimate:
        """The latency of a model with these features; the interval claims 90 %."""
        total = sum(cost * features[name] for name, cost in self.coefficients.items())
        strange = self.strange(features)
        width = (self.far if strange else self.near) ** 2 + sum(
            factor.spread**2 for factor in self.factors
        )
        scale = self._scale()
        spread = math.exp(math.sqrt(width))
        high = total * scale * spread
        # Far below the fastest row, all that is known is that the network is no slower than it.
        if total < self.span[0] / REACH:
            high = max(high, self.span[0] * scale)
        return Estimate(total * scale, total * scale / spread, high, self.basis(strange))

    def _scale(self) -> float:
        return math.prod(factor.value for factor in self.factors)

    def strange(self, features: Mapping[str, float]) -> str:
        """How a network differs from the rows, in one phrase; "" where it does not."""
        parts = {name: cost * features[name] for name, cost in self.coefficients.items()}
        total = sum(parts.values()) or 1.0
        foreign = [name for name in self.unseen if features[name] and parts[name] / total > SLACK]
        if foreign:
            return f"no row has {foreign[0]} multiply-accumulates"
        if not self.span[0] / REACH <= total <= self.span[1] * REACH:
            return f"the rows reach from {self.span[0]:.3g} to {self.span[1]:.3g} ms"
        for name, (least, most) in self.shares.items():
            share = parts[name] / total
            if not least - SLACK <= share <= most + SLACK:
                return (
                    f"{name} makes {share:.0%} of its time, and {least:.0%} to {most:.0%} in the "
                    "rows"
                )
        return ""

    def basis(self, strange: str = "") -> str:
        """What a prediction rests on, in words. `strange`: see the method of this name."""
        at = present(self.conditions)
        text = (
            (f"for {at.words()}: " if at else "")
            + f"{self.rows} rows ({', '.join(self.families)}) on {self.device}, {self.runtime}, "
            f"{_threads(self.threads)}, {self.precision}"
        )
        for factor in self.factors:
            text += f"; {factor.words()}"
        if strange:
            text += f"; wide, because {strange}"
        return f"{text}; 90 % interval"


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count != 1 else ''}"
