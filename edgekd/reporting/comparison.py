"""Builds side by side: what report.json and recipe.toml of each say, laid next to each other (schema edgekd.comparison/1).

Figures are read, never worked out again; only the change from the first build is new, with an interval from both builds'
own intervals.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from edgekd.core.errors import RecipeError
from edgekd.reporting.charts import points
from edgekd.reporting.out_folder import Body, read_report

SCHEMA = "edgekd.comparison/1"
LETTERS = (
    "ABCDEFGH"  # what builds are called beside their names; more columns than these nobody reads
)
MISSING = None  # a setting that a build's recipe does not have: it was made by another edgekd
ORDER = (
    "teacher",
    "student",
    "pruned",
    "qat",
    "onnx",
    "tflite",
)  # report.json's stages, as the line runs

Unit = Literal["share", "points", "number", "bytes", "count", "ms", "KiB", "text"]
Better = Literal["more", "less", ""]


@dataclasses.dataclass(frozen=True)
class Build:
    """An out folder or a bundle's folder. `recipe`: {"section.key": value}; None where there is no recipe.toml."""

    name: str
    report: Body
    recipe: dict[str, Any] | None


@dataclasses.dataclass(frozen=True)
class Figure:
    """One row of the comparison: how a report tells it, and which way is better."""

    name: str
    unit: Unit
    better: Better
    read: Callable[[Body], Any]


def at(body: Any, *path: str) -> Any:
    """What lies at a path of keys, or None."""
    for key in path:
        body = body.get(key) if isinstance(body, Mapping) else None
    return body


def _last(body: Body) -> Mapping[str, Any]:
    rows = at(body, "accuracy", "waterfall") or [{}]
    return rows[-1] if isinstance(rows[-1], Mapping) else {}


def _lost(body: Body) -> float | None:
    rows = {row.get("stage"): row.get("top1") for row in at(body, "accuracy", "waterfall") or []}
    return (
        None
        if rows.get("student") is None or rows.get("tflite") is None
        else rows["tflite"] - rows["student"]
    )


FIGURES = (
    Figure(
        "certificate",
        "text",
        "",
        lambda body: {True: "passed", False: "failed"}.get(at(body, "certificate", "passed")),
    ),
    Figure("top-1", "share", "more", lambda body: _last(body).get("top1")),
    Figure("AUC", "number", "more", lambda body: _last(body).get("auc")),
    Figure("top-1, float student to int8", "points", "", _lost),
    Figure(
        "calibration error",
        "number",
        "less",
        lambda body: at(body, "confidence", "test", "ece", "after"),
    ),
    Figure("says “unsure”", "share", "less", lambda body: at(body, "confidence", "test", "unsure")),
    Figure(
        "label in its set", "share", "", lambda body: at(body, "confidence", "test", "coverage")
    ),
    Figure("file", "bytes", "less", lambda body: at(body, "artifact", "bytes")),
    Figure("arena", "bytes", "less", lambda body: at(body, "device", "memory", "arena_bytes")),
    Figure(
        "multiply-adds", "count", "less", lambda body: at(body, "models", _served(body), "macs")
    ),
    Figure("parameters", "count", "less", lambda body: at(body, "models", _served(body), "params")),
    Figure(
        "ops not mapped",
        "count",
        "less",
        lambda body: (
            None
            if at(body, "device", "mapped") is None
            else body["device"]["mapped"]["ops"] - body["device"]["mapped"]["mapped"]
        ),
    ),
    Figure(
        "predicted latency",
        "ms",
        "less",
        lambda body: at(body, "device", "predicted", "latency_ms"),
    ),
)


def _served(body: Body) -> str:
    """The network that the file holds."""
    return "pruned" if at(body, "models", "pruned") else "student"


def read(folders: Sequence[Path]) -> list[Build]:
    """Each folder's report and recipe, under the shortest names that tell them apart.

    Raises ModelFileError for a folder without a report and RecipeError for too many folders or a broken recipe.toml.
    """
    if len(folders) > len(LETTERS):
        raise RecipeError(
            f"{len(folders)} builds are too many to lay side by side",
            f"name at most {len(LETTERS)}",
        )
    return [
        Build(name, read_report(folder), _recipe(folder / "recipe.toml"))
        for name, folder in zip(_names(folders), folders, strict=True)
    ]


def _names(folders: Sequence[Path]) -> list[str]:
    """The last parts of each path, as few as keep different folders apart."""
    parts = [folder.resolve().parts for folder in folders]
    depth = next(
        (
            depth
            for depth in range(1, max(map(len, parts)) + 1)
            if len({part[-depth:] for part in parts}) == len(set(parts))
        ),
        1,
    )
    return ["/".join(part[-depth:]) for part in parts]


def _recipe(path: Path) -> dict[str, Any] | None:
    try:
        return dict(_flat("", tomllib.loads(path.read_text(encoding="utf-8-sig"))))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path}: {error}", "build there again, which writes it anew") from None


def _flat(where: str, table: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(f"{where}{key}.", value)
        else:
            yield f"{where}{key}", value


def compare(builds: Sequence[Build]) -> dict[str, Any]:
    """The whole comparison as plain JSON: every list under "values", "counts" or "rows" has one place a build."""
    bodies = [build.report for build in builds]
    digests = {str(at(body, "data", "digest")) for body in bodies}
    return {
        "schema": SCHEMA,
        "builds": [_build(build) for build in builds],
        "same_data": len(digests) == 1 and digests != {"None"},
        "figures": [
            row
            for row in [*(_figure(figure, bodies) for figure in FIGURES), *_measured(bodies)]
            if any(value is not None for value in row["values"])
        ],
        "changes": [_change(bodies[0], body) for body in bodies],
        "waterfall": _waterfall(bodies),
        "ops": _ops(bodies),
        "settings": _settings(builds),
    }


def _build(build: Build) -> dict[str, Any]:
    body = build.report
    return {
        "name": build.name,
        "profile": body.get("profile"),
        "data": at(body, "data", "name"),
        "synthetic": bool(at(body, "data", "synthetic")),
        "n": at(body, "accuracy", "n"),
        "seed": body.get("seed"),
        "teacher": at(body, "models", "teacher", "arch"),
        "student": at(body, "models", "student", "arch"),
        "edgekd": body.get("edgekd"),
        "sha256": at(body, "artifact", "sha256"),
        "passed": at(body, "certificate", "passed"),
        "gates": list(body.get("gates") or []),
        "verdict": at(body, "accuracy", "verdict"),
    }


def _figure(figure: Figure, bodies: Sequence[Body]) -> dict[str, Any]:
    return {
        "name": figure.name,
        "unit": figure.unit,
        "better": figure.better,
        "values": [figure.read(body) for body in bodies],
    }


def _measured(bodies: Sequence[Body]) -> list[dict[str, Any]]:
    """Median latency and peak memory of the newest run at each place; builds share a row where they ran at one place."""
    found: dict[str, list[Any]] = {}
    for number, body in enumerate(bodies):
        for run in body.get("bench") or []:
            if run.get("emulated") is False:  # a clock under emulation says nothing
                cpu = at(run, "host", "cpu") or at(run, "host", "machine") or "an unnamed processor"
                threads = at(run, "runtime", "threads")
                place = f"{run.get('profile')}, {cpu}" + (
                    f", {threads} thread{'s' * (threads != 1)}" if threads else ""
                )
                found.setdefault(place, [None] * len(bodies))[number] = run
    rows = []
    for place, runs in found.items():
        for name, unit, path in (
            ("median latency", "ms", ("latency_ms", "p50")),
            ("peak memory", "KiB", ("memory_kib", "peak")),
        ):
            rows.append(
                {
                    "name": f"{name} ({place})",
                    "unit": unit,
                    "better": "less",
                    "values": [at(run, *path) for run in runs],
                }
            )
    return rows


def _change(first: Body, body: Body) -> dict[str, Any] | None:
    """What the last stage's top-1 and AUC are beyond the first build's; None for the first build itself."""
    if body is first:
        return None
    before, after = _last(first), _last(body)
    return {
        key: difference(
            before.get(key), before.get(f"{key}_ci95"), after.get(key), after.get(f"{key}_ci95")
        )
        for key in ("top1", "auc")
    }


def difference(
    before: float | None,
    before_ci: Sequence[float] | None,
    after: float | None,
    after_ci: Sequence[float] | None,
) -> dict[str, Any] | None:
    """{"value", "ci95"} of after less before, from both 95 % intervals (Newcombe 1998, Statistics in Medicine 17, method 10).

    It takes the two for independent. Builds that answered the same images are not, and their interval is too wide rather than
    too narrow.
    """
    if before is None or after is None or not before_ci or not after_ci:
        return None
    value = after - before
    low = value - math.hypot(after - after_ci[0], before_ci[1] - before)
    high = value + math.hypot(after_ci[1] - after, before - before_ci[0])
    return {"value": value, "ci95": [low, high]}


def _waterfall(bodies: Sequence[Body]) -> list[dict[str, Any]]:
    rows = [
        {str(row.get("stage")): row for row in at(body, "accuracy", "waterfall") or []}
        for body in bodies
    ]
    stages = sorted(
        {stage for found in rows for stage in found}, key=lambda name: (*_place(name), name)
    )
    return [
        {
            "stage": stage,
            "rows": [
                None
                if stage not in found
                else {
                    key: found[stage].get(key)
                    for key in ("top1", "top1_ci95", "auc", "auc_ci95", "state")
                }
                for found in rows
            ],
        }
        for stage in stages
    ]


def _place(stage: str) -> tuple[int]:
    return (ORDER.index(stage) if stage in ORDER else len(ORDER),)


def _ops(bodies: Sequence[Body]) -> list[dict[str, Any]]:
    counts = [at(body, "artifact", "ops") or {} for body in bodies]
    away = [
        {str(row.get("op")) for row in at(body, "device", "mapped", "fallback") or []}
        for body in bodies
    ]
    names = sorted(
        {op for found in counts for op in found},
        key=lambda op: (-max(found.get(op, 0) for found in counts), op),
    )
    return [
        {
            "op": op,
            "counts": [found.get(op, 0) for found in counts],
            "mapped": [op not in gone for gone in away],
        }
        for op in names
    ]


def _settings(builds: Sequence[Build]) -> list[dict[str, Any]]:
    """Settings in which the recipes differ, and the profile where it does."""
    recipes = [{**(build.recipe or {}), "profile": build.report.get("profile")} for build in builds]
    if any(
        build.recipe is None for build in builds
    ):  # a bundle holds no recipe: only what the reports say is compared
        recipes = [
            {
                "profile": build.report.get("profile"),
                "seed": build.report.get("seed"),
                "distil.student": at(build.report, "models", "student", "arch"),
                "teacher.name": at(build.report, "models", "teacher", "arch"),
                "data.source": at(build.report, "data", "name"),
            }
            for build in builds
        ]
    keys = dict.fromkeys(key for recipe in recipes for key in recipe)
    rows = [
        {"key": key, "values": [recipe.get(key, MISSING) for recipe in recipes]} for key in keys
    ]
    return [row for row in rows if any(value != row["values"][0] for value in row["values"])]


def told(value: Any, unit: Unit) -> str:
    """A figure for a person; a dash where there is none."""
    if value is None:
        return "–"
    if unit == "share":
        return f"{100 * value:.1f} %"
    if unit == "points":
        return points(value)
    if unit == "bytes" or unit == "KiB":
        kib = value / 1024 if unit == "bytes" else value
        return f"{kib:,.0f} KiB" if kib < 10 * 1024 else f"{kib / 1024:,.1f} MiB"
    if unit == "ms":
        return f"{value:.3g} ms"
    return f"{value:,}" if unit == "count" else f"{value:.3f}" if unit == "number" else str(value)


def setting(value: Any) -> str:
    """A recipe's value for a person."""
    return "–" if value is MISSING else "(empty)" if value == "" else str(value)


def best(row: Mapping[str, Any]) -> list[bool]:
    """Which builds have the best figure of a row, as printed; none where all read the same or no way is better."""
    known = [value for value in row["values"] if value is not None]
    texts = [told(value, row["unit"]) for value in row["values"]]
    if not row["better"] or len({told(value, row["unit"]) for value in known}) < 2:
        return [False] * len(texts)
    top = told(max(known) if row["better"] == "more" else min(known), row["unit"])
    return [text == top for text in texts]
