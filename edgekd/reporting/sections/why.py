"""The report's section on the ops that cost accuracy, when `edgekd report --why` was asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekd.reporting import charts
from edgekd.reporting.sections import text as fmt

Block = dict[str, Any]
WORST_OPS = 12  # ops of a sensitivity run in the first table; the rest is folded away


def why(body: Mapping[str, Any]) -> Block | None:
    """The sensitivity run of `edgekd report --why`."""
    why = body.get("why")
    if not why:
        return None
    whole = why.get("whole") or {}
    most = (
        max((fmt.at(op, "alone", "kl") or 0.0 for op in why.get("ops") or []), default=0.0) or 1.0
    )
    ops = []
    for op in why.get("ops") or []:
        alone, without = op.get("alone") or {}, op.get("without") or {}
        ops.append(
            {
                "op": op.get("op"),
                "name": op.get("name"),
                "part": op.get("part"),
                "bar": charts.bar((alone.get("kl") or 0.0) / most),
                "kl": fmt.tiny(alone.get("kl")),
                "kl_bound": " to ".join(fmt.tiny(x) for x in alone.get("kl_ci95") or []),
                "top1": charts.points(alone["top1"]) if fmt.real(alone.get("top1")) else "–",
                "auc": fmt.signed(alone.get("auc")) or "–",
                "back": fmt.tiny(without.get("kl_gained")),
                "rank": without.get("rank"),
            }
        )
    remedies = [
        {
            "kind": remedy.get("kind"),
            "text": remedy.get("text"),
            "next_step": remedy.get("next_step"),
            "kl": f"{fmt.tiny(remedy.get('kl_before'))} → {fmt.tiny(remedy.get('kl_after'))}",
            "top1": charts.points(remedy["top1"]) if fmt.real(remedy.get("top1")) else "–",
            "bound": bool(remedy.get("bound")),
            "sure": remedy.get("sure") is not False,
        }
        for remedy in why.get("remedies") or []
    ]
    return {
        "images": fmt.whole(why.get("images")),
        "split": why.get("split"),
        "calibration": fmt.whole(why.get("calibration")),
        "kl": fmt.tiny(whole.get("kl")),
        "top1": charts.points(whole["top1"]) if fmt.real(whole.get("top1")) else "–",
        "trained_kl": fmt.tiny(fmt.at(why, "training", "kl")),
        "reading": why.get("reading"),
        "worst": ops[:WORST_OPS],
        "others": ops[WORST_OPS:],
        "aucs": any(op["auc"] != "–" for op in ops),
        "remedies": remedies,
        "tried": fmt.whole(why.get("tried")),
        "seconds": fmt.seconds(why.get("seconds")),
    }
