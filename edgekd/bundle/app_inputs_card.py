"""The model card's section on apps that prepare images in other ways than deployment.json."""

from __future__ import annotations

from edgekd.evaluation.accuracy_record import StageState
from edgekd.evaluation.app_inputs_record import AppInput, AppInputs


def lines(block: AppInputs) -> list[str]:
    """The section: a row for each way, and what helps where one costs too much."""
    low, high = block.top1_ci95
    told = (
        f"On {block.n} of {block.of} test images. Prepared as `deployment.json` says, the model is "
        f"right on {block.top1:.1%} ({low:.1%}–{high:.1%})."
    )
    return [
        "## In apps that prepare images in another way",
        "",
        told,
        "",
        "| the app | right | change in points | 95 % | same answer |",
        "|---|---|---|---|---|",
        *map(_row, block.rows),
        *(
            f"\n**{'; '.join(row.title for row in rows)}** costs more than "
            f"{block.max_drop * 100:g} points: {remedy}."
            for rows, remedy in block.remedies()
        ),
    ]


def _row(row: AppInput) -> str:
    low, high = row.change.top1_ci95
    mark = " (!)" if row.state is StageState.BEYOND else ""
    return (
        f"| {row.title} | {row.top1:.1%} | {row.change.top1 * 100:+.1f}{mark} | "
        f"{low * 100:+.1f} to {high * 100:+.1f} | {row.agree:.1%} |"
    )
