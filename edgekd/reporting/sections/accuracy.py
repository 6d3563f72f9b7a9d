"""The report's section on accuracy: each network, what changed between them, which images flipped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekd.reporting import charts
from edgekd.reporting.sections import text as fmt

Block = dict[str, Any]
NAMED = 30  # flipped images named on the page, each way and stage; report.json names more
JUDGED = {
    "within": ("good", "within its budget"),
    "unclear": ("warn", "over, maybe by chance"),
    "beyond": ("bad", "beyond its budget"),
}


def accuracy(body: Mapping[str, Any]) -> Block | None:
    """The waterfall as table and charts, with the images that flipped."""
    rows = fmt.rows(body)
    if not rows:
        return None
    table, plot, moved, flipped = [], [], [], []
    for stage, row in rows.items():
        first = row.get("agree_with_previous") is None
        name = fmt.STAGES.get(stage, stage)
        lost, won = fmt.whole(row.get("flips_bad")), fmt.whole(row.get("flips_good"))
        style, judged = JUDGED.get(str(row.get("state")), ("", ""))
        change = row.get("change") or {}
        bounds = (
            change.get("top1_ci95") if fmt.bound(change.get("top1_ci95"), fmt.percent) else None
        )
        table.append(
            {
                "name": name,
                "top1": fmt.percent(row.get("top1")),
                "top1_bound": fmt.bound(row.get("top1_ci95"), fmt.percent),
                "auc": fmt.number(row.get("auc")),
                "auc_bound": fmt.bound(row.get("auc_ci95"), fmt.number),
                "change": charts.points(change["top1"]) if fmt.real(change.get("top1")) else "",
                "change_bound": fmt.between(bounds),
                "auc_change": fmt.signed(change.get("auc")),
                "auc_change_bound": " to ".join(
                    fmt.signed(x) for x in change.get("auc_ci95") or []
                ),
                "judged": judged,
                "style": style,
                "agree": "" if first else fmt.percent(row.get("agree_with_previous")),
                "lost": "" if first else lost,
                "won": "" if first else won,
            }
        )
        if fmt.real(row.get("top1")):
            low, high = (
                row["top1_ci95"]
                if fmt.bound(row.get("top1_ci95"), fmt.percent)
                else (row["top1"], row["top1"])
            )
            plot.append(
                charts.Interval(
                    name, row["top1"], low, high, "" if first else f"{lost} lost, {won} won"
                )
            )
        if bounds and fmt.real(change.get("top1")):
            allowed = fmt.at(row, "budget", "top1")
            moved.append(
                charts.Change(
                    name,
                    change["top1"],
                    bounds[0],
                    bounds[1],
                    allowed if fmt.real(allowed) else None,
                    judged,
                    str(row.get("state")),
                )
            )
        if row.get("flipped"):
            flipped.append(_flipped(name, row))
    n = fmt.at(body, "accuracy", "n")
    metric = fmt.metric(body)
    label = (
        f"{metric.capitalize()} on the test images after each stage, with 95 % intervals: "
        + "; ".join(f"{row.name} {row.value:.1%}, {row.low:.1%} to {row.high:.1%}" for row in plot)
    )
    changed = (
        f"Change of {metric} against the stage before, in points, with 95 % intervals: "
        + "; ".join(
            f"{row.name} {charts.points(row.value)}, {charts.points(row.low)} to {charts.points(row.high)}, {row.note}"
            for row in moved
        )
    )
    verdict = fmt.at(body, "accuracy", "verdict")
    paired = fmt.at(body, "accuracy", "paired") or {}
    return {
        "table": table,
        "metric": metric,
        "labels": _per_label(body),
        "chart": charts.intervals(plot, label),
        "n": fmt.whole(n),
        "device": _carried_back(body),
        "changes": charts.changes(moved, changed),
        "flipped": [part for part in flipped if part["bad"] or part["good"]],
        "verdict": verdict
        and {
            "text": verdict.get("text"),
            "notes": verdict.get("notes") or [],
            "next_step": verdict.get("next_step"),
            "style": {"good": "good", "bad": "bad"}.get(str(verdict.get("state")), "warn"),
        },
        "method": paired.get("method"),
        "paper": paired.get("paper"),
        "draws": fmt.whole(paired.get("draws")),
        "seed": paired.get("seed"),
        "test": paired.get("test"),
        "split": fmt.at(body, "accuracy", "split") or "test",
        "aucs": any(row["auc"] != "–" for row in table),
    }


def _per_label(body: Mapping[str, Any]) -> list[Block]:
    """Each of several labels in the last stage, as it answers where the probability is at least a half."""
    row = list(fmt.rows(body).values())[-1]
    return [
        {
            "name": name,
            "positives": fmt.whole(part.get("positives")),
            "auc": fmt.number(part.get("auc")),
            "bound": fmt.bound(part.get("auc_ci95"), fmt.number),
            "sensitivity": fmt.percent(part.get("sensitivity")),
            "specificity": fmt.percent(part.get("specificity")),
        }
        for name, part in zip(
            fmt.at(body, "data", "classes") or [], row.get("per_label") or [], strict=False
        )
    ]


def _flipped(stage: str, row: Mapping[str, Any]) -> Block:
    """The images that a stage lost and won, by name."""
    shown: Block = {"stage": stage}
    for way, count in (("bad", "flips_bad"), ("good", "flips_good")):
        images = fmt.at(row, "flipped", way) or []
        shown[way] = [
            {
                "name": image.get("name"),
                "was": image.get("was"),
                "now": image.get("now"),
                "margin": f"{image['margin_lsb']:.1f}"
                if fmt.real(image.get("margin_lsb"))
                else "–",
            }
            for image in images[:NAMED]
        ]
        total = row.get(count)
        shown[f"{way}_count"] = fmt.whole(total)
        shown[f"{way}_more"] = max(0, total - len(shown[way])) if isinstance(total, int) else 0
    return shown


def _carried_back(body: Mapping[str, Any]) -> Block | None:
    row = fmt.at(body, "accuracy", "device")
    if not row:
        return None
    style, judged = JUDGED.get(str(row.get("state")), ("", ""))
    return {
        "profile": row.get("profile"),
        "n": fmt.whole(row.get("n")),
        "top1": fmt.percent(row.get("top1")),
        "top1_bound": fmt.bound(row.get("top1_ci95"), fmt.percent),
        "agree": fmt.percent(row.get("agree_with_previous")),
        "lsb": fmt.whole(row.get("max_abs_lsb")),
        "text": row.get("verdict"),
        "style": style,
        "judged": judged,
        "emulated": bool(row.get("emulated")),
    }
