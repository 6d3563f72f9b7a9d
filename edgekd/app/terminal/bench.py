"""Measurements on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgekd.app.terminal.text import Say, safe
from edgekd.device.bench_history import Change
from edgekd.reporting.sections.text import number


def show_bench(say: Say, run: Mapping[str, Any]) -> None:
    """One measurement. An emulated one has no times to show."""
    latency, memory, golden = run["latency_ms"], run["memory_kib"], run.get("golden")
    threads, cpu = run["runtime"]["threads"], str(run["host"].get("cpu") or "cpu")
    where = f"{safe(run['profile'])} ({safe(run['transport'])}, {safe(cpu)}, {threads} threads)"
    if run["emulated"]:
        say(f"[bold]bench[/] {where}: emulated, so its times are void")
    else:
        say(
            f"[bold]bench[/] {where}: p50 {number(latency['p50'], 2)} ms, p95 {number(latency['p95'], 2)} "
            f"ms, peak {number(memory['peak'] / 1024 if memory['peak'] else None, 0)} MiB"
        )
        if latency["p50"] is None:
            say(f"      mean {number(latency['mean'], 2)} ms; this tool gave no median")
    if run.get("soak"):
        say(
            f"      soak of {run['soak']['minutes']:g} min: {safe(run['soak']['verdict'])} "
            f"({safe(run['soak']['reason'])})"
        )
    if golden:
        say(
            f"      golden set: {golden['images']} images, answers agree on "
            f"{golden['argmax_agreement']:.1%}, largest difference {golden['max_abs_lsb']} LSB"
        )
    for warning in run.get("warnings", []):
        say(f"      [yellow]note[/] {safe(warning)}")


def show_changes(say: Say, changes: Sequence[Change]) -> None:
    """Runs against the runs before them at the same place; what is more than noise stands out."""
    for change in changes:
        mark = "[bold yellow]changed[/]" if change.real else "[dim]steady[/]"
        say(f"      {mark} {safe(str(change))}")
