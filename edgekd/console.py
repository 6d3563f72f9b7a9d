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

from edgekd.pipeline import Done
from edgekd.report import number
from edgekd.runs import Change

DIGEST_LETTERS = 12  # of a digest shown to a person: enough to tell two apart


class Console:
    """Progress and tables. Without a terminal on stderr the bars stay away and each stage prints one line."""

    def __init__(self) -> None:
        self._err = rich.console.Console(stderr=True, highlight=False)
        self._out = rich.console.Console(highlight=False, width=None if sys.stdout.isatty() else 100)
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("  {task.description:<18}"), rich.progress.BarColumn(bar_width=30),
            rich.progress.TaskProgressColumn(), rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn("{task.fields[figures]}"),
            console=self._err, transient=True, disable=not self._err.is_terminal,
        )
        self._task: rich.progress.TaskID | None = None
        self._what = ""

    def __enter__(self) -> Console:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
                 ) -> None:
        self._bar.stop()

    def progress(self, what: str, done: int, total: int, **figures: float) -> None:
        """Move the bar; a new `what` starts a new one."""
        if self._bar.disable:
            return
        told = " ".join(f"{name} {value:.4g}" for name, value in figures.items())
        if what != self._what:
            self._drop_bar()
            self._task, self._what = self._bar.add_task(what, total=total, figures=told), what
        if self._task is not None:
            self._bar.update(self._task, completed=done, total=total, figures=told)

    def _drop_bar(self) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task, self._what = None, ""

    def stage(self, name: str, done: Done | None) -> None:
        """Say that a stage starts (None) or is there."""
        if done is None:
            if self._bar.disable:
                self._err.print(f"  {name} ...")
            return
        self._drop_bar()
        how = "cached" if done.cached else f"{done.entry.seconds:.1f} s"
        self._err.print(f"[green]✓[/] {name:<10} {how:>9}  [dim]{done.entry.digest[:DIGEST_LETTERS]}[/]")

    def show_report(self, body: Mapping[str, Any], out: Path, until: str | None) -> None:
        """One build: what each stage cost, what the file is, whether it is certified, where everything lies."""
        say = self._out.print
        data = body["data"]
        mark = " (synthetic)" if data.get("synthetic") else ""
        say(f"\n[bold]{_safe(data['name'])}[/]{mark}: {len(data['classes'])} classes, {data['train']} train, "
            f"{data['val']} val, {data['test']} test; for [bold]{_safe(body['profile'])}[/], seed {body['seed']}")
        if "accuracy" in body:
            say(_waterfall(body["accuracy"]))
        if "artifact" in body:
            _artifact(say, body)
        if "certificate" in body:
            _certificate(say, body["certificate"])
        for run in body.get("bench", []):
            self.show_bench(run)
        if until is not None:
            say(f"stopped after {until}, as asked")
        say(f"report: {_safe(str(out / 'report.html'))}")

    def show_bench(self, run: Mapping[str, Any]) -> None:
        """One measurement. An emulated one has no times to show."""
        latency, memory, golden = run["latency_ms"], run["memory_kib"], run.get("golden")
        threads, cpu = run["runtime"]["threads"], str(run["host"].get("cpu") or "cpu")
        where = f"{_safe(run['profile'])} ({_safe(run['transport'])}, {_safe(cpu)}, {threads} threads)"
        if run["emulated"]:
            self._out.print(f"[bold]bench[/] {where}: emulated, so its times are void")
        else:
            self._out.print(f"[bold]bench[/] {where}: p50 {number(latency['p50'], 2)} ms, p95 {number(latency['p95'], 2)} "
                            f"ms, peak {number(memory['peak'] / 1024 if memory['peak'] else None, 0)} MiB")
            if latency["p50"] is None:
                self._out.print(f"      mean {number(latency['mean'], 2)} ms; this tool gave no median")
        if run.get("soak"):
            self._out.print(f"      soak of {run['soak']['minutes']:g} min: {_safe(run['soak']['verdict'])} "
                            f"({_safe(run['soak']['reason'])})")
        if golden:
            self._out.print(f"      golden set: {golden['images']} images, argmax agreement "
                            f"{golden['argmax_agreement']:.1%}, largest difference {golden['max_abs_lsb']} LSB")
        for warning in run.get("warnings", []):
            self._out.print(f"      [yellow]note[/] {_safe(warning)}")

    def show_changes(self, changes: Sequence[Change]) -> None:
        """Runs against the runs before them at the same place; what is more than noise stands out."""
        for change in changes:
            mark = "[bold yellow]changed[/]" if change.real else "[dim]steady[/]"
            self._out.print(f"      {mark} {_safe(str(change))}")

    def show_comparison(self, bodies: Mapping[str, Mapping[str, Any]]) -> None:
        """Several builds, a row each."""
        table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
        for name in ("build", "data", "teacher", "student", "top-1", "AUC", "KiB", "certificate", "p50 ms"):
            table.add_column(name, overflow="fold")
        for name, body in bodies.items():
            last = body.get("accuracy", {}).get("waterfall", [{}])[-1]
            runs = body.get("bench") or [{}]
            kib = body.get("artifact", {}).get("bytes")
            table.add_row(
                _safe(name), _safe(body["data"]["name"]), *(_safe(body["models"].get(m, {}).get("arch", "–"))
                                                            for m in ("teacher", "student")),
                number(last.get("top1")), number(last.get("auc")), number(kib / 1024 if kib else None, 0),
                {True: "passed", False: "FAILED", None: "–"}[body.get("certificate", {}).get("passed")],
                number(runs[-1].get("latency_ms", {}).get("p50"), 2),
            )
        self._out.print(table)


def _safe(text: str) -> str:
    """A user's text without markup or control characters."""
    return rich.markup.escape("".join(c if c.isprintable() else "?" for c in text))


def _waterfall(accuracy: Mapping[str, Any]) -> rich.table.Table:
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, title=f"accuracy on {accuracy['n']} test images",
                             title_justify="left")
    for name in ("stage", "top-1", "95 %", "AUC", "95 % ", "agrees", "lost", "won"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for row in accuracy["waterfall"]:
        first = row["agree_with_previous"] is None
        area = row.get("auc_ci95")
        table.add_row(
            row["stage"], f"{row['top1']:.1%}", "–".join(f"{x:.1%}" for x in row["top1_ci95"]), number(row["auc"], 4),
            "–".join(f"{x:.3f}" for x in area) if area else "–",
            "" if first else f"{row['agree_with_previous']:.1%}", "" if first else str(row["flips_bad"]),
            "" if first else str(row["flips_good"]),
        )
    return table


def _artifact(say: Any, body: Mapping[str, Any]) -> None:
    artifact, device = body["artifact"], body["device"]
    ops = ", ".join(f"{count} {name}" for name, count in sorted(artifact["ops"].items(), key=lambda x: -x[1]))
    say(f"[bold]{artifact['path']}[/] {artifact['bytes'] / 1024:.0f} KiB, "
        f"{'full integer' if artifact['full_integer'] else '[red]not full integer[/]'}: {ops}")
    mapped = device["mapped"]
    say(f"      {mapped['mapped']} of {mapped['ops']} ops map on {_safe(body['profile'])}")


def _certificate(say: Any, certificate: Mapping[str, Any]) -> None:
    ranges, weights, op, end = (certificate[k] for k in ("ranges", "weights", "op_local", "end_to_end"))
    say(f"[bold]certificate[/] {'[green]passed[/]' if certificate['passed'] else '[red]FAILED[/]'}: "
        f"{ranges['identical']} of {ranges['tensors']} ranges and {weights['identical_codes']} of "
        f"{weights['total_codes']} weight codes identical; op-local at most {op['max_lsb']} LSB, "
        f"{op['share_exact']:.2%} exact; argmax agrees on {end['argmax_agreement']:.1%} of {end['images']} images")
