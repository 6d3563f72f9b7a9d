"""Why a build loses accuracy in int8."""

from __future__ import annotations

import rich.box
import rich.table

from edgekd.app.terminal.text import Say, safe
from edgekd.quantization.sensitivity_record import Remedy, SensitivityReport

WORST_OPS = 8  # rows of a sensitivity run; report.json holds all


def show_why(say: Say, why: SensitivityReport) -> None:
    """A sensitivity run: the operators that cost most, and the remedies that helped most."""
    say(
        f"[bold]why[/] on {why.images} {safe(why.split)} images: int8 lies {why.whole.kl:.4f} nats "
        f"from the same weights in float, top-1 {why.whole.top1 * 100:+.1f} points. "
        f"{safe(why.reading)}"
    )
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    for name in ("op", "tensor", "KL alone", "95 %", "top-1", "KL it gives back", "rank"):
        table.add_column(
            name, justify="left" if name in ("op", "tensor") else "right", overflow="fold"
        )
    for row in why.ops[:WORST_OPS]:
        table.add_row(
            safe(row.op),
            safe(row.name),
            f"{row.alone.kl:.5f}",
            "–".join(f"{x:.5f}" for x in row.alone.kl_ci95),
            f"{row.alone.top1 * 100:+.1f}",
            f"{row.without.kl_gained:+.5f}",
            f"{row.without.rank}",
        )
    say(table)
    for number, remedy in enumerate(why.remedies, 1):
        _show_remedy(say, number, remedy)
    if not why.remedies:
        say("  no remedy that was tried brings int8 closer to float")


def _show_remedy(say: Say, number: int, remedy: Remedy) -> None:
    sure = "" if remedy.sure else ", which may be chance"
    bound = ", at most" if remedy.bound else ""
    say(
        f"  {number}. {safe(remedy.text)} From {remedy.kl_before:.3g} to {remedy.kl_after:.3g} "
        f"nats from the float student{bound}{sure}.\n     [dim]{safe(remedy.next_step)}[/]"
    )
