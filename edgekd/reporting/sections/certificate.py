"""The section on the certificate: each check, what it requires and what it found."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from edgekd.core.records import present
from edgekd.proof.certificate_record import (
    AgreementState,
    CertificateBody,
    CodeCounts,
    Edges,
    EndToEnd,
    Failure,
    OpLocal,
)
from edgekd.reporting import charts
from edgekd.reporting import text as fmt
from edgekd.reporting.report_record import Report

KINDS = 24  # histograms of single kernel families that are shown; the rest is only counted
OP_BOUND = 1  # LSB by which rounding may move an operator's result
# Names of the bins of an operator's histogram, in LSB.
OP_BINS = ("0", "1", "2", "3+")
GOOD, BAD, OPEN, NONE = "good", "bad", "open", "none"  # "open": shown, but no gate
AGREEMENT_MARKS = {
    AgreementState.HOLDS: GOOD,
    AgreementState.TOO_FEW_IMAGES: OPEN,
    AgreementState.FAILS: BAD,
}


@dataclasses.dataclass(frozen=True)
class FailureView:
    """One difference that a check found, and what to do about it."""

    check: str
    place: str
    expected: str
    found: str
    next_step: str


@dataclasses.dataclass(frozen=True)
class CheckView:
    """One check. `meaning`: for readers who have never seen it. `state`: a CSS class."""

    name: str
    found: str
    meaning: str
    state: str


@dataclasses.dataclass(frozen=True)
class Histogram:
    """One kernel family's differences, as SVG."""

    name: str
    chart: str


@dataclasses.dataclass(frozen=True)
class CertificateView:
    """The whole section. `more`: failures that are not shown; `hidden`: histograms."""

    passed: bool
    runtime: str
    checks: list[CheckView]
    failures: list[FailureView]
    more: int
    histogram: str
    histograms: list[Histogram]
    hidden: int


def certificate(report: Report) -> CertificateView | None:
    """Each check with its result, and the histograms behind it."""
    body = present(report.certificate)
    if body is None:
        return None
    histograms = list(_histograms(body))
    return CertificateView(
        passed=body.passed,
        runtime=body.runtime,
        checks=list(_checks(body)),
        failures=[_failure(failure) for failure in body.failures[: fmt.LISTED]],
        more=max(0, len(body.failures) - fmt.LISTED),
        histogram=_differences("file and trained network", body.end_to_end.histogram),
        histograms=histograms[:KINDS],
        hidden=max(0, len(histograms) - KINDS),
    )


def _failure(failure: Failure) -> FailureView:
    return FailureView(
        check=failure.check,
        place=failure.place,
        expected=str(failure.expected),
        found=str(failure.found),
        next_step=failure.next_step,
    )


def _checks(body: CertificateBody) -> Iterator[CheckView]:
    """Every check in the order in which they run. A check with a failure is bad in any case."""
    failed = {failure.check.replace("-", "_").replace(" ", "_") for failure in body.failures}
    for key, view in _found(body):
        bad = any(name.startswith(key) for name in failed)
        yield dataclasses.replace(view, state=BAD) if bad else view


def _found(body: CertificateBody) -> Iterator[tuple[str, CheckView]]:
    """(key of its failures, check) of every check that ran, and of the second runtime."""
    yield (
        "canonical",
        CheckView(
            "Form",
            f"{fmt.whole(body.canonical.deviations)} deviations",
            "Operator versions, buffers and quantization fields are written as TensorFlow’s own "
            "converter writes them. The strictest consumers were tested with that form.",
            GOOD if body.canonical.deviations == 0 else BAD,
        ),
    )
    yield (
        "shapes",
        CheckView(
            "Shapes",
            f"correct for {fmt.whole(body.shapes.ops)} operators",
            "The shape of every tensor follows from the inputs of its operator. A file that fails "
            "this check is never run.",
            GOOD,
        ),
    )
    if body.structure is not None:
        yield (
            "structure",
            CheckView(
                "Structure",
                f"{fmt.whole(body.structure.ops)} operators as in the trained graph",
                "Each operator reads the same tensors, and ends in the same activation, as in the "
                "trained graph.",
                GOOD,
            ),
        )
    if body.edges is not None:
        yield "edges", _edges(body.edges)
    yield "ranges", _ranges(body)
    yield "weights", _weights(body.weights)
    yield "op_local", _op_local(body.op_local)
    yield "end_to_end", _end_to_end(body)
    yield "reference", _reference(body)


def _edges(found: Edges) -> CheckView:
    worst = "" if found.worst_op is None else found.worst_op.op
    return CheckView(
        "Against the trained graph",
        _exactness(found.edges, found.share_exact, found.max_lsb, worst),
        "Each operator of the trained graph is fed the file’s own inputs. It must give the "
        "file’s output within 1 LSB.",
        GOOD if found.max_lsb <= OP_BOUND else BAD,
    )


def _ranges(body: CertificateBody) -> CheckView:
    ranges, worst = body.ranges, body.ranges.worst
    found = f"{fmt.whole(ranges.identical)} of {fmt.whole(ranges.tensors)} identical"
    same = ranges.identical == ranges.tensors
    if not same and worst.tensor is not None:
        found += (
            f"; the worst is {worst.tensor}: its scale is off by a factor of "
            f"{fmt.cell(worst.scale_ratio, 7)}, its zero point by {worst.zero_point_delta}"
        )
    return CheckView(
        "Ranges",
        found,
        "Each activation in the file must have exactly the scale (bit for bit) and zero point that "
        "training learned. Otherwise the device computes another network than the one that was "
        "evaluated.",
        GOOD if same else BAD,
    )


def _weights(found: CodeCounts) -> CheckView:
    return CheckView(
        "Weights",
        f"{fmt.whole(found.identical_codes)} of {fmt.whole(found.total_codes)} codes identical, in "
        f"{fmt.whole(found.tensors)} tensors",
        "Each 8-bit weight in the file must be the code to which training rounded it.",
        GOOD if found.identical_codes == found.total_codes else BAD,
    )


def _op_local(found: OpLocal) -> CheckView:
    worst = "" if found.worst_op is None else found.worst_op.op
    return CheckView(
        "Operator by operator",
        _exactness(found.ops, found.share_exact, found.max_lsb, worst),
        "Each operator is run alone on the file’s own inputs and compared with exact integer "
        f"arithmetic. Rounding may move a result by {OP_BOUND} LSB, one step of its 8-bit scale; a "
        "wrong operator moves it further.",
        GOOD if found.max_lsb <= OP_BOUND else BAD,
    )


def _exactness(ops: int, share_exact: float, max_lsb: int, worst: str) -> str:
    off = f" ({worst})" if max_lsb and worst else ""
    return (
        f"{fmt.whole(ops)} operators, {fmt.percent(share_exact, 2)} of the results exact, at most "
        f"{max_lsb} LSB off{off}"
    )


def _end_to_end(body: CertificateBody) -> CheckView:
    found = body.end_to_end
    judged = present(found.judged)
    same = "same labels" if present(found.answers) == "label decisions" else "same class"
    return CheckView(
        "End to end",
        f"{same} on {fmt.percent(found.argmax_agreement)} of {fmt.whole(found.images)} images"
        f"{_close_answers(found)}; outputs differ by {fmt.number(found.mean_abs_lsb, 2)} LSB on "
        f"average, at most {fmt.whole(found.max_abs_lsb)}",
        "The whole file against the trained int8 network on the same images. Differences of one "
        "step add up from layer to layer, so what counts is whether the answer is the same.",
        OPEN if judged is None else AGREEMENT_MARKS[judged.state],
    )


def _close_answers(found: EndToEnd) -> str:
    """How many differing answers lie within one output step of each other; "" if none does."""
    close = present(found.within_one_step)
    return f" ({close} that differ lie within one output step)" if close else ""


def _reference(body: CertificateBody) -> CheckView:
    found = body.reference
    meaning = "The same file in another runtime, whose code EdgeKD does not share."
    if found.runtime is None:
        text = "not run; it needs TensorFlow: install edgekd’s extra “reference”"
        return CheckView("Second runtime", text, meaning, NONE)
    text = f"{found.runtime}: same answer on {fmt.percent(found.argmax_agreement)} of the images"
    return CheckView("Second runtime", text, meaning, OPEN)


def _histograms(body: CertificateBody) -> Iterator[Histogram]:
    """The differences in each kernel family: end to end, and operator by operator."""
    for family, agreement in (present(body.end_to_end.families) or {}).items():
        if agreement is not None:
            name = f"End to end, {family}"
            yield Histogram(name, _differences(name, agreement.histogram))
    for family, ops in body.op_local.families.items():
        name = f"Operator by operator, {family}"
        yield Histogram(name, _differences(name, dict(zip(OP_BINS, ops.histogram, strict=False))))


def _differences(what: str, counts: dict[str, int]) -> str:
    """A histogram of differences in LSB; "" where nothing was counted."""
    told = ", ".join(f"{count:,} by {lsb}" for lsb, count in counts.items())
    return charts.columns(counts, "LSB", f"{what}: outputs by their difference in LSB: {told}")
