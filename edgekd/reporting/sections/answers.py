"""The report's sections on single answers: the confusion matrix, and images with what each network said."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from edgekd.evaluation.examples import Example
from edgekd.reporting.sections import text as fmt

Block = dict[str, Any]
ANSWERS = {
    "teacher": "teacher",
    "student": "student",
    "tflite": "int8",
}  # whose answers stand beside an example
MATRIX_CLASSES = (
    20  # a confusion matrix of more is no longer read; the worst confusions are listed instead
)
NAMED_COLUMNS = 4  # so many classes may stand as column heads; more are numbered
SHORT_NAME = 14


def confusion(body: Mapping[str, Any]) -> Block | None:
    """The confusion matrix, or the worst confusions of many classes."""
    confusion = fmt.at(body, "accuracy", "confusion") or {}
    classes, counts = confusion.get("classes") or [], confusion.get("counts") or []
    if not classes or len(counts) != len(classes):
        return None
    totals = [sum(row) for row in counts]
    answers = [sum(column) for column in zip(*counts, strict=True)]
    numbered = len(classes) > NAMED_COLUMNS or max(len(str(name)) for name in classes) > SHORT_NAME
    heads = [
        {"name": str(number + 1) if numbered else name, "full": name}
        for number, name in enumerate(classes)
    ]
    rows = [
        {
            "name": name,
            "number": number + 1 if numbered else None,
            "total": fmt.whole(totals[number]),
            "recall": fmt.percent(
                counts[number][number] / totals[number] if totals[number] else None
            ),
            "cells": [
                {
                    "count": count,
                    "share": f"{count / totals[number] if totals[number] else 0:.3f}",
                    "right": number == column,
                }
                for column, count in enumerate(counts[number])
            ],
        }
        for number, name in enumerate(classes)
    ]
    mistakes = sorted(
        (
            (counts[i][j], i, j)
            for i in range(len(classes))
            for j in range(len(classes))
            if i != j and counts[i][j]
        ),
        key=lambda item: (-item[0], *item[1:]),
    )
    return {
        "heads": heads,
        "rows": rows,
        "matrix": len(classes) <= MATRIX_CLASSES,
        "numbered": numbered,
        "precision": [
            fmt.percent(counts[k][k] / answers[k] if answers[k] else None)
            for k in range(len(classes))
        ],
        "mistakes": [
            {
                "count": fmt.whole(count),
                "true": classes[i],
                "said": classes[j],
                "share": fmt.percent(count / totals[i]),
            }
            for count, i, j in mistakes[: fmt.LISTED]
        ],
        "more": max(0, len(mistakes) - fmt.LISTED),
        "list": len(classes) > 2,
        "by": "int8" if list(fmt.rows(body))[-1:] == ["tflite"] else "the last stage",
    }


def example(example: Example) -> Block:
    """One test image with what each network said of it."""
    shown = {
        name: example.answers[stage] for stage, name in ANSWERS.items() if stage in example.answers
    }
    if not shown:
        shown = dict(example.answers)
    return {
        "src": _data_uri(example.png),
        "name": example.name,
        "looks": [
            {"who": ANSWERS.get(stage, stage), "src": _data_uri(png)}
            for stage, png in example.looks.items()
        ],
        "label": example.label,
        "why": example.why,
        "answers": [
            {
                "who": who,
                "said": said,
                "chance": fmt.percent(chance, 0),
                "right": said == example.label,
            }
            for who, (said, chance) in shown.items()
        ],
    }


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
