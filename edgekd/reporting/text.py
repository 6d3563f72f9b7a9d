"""Figures as text: percentages, sizes, seconds; and the names that several sections share."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable

from edgekd.core.intervals import Interval
from edgekd.core.number_formats import NumberFormat
from edgekd.core.records import UnsetType, present
from edgekd.evaluation.accuracy_record import Accuracy, FurtherAccuracy, Metric

STAGES = {
    "teacher": "Teacher",
    "student": "Student",
    "pruned": "Pruned student",
    "qat": "After QAT",
    "onnx": "ONNX",
    "tflite": "TFLite int8",
}
FORMATS = {
    NumberFormat.INT8: "int8, certified",
    NumberFormat.FLOAT16: "float16",
    NumberFormat.FLOAT32: "float32",
    NumberFormat.DYNAMIC: "dynamic (int8 weights)",
    NumberFormat.INT16X8: "int16x8",
    NumberFormat.MIXED: "mixed (int8 and float32)",
}
LISTED = 12  # confusions, failures and warnings shown one by one; the rest is only counted
NONE = "–"  # stands where there is no figure
METRIC = {
    Metric.TOP1: "top-1",
    Metric.LABEL_DECISIONS: "labels right",
    Metric.AGREEMENT: "agreement",
}


def readable(text: str) -> str:
    """Text without control, format and surrogate characters.

    They could hide, reorder or break what is shown.
    """
    return text if text.isprintable() else "".join(map(_readable, text))


def _readable(c: str) -> str:
    if c == " " or c.isprintable() or unicodedata.category(c) == "Zs":
        return c
    return " " if c in "\n\r\t" else "\N{REPLACEMENT CHARACTER}"


def percent(share: float | None, digits: int = 1) -> str:
    """0.123 as "12.3%". Never rounded up to 100 %, which would hide the one that differs."""
    if share is None:
        return NONE
    text = f"{share:.{digits}%}"
    return f"{100 - 10.0**-digits:.{digits}f}%" if share < 1 and text == f"{1:.{digits}%}" else text


def points(change: float, digits: int = 1) -> str:
    """A difference of shares in percentage points, with a proper minus sign.

    Without a sign where it rounds to zero.
    """
    size = f"{abs(change) * 100:.{digits}f}"
    return size if float(size) == 0 else f"{'+' if change > 0 else '−'}{size}"


def number(value: float | None, digits: int = 3) -> str:
    """A number with `digits` digits behind the point; a dash for None and NaN."""
    return NONE if value is None or math.isnan(value) else f"{value:.{digits}f}"


def whole(value: int | UnsetType | None) -> str:
    """A count with a comma between thousands."""
    return NONE if value is None or isinstance(value, UnsetType) else f"{value:,}"


def bound(pair: Interval | None, form: Callable[[float], str]) -> str:
    """A 95 % interval as "low–high", or "" for None."""
    return "" if pair is None else f"{form(pair[0]).rstrip('%')}–{form(pair[1])}"


def kib(count: int | None) -> str:
    """Bytes as KiB, or as MiB from 10 MiB on."""
    if count is None:
        return NONE
    return f"{count / 1024:,.0f} KiB" if count < 10 * 2**20 else f"{count / 2**20:,.1f} MiB"


def mib(kib: float) -> str:
    """KiB as MiB."""
    return f"{kib / 1024:,.1f} MiB"


def large(count: float) -> str:
    """1,530,000 as "1.53 M"."""
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(count) >= unit:
            return f"{count / unit:.3g}{name}"
    return f"{count:g}"


def seconds(value: float) -> str:
    """Seconds as "12.3 s", or as "2 min 05 s"."""
    minutes, rest = divmod(round(value), 60)
    return f"{value:.1f} s" if value < 60 else f"{minutes} min {rest:02} s"


def plural(count: int, noun: str) -> str:
    """A count with its noun: "1 image", "2 images"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def metric(accuracy: Accuracy | UnsetType) -> str:
    """What the share of right answers is called."""
    block = present(accuracy)
    return METRIC[Metric.TOP1 if block is None else block.metric]


def between(bounds: Interval | None) -> str:
    """An interval of changes in percentage points, "low to high"."""
    return "" if bounds is None else f"{points(bounds[0])} to {points(bounds[1])}"


def signed(value: float | None) -> str:
    """A difference of AUCs: three decimals and a proper minus sign; "" for None."""
    if value is None:
        return ""
    text = f"{value:+.3f}".replace("-", "−")
    return "0.000" if text[1:] == "0.000" else text


def tiny(value: float | None) -> str:
    """A divergence in nats, to three significant digits."""
    if value is None:
        return NONE
    if value == 0:
        return "0"
    text = f"{value:.3g}" if abs(value) >= 1e-4 else f"{value:.1e}"
    return text.replace("-", "−")


def share(value: float) -> str:
    """A share as a whole percentage."""
    return "under 1%" if 0 < value < 0.01 else f"{value:.0%}"


def cell(value: float | None, digits: int = 4) -> str:
    """A table's cell: a float to `digits` significant digits; "" for None."""
    if value is None:
        return ""
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def further(row: FurtherAccuracy) -> str:
    """An output beside the answers, in a line."""
    shape = " x ".join(map(str, row.shape))
    return (
        f"Output {row.name} ({shape}), int8 against float on {plural(row.images, 'test image')}: "
        f"cosine {row.cosine:.4f}, signal to noise {row.sqnr_db:.1f} dB"
    )
