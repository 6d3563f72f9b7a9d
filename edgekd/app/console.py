"""The terminal: progress bars on stderr while a person watches, tables on stdout."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import rich.box
import rich.console
import rich.markup
import rich.progress
import rich.table

from edgekd.app.progress import Advanced, Note, StageFinished, StageStarted, Update
from edgekd.device.bench_history import Change
from edgekd.reporting import comparison
from edgekd.reporting.report_body import number

WORST_OPS = 8  # rows of a sensitivity run shown in the terminal; report.json holds all
SLOWEST_OPS = 10  # that --why-slow shows; --json has all
MARKS = {
    "first": "",
    "within": "[green]within[/]",
    "unclear": "[yellow]unclear[/]",
    "beyond": "[red]beyond[/]",
}
DIGEST_LETTERS = 12  # of a digest shown to a person: enough to tell two apart


class Console:
    """Progress and tables. Without a terminal on stderr the bars stay away and each stage prints one line."""

    def __init__(self) -> None:
        self._err = rich.console.Console(stderr=True, highlight=False)
        self._out = rich.console.Console(
            highlight=False, width=None if sys.stdout.isatty() else 100
        )
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("  {task.description:<18}"),
            rich.progress.BarColumn(bar_width=30),
            rich.progress.TaskProgressColumn(),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn("{task.fields[figures]}"),
            console=self._err,
            transient=True,
            disable=not self._err.is_terminal,
        )
        self._row: rich.progress.TaskID | None = None
        self._task = ""  # of the row

    def __enter__(self) -> Console:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def __call__(self, update: Update, /) -> None:
        """Show an update (the Console is itself a Progress)."""
        match update:
            case Advanced():
                self._advance(update)
            case StageStarted():
                if self._bar.disable:
                    self._err.print(f"  {update}")
            case StageFinished():
                self._drop_bar()
                how = "cached" if update.cached else f"{update.seconds:.1f} s"
                self._err.print(
                    f"[green]✓[/] {update.stage:<10} {how:>9}  "
                    f"[dim]{update.digest[:DIGEST_LETTERS]}[/]"
                )
            case Note():
                text = "".join(c if c.isprintable() or c == "\n" else "?" for c in update.text)
                self._err.print(text, markup=False, soft_wrap=True)

    def _advance(self, update: Advanced) -> None:
        """Move the bar; a new task starts a new one."""
        if self._bar.disable:
            return
        figures = " ".join(f"{name} {value:.4g}" for name, value in update.figures.items())
        if update.task != self._task:
            self._drop_bar()
            self._row = self._bar.add_task(update.task, total=update.total, figures=figures)
            self._task = update.task
        if self._row is not None:
            self._bar.update(self._row, completed=update.done, total=update.total, figures=figures)

    def _drop_bar(self) -> None:
        if self._row is not None:
            self._bar.remove_task(self._row)
        self._row, self._task = None, ""

    def show_report(self, body: Mapping[str, Any], out: Path, until: str | None) -> None:
        """One build: what each stage cost, what the file is, whether it is certified, where everything lies."""
        say = self._out.print
        data = body["data"]
        mark = " (synthetic)" if data.get("synthetic") else ""
        kind = "labels" if data.get("labels") == "many" else "classes"
        more = f", {data['unlabelled']['images']} without a label" if data.get("unlabelled") else ""
        say(
            f"\n[bold]{_safe(data['name'])}[/]{mark}: {len(data['classes'])} {kind}, {data['train']} train, "
            f"{data['val']} val, {data['test']} test{more}; for [bold]{_safe(body['profile'])}[/], seed {body['seed']}"
        )
        if "accuracy" in body:
            say(_waterfall(body["accuracy"]))
            _verdict(say, body["accuracy"].get("verdict"))
        if "why" in body:
            self.show_why(body["why"])
        if "artifact" in body:
            _artifact(say, body)
        if "certificate" in body:
            _certificate(say, body["certificate"])
        for run in body.get("bench", []):
            self.show_bench(run)
        if until is not None:
            say(f"stopped after {until}, as asked")
        say(f"report: {_safe(str(out / 'report.html'))}")

    def show_why(self, why: Mapping[str, Any]) -> None:
        """A sensitivity run: the ops that cost most, and the remedies that helped most."""
        say = self._out.print
        whole = why["whole"]
        say(
            f"[bold]why[/] on {why['images']} {_safe(why['split'])} images: int8 lies {whole['kl']:.4f} nats from the same "
            f"weights in float, top-1 {whole['top1'] * 100:+.1f} points. {_safe(why['reading'])}"
        )
        table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
        for name in ("op", "tensor", "KL alone", "95 %", "top-1", "KL it gives back", "rank"):
            table.add_column(
                name, justify="left" if name in ("op", "tensor") else "right", overflow="fold"
            )
        for row in why["ops"][:WORST_OPS]:
            table.add_row(
                _safe(row["op"]),
                _safe(row["name"]),
                f"{row['alone']['kl']:.5f}",
                "–".join(f"{x:.5f}" for x in row["alone"]["kl_ci95"]),
                f"{row['alone']['top1'] * 100:+.1f}",
                f"{row['without']['kl_gained']:+.5f}",
                f"{row['without']['rank']}",
            )
        say(table)
        for number_, remedy in enumerate(why["remedies"], 1):
            sure = "" if remedy["sure"] else ", which may be chance"
            bound = ", at most" if remedy["bound"] else ""
            say(
                f"  {number_}. {_safe(remedy['text'])} From {remedy['kl_before']:.3g} to {remedy['kl_after']:.3g} nats "
                f"from the float student{bound}{sure}.\n     [dim]{_safe(remedy['next_step'])}[/]"
            )
        if not why["remedies"]:
            say("  no remedy that was tried brings int8 closer to float")

    def show_slow(self, slow: Mapping[str, Any]) -> None:
        """Where the time of a measured model goes: by kind of op, then the slowest ops."""
        say = self._out.print
        say(
            f"[bold]{_safe(slow['model'])}[/] on [bold]{_safe(slow['profile'])}[/]: p50 {slow['whole_ms']:.3g} ms, its ops "
            f"{slow['sum_ms']:.3g} ms, {_safe(slow['basis'])}"
        )
        table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
        for name in ("op", "#", "ms", "share", "output"):
            table.add_column(
                name, justify="left" if name in ("op", "output") else "right", overflow="fold"
            )
        for kind, spent in slow["by_op"].items():
            count = sum(row["op"] == kind for row in slow["ops"])
            table.add_row(
                f"all {count} {_safe(kind)}",
                "",
                f"{spent:.3g}",
                f"{spent / slow['sum_ms']:.1%}",
                "",
            )
        table.add_section()
        for row in slow["ops"][:SLOWEST_OPS]:
            table.add_row(
                _safe(row["op"]),
                str(row["index"]),
                f"{row['ms']:.3g}",
                f"{row['share']:.1%}",
                _safe(f"{'x'.join(map(str, row['shape']))} {row['tensor']}"),
            )
        say(table)

    def show_bench(self, run: Mapping[str, Any]) -> None:
        """One measurement. An emulated one has no times to show."""
        latency, memory, golden = run["latency_ms"], run["memory_kib"], run.get("golden")
        threads, cpu = run["runtime"]["threads"], str(run["host"].get("cpu") or "cpu")
        where = (
            f"{_safe(run['profile'])} ({_safe(run['transport'])}, {_safe(cpu)}, {threads} threads)"
        )
        if run["emulated"]:
            self._out.print(f"[bold]bench[/] {where}: emulated, so its times are void")
        else:
            self._out.print(
                f"[bold]bench[/] {where}: p50 {number(latency['p50'], 2)} ms, p95 {number(latency['p95'], 2)} "
                f"ms, peak {number(memory['peak'] / 1024 if memory['peak'] else None, 0)} MiB"
            )
            if latency["p50"] is None:
                self._out.print(
                    f"      mean {number(latency['mean'], 2)} ms; this tool gave no median"
                )
        if run.get("soak"):
            self._out.print(
                f"      soak of {run['soak']['minutes']:g} min: {_safe(run['soak']['verdict'])} "
                f"({_safe(run['soak']['reason'])})"
            )
        if golden:
            self._out.print(
                f"      golden set: {golden['images']} images, answers agree on "
                f"{golden['argmax_agreement']:.1%}, largest difference {golden['max_abs_lsb']} LSB"
            )
        for warning in run.get("warnings", []):
            self._out.print(f"      [yellow]note[/] {_safe(warning)}")

    def show_check(self, body: Mapping[str, Any]) -> None:
        """What a device will make of a model."""
        say, mapped, memory, predicted = (
            self._out.print,
            body["mapped"],
            body["memory"],
            body["predicted"],
        )
        share = (
            ""
            if mapped["share_of_macs"] is None
            else f", {mapped['share_of_macs']:.0%} of the multiply-accumulates"
        )
        say(
            f"[bold]{_safe(body['model'])}[/] on [bold]{_safe(body['profile'])}[/]: "
            f"{'[green]passed[/]' if body['passed'] else '[red]FAILED[/]'}"
        )
        say(
            f"  ops      {mapped['mapped']} of {mapped['ops']} map on {_safe(mapped['consumer'])}{share} "
            f"({mapped['origin']}; {mapped['partitions']} parts)"
        )
        for (op, status), whys in _grouped(mapped["fallback"]).items():
            say(
                f"           {len(whys)} {_safe(op)}: {_safe(status)}"
                + (f" ({_safe(whys[0])})" if whys[0] else "")
            )
        for island in mapped["float_islands"]:
            say(f"           [yellow]float[/] ops {island['first']} to {island['last']}")
        said = memory["interpreter_arena_bytes"]
        say(
            f"  memory   arena {memory['arena_bytes'] / 1024:.0f} KiB"
            + (f" (the interpreter took {said / 1024:.0f})" if said is not None else "")
            + f", parameters {memory['parameter_bytes'] / 1024:.0f} KiB"
        )
        if "streaming_ms" in memory:
            links = ", ".join(
                f"{link} {cost:.2g} ms" for link, cost in memory["streaming_ms"].items()
            )
            say(
                f"           Edge TPU: {memory['edgetpu_cached_bytes'] / 1024:.0f} KiB cached of "
                f"{memory['edgetpu_budget_bytes'] / 1024:.0f}, {memory['edgetpu_streamed_bytes'] / 1024:.0f} KiB streamed "
                f"each time ({links}); predicted"
            )
        if predicted["latency_ms"] is None:
            say(f"  latency  not predicted: {_safe(predicted['basis'])}")
        else:
            say(
                f"  latency  {predicted['latency_ms']:.3g} ms, {predicted['low_ms']:.3g} to {predicted['high_ms']:.3g}; "
                f"{_safe(predicted['basis'])}"
            )
        for edit in body["edits"]:
            say(
                f"  edit     {_safe(edit['edit'])}: {_safe(edit['why'])} [dim]({_safe(edit['how'])})[/]"
            )
        for note in body["notes"]:
            say(f"  [yellow]note[/]     {_safe(note)}")

    def show_changes(self, changes: Sequence[Change]) -> None:
        """Runs against the runs before them at the same place; what is more than noise stands out."""
        for change in changes:
            mark = "[bold yellow]changed[/]" if change.real else "[dim]steady[/]"
            self._out.print(f"      {mark} {_safe(str(change))}")

    def show_comparison(self, body: Mapping[str, Any]) -> None:
        """Several builds, a column each (schema edgekd.comparison/1)."""
        say, letters = self._out.print, comparison.LETTERS
        for letter, build in zip(letters, body["builds"], strict=False):
            taught = (
                f"taught by {_safe(build['teacher'])}" if build["teacher"] else "without a teacher"
            )
            say(
                f"[bold]{letter}[/]  [bold]{_safe(build['name'])}[/]: {_safe(build['student'] or 'no student yet')} for "
                f"{_safe(build['profile'])}, {taught}, on {_safe(build['data'])}, seed {build['seed']}"
            )
        if not body["same_data"]:
            say("[yellow]note[/] not the same data: the accuracies answer different questions")
        rows = [
            [
                row["name"],
                *(
                    f"[bold]{text}[/]" if top else text
                    for text, top in zip(
                        [_safe(comparison.told(value, row["unit"])) for value in row["values"]],
                        comparison.best(row),
                        strict=True,
                    )
                ),
            ]
            for row in body["figures"]
        ]
        say(_beside("figure", letters[: len(body["builds"])], rows))
        for letter, change in zip(letters, body["changes"], strict=False):
            top1 = (change or {}).get("top1")
            if top1:
                low, high = top1["ci95"]
                chance = " (may be chance)" if low <= 0 <= high else ""
                say(
                    f"{letter} against A: top-1 {top1['value'] * 100:+.1f} points, 95 % {low * 100:+.1f} to {high * 100:+.1f}"
                    f"{chance}"
                )
        stages = [
            [
                row["stage"],
                *("–" if found is None else f"{found['top1']:.1%}" for found in row["rows"]),
            ]
            for row in body["waterfall"]
        ]
        say(_beside("top-1 after", letters[: len(body["builds"])], stages))
        settings = [
            [_safe(row["key"]), *(_safe(comparison.setting(value)) for value in row["values"])]
            for row in body["settings"]
        ]
        say(
            _beside("settings that differ", letters[: len(body["builds"])], settings)
            if settings
            else "no setting differs"
        )


def _beside(head: str, letters: str, rows: Sequence[Sequence[str]]) -> rich.table.Table:
    """A table with a column a build."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    table.add_column(head, overflow="fold")
    for letter in letters:
        table.add_column(letter, justify="right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _grouped(fallback: list[Mapping[str, Any]]) -> dict[tuple[str, str], list[str]]:
    """{(op, status): reasons}, in order of the first of each."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in fallback:
        found.setdefault((row["op"], row["status"]), []).append(row["why"])
    return found


def _safe(text: str) -> str:
    """A user's text without markup or control characters."""
    return rich.markup.escape("".join(c if c.isprintable() else "?" for c in text))


def _waterfall(accuracy: Mapping[str, Any]) -> rich.table.Table:
    table = rich.table.Table(
        box=rich.box.SIMPLE_HEAD,
        title=f"accuracy on {accuracy['n']} test images",
        title_justify="left",
    )
    told = "top-1" if accuracy["metric"] == "top1" else "labels right"
    for name in (
        "stage",
        told,
        "95 %",
        "AUC",
        "change",
        "95 % ",
        "agrees",
        "lost",
        "won",
        "budget",
    ):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for row in accuracy["waterfall"]:
        first, change = row["agree_with_previous"] is None, row.get("change")
        table.add_row(
            row["stage"],
            f"{row['top1']:.1%}",
            "–".join(f"{x * 100:.1f}" for x in row["top1_ci95"]),
            number(row["auc"], 4),
            f"{change['top1'] * 100:+.1f}" if change else "",
            " to ".join(f"{x * 100:+.1f}" for x in change["top1_ci95"]) if change else "",
            "" if first else f"{row['agree_with_previous']:.1%}",
            "" if first else str(row["flips_bad"]),
            "" if first else str(row["flips_good"]),
            MARKS.get(row.get("state", ""), ""),
        )
    row = accuracy.get("device")
    if row:
        table.add_row(
            f"device, {row['n']} images",
            f"{row['top1']:.1%}",
            "–".join(f"{x * 100:.1f}" for x in row["top1_ci95"]),
            "–",
            "",
            "",
            f"{row['agree_with_previous']:.1%}",
            "",
            "",
            MARKS[row["state"]],
        )
    return table


def _verdict(say: Any, verdict: Mapping[str, Any] | None) -> None:
    """Which stage lost accuracy; nothing for a report of an edgekd that did not judge."""
    if not verdict:
        return
    colour = {"good": "green", "unclear": "yellow", "bad": "red"}[verdict["state"]]
    say(f"[{colour}]verdict[/] {_safe(verdict['text'])}")
    for note in verdict["notes"]:
        say(f"        also: {_safe(note)}")
    if verdict.get("next_step"):
        say(f"        next: {_safe(verdict['next_step'])}")


def _artifact(say: Any, body: Mapping[str, Any]) -> None:
    artifact, device = body["artifact"], body["device"]
    ops = ", ".join(
        f"{count} {name}" for name, count in sorted(artifact["ops"].items(), key=lambda x: -x[1])
    )
    say(
        f"[bold]{artifact['path']}[/] {artifact['bytes'] / 1024:.0f} KiB, "
        f"{'full integer' if artifact['full_integer'] else '[red]not full integer[/]'}: {ops}"
    )
    mapped = device["mapped"]
    say(f"      {mapped['mapped']} of {mapped['ops']} ops map on {_safe(body['profile'])}")


def _certificate(say: Any, certificate: Mapping[str, Any]) -> None:
    ranges, weights, op, end = (
        certificate[k] for k in ("ranges", "weights", "op_local", "end_to_end")
    )
    say(
        f"[bold]certificate[/] {'[green]passed[/]' if certificate['passed'] else '[red]FAILED[/]'}: "
        f"{ranges['identical']} of {ranges['tensors']} ranges and {weights['identical_codes']} of "
        f"{weights['total_codes']} weight codes identical; op-local at most {op['max_lsb']} LSB, "
        f"{op['share_exact']:.2%} exact; answers agree on {end['argmax_agreement']:.1%} of {end['images']} images"
    )
