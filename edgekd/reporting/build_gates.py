"""The limits of [certify] and prune.target_latency: what a build failed, and what too few test
images leave undecided.

A limit of [certify] is compared with a 95 % interval, not with the figure itself. The build fails
if the whole interval is on the wrong side. If the figure is on the wrong side but the interval
holds the limit, the images are too few to tell: the report says so, and how many images would do.
"""

from __future__ import annotations

import dataclasses
import math

from edgekd.core.records import present
from edgekd.evaluation.accuracy_record import Accuracy, Change, Metric
from edgekd.evaluation.format_offers import offers
from edgekd.evaluation.stage_verdicts import WORDS
from edgekd.proof.certificate_record import AgreementState, CertificateBody
from edgekd.reporting import pruning
from edgekd.reporting.report_record import Report
from edgekd.settings.verdict_settings import CertifyConfig

FAILURES = 5  # failures of the certificate that the gate names; certificate.json has all


@dataclasses.dataclass(frozen=True)
class GateOutcome:
    """A sentence for each limit that failed, and for each that the test images cannot decide."""

    failed: list[str]
    undecided: list[str]


def judge(report: Report, limits: CertifyConfig, qat_epochs: int) -> GateOutcome:
    """Compare the report with the limits of [certify], and with the latency that was asked for.

    `qat_epochs`: of this build.
    """
    outcome = GateOutcome([], [])
    if missed := pruning.missed(report):
        outcome.failed.append(missed)
    if certificate := present(report.certificate):
        _certificate(certificate, outcome)
    if accuracy := present(report.accuracy):
        student = report.models.get("student")
        longer = f"--set qat.epochs={qat_epochs * 2 or 3}"
        if student is not None and student.given:
            longer = f"edgekd convert ... --qat {qat_epochs * 2 or 3}"
        _accuracy(accuracy, limits.max_drop, longer, outcome)
    return outcome


def _certificate(certificate: CertificateBody, outcome: GateOutcome) -> None:
    outcome.failed.extend(
        f"certificate: {failure.check} at {failure.place}: expected {failure.expected}, found "
        f"{failure.found}; {failure.next_step}"
        for failure in certificate.failures[:FAILURES]
    )
    judged = present(certificate.end_to_end.judged)
    if judged is not None and judged.state is AgreementState.TOO_FEW_IMAGES:
        low, high = judged.ci95
        outcome.undecided.append(
            f"agreement: the .tflite gives the trained network's answer in {judged.agreement:.2%} "
            f"of {judged.answers} cases (95 % interval {low:.2%} to {high:.2%}); at least "
            f"{judged.least:.2%} is required. It takes about {judged.needed} cases to tell"
        )


def _accuracy(accuracy: Accuracy, limit: float, longer: str, outcome: GateOutcome) -> None:
    """The accuracy that int8 loses against the float student. `longer`: how to train longer."""
    change = present(accuracy.int8)
    if change is None or -change.top1 <= limit:
        return
    low, high = -change.top1_ci95[1], -change.top1_ci95[0]
    offered = offers(accuracy)
    share = f"{-change.top1:.1%}"
    if accuracy.metric is Metric.AGREEMENT:
        lost = f"agreement: int8 answers {share} of the images otherwise than the float network"
    else:
        what = WORDS[accuracy.metric]
        lost = f"accuracy: int8 loses {share} of {what} against the float student"
    told = f"{lost} (95 % interval {low:.1%} to {high:.1%}); at most {limit:.1%} is allowed"
    if low <= limit:
        needed = _images_needed(change, limit, accuracy.n)
        outcome.undecided.append(f"{told}. It takes about {needed} test images to tell. {offered}")
        return
    verdict = present(accuracy.verdict)
    outcome.failed.append(
        f"{told}. {verdict.text if verdict else ''} Train longer with {longer}, or run `edgekd "
        f"report --why` to find the operators that cost most. {offered}"
    )


def int8_fails(report: Report, limits: CertifyConfig) -> bool:
    """Whether int8 loses more accuracy than [certify] allows, beyond chance."""
    accuracy = present(report.accuracy)
    change = None if accuracy is None else present(accuracy.int8)
    return change is not None and -change.top1_ci95[1] > limits.max_drop


def _images_needed(change: Change, limit: float, n: int) -> int:
    """From how many images on the interval excludes the limit, if the loss stays the same.

    An interval's width falls with the square root of the number of images.
    """
    half = -change.top1 + change.top1_ci95[1]
    return math.ceil(n * (half / (-change.top1 - limit)) ** 2)
