"""The table of a comparison of methods: gains, the share of the gap that is closed, and costs."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from scipy import stats

from tools.compare_rows import Row

Metric = Literal["top1", "auc"]


@dataclasses.dataclass(frozen=True)
class Result:
    """One trained student.

    `auc`: NaN where a class has no test image. `seconds`: CPU seconds of its training, and
    `answers` of the teacher and its answers, NaN where they are not known. `asked`: the share of
    views that the teacher was asked about, None for all or none.
    """

    top1: float
    auc: float
    seconds: float
    answers: float
    asked: float | None

    def figure(self, metric: Metric) -> float:
        """Top-1 or AUC."""
        return self.top1 if metric == "top1" else self.auc


# {row: {seed: result}}
Results = dict[str, dict[int, Result]]


@dataclasses.dataclass(frozen=True)
class Block:
    """The rows of one data set. `teacher`: its figure on the test images. `refused`: {row: why}."""

    data: str
    teacher: float
    results: Results
    refused: Mapping[str, str]


def half_width(values: Sequence[float]) -> float:
    """Half of the 95 % interval of a mean, by Student's t; NaN for fewer than two values."""
    if len(values) < 2:
        return math.nan
    spread = statistics.stdev(values) / math.sqrt(len(values))
    return float(stats.t.ppf(0.975, len(values) - 1)) * spread


def interval(differences: Sequence[float]) -> str:
    """The mean of paired differences in points, with the half-width of its 95 % interval."""
    mean, half = 100 * statistics.mean(differences), 100 * half_width(differences)
    return f"{mean:+.1f}" if math.isnan(half) else f"{mean:+.1f} +- {half:.1f}"


def closed(taught: Sequence[float], alone: Sequence[float], teacher: float) -> tuple[float, float]:
    """The share of the gap between labels alone and the teacher that is closed, and the half-width
    of its 95 % interval.

    Figures of the same seed stand at the same place. The share is the mean gain over the mean gap.
    Its interval is that of a ratio of paired means: Student's t on the residuals of the gains
    (Cochran, Sampling Techniques, 1977, section 6.4). NaN where the teacher is no better than
    labels alone, and the half-width with one seed.
    """
    gains = [one - other for one, other in zip(taught, alone, strict=True)]
    gaps = [teacher - other for other in alone]
    gap = statistics.mean(gaps)
    if not gap > 1e-9:  # rounding
        return math.nan, math.nan
    share = statistics.mean(gains) / gap
    residuals = [(gain - share * one) / gap for gain, one in zip(gains, gaps, strict=True)]
    return share, half_width(residuals)


def table(order: Sequence[Row], blocks: Sequence[Block], metric: Metric) -> str:
    """The Markdown table of all rows that have a result or were refused."""
    several = len(blocks) > 1
    named = "top-1" if metric == "top1" else "AUC"
    heads = ["data"] if several else []
    heads += ["", named, "each seed", "against labels alone", "of the gap"]
    heads += ["AUC" if metric == "top1" else "top-1", "CPU s", "teacher's CPU s"]
    lines = [_cells(heads), "|" + "---|" * len(heads)]
    for block in blocks:
        before = [block.data] if several else []
        lines += [_cells([*before, *cells]) for cells in _block(order, block, metric)]
    return "\n".join(lines)


def _cells(texts: Iterable[str]) -> str:
    return "| " + " | ".join(texts) + " |"


def _block(order: Sequence[Row], block: Block, metric: Metric) -> Iterable[list[str]]:
    """The cells of each row of a data set."""
    for row in order:
        title = f"{row.title} (`{row.name}`)"
        if row.name in block.refused:
            yield [title, f"refused: {block.refused[row.name]}", "", "", "", "", "", ""]
        elif row.name in block.results:
            results, alone = block.results[row.name], block.results.get(row.alone, {})
            yield _line(row, title, results, alone, block.teacher, metric)


def _line(
    row: Row,
    title: str,
    results: Mapping[int, Result],
    alone: Mapping[int, Result],
    teacher: float,
    metric: Metric,
) -> list[str]:
    """The cells of one row. `results`, `alone`: of the row and of labels alone, by seed."""
    runs = list(results.values())
    values = [each.figure(metric) for each in runs]
    other = [each.auc if metric == "top1" else each.top1 for each in runs]
    difference = share = ""
    pairs = [seed for seed in results if seed in alone]
    if pairs and row.name != row.alone:
        own = [results[seed].figure(metric) for seed in pairs]
        base = [alone[seed].figure(metric) for seed in pairs]
        difference = interval([a - b for a, b in zip(own, base, strict=True)])
        share = _share(*closed(own, base, teacher))
    if runs[0].asked is not None:
        title += f", {runs[0].asked:.0%} of the teacher's calls"
    return [
        title,
        _figure(statistics.mean(values), metric),
        ", ".join(_figure(value, metric) for value in values),
        difference,
        share,
        _figure(statistics.mean(other), "auc" if metric == "top1" else "top1"),
        _seconds([each.seconds for each in runs]),
        _seconds([each.answers for each in runs]) if row.teacher else "",
    ]


def _figure(value: float, metric: Metric) -> str:
    return f"{100 * value:.1f}" if metric == "top1" else f"{value:.3f}"


def _share(share: float, half: float) -> str:
    """A share of the gap in percent, with the bounds of its interval."""
    if math.isnan(share):
        return "no gap"
    if math.isnan(half):
        return f"{share:.0%}"
    return f"{share:.0%} ({share - half:.0%} to {share + half:.0%})"


def _seconds(values: Sequence[float]) -> str:
    mean = statistics.mean(values)
    return "?" if math.isnan(mean) else f"{mean:.0f}"
