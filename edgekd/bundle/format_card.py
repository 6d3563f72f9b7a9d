"""The model card's section on files in number formats other than int8."""

from __future__ import annotations

from collections.abc import Sequence

from edgekd.evaluation.accuracy_record import FormatRow

CAVEAT = (
    "Only the int8 network is certified, and temperature and thresholds were fitted on its answers "
    "alone. The files in `formats/` hold the float student without labels or metadata. They take "
    "images fitted as above, with their channels in the last axis and normalised by the `mean` and "
    "`std` that `deployment.json` gives for each file; an int16 input takes `scale` and "
    "`zero_point` after that. `golden/formats.json` holds their answers to golden images."
)


def lines(rows: Sequence[FormatRow]) -> list[str]:
    """The section: a row for each file, int8 first. [] where there is nothing but int8."""
    if not rows:
        return []
    return [
        "## Number formats",
        "",
        "| file | top-1 | 95 % | answers as the float student | images | KiB |",
        "|---|---|---|---|---|---|",
        *map(_row, rows),
        "",
        CAVEAT,
    ]


def _row(row: FormatRow) -> str:
    low, high = row.top1_ci95
    return (
        f"| `{row.path}` | {row.top1:.1%} | {low:.1%}–{high:.1%} | {row.agree_with_float:.1%} | "
        f"{row.n} | {row.bytes / 1024:,.0f} |"
    )
