"""Where the time of a measured model goes, on the terminal."""

from __future__ import annotations

import rich.box
import rich.table

from edgekd.app.terminal.text import Say, safe
from edgekd.assessment.slowness import Slowness

SLOWEST_OPS = 10  # rows shown; --json gives all


def show_slow(say: Say, slow: Slowness) -> None:
    """Print the time of each kind of operator, then the slowest operators."""
    say(
        f"[bold]{safe(slow.model)}[/] on [bold]{safe(slow.profile)}[/]: p50 {slow.whole_ms:.3g} "
        f"ms, its ops {slow.sum_ms:.3g} ms, {safe(slow.basis)}"
    )
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    for name in ("op", "#", "ms", "share", "output"):
        side = "left" if name in ("op", "output") else "right"
        table.add_column(name, justify=side, overflow="fold")  # type: ignore[arg-type]
    for kind, spent in slow.by_op.items():
        count = sum(row.op == kind for row in slow.ops)
        share = f"{spent / slow.sum_ms:.1%}"
        table.add_row(f"all {count} {safe(kind)}", "", f"{spent:.3g}", share, "")
    table.add_section()
    for row in slow.ops[:SLOWEST_OPS]:
        table.add_row(
            safe(row.op),
            str(row.index),
            f"{row.ms:.3g}",
            f"{row.share:.1%}",
            safe(f"{'x'.join(map(str, row.shape))} {row.tensor}"),
        )
    say(table)
