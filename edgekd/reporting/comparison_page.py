"""A comparison (schema edgekd.comparison/1) -> one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgekd.reporting import charts, html_report
from edgekd.reporting.charts import Interval
from edgekd.reporting.comparison import LETTERS, best, setting, told
from edgekd.reporting.sections import text as fmt

Block = dict[str, Any]
BARRED = ("bytes", "ms", "KiB", "count")  # units of which twice as much is twice as long a bar


def page(body: Mapping[str, Any]) -> str:
    """The comparison as HTML: a letter a build, then its name where there is room."""
    builds = [
        {
            **build,
            "letter": letter,
            "style": f"m{number % charts.STYLES}",
            "state": _state(build),
            "verdict": (build["verdict"] or {}).get("text"),
        }
        for number, (letter, build) in enumerate(zip(LETTERS, body["builds"], strict=False))
    ]
    return html_report.render(
        "comparison.html",
        {
            "builds": builds,
            "same_data": body["same_data"],
            "synthetic": [b["letter"] for b in builds if b["synthetic"]],
            "figures": [_figure(row) for row in body["figures"]],
            "changes": _changes(builds, body["changes"]),
            "chart": _chart(builds, body["waterfall"]),
            "waterfall": _waterfall(body["waterfall"]),
            "ops": _ops(body["ops"]),
            "settings": [_setting(row) for row in body["settings"]],
        },
    )


def _state(build: Mapping[str, Any]) -> tuple[str, str]:
    """(CSS class, word) of a build's gates."""
    if build["passed"] is None:
        return "open", "not finished"
    return ("good", "✓ passed") if build["passed"] and not build["gates"] else ("bad", "✗ failed")


def _figure(row: Mapping[str, Any]) -> Block:
    most = max((value for value in row["values"] if isinstance(value, int | float)), default=0)
    barred = row["unit"] in BARRED and most > 0
    return {
        "name": row["name"],
        "cells": [
            {
                "text": told(value, row["unit"]),
                "best": chosen,
                "bar": charts.bar(value / most) if barred and value is not None else "",
            }
            for value, chosen in zip(row["values"], best(row), strict=True)
        ],
    }


def _changes(builds: Sequence[Block], changes: Sequence[Mapping[str, Any] | None]) -> list[Block]:
    """How far each build's int8 answers lie from the first build's, in words."""
    rows = []
    for build, change in zip(builds, changes, strict=False):
        for key, name, form in (("top1", "top-1", charts.points), ("auc", "AUC", _signed)):
            found = (change or {}).get(key)
            if found:
                low, high = found["ci95"]
                unit = " points" if key == "top1" else ""
                rows.append(
                    {
                        "letter": build["letter"],
                        "what": name,
                        "value": form(found["value"]) + unit,
                        "interval": f"{form(low)} to {form(high)}",
                        "chance": low <= 0 <= high,
                    }
                )
    return rows


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _chart(builds: Sequence[Block], waterfall: Sequence[Mapping[str, Any]]) -> str:
    groups = [
        (
            fmt.STAGES.get(row["stage"], row["stage"]),
            [
                _interval(build["letter"], found)
                for build, found in zip(builds, row["rows"], strict=False)
            ],
        )
        for row in waterfall
    ]
    words = "; ".join(
        f"{stage}: " + ", ".join(f"{row.name} {charts.percent(row.value)}" for row in rows if row)
        for stage, rows in groups
    )
    return charts.grouped(groups, f"Top-1 accuracy after each stage, with 95 % intervals. {words}")


def _interval(letter: str, row: Mapping[str, Any] | None) -> Interval | None:
    if not row or row["top1"] is None:
        return None
    low, high = row["top1_ci95"] or (row["top1"], row["top1"])
    return Interval(letter, row["top1"], low, high)


def _waterfall(waterfall: Sequence[Mapping[str, Any]]) -> list[Block]:
    return [
        {
            "stage": fmt.STAGES.get(row["stage"], row["stage"]),
            "cells": [
                None
                if found is None
                else {
                    "top1": told(found["top1"], "share"),
                    "auc": told(found["auc"], "number"),
                    "bound": " to ".join(f"{100 * x:.1f}" for x in found["top1_ci95"] or []),
                }
                for found in row["rows"]
            ],
        }
        for row in waterfall
    ]


def _ops(ops: Sequence[Mapping[str, Any]]) -> list[Block]:
    most = max((count for row in ops for count in row["counts"]), default=0) or 1
    return [
        {
            "op": row["op"],
            "cells": [
                {
                    "count": count,
                    "away": count and not mapped,
                    "bar": charts.bar(count / most, "first"),
                }
                for count, mapped in zip(row["counts"], row["mapped"], strict=True)
            ],
        }
        for row in ops
    ]


def _setting(row: Mapping[str, Any]) -> Block:
    return {"key": row["key"], "values": [setting(value) for value in row["values"]]}
