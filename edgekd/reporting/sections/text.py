"""Figures as the report's text: percentages, sizes, seconds; and what several sections name alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from edgekd.reporting import charts

STAGES = {
    "teacher": "Teacher",
    "student": "Student",
    "pruned": "Pruned student",
    "qat": "After QAT",
    "onnx": "ONNX",
    "tflite": "TFLite int8",
}
LISTED = 12  # confusions, failures and warnings told one by one; the rest is counted
TOP1 = "top-1"


def at(block: Any, *path: str) -> Any:
    """What lies at a path of keys, or None."""
    for key in path:
        block = block.get(key) if isinstance(block, Mapping) else None
    return block


def real(value: Any) -> bool:
    """Whether it is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def percent(value: Any, digits: int = 1) -> str:
    """0.123 as "12.3%"."""
    return charts.percent(value, digits) if real(value) else "–"


def number(value: Any, digits: int = 3) -> str:
    """A number with so many digits behind the point."""
    return f"{value:.{digits}f}" if real(value) else "–"


def whole(value: Any) -> str:
    """A count with thousands told apart."""
    return f"{value:,}" if isinstance(value, int) else "–" if value is None else str(value)


def bound(pair: Any, form: Any) -> str:
    """A 95 % interval as "low–high", or ""."""
    if not isinstance(pair, Sequence) or len(pair) != 2 or not all(real(x) for x in pair):
        return ""
    return f"{form(pair[0]).rstrip('%')}–{form(pair[1])}"


def kib(count: Any) -> str:
    """Bytes as KiB, large ones as MiB."""
    if not real(count):
        return "–"
    return f"{count / 1024:,.0f} KiB" if count < 10 * 2**20 else f"{count / 2**20:,.1f} MiB"


def mib(kib: Any) -> str:
    """KiB as MiB."""
    return f"{kib / 1024:,.1f} MiB" if real(kib) else "–"


def large(count: Any) -> str:
    """1,530,000 as "1.53 M"."""
    if not real(count):
        return "–"
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(count) >= unit:
            return f"{count / unit:.3g}{name}"
    return f"{count:g}"


def seconds(value: Any) -> str:
    """Seconds, from a minute on with minutes."""
    if not real(value):
        return "–"
    minutes, seconds = divmod(round(value), 60)
    return f"{value:.1f} s" if value < 60 else f"{minutes} min {seconds:02} s"


def plural(count: int, noun: str) -> str:
    """A count with its noun: "1 image", "2 images"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def arch(body: Mapping[str, Any], role: str) -> str | None:
    """The architecture of the teacher or the student."""
    return at(body, "models", role, "arch")


def rows(body: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The waterfall's rows by stage."""
    return {str(row.get("stage")): row for row in at(body, "accuracy", "waterfall") or []}


def metric(body: Mapping[str, Any]) -> str:
    """What the share of right answers is called."""
    return TOP1 if at(body, "accuracy", "metric") in (None, "top1") else "labels right"


def between(bounds: Any) -> str:
    """An interval of changes in points, "low to high"."""
    return f"{charts.points(bounds[0])} to {charts.points(bounds[1])}" if bounds else ""


def signed(value: Any) -> str:
    """A difference of AUCs: three decimals and a proper sign."""
    return (
        f"{value:+.3f}".replace("-", "−").replace("+0.000", "0.000").replace("−0.000", "0.000")
        if real(value)
        else ""
    )


def tiny(value: Any) -> str:
    """A divergence in nats, three digits that count."""
    if not real(value):
        return "–"
    return (
        "0"
        if value == 0
        else f"{value:.3g}".replace("-", "−")
        if abs(value) >= 1e-4
        else f"{value:.1e}".replace("-", "−")
    )


def share(value: float) -> str:
    """A share as a whole percentage."""
    return "under 1%" if 0 < value < 0.01 else f"{value:.0%}"


def cell(value: Any, digits: int = 4) -> str:
    """A table's cell: floats to so many digits, nothing for None."""
    return (
        "" if value is None else f"{value:.{digits}g}" if isinstance(value, float) else str(value)
    )
