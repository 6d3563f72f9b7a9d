"""report.json's blocks "confidence", "subgroups", "licences" and "bundle" as report.html's section on them shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekd.reporting import charts

Block = dict[str, Any]
LISTED = 20  # groups and licence links shown one by one; the rest is counted
PLOT = 100.0  # side of the reliability plot, in its own units


def view(body: Mapping[str, Any]) -> Block | None:
    """What templates/papers.html shows, or None when the build got to none of it."""
    parts = {
        "confidence": _confidence(body.get("confidence"), _classes(body)),
        "groups": _groups(body.get("subgroups")),
        "licences": _licences(body.get("licences")),
        "bundle": body.get("bundle"),
    }
    return parts if any(parts[name] for name in ("confidence", "groups")) else None


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _signed(value: float | None) -> str:
    return (
        "–"
        if value is None
        else f"{value:+.3f}".replace("-", "−").replace("+0.000", "0.000").replace("−0.000", "0.000")
    )


def _classes(body: Mapping[str, Any]) -> list[str]:
    return list((body.get("data") or {}).get("classes") or [])


def _confidence(block: Mapping[str, Any] | None, classes: list[str]) -> Block | None:
    if not block:
        return None
    if block["kind"] == "labels":
        return {
            "labels": _labels(block),
            "fitted": f"{block['fitted_on']['n']} validation images",
            "n": block["test"]["n"],
        }
    test = block["test"]
    error = test["ece"]
    rows = [
        ("Temperature", f"{block['temperature']:.3f}"),
        ("Fitted on", f"{block['fitted_on']['n']} validation images, int8 answers"),
        (
            "Label in the set",
            (
                f"{_percent(test['coverage'])} of {test['n']} test images (95 %: "
                f"{_percent(test['coverage_ci95'][0])} to {_percent(test['coverage_ci95'][1])}); promised "
                f"{_percent(block['coverage'])}"
            ),
        ),
        ("Says “unsure”", _percent(test["unsure"])),
        (
            "Right when sure",
            f"{_percent(test['accuracy_when_sure'])} (all: {_percent(test['accuracy'])})",
        ),
        (
            "Calibration error",
            (
                f"{error['before']:.3f} before, {error['after']:.3f} after; a perfect one would show "
                f"{error['floor']:.3f} on so few images"
            ),
        ),
        (
            "… less what chance adds",
            f"{error['debiased_before']:.3f} before, {error['debiased_after']:.3f} after",
        ),
    ]
    by_class = [
        {
            "label": label,
            "threshold": f"{threshold:.4f}",
            "n": row["n"],
            "coverage": _percent(row["coverage"]),
        }
        for label, threshold, row in zip(
            classes, block["thresholds"], test["coverage_by_class"], strict=False
        )
    ]
    return {
        "facts": rows,
        "warning": block.get("warning"),
        "labels": [],
        "classes": by_class[:LISTED],
        "more": max(len(by_class) - LISTED, 0),
        "promised": _percent(block["coverage"]),
        "plots": [
            {
                "name": name,
                "bars": _bars(test["reliability"][key]),
                "rows": _bins(test["reliability"][key]),
            }
            for name, key in (("Before", "before"), ("After", "after"))
        ],
    }


def _labels(block: Mapping[str, Any]) -> list[Block]:
    """Each of several labels: its threshold, and what that is worth on the test images."""
    return [
        {
            "name": row["label"],
            "threshold": f"{fitted['threshold']:.3f}",
            **{key: _percent(row[key]) for key in ("sensitivity", "specificity")},
            **{
                f"{key}_bound": ""
                if row[f"{key}_ci95"] is None
                else " to ".join(_percent(x) for x in row[f"{key}_ci95"])
                for key in ("sensitivity", "specificity")
            },
            "ece": f"{row['ece']['before']:.3f} → {row['ece']['after']:.3f} ({row['ece']['floor']:.3f})",
        }
        for fitted, row in zip(block["per_label"], block["test"]["per_label"], strict=True)
    ]


def _bars(rows: list[Mapping[str, float]]) -> list[Block]:
    """Each bin as a bar in a square of PLOT units, y downwards."""
    return [
        {
            "x": PLOT * row["low"],
            "width": PLOT * (row["high"] - row["low"]),
            "y": PLOT * (1 - row["accuracy"]),
            "height": PLOT * row["accuracy"],
        }
        for row in rows
    ]


def _bins(rows: list[Mapping[str, float]]) -> list[Block]:
    """Each bin in words."""
    return [
        {
            "told": f"{_percent(row['share'])} of the answers at {_percent(row['confidence'])} confidence, of these "
            f"{_percent(row['accuracy'])} right"
        }
        for row in rows
    ]


def _groups(block: Mapping[str, Any] | None) -> Block | None:
    if not block:
        return None
    networks = [
        name for name in ("teacher", "student", "tflite") if name in block["groups"][0]["networks"]
    ]
    befores = {"change": "float student"} | (
        {"change_from_teacher": "teacher"} if "teacher" in networks else {}
    )
    metric = {"auc": "AUC", "top1": "top-1"}[block["metric"]]
    rows = [
        {
            "group": row["group"],
            "n": row["n"],
            "judged": row["judged"],
            "failures": [_failure(f) for f in row["failures"]],
            "figures": [_plain(row["networks"][name]) for name in networks],
            "changes": [
                {"value": _signed(row[key]["value"]), "interval": _interval(row[key]["ci95"])}
                for key in befores
            ],
        }
        for row in block["groups"][:LISTED]
    ]
    return {
        "charts": [
            {"before": before, "chart": _moved(block, key, before, metric)}
            for key, before in befores.items()
        ],
        "column": block["column"],
        "metric": metric,
        "rows": rows,
        "befores": list(befores.values()),
        "networks": [
            {"teacher": "Teacher", "student": "Student", "tflite": "int8"}[name]
            for name in networks
        ],
        "budget": f"{block['budget']:.3f}",
        "more": max(len(block["groups"]) - LISTED, 0),
    }


def _failure(failure: Mapping[str, Any]) -> str:
    """How much a group lost too much, and where."""
    metric = {"auc": "AUC", "top1": "top-1"}[failure["metric"]]
    return f"{metric} {_signed(failure['value'])} from {failure['from']}, most in {failure['step']['stage']}"


def _moved(block: Mapping[str, Any], key: str, before: str, metric: str) -> str:
    """The chart of each group's change from one network to int8."""
    moved = []
    old = "teacher" if key == "change_from_teacher" else "student"
    for row in block["groups"][:LISTED]:
        if row[key]["value"] is not None:
            low, high = row[key]["ci95"]
            note = f"{row['n']} images" + ("" if row["judged"] else ", too few to judge")
            failed = any(failure["from"] == old for failure in row["failures"])
            moved.append(
                charts.Change(
                    str(row["group"]),
                    row[key]["value"],
                    low,
                    high,
                    block["budget"],
                    note,
                    "beyond" if failed else "within",
                )
            )
    label = f"Change of {metric} from {before} to int8 by group, with 95 % intervals: " + "; ".join(
        f"{row.name} {charts.points(row.value)}, {charts.points(row.low)} to {charts.points(row.high)}"
        for row in moved
    )
    return charts.changes(moved, label)


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _interval(pair: list[float] | None) -> str:
    return "–" if pair is None else f"{_signed(pair[0])} to {_signed(pair[1])}"


def _licences(block: Mapping[str, Any] | None) -> Block | None:
    if not block:
        return None
    return {
        "result": block["result"],
        "tainted": block["tainted_by"],
        "unknown": block["unknown"],
        "rows": [row for row in block["links"] if row["part"] == "model"][:LISTED],
    }
