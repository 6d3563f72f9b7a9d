"""On the terminal: the ways to prepare images that cost the int8 file too much."""

from __future__ import annotations

from edgekd.app.terminal.text import Say, safe
from edgekd.evaluation.app_inputs_record import AppInputs


def show_app_inputs(say: Say, block: AppInputs) -> None:
    """A line with the range of changes, and one for each way that costs too much."""
    changes = [row.change.top1 * 100 for row in block.rows]
    if not changes:
        return
    say(
        f"[bold]in other apps[/] {len(changes)} ways to prepare {block.n} test images change top-1 "
        f"by {min(changes):+.1f} to {max(changes):+.1f} points"
    )
    for rows, remedy in block.remedies():
        for row in rows:
            say(f"[yellow]costs {-row.change.top1 * 100:.1f} points[/]: {safe(row.title)}")
        say(f"        next: {safe(remedy)}")
