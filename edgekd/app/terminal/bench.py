"""Measurements on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from edgekd.app.terminal.text import Say, safe
from edgekd.core.records import present
from edgekd.device.bench_history import Change
from edgekd.device.bench_record import Bench, GoldenAnswers
from edgekd.reporting.text import number


def show_bench(say: Say, run: Bench, model: str | None = None) -> None:
    """Print one measurement. The times of an emulated one are void, so they are not printed.

    `model`: its name, where several models were measured.
    """
    if model is not None:
        say(f"[bold]{safe(model)}[/]")
    latency, peak = run.latency_ms, run.memory_kib.peak
    cpu, threads = safe(run.host.cpu or "cpu"), run.runtime.threads
    where = f"{safe(run.profile)} ({safe(run.transport)}, {cpu}, {threads} threads)"
    micro = present(run.micro)
    if run.emulated:
        say(f"[bold]bench[/] {where}: emulated, so its times are void")
    elif micro is not None:
        say(f"[bold]bench[/] {where}: no microcontroller, so its times are void")
    else:
        mebibytes = number(peak / 1024 if peak else None, 0)
        say(
            f"[bold]bench[/] {where}: p50 {number(latency.p50, 2)} ms, "
            f"p95 {number(latency.p95, 2)} ms, peak {mebibytes} MiB"
        )
        grown = present(run.memory_kib.run_growth)
        if peak is None and grown is not None:
            say(f"      the process grew by {number(grown / 1024, 0)} MiB; no peak was told")
        if latency.p50 is None:
            say(f"      mean {number(latency.mean, 2)} ms; this tool gave no median")
    if run.soak is not None:
        soak = run.soak
        say(f"      soak of {soak.minutes:g} min: {safe(soak.verdict)} ({safe(soak.reason)})")
    if run.golden is not None:
        golden = run.golden
        say(f"      golden set: {_agreement(golden)}")
        for row in present(golden.further) or []:
            if row.max_abs_lsb is not None:
                off = f"largest difference {row.max_abs_lsb} LSB"
                say(f"      output {safe(row.name)}: {row.images} images, {off}")
    if micro is not None:
        say(
            f"      TensorFlow Lite Micro {safe(micro.version)} here: arena "
            f"{micro.arena_bytes / 1024:.0f} KiB with 64-bit pointers"
            + (f"; golden set: {_agreement(micro.golden)}" if micro.golden else "")
        )
    for warning in run.warnings:
        say(f"      [yellow]note[/] {safe(warning)}")


def _agreement(golden: GoldenAnswers) -> str:
    return (
        f"{golden.images} images, answers agree on {golden.argmax_agreement:.1%}"
        f"{_difference(golden)}"
    )


def _difference(golden: GoldenAnswers) -> str:
    """The largest difference from the stored codes; "" for outputs that are no 8-bit codes."""
    if golden.max_abs_lsb is None:
        return ""
    return f", largest difference {golden.max_abs_lsb} LSB"


def show_changes(say: Say, changes: Sequence[Change]) -> None:
    """Print each run against the run before it on the same device; real changes stand out."""
    for change in changes:
        mark = "[bold yellow]changed[/]" if change.real else "[dim]steady[/]"
        say(f"      {mark} {safe(str(change))}")
