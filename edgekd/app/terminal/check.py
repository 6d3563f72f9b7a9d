"""The answer of `edgekd check` on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import rich.box
import rich.table

from edgekd.app.terminal.text import Lines, Say, safe
from edgekd.assessment.check_record import (
    CompilerReport,
    DeviceCheck,
    LoadBlock,
    LowRankBlock,
    MappedBlock,
    Memory,
    OpRow,
    Origin,
    OtherSize,
    Prediction,
    percent,
)
from edgekd.assessment.compiler_answer import rows_text
from edgekd.assessment.model_placement import NOT_LOADED
from edgekd.core.records import present

# A line of the answer: what it is about ("" for what goes on), and the text with its markup.
type Line = tuple[str, str]
PAIRS = 5  # low-rank pairs that are shown


def show_check(say: Say, check: DeviceCheck) -> None:
    """Print what a device makes of a model."""
    verdict = "[green]passed[/]" if check.passed else "[red]FAILED[/]"
    say(f"[bold]{safe(check.model)}[/] on [bold]{safe(check.profile)}[/]: {verdict}")
    say(Lines(list(_lines(check))))
    if others := present(check.others):
        say(_others(others))


def _others(rows: Sequence[OtherSize]) -> rich.table.Table:
    """The student at other sizes and widths, a line for each."""
    pruned, partly = any(row.pruned for row in rows), any(row.mapped < row.ops for row in rows)
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("input", justify="right")
    if pruned:
        table.add_column("pruned", justify="right")
    for name in ("ms", "low", "high", "arena KiB", "file KiB"):
        table.add_column(name, justify="right")
    if partly:
        table.add_column("ops map", justify="right")
    table.add_column("")
    for row in rows:
        found = row.predicted
        times = (found.latency_ms, found.low_ms, found.high_ms)
        table.add_row(
            f"{row.input_px} px",
            *([f"{row.pruned:.3g}"] if pruned else []),
            *("-" if time is None else f"{time:.3g}" for time in times),
            f"{row.arena_bytes / 1024:.0f}",
            f"{row.file_bytes / 1024:.0f}",
            *([f"{row.mapped} of {row.ops}"] if partly else []),
            "" if row.passed else "[red]FAILED[/]",
        )
    return table


def _lines(check: DeviceCheck) -> Iterator[Line]:
    compiler, rules = present(check.compiler), present(check.rules)
    loading = present(check.loading)
    refused = compiler is not None and not compiler.succeeded
    if loading is not None and not refused:
        yield from _loading(loading)
    if compiler is not None and refused:
        yield "compiler", f"[red]{safe(_program(compiler))} did not compile this model[/]"
        yield from (("", safe(error)) for error in compiler.errors)
    yield from _mapped(check.mapped, compiler)
    if rules is not None:
        yield "rules", f"EdgeKD's own rules: {rules.mapped} of {rules.ops} map"
    yield from _memory(check.memory, check.mapped.origin)
    yield from _latency("latency", check.predicted)
    for row in present(check.formats) or []:
        yield from _latency(row.format, row.predicted)
    if cut := present(check.pruned):
        yield "pruned", safe(str(cut))
    if pairs := present(check.low_rank):
        yield from _pairs(pairs)
    for edit in check.edits:
        yield "edit", f"{safe(edit.edit)}: {safe(edit.why)} [dim]({safe(edit.how)})[/]"
    for note in check.notes:
        yield "[yellow]note[/]", safe(note)


def _loading(loading: LoadBlock) -> Iterator[Line]:
    """Which runtimes load the file."""
    if loading.words:
        yield "loads", "[red]not in the interpreter of this machine[/]"
        return
    known = ", ".join(f"{name} {version}" for name, version in loading.oldest.items() if version)
    since = f"; oldest that can: {known}" if known else "; no runtime that EdgeKD knows can"
    if loading.loads:
        yield "loads", safe(f"in {loading.by}{since if known else ''}")
    else:
        yield "loads", f"[red]not in {safe(loading.by)}[/]{safe(since)}"


def _program(report: CompilerReport) -> str:
    return " ".join(filter(None, [present(report.program) or "edgetpu_compiler", report.version]))


def _mapped(mapped: MappedBlock, compiler: CompilerReport | None) -> Iterator[Line]:
    share = mapped.share_of_macs
    of_macs = "" if share is None else f", {percent(share)} of the multiply-accumulates"
    by_table = compiler is not None and mapped.origin is Origin.COMPILER
    source = _program(compiler) if compiler is not None and by_table else mapped.origin
    parts = f"{mapped.partitions} part{'' if mapped.partitions == 1 else 's'}"
    count = f"{mapped.mapped} of {mapped.ops} map on {safe(mapped.consumer)}{of_macs}"
    yield "ops", f"{count} ({safe(source)}; {parts})"
    if compiler is not None and by_table:
        yield from (("", safe(row)) for row in rows_text(compiler))
    else:
        yield from _fallback(mapped.fallback)
    for island in mapped.float_islands:
        yield "", f"[yellow]float[/] ops {island.first} to {island.last}"


def _fallback(fallback: Sequence[OpRow]) -> Iterator[Line]:
    """The operators that do not map, by name and status."""
    shown = [row for row in fallback if row.status != NOT_LOADED]
    for (op, status), reasons in _grouped(shown).items():
        why = f" ({safe(reasons[0])})" if reasons[0] else ""
        yield "", f"{len(reasons)} {safe(op)}: {safe(status)}{why}"


def _micro_memory(memory: Memory) -> Iterator[Line]:
    """The arena and the flash of a microcontroller, each beside its limit."""
    planned, buffers, stays, arena_limit, flash_limit = (
        (present(size) or 0) / 1024
        for size in (
            memory.micro_planned_bytes,
            memory.micro_kernel_buffer_bytes,
            memory.micro_persistent_bytes,
            memory.micro_arena_limit_bytes,
            memory.micro_flash_limit_bytes,
        )
    )
    yield "arena", f"{memory.arena_bytes / 1024:.0f} KiB of at most {arena_limit:.0f} KiB of RAM"
    own = f", of which a kernel's buffers take up to {buffers:.0f}" if buffers >= 1 else ""
    yield "", f"{planned:.0f} KiB for the tensors of one inference{own}; {stays:.0f} KiB stay"
    model = present(memory.file_bytes) or memory.parameter_bytes
    yield "flash", f"model {model / 1024:.0f} KiB of at most {flash_limit:.0f} KiB"


def _memory(memory: Memory, origin: Origin) -> Iterator[Line]:
    if present(memory.micro_persistent_bytes) is not None:
        yield from _micro_memory(memory)
        return
    said = present(memory.interpreter_arena_bytes)
    taken = "" if said is None else f" (the interpreter took {said / 1024:.0f})"
    arena = f"arena {memory.arena_bytes / 1024:.0f} KiB{taken}"
    yield "memory", f"{arena}, parameters {memory.parameter_bytes / 1024:.0f} KiB"
    streaming = present(memory.streaming_ms)
    if streaming is None:
        return
    links = ", ".join(f"{link} {cost:.2g} ms" for link, cost in streaming.items())
    cached, budget, streamed = (
        (present(size) or 0) / 1024
        for size in (
            memory.edgetpu_cached_bytes,
            memory.edgetpu_budget_bytes,
            memory.edgetpu_streamed_bytes,
        )
    )
    source = "as compiled" if origin is Origin.COMPILER else "predicted"
    used = f"Edge TPU: {cached:.0f} KiB cached of {budget:.0f}"
    yield "", f"{used}, {streamed:.0f} KiB streamed each time ({links}); {source}"


def _latency(what: str, predicted: Prediction) -> Iterator[Line]:
    if predicted.latency_ms is None:
        yield what, f"not predicted: {safe(predicted.basis)}"
    else:
        bounds = f"{predicted.low_ms:.3g} to {predicted.high_ms:.3g}"
        yield what, f"{predicted.latency_ms:.3g} ms, {bounds}; {safe(predicted.basis)}"


def _pairs(block: LowRankBlock) -> Iterator[Line]:
    """The low-rank pairs, those that save most first, and how many layers are none."""
    yield "low rank", safe(str(block))
    for row in sorted(block.pairs, key=lambda row: row.ms - row.ms_before)[:PAIRS]:
        shape = f"{row.inputs} -> {row.rank} -> {row.outputs}"
        yield "", f"{safe(row.layer)} {shape}, {row.ms_before:.3g} -> {row.ms:.3g} ms"
    if len(block.pairs) > PAIRS:
        yield "", f"and {len(block.pairs) - PAIRS} more (--json has all)"
    yield from (("", f"whole: {count} {safe(why)}") for why, count in block.kept_whole.items())
    yield from (("", safe(note)) for note in block.notes)


def _grouped(fallback: Sequence[OpRow]) -> dict[tuple[str, str], list[str]]:
    """{(operator, status): reasons}, in the order of the first of each."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in fallback:
        found.setdefault((row.op, row.status), []).append(row.why)
    return found
