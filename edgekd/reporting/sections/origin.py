"""The report's sections on what the build was made from: data, networks, training, stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekd.reporting import charts
from edgekd.reporting.sections import text as fmt

Block = dict[str, Any]
TRAINED = {
    "teacher": "Teacher",
    "distil": "Student (distillation)",
    "prune": "Pruned student",
    "qat": "QAT",
}
SETTINGS = {"lr": "lr", "head_decay": "head decay"}  # told beside a network's weights
COUNT_ROWS = 40
DIGEST_LETTERS = 12


def training(body: Mapping[str, Any]) -> list[Block]:
    """Each trained network's loss by epoch."""
    found = []
    for stage, history in (body.get("training") or {}).items():
        rows = [row for row in history or [] if fmt.real(row.get("epoch"))]
        if not rows:
            continue
        name = TRAINED.get(stage, stage)

        def line(key: str, title: str, style: str, rows: list[Any] = rows) -> charts.Line:
            return charts.Line(
                title, [(row["epoch"], row[key]) for row in rows if fmt.real(row.get(key))], style
            )

        loss = line("loss", "loss", "first")
        scores = [
            score
            for score in (line("top1", "top-1", "first"), line("auc", "AUC", "second"))
            if score.points
        ]
        first, last = rows[0], rows[-1]
        told = (
            f"{name}, loss: {fmt.number(first.get('loss'))} after epoch {first['epoch']}, "
            f"{fmt.number(last.get('loss'))} after epoch {last['epoch']}"
        )
        ends = ", ".join(
            f"{score.name} {score.points[0][1]:.1%} after epoch {score.points[0][0]}, "
            f"{score.points[-1][1]:.1%} after epoch {score.points[-1][0]}"
            for score in scores
        )
        columns = [
            key for key in dict.fromkeys(key for row in rows for key in row) if key != "epoch"
        ]
        found.append(
            {
                "name": name,
                "loss": charts.lines([loss], told),
                "scores": charts.lines(scores, f"{name}: {ends}", shares=True),
                "legend": [
                    {
                        "name": score.name,
                        "style": score.style,
                        "end": (fmt.number if score.name == "AUC" else fmt.percent)(
                            score.points[-1][1]
                        ),
                    }
                    for score in scores
                ],
                "loss_end": fmt.number(last.get("loss")),
                "epochs": fmt.plural(len(rows), "epoch"),
                "columns": [{"top1": "top-1", "auc": "AUC"}.get(key, key) for key in columns],
                "rows": [
                    {"epoch": row["epoch"], "values": [fmt.cell(row.get(key)) for key in columns]}
                    for row in rows
                ],
            }
        )
    return found


def models(body: Mapping[str, Any]) -> list[Block]:
    """Teacher and student by size."""
    return [
        {
            "role": role,
            "arch": model.get("arch", "–"),
            "params": fmt.large(model.get("params")),
            "macs": fmt.large(model.get("macs")),
            "input": " × ".join(str(side) for side in model.get("input") or []) or "–",
            "weights": ", ".join(
                [
                    str(model["weights"]),
                    *(f"{name} {model[key]:g}" for key, name in SETTINGS.items() if key in model),
                ]
            )
            if "weights" in model
            else None,
            "licence": model.get("licence"),
        }
        for role, model in (body.get("models") or {}).items()
    ]


def data(body: Mapping[str, Any]) -> Block | None:
    """Images by class and split, and what was odd about them."""
    data = body.get("data")
    if not data:
        return None
    classes, counts = data.get("classes") or [], data.get("counts") or {}
    splits = ("train", "val", "test")
    rows = (
        [
            {
                "name": name,
                "counts": [fmt.whole(fmt.at(counts, split, name) or 0) for split in splits],
            }
            for name in classes
        ]
        if counts
        else []
    )
    ignored = sum(value for value in (data.get("ignored") or {}).values() if fmt.real(value))
    copies, groups = data.get("duplicates") or {}, data.get("groups") or {}
    facts = [
        ("licence", data.get("licence") or "not stated"),
        ("source", data.get("source")),
        ("fit to the input by", data.get("fit")),
    ]
    if any(fmt.real(groups.get(split)) and groups[split] for split in splits):
        told = ", ".join(f"{fmt.whole(groups.get(split))} in {split}" for split in splits)
        facts.append(("groups (such as patients)", told))
    if copies.get("images"):
        facts.append(
            (
                "copies",
                f"{fmt.plural(copies['images'], 'image')}, {fmt.whole(copies.get('dropped'))} dropped",
            )
        )
    without = data.get("unlabelled") or {}
    if without:
        dropped = sum(without.get(key) or 0 for key in ("in_val_or_test", "in_train", "repeated"))
        facts.append(
            (
                "without a label, labelled by the teacher",
                fmt.plural(without.get("images") or 0, "image")
                + (f" ({fmt.whole(dropped)} copies dropped)" if dropped else ""),
            )
        )
    if data.get("skipped"):
        facts.append(("unreadable, skipped", fmt.whole(len(data["skipped"]))))
    if ignored:
        facts.append(("files left alone", fmt.whole(ignored)))
    return {
        "name": data.get("name", "data"),
        "classes": classes,
        "synthetic": bool(data.get("synthetic")),
        "totals": [fmt.whole(data.get(split)) for split in splits],
        "rows": rows[:COUNT_ROWS],
        "more": max(0, len(rows) - COUNT_ROWS),
        "facts": [(k, v) for k, v in facts if v],
        "warnings": [str(warning) for warning in data.get("warnings") or []],
    }


def stages(body: Mapping[str, Any]) -> list[Block]:
    """Each stage, with its seconds and key."""
    return [
        {
            "name": row.get("stage"),
            "seconds": fmt.seconds(row.get("seconds")),
            "cached": bool(row.get("cached")),
            "key": str(row.get("key", "")),
            "short_key": str(row.get("key", ""))[:DIGEST_LETTERS],
            "digest": str(row.get("digest", "")),
            "short_digest": str(row.get("digest", ""))[:DIGEST_LETTERS],
        }
        for row in body.get("stages") or []
    ]


def origin(body: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Where everything came from, as (name, value)."""
    found = [
        ("edgekd", body.get("edgekd")),
        ("schema", body.get("schema")),
        ("device profile", body.get("profile")),
        ("seed", body.get("seed")),
        ("data set", fmt.at(body, "data", "name")),
        ("data digest", fmt.at(body, "data", "digest")),
        ("file", fmt.at(body, "artifact", "path")),
        ("sha256 of the file", fmt.at(body, "artifact", "sha256")),
    ]
    return [(name, str(value)) for name, value in found if value is not None]
