"""One build on the terminal: data, accuracy, model, certificate, measurements."""

from __future__ import annotations

from pathlib import Path

import rich.box
import rich.table

from edgekd.app import plan_words
from edgekd.app.printing import print_json
from edgekd.app.publish import PRETRAINED
from edgekd.app.results import BuildResult
from edgekd.app.terminal.app_inputs import show_app_inputs
from edgekd.app.terminal.bench import show_bench
from edgekd.app.terminal.formats import show_formats
from edgekd.app.terminal.medical import show_medical
from edgekd.app.terminal.teachers import show_teachers
from edgekd.app.terminal.text import Say, safe
from edgekd.app.terminal.why import show_why
from edgekd.core.intervals import Interval
from edgekd.core.records import present
from edgekd.evaluation.accuracy_record import (
    Accuracy,
    DeviceRow,
    Metric,
    StageRow,
    StageState,
    Verdict,
    VerdictState,
)
from edgekd.proof.certificate_record import CertificateBody, EndToEnd
from edgekd.reporting import kept, pretraining, pruning
from edgekd.reporting.report_record import DataBlock, Report
from edgekd.reporting.text import further, metric, number

MARKS = {
    StageState.FIRST: "",
    StageState.WITHIN: "[green]within[/]",
    StageState.UNCLEAR: "[yellow]unclear[/]",
    StageState.BEYOND: "[red]beyond[/]",
}
COLOURS = {
    VerdictState.GOOD: "green",
    VerdictState.UNCLEAR: "yellow",
    VerdictState.BAD: "red",
}
KEPT = {StageState.WITHIN: "green", StageState.UNCLEAR: "yellow", StageState.BEYOND: "red"}
COLUMNS = ("95 %", "AUC", "change", "95 % ", "agrees", "lost", "gained", "budget")


def show_result(say: Say, result: BuildResult, until: str | None, *, json: bool) -> None:
    """The report of a build as tables, or as JSON, if there is one. Raises GateFailed when a gate
    failed.
    """
    if result.made is not None:
        if json:
            print_json(result.made)
        else:
            show_report(say, result.made, result.out, until)
    result.raise_if_failed()


def show_report(say: Say, report: Report, out: Path, until: str | None) -> None:
    """One build: its data, the accuracy after each stage, the file, and where the report is."""
    accuracy = present(report.accuracy)
    if accuracy and (sentence := kept.of_teacher(accuracy)):
        say(f"\n[{KEPT[sentence.state]}]{safe(sentence.text)}[/]")
    say(f"{_data(report.data)}; for [bold]{safe(report.profile)}[/], seed {report.seed}")
    for preset in filter(None, (present(report.preset), present(report.prune_preset))):
        say(safe(str(preset)))
    if plan := present(report.plan):
        for line in plan_words.taken(plan):
            say(safe(line))
    for warning in report.data.warnings:
        say(f"[yellow]warning[/] {safe(warning)}")
    show_teachers(say, report)
    if learned := pretraining.sentence(report):
        say(safe(learned))
    if pruned := pruning.sentence(report):
        say(safe(pruned))
    if accuracy:
        say(_waterfall(accuracy))
        if verdict := present(accuracy.verdict):
            _verdict(say, verdict)
        for row in present(accuracy.further_outputs) or []:
            say(safe(further(row)))
        show_formats(say, accuracy, present(report.device))
    if prepared := present(report.app_inputs):
        show_app_inputs(say, prepared)
    if study := present(report.medical):
        show_medical(say, study)
    if why := present(report.why):
        show_why(say, why)
    _first_weights(say, report)
    _artifact(say, report)
    if certificate := present(report.certificate):
        _certificate(say, certificate)
    for limit in present(report.undecided) or []:
        say(f"[yellow]undecided[/] {safe(limit)}")
    for run in present(report.bench) or []:
        show_bench(say, run)
    if until is not None:
        say(f"stopped after {until}, as asked")
    if until == "pretrain" and (student := report.models.get("pretrained")) is not None:
        file = safe(str(out / PRETRAINED))
        say(f"weights: {file}")
        say(f"   next: edgekd build --data LABELLED --student {safe(student.name)}@{file}")
    say(f"report: {safe(str(out / 'report.html'))}")


def _data(data: DataBlock) -> str:
    """The data set in a line."""
    mark = " (synthetic)" if data.synthetic else ""
    kind = "labels" if data.labels == "many" else "classes"
    without = present(data.unlabelled)
    more = f", {without.images} without a label" if without else ""
    depth = present(data.depth)
    more += "" if depth is None else f", {depth.images} of more than 8 bits ({depth})"
    return (
        f"\n[bold]{safe(data.name)}[/]{mark}: {len(data.classes)} {kind}, {data.train} train, "
        f"{data.val} val, {data.test} test{more}"
    )


def _waterfall(accuracy: Accuracy) -> rich.table.Table:
    """A row for each stage."""
    answered = accuracy.metric is Metric.AGREEMENT
    what = "agreement with the float network" if answered else "accuracy"
    table = rich.table.Table(
        box=rich.box.SIMPLE_HEAD,
        title=f"{what} on {accuracy.n} test images",
        title_justify="left",
    )
    for name in ("stage", metric(accuracy), *COLUMNS):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for row in accuracy.waterfall:
        table.add_row(*_stage(row))
    if device := present(accuracy.device):
        table.add_row(*_device(device))
    return table


def _stage(row: StageRow) -> list[str]:
    """The cells of one stage."""
    first, change, state = row.agree_with_previous is None, present(row.change), present(row.state)
    return [
        row.stage,
        f"{row.top1:.1%}",
        _bounds(row.top1_ci95),
        number(row.auc, 4),
        f"{change.top1 * 100:+.1f}" if change else "",
        " to ".join(f"{x * 100:+.1f}" for x in change.top1_ci95) if change else "",
        "" if first else f"{row.agree_with_previous:.1%}",
        "" if first else str(row.flips_bad),
        "" if first else str(row.flips_good),
        MARKS[state] if state else "",
    ]


def _device(row: DeviceRow) -> list[str]:
    """The cells of a result that came back from the device."""
    return [
        f"device, {row.n} images",
        f"{row.top1:.1%}",
        _bounds(row.top1_ci95),
        *("–", "", ""),
        f"{row.agree_with_previous:.1%}",
        *("", ""),
        MARKS[row.state],
    ]


def _bounds(pair: Interval) -> str:
    return "–".join(f"{x * 100:.1f}" for x in pair)


def _verdict(say: Say, verdict: Verdict) -> None:
    """Which stage lost more accuracy than its budget."""
    say(f"[{COLOURS[verdict.state]}]verdict[/] {safe(verdict.text)}")
    for note in verdict.notes:
        say(f"        also: {safe(note)}")
    if verdict.next_step:
        say(f"        next: {safe(verdict.next_step)}")


def _first_weights(say: Say, report: Report) -> None:
    """What the student started from."""
    student = report.models.get("student")
    if student is None:
        return
    if first := present(student.first_weights):
        say(f"first weights: {safe(first)}")


def _artifact(say: Say, report: Report) -> None:
    """The file and its operators."""
    artifact, device = present(report.artifact), present(report.device)
    if artifact is None:
        return
    counts = sorted(artifact.ops.items(), key=lambda row: -row[1])
    ops = ", ".join(f"{count} {name}" for name, count in counts)
    say(
        f"[bold]{artifact.path}[/] {artifact.bytes / 1024:.0f} KiB, "
        f"{'full integer' if artifact.full_integer else '[red]not full integer[/]'}: {ops}"
    )
    if device is not None:
        mapped = device.mapped
        say(f"      {mapped.mapped} of {mapped.ops} ops map on {safe(report.profile)}")


def _certificate(say: Say, certificate: CertificateBody) -> None:
    """Whether the file is the network that was trained."""
    ranges, weights, op, end = (
        certificate.ranges,
        certificate.weights,
        certificate.op_local,
        certificate.end_to_end,
    )
    say(
        f"[bold]certificate[/] {'[green]passed[/]' if certificate.passed else '[red]FAILED[/]'}: "
        f"{ranges.identical} of {ranges.tensors} ranges and {weights.identical_codes} of "
        f"{weights.total_codes} weight codes identical; op-local at most {op.max_lsb} LSB, "
        f"{op.share_exact:.2%} exact; answers agree on {end.argmax_agreement:.1%} of "
        f"{end.images} images{_close_answers(end)}"
    )


def _close_answers(found: EndToEnd) -> str:
    """How many differing answers lie within one output step of each other; "" if none does."""
    close = present(found.within_one_step)
    return f" ({close} differ within one output step)" if close else ""
