"""Latency from shapes: a non-negative model on analytic features, its cross-validated error, and an honest interval.

    t = sum_j c_j x_j,   c_j >= 0,   minimising  sum_i (t_i / y_i - 1)^2

`x` are counts that follow from shapes (`workload.features`, `edgetpu_cost.features`), `y` measured milliseconds. Each
`c_j` has a meaning (nanoseconds a MAC, a byte, an op), which is why none may be negative. The loss is relative, so that a
2 ms network weighs as much as a 90 ms one. Intervals are split-conformal on the absolute log-ratio of held-out predictions
(Vovk et al. 2005, Algorithmic Learning in a Random World; Barber et al. 2021, arXiv 1905.02928), or, with fewer than
CONFORMAL_ROWS rows, Student's prediction interval on the same log-ratios.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.assessment.workload import MAC_CLASSES
from edgekd.core.errors import ProfileError

SCHEMA = "edgekd.latency/1"
COVERAGE = 0.9  # share of new measurements that an interval claims to hold
CONFORMAL_ROWS = 20  # the 90 % conformal rank exists from 9 rows on; with fewer than 20 it is the worst or next-worst row
FOLDS = 5
OUTSIDE_WIDENING = 1.5  # with no second family to learn from: our own choice of how much wider a foreign network's is
TOLERANCE = 1e-9  # of the active-set solver, on columns scaled to unit length
TIED = 1e-9  # share of the largest gradient within which others count as equal: a million times float64's rounding

Array = npt.NDArray[np.float64]

# Student's t at 95 % (two-sided 90 %), by degrees of freedom 1..30 (NIST/SEMATECH e-Handbook, table 1.3.6.7.2)
T95 = (
    6.314,
    2.920,
    2.353,
    2.132,
    2.015,
    1.943,
    1.895,
    1.860,
    1.833,
    1.812,
    1.796,
    1.782,
    1.771,
    1.761,
    1.753,
    1.746,
    1.740,
    1.734,
    1.729,
    1.725,
    1.721,
    1.717,
    1.714,
    1.711,
    1.708,
    1.706,
    1.703,
    1.701,
    1.699,
    1.697,
)


def nnls(matrix: Array, target: Array) -> Array:
    """The x of least |Ax - b| with x >= 0, A [m, n], b [m]: the active-set method of Lawson and Hanson 1974, chapter 23."""
    length = np.linalg.norm(matrix, axis=0)
    length[length == 0] = 1.0
    scaled = matrix / length
    count = scaled.shape[1]
    solution, passive = np.zeros(count), np.zeros(count, bool)
    for _ in range(10 * count):  # far above what the method needs; it is finite
        gradient = scaled.T @ (target - scaled @ solution)
        candidates = ~passive & (gradient > TOLERANCE)
        if not candidates.any():
            break
        # Of columns that are multiples of each other the first, on any machine: the last bits of their gradients differ.
        passive[np.argmax(candidates & (gradient > (1 - TIED) * gradient[candidates].max()))] = True
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


@dataclasses.dataclass(frozen=True)
class Row:
    """One measurement: a model's features, milliseconds, and where the figure comes from."""

    model: str
    family: str  # rows of one architecture; whole families are left out in turn
    features: Mapping[str, float]
    latency_ms: float
    source: str


@dataclasses.dataclass(frozen=True)
class Factor:
    """A ratio between two runtimes or two boards, from models measured on both. `ratios`: {model: ratio}.

    With no ratios at all, `assumed` holds (factor, low, high) and `what` says why.
    """

    what: str
    ratios: Mapping[str, float]
    sources: Sequence[str]
    assumed: tuple[float, float, float] | None = None

    @property
    def value(self) -> float:
        """Geometric mean of the ratios."""
        if self.assumed is not None:
            return self.assumed[0]
        return math.exp(sum(map(math.log, self.ratios.values())) / len(self.ratios))

    @property
    def spread(self) -> float:
        """Half-width of its 90 % interval in log units: Student's prediction interval, which few ratios make wide."""
        if self.assumed is not None:
            return max(abs(math.log(bound / self.assumed[0])) for bound in self.assumed[1:])
        return student_halfwidth([math.log(ratio / self.value) for ratio in self.ratios.values()])


def student_halfwidth(deviations: Sequence[float], centred: bool = True) -> float:
    """Half-width of the 90 % prediction interval of one more draw: t s sqrt(1 + 1/n).

    `centred`: deviations are from their own mean (n - 1 degrees of freedom), else from held-out predictions (n).
    """
    count = len(deviations)
    freedom = count - 1 if centred else count
    if freedom < 1:
        return math.log(
            4.0
        )  # one row says nothing of its spread: a factor of 4 either way, and `basis` says so
    deviation = math.sqrt(sum(x * x for x in deviations) / freedom)
    return T95[min(freedom, len(T95)) - 1] * deviation * math.sqrt(1 + 1 / count)


def conformal_quantile(scores: Sequence[float], coverage: float = COVERAGE) -> float:
    """The ceil((n + 1) coverage)-th smallest of n held-out scores; the largest where n is too small for that rank."""
    ordered = sorted(scores)
    rank = math.ceil((len(ordered) + 1) * coverage)
    return ordered[min(rank, len(ordered)) - 1]


@dataclasses.dataclass(frozen=True)
class Prior:
    """Coefficients of another device as a starting point. `weight`: how many rows it counts for."""

    coefficients: Mapping[str, float]
    weight: float


def design(rows: Sequence[Row]) -> tuple[Array, Array]:
    """(features [n, k] in the order of the first row's, milliseconds [n])."""
    return (
        np.array([[row.features[name] for name in rows[0].features] for row in rows], np.float64),
        np.array([row.latency_ms for row in rows], np.float64),
    )


def solve(rows: Sequence[Row], prior: Prior | None = None) -> Array:
    """Coefficients [k] in milliseconds a unit of the relative non-negative least squares.

    With a `prior`, its coefficients are first scaled by one number to fit the rows; each feature then has one more
    equation, weighted by its mean share of the rows' time, that pulls it there. A class of MACs that no row holds takes
    the scaled prior's coefficient, or the pointwise one: NNLS would call it free.
    """
    matrix, times = design(rows)
    relative: Array = matrix / times[:, None]
    target: Array = np.ones(len(rows))
    names = list(rows[0].features)
    start: Array = np.zeros(len(names))
    if prior is not None:
        start = np.array([prior.coefficients.get(name, 0.0) for name in names])
        start = start * float(np.exp(-np.mean(np.log(np.maximum(relative @ start, 1e-12)))))
        pull = math.sqrt(prior.weight) * relative.mean(axis=0)
        relative, target = (
            np.vstack([relative, np.diag(pull)]),
            np.concatenate([target, pull * start]),
        )
    found = nnls(relative, target)
    for name in unseen(rows):
        column = names.index(name)
        found[column] = start[column] or found[names.index("pointwise")]
    return found


def unseen(rows: Sequence[Row]) -> list[str]:
    """Classes of MACs that no row holds."""
    known = rows[0].features
    return [
        name
        for name in MAC_CLASSES
        if {name, "pointwise"} <= known.keys() and not any(row.features[name] for row in rows)
    ]


def held_out(rows: Sequence[Row], groups: Sequence[Any], prior: Prior | None = None) -> list[float]:
    """log(measured / predicted) of each row, predicted by a fit that has not seen the row's group."""
    matrix, times = design(rows)
    logs = np.zeros(len(rows))
    for group in sorted(set(groups)):
        test = np.array([other == group for other in groups])
        coefficients = solve([row for row, out in zip(rows, test, strict=True) if not out], prior)
        logs[test] = np.log(times[test] / np.maximum(matrix[test] @ coefficients, 1e-9))
    return [float(value) for value in logs]


def networks(rows: Sequence[Row]) -> list[int]:
    """A number for each row, equal for rows of one network: a network measured twice must not predict itself."""
    numbers: dict[tuple[float, ...], int] = {}
    return [numbers.setdefault(tuple(row.features.values()), len(numbers)) for row in rows]


def folds(rows: Sequence[Row], seed: int) -> list[int]:
    """A fold for each row: the networks, shuffled, are dealt out in turn to FOLDS folds (fewer, where there are fewer)."""
    groups = networks(rows)
    count = max(groups) + 1
    dealt = np.arange(count) % min(FOLDS, count)
    np.random.default_rng(seed).shuffle(dealt)
    return [int(dealt[group]) for group in groups]


@dataclasses.dataclass(frozen=True)
class Errors:
    """What a fit got wrong on rows it had not seen. Shares of the measured time; `coverage` of the 90 % intervals."""

    mean: float
    worst: float
    family_mean: float | None  # each family predicted from the others; None with one family
    coverage: float


def errors(rows: Sequence[Row], prior: Prior | None = None, seeds: int = 20) -> Errors:
    """Errors over `seeds` shuffles into FOLDS folds. Coverage is nested: each fold's interval comes from the others."""
    shares, covered = [], []
    for seed in range(seeds):
        groups = folds(rows, seed)
        logs = held_out(rows, groups, prior)
        shares += [abs(1 - math.exp(-log)) for log in logs]
        for fold in sorted(set(groups)):
            rest = [row for row, group in zip(rows, groups, strict=True) if group != fold]
            inner = held_out(rest, folds(rest, seed), prior)
            width = halfwidth(inner)
            covered += [
                abs(log) <= width for log, group in zip(logs, groups, strict=True) if group == fold
            ]
    across = _across(rows, prior)
    return Errors(
        sum(shares) / len(shares),
        max(shares),
        sum(abs(1 - math.exp(-log)) for log in across) / len(across) if across else None,
        sum(covered) / len(covered),
    )


def _across(rows: Sequence[Row], prior: Prior | None) -> list[float]:
    families = [row.family for row in rows]
    return held_out(rows, families, prior) if len(set(families)) > 1 else []


def halfwidth(logs: Sequence[float]) -> float:
    """Half-width in log units of the 90 % interval that held-out log-ratios give."""
    if len(logs) >= CONFORMAL_ROWS:
        return conformal_quantile([abs(log) for log in logs])
    return student_halfwidth(logs, centred=False)


@dataclasses.dataclass(frozen=True)
class LatencyModel:
    """A fitted model of one device, runtime, thread count and precision.

    `coefficients`: ms a unit, by feature. `near`, `far`: half-widths in log units of the 90 % interval, for networks
    whose time divides over the features as the rows' does, and for others. `shares`: {feature: [least, most]} of the
    rows' predicted time; `span`: least and most milliseconds of the rows. `factors`: applied to the product, each with
    its own spread.
    """

    device: str
    runtime: str
    threads: int
    precision: str
    rows: int
    families: tuple[str, ...]
    coefficients: Mapping[str, float]
    unseen: tuple[str, ...]
    near: float
    far: float
    shares: Mapping[str, Sequence[float]]
    span: Sequence[float]
    errors: Mapping[str, float | None]
    factors: tuple[Factor, ...] = ()

    def cost(self, features: Mapping[str, float]) -> float:
        """Predicted milliseconds of any features: those of single ops add up to those of a whole model."""
        total = sum(cost * features[name] for name, cost in self.coefficients.items())
        return total * math.prod(factor.value for factor in self.factors)

    def predict(self, features: Mapping[str, float]) -> dict[str, Any]:
        """{"latency_ms", "low_ms", "high_ms", "basis"} of a model's features; the interval claims 90 %."""
        parts = {name: cost * features[name] for name, cost in self.coefficients.items()}
        total = sum(parts.values())
        strange = self.strange(features)
        width = (self.far if strange else self.near) ** 2 + sum(
            factor.spread**2 for factor in self.factors
        )
        scale = math.prod(factor.value for factor in self.factors)
        spread = math.exp(math.sqrt(width))
        high = total * scale * spread
        if (
            total < self.span[0] / REACH
        ):  # far below the fastest row: all that is known is that it is no slower than that
            high = max(high, self.span[0] * scale)
        return {
            "latency_ms": total * scale,
            "low_ms": total * scale / spread,
            "high_ms": high,
            "basis": self.basis(strange),
        }

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
            if not least - SLACK <= parts[name] / total <= most + SLACK:
                return f"{name} makes {parts[name] / total:.0%} of its time, {least:.0%} to {most:.0%} in the rows"
        return ""

    def basis(self, strange: str = "") -> str:
        """What a prediction rests on, in words."""
        text = (
            f"{self.rows} rows ({', '.join(self.families)}) on {self.device}, {self.runtime}, {self.threads} "
            f"thread{'s' if self.threads != 1 else ''}, {self.precision}"
        )
        for factor in self.factors:
            backing = (
                f"{len(factor.ratios)} models measured on both"
                if factor.ratios
                else "assumed, never measured"
            )
            text += f"; times {factor.value:.2f} for {factor.what} ({backing})"
        if strange:
            text += f"; wide, because {strange}"
        return f"{text}; 90 % interval"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; `from_json` gives the same model."""
        body = dataclasses.asdict(self)
        body["factors"] = [
            {
                "what": f.what,
                "value": f.value,
                "ratios": dict(f.ratios),
                "sources": list(f.sources),
                "assumed": None if f.assumed is None else list(f.assumed),
            }
            for f in self.factors
        ]
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in body.items()
        }


SLACK = 0.05  # how far outside the rows' range a share of the time may lie before a network counts as foreign
REACH = 2.0  # and how many times longer or shorter than any row


def fit(
    rows: Sequence[Row],
    device: str,
    runtime: str,
    threads: int,
    precision: str,
    *,
    prior: Prior | None = None,
    factors: Sequence[Factor] = (),
) -> LatencyModel:
    """The latency model of a set of rows. Raises ValueError with fewer than 2 rows."""
    if len(rows) < 2:
        raise ValueError(f"{len(rows)} rows; at least 2 are needed, and 8 for a useful interval")
    coefficients = solve(rows, prior)
    found = errors(rows, prior)
    logs = held_out(rows, networks(rows), prior)
    near, across = halfwidth(logs), _across(rows, prior)
    far = max(halfwidth(across), near) if across else near * OUTSIDE_WIDENING
    names = list(rows[0].features)
    matrix, times = design(rows)
    parts = matrix * coefficients
    shares = parts / parts.sum(axis=1, keepdims=True)
    return LatencyModel(
        device=device,
        runtime=runtime,
        threads=threads,
        precision=precision,
        rows=len(rows),
        families=tuple(sorted({row.family for row in rows})),
        coefficients={name: float(value) for name, value in zip(names, coefficients, strict=True)},
        unseen=tuple(unseen(rows)),
        near=near,
        far=far,
        shares={
            name: [float(column.min()), float(column.max())]
            for name, column in zip(names, shares.T, strict=True)
        },
        span=[float(times.min()), float(times.max())],
        errors=dataclasses.asdict(found),
        factors=tuple(factors),
    )


def from_json(body: Mapping[str, Any]) -> LatencyModel:
    """The inverse of `LatencyModel.to_json`. Raises KeyError, TypeError or ValueError for another shape."""
    factors = tuple(
        Factor(f["what"], f["ratios"], f["sources"], tuple(f["assumed"]) if f["assumed"] else None)
        for f in body["factors"]
    )
    values = {
        **body,
        "factors": factors,
        "families": tuple(body["families"]),
        "unseen": tuple(body["unseen"]),
    }
    numbers = [*values["coefficients"].values(), values["near"], values["far"], *values["span"]]
    if not all(math.isfinite(number) and number >= 0 for number in numbers):
        raise ValueError("a figure is negative or not finite")
    return LatencyModel(**values)


def read(path: Path) -> dict[str, LatencyModel]:
    """{precision: model} of a file that `write` made. Raises ProfileError naming the file."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        if body["schema"] != SCHEMA:
            raise ValueError(f"its schema is {body['schema']!r}")
        return {precision: from_json(model) for precision, model in body["models"].items()}
    except OSError as error:
        raise ProfileError(
            f"{path}: {error.strerror}", "correct latency in the profile, or leave it empty"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProfileError(
            f"{path} is no {SCHEMA} file: {type(error).__name__}: {error}",
            "fit it again: edgekd profiles fit NAME bench/*.json",
        ) from None


def write(models: Mapping[str, LatencyModel]) -> str:
    """The text of a latency file: {precision: model}."""
    return (
        json.dumps(
            {"schema": SCHEMA, "models": {name: model.to_json() for name, model in models.items()}},
            indent=1,
            sort_keys=True,
        )
        + "\n"
    )


def same(one: Mapping[str, LatencyModel], other: Mapping[str, LatencyModel]) -> bool:
    """Whether two fits agree to 4 digits: linear algebra differs in the last bits between machines."""

    def figures(models: Mapping[str, LatencyModel]) -> dict[str, list[float]]:
        return {
            name: [
                *(model.coefficients[key] for key in sorted(model.coefficients)),
                model.near,
                model.far,
                *(factor.value for factor in model.factors),
            ]
            for name, model in models.items()
        }

    mine, theirs = figures(one), figures(other)
    return mine.keys() == theirs.keys() and all(
        len(mine[name]) == len(theirs[name])
        and np.allclose(mine[name], theirs[name], rtol=1e-4, atol=1e-12)
        for name in mine
    )
