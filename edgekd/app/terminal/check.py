"""The answer of `edgekd check` on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from edgekd.app.terminal.text import Say, safe
from edgekd.assessment.check_record import DeviceCheck, MappedBlock, Memory, OpRow, Prediction
from edgekd.core.records import present


def show_check(say: Say, check: DeviceCheck) -> None:
    """Print what a device makes of a model."""
    verdict = "[green]passed[/]" if check.passed else "[red]FAILED[/]"
    say(f"[bold]{safe(check.model)}[/] on [bold]{safe(check.profile)}[/]: {verdict}")
    _mapped(say, check.mapped)
    _memory(say, check.memory)
    _latency(say, check.predicted)
    for edit in check.edits:
        say(f"  edit     {safe(edit.edit)}: {safe(edit.why)} [dim]({safe(edit.how)})[/]")
    for note in check.notes:
        say(f"  [yellow]note[/]     {safe(note)}")


def _mapped(say: Say, mapped: MappedBlock) -> None:
    share = mapped.share_of_macs
    of_macs = "" if share is None else f", {share:.0%} of the multiply-accumulates"
    say(
        f"  ops      {mapped.mapped} of {mapped.ops} map on {safe(mapped.consumer)}{of_macs} "
        f"({mapped.origin}; {mapped.partitions} parts)"
    )
    for (op, status), reasons in _grouped(mapped.fallback).items():
        why = f" ({safe(reasons[0])})" if reasons[0] else ""
        say(f"           {len(reasons)} {safe(op)}: {safe(status)}{why}")
    for island in mapped.float_islands:
        say(f"           [yellow]float[/] ops {island.first} to {island.last}")


def _memory(say: Say, memory: Memory) -> None:
    said = present(memory.interpreter_arena_bytes)
    taken = "" if said is None else f" (the interpreter took {said / 1024:.0f})"
    say(
        f"  memory   arena {memory.arena_bytes / 1024:.0f} KiB{taken}, "
        f"parameters {memory.parameter_bytes / 1024:.0f} KiB"
    )
    streaming = present(memory.streaming_ms)
    if streaming is not None:
        links = ", ".join(f"{link} {cost:.2g} ms" for link, cost in streaming.items())
        cached, budget, streamed = (
            (present(size) or 0) / 1024
            for size in (
                memory.edgetpu_cached_bytes,
                memory.edgetpu_budget_bytes,
                memory.edgetpu_streamed_bytes,
            )
        )
        say(
            f"           Edge TPU: {cached:.0f} KiB cached of {budget:.0f}, {streamed:.0f} KiB "
            f"streamed each time ({links}); predicted"
        )


def _latency(say: Say, predicted: Prediction) -> None:
    if predicted.latency_ms is None:
        say(f"  latency  not predicted: {safe(predicted.basis)}")
    else:
        say(
            f"  latency  {predicted.latency_ms:.3g} ms, {predicted.low_ms:.3g} to "
            f"{predicted.high_ms:.3g}; {safe(predicted.basis)}"
        )


def _grouped(fallback: Sequence[OpRow]) -> dict[tuple[str, str], list[str]]:
    """{(operator, status): reasons}, in the order of the first of each."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in fallback:
        found.setdefault((row.op, row.status), []).append(row.why)
    return found
