"""The top of the report: what was built, whether it is certified, accurate, and the key figures."""

from __future__ import annotations

import dataclasses

from edgekd.core.records import present
from edgekd.evaluation.accuracy_record import Accuracy, Metric, VerdictState
from edgekd.reporting import kept
from edgekd.reporting import text as fmt
from edgekd.reporting.device_answers import ran_on
from edgekd.reporting.report_record import Report

MARKS = {"good": "✓", "warn": "?", "bad": "✗", "open": "…"}
# What the stamp beside the certificate's says of the accuracy.
ACCURACY = {
    VerdictState.GOOD: ("good", "Accuracy within budget"),
    VerdictState.UNCLEAR: ("warn", "Accuracy may be over budget"),
    VerdictState.BAD: ("bad", "Accuracy over budget"),
}


@dataclasses.dataclass(frozen=True)
class Stamp:
    """One verdict on the build in a few words, and its reason. `style`: a CSS class."""

    style: str
    words: str
    reason: str

    @property
    def mark(self) -> str:
        """A sign that stands for the style."""
        return MARKS[self.style]


@dataclasses.dataclass(frozen=True)
class Head:
    """The title, the verdicts, and what the build made, in half-sentences.

    `kept`: how much of its teacher's accuracy the student keeps; None without a teacher.
    """

    title: str
    kept: kept.Kept | None
    stamps: list[Stamp]
    gates: list[str]
    made: str
    task: str
    data: str
    learnt: str


@dataclasses.dataclass(frozen=True)
class KeyFigure:
    """One of the large figures."""

    value: str
    name: str
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Notice:
    """Something to know before reading any figure."""

    title: str
    text: str


def head(report: Report) -> Head:
    """Title, verdicts and what the build made."""
    student = report.models.get("student")
    gates = _gates(report)
    return Head(
        title=f"{student.arch if student else report.data.name} for {report.profile}",
        kept=_kept(report),
        stamps=_stamps(report),
        gates=gates,
        made=_made(report),
        task=_task(report),
        data=report.data.name,
        learnt=_learnt(report),
    )


def _learnt(report: Report) -> str:
    """Where the network learnt what it answers."""
    student, teacher = report.models.get("student"), report.models.get("teacher")
    if student is None:
        return ""
    if student.given:
        return f"converted from {student.weights}"
    if teacher is not None:
        return f"distilled from {teacher.arch}"
    return "trained on the labels alone, without a teacher"


def _kept(report: Report) -> kept.Kept | None:
    accuracy = present(report.accuracy)
    return None if accuracy is None else kept.of_teacher(accuracy)


def _stamps(report: Report) -> list[Stamp]:
    """The certificate's verdict, then the accuracy's, then that of the recipe's gates."""
    stamps = [_certified(report)]
    accuracy = present(report.accuracy)
    verdict = None if accuracy is None else present(accuracy.verdict)
    if verdict is not None:
        style, words = ACCURACY[verdict.state]
        if accuracy is not None and accuracy.metric is Metric.AGREEMENT:
            words = words.replace("Accuracy", "Agreement")
        stamps.append(Stamp(style, words, verdict.text))
    gates = _gates(report)
    if gates:
        words = f"Failed {fmt.plural(len(gates), 'gate')}"
        stamps.append(Stamp("bad", words, "A gate is a limit whose violation fails the build."))
    undecided = present(report.undecided)
    if undecided:
        words = f"{fmt.plural(len(undecided), 'limit')} undecided"
        stamps.append(Stamp("warn", words, "Too few test images to tell; see below."))
    return stamps


def _gates(report: Report) -> list[str]:
    """The gates that failed, except the certificate, whose failures are in its own section."""
    return [gate for gate in present(report.gates) or [] if not gate.startswith("certificate:")]


def _certified(report: Report) -> Stamp:
    certificate = present(report.certificate)
    if certificate is None:
        last = report.stages[-1].stage if report.stages else "nothing"
        reason = f"The build stopped after {last}; there is no certificate yet."
        return Stamp("open", "Not finished", reason)
    if certificate.passed:
        reason = "The file computes the network that was trained, operator by operator."
        return Stamp("good", "Certified", reason)
    return Stamp("bad", "Not certified", "The file is not the network that was trained.")


def _made(report: Report) -> str:
    if present(report.artifact) is None:
        return "Not yet a TFLite file"
    certificate = present(report.certificate)
    certified = certificate is not None and certificate.passed
    return "An int8 TFLite file" if certified else "An uncertified int8 TFLite file"


def _task(report: Report) -> str:
    """What the network does, in words."""
    classes = report.data.classes
    if report.data.labels == "many":
        return f"says which of {len(classes)} labels an image has"
    if len(classes) == 2:
        return f"tells {classes[0]} from {classes[1]}"
    return f"sorts images into {len(classes)} classes"


def figures(report: Report) -> list[KeyFigure]:
    """The key figures: at most six, each with what it means."""
    accuracy = present(report.accuracy)
    found = [] if accuracy is None else _accuracy_figures(accuracy)
    artifact = present(report.artifact)
    if artifact is not None:
        found.append(KeyFigure(fmt.kib(artifact.bytes), "file size", artifact.path))
    device = present(report.device)
    if device is not None:
        mapped = device.mapped
        found.append(
            KeyFigure(
                f"{mapped.mapped} of {mapped.ops}",
                "operators mapped",
                report.profile,
            )
        )
    runs = [run for run in present(report.bench) or [] if not run.emulated]
    if runs and runs[-1].latency_ms.p50 is not None:
        run = runs[-1]
        note = (
            f"on {run.profile}"
            if ran_on(run, report.profile)
            else f"on the machine measured, not on {report.profile}"
        )
        found.append(KeyFigure(f"{fmt.number(run.latency_ms.p50, 2)} ms", "median latency", note))
    return found


def _accuracy_figures(accuracy: Accuracy) -> list[KeyFigure]:
    """Top-1 and AUC of the last network, and the change from the float student to int8."""
    if not accuracy.waterfall:
        return []
    row = accuracy.waterfall[-1]
    name = "int8" if row.stage == "tflite" else fmt.STAGES.get(row.stage, row.stage)
    metric = fmt.metric(accuracy)
    found = [
        KeyFigure(
            fmt.percent(row.top1),
            f"{metric}, {name}",
            f"95% interval {fmt.bound(row.top1_ci95, fmt.percent)}",
        )
    ]
    if row.auc is not None:
        area = fmt.bound(row.auc_ci95, fmt.number)
        several = "mean " if accuracy.metric is Metric.LABEL_DECISIONS else ""
        found.append(
            KeyFigure(
                fmt.number(row.auc),
                f"{several}AUC, {name}",
                f"95% interval {area}" if area else "",
            )
        )
    student = accuracy.row("student")
    if row.stage == "tflite" and student is not None:
        note = f"{metric}; the float student has {fmt.percent(student.top1)}"
        found.append(
            KeyFigure(fmt.points(row.top1 - student.top1), "points from float to int8", note)
        )
    return found


def notices(report: Report) -> list[Notice]:
    """What must be read before any figure."""
    found = []
    if report.data.synthetic:
        found.append(
            Notice(
                "Synthetic data.",
                "The images were drawn by a program. The figures show how well the toolchain "
                "works. They say nothing about real images.",
            )
        )
    found += [
        Notice("Too few test images.", f"{limit}.") for limit in present(report.undecided) or []
    ]
    artifact = present(report.artifact)
    if artifact is not None and not artifact.full_integer:
        found.append(
            Notice("Not full integer.", "An operator of the file computes in floating point.")
        )
    return found
