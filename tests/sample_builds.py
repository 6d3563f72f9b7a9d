"""Many made-up builds with consistent numbers: what a sweep over students and sizes leaves."""

from __future__ import annotations

import itertools
import json
import math
import random
from pathlib import Path
from typing import Any

from edgekd.core.intervals import wilson
from edgekd.reporting.comparison import Build
from edgekd.settings import recipe
from tests.sample_report import report, whole
from tests.sample_search import STUDENTS


def sweep(count: int) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(name, report.json, settings that differ) of each build."""
    luck = random.Random(0)
    found = []
    points = itertools.product((0, 1), (20, 40), (96, 128, 160, 64), STUDENTS)
    for seed, epochs, px, student in itertools.islice(points, count):
        macs = STUDENTS[student][0] * (px / 224) ** 2
        auc = 0.972 - 0.06 * math.exp(-macs / 14) - 0.1 / epochs + luck.gauss(0, 0.003)
        settings = {
            "seed": seed, "distil.epochs": epochs, "data.input_px": px, "distil.student": student
        }  # fmt: skip
        found.append(
            (
                f"xrays-{student}-{px}-{seed}{epochs}",
                _body(student, auc, macs) | {"seed": seed},
                settings,
            )
        )
    return found


def _body(student: str, auc: float, macs: float) -> dict[str, Any]:
    body = whole()
    body["bench"] = []
    top1 = auc - 0.055
    last = body["accuracy"]["waterfall"][-1]
    last |= {"auc": auc, "auc_ci95": wilson(auc, 312), "top1": top1, "top1_ci95": wilson(top1, 624)}
    latency = 0.35 + 0.085 * macs
    body["device"]["predicted"] |= {
        "latency_ms": latency, "low_ms": latency * 0.8, "high_ms": latency * 1.27
    }  # fmt: skip
    body["artifact"]["bytes"] = round(STUDENTS[student][1] * 1.06e6)
    body["models"]["student"]["arch"] = student
    if top1 < 0.885:
        body["gates"] = ["accuracy: int8 loses 2.4% of top-1 against the float student"]
    return body


def builds(count: int) -> list[Build]:
    """The builds as they are read from their folders."""
    return [Build(name, report(body), settings) for name, body, settings in sweep(count)]


def folders(parent: Path, count: int) -> list[Path]:
    """The out folders of the builds."""
    found = []
    for name, body, settings in sweep(count):
        folder = parent / name
        folder.mkdir(parents=True)
        (folder / "report.json").write_text(json.dumps(body))
        sets = [f"{key}={value}" for key, value in settings.items()]
        (folder / "recipe.toml").write_text(recipe.to_toml(recipe.load(None, sets)))
        found.append(folder)
    return found
