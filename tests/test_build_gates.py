"""The limits of [certify] on a whole report: what fails, and what the images cannot decide."""

from __future__ import annotations

import msgspec
import pytest

from edgekd.core.intervals import Interval
from edgekd.core.records import UNSET
from edgekd.evaluation.accuracy_record import Accuracy, Change
from edgekd.proof.answer_agreement import judge as judge_agreement
from edgekd.proof.certificate_record import Agreement
from edgekd.reporting import build_gates
from edgekd.reporting.report_record import Report
from edgekd.settings.verdict_settings import CertifyConfig
from tests.sample_report import report as from_body
from tests.sample_report import whole

LIMITS = CertifyConfig(max_drop=0.02)


def with_loss(loss: float, interval: Interval) -> Report:
    """The sample report, whose int8 file loses so much against its student."""
    change = Change(
        top1=-loss, top1_ci95=(-interval[1], -interval[0]), top1_p=0.01, auc=None, auc_ci95=None
    )
    report = from_body(whole())
    assert isinstance(report.accuracy, Accuracy)
    return msgspec.structs.replace(
        report, accuracy=msgspec.structs.replace(report.accuracy, int8=change), certificate=UNSET
    )


@pytest.mark.parametrize(
    ("loss", "interval", "failed", "undecided"),
    [
        (0.01, (0.0, 0.05), 0, 0),
        (0.04, (0.01, 0.07), 0, 1),
        (0.04, (0.03, 0.05), 1, 0),
    ],
)
def test_accuracy_fails_only_beyond_chance(
    loss: float, interval: Interval, failed: int, undecided: int
) -> None:
    outcome = build_gates.judge(with_loss(loss, interval), LIMITS, 4)
    assert len(outcome.failed) == failed
    assert len(outcome.undecided) == undecided


def test_the_report_says_how_many_images_would_do() -> None:
    report = with_loss(0.04, (0.01, 0.07))
    assert isinstance(report.accuracy, Accuracy)
    (told,) = build_gates.judge(report, LIMITS, 4).undecided
    # half the interval is 0.03 and the excess 0.02, so the images must be 1.5 squared as many
    assert f"about {-(-report.accuracy.n * 9 // 4)} test images" in told


def test_agreement_on_few_images_is_undecided() -> None:
    report = from_body(whole())
    few = judge_agreement(Agreement(68 / 69), 69, 0.995)
    end = msgspec.structs.replace(report.certificate.end_to_end, judged=few)
    certificate = msgspec.structs.replace(report.certificate, end_to_end=end, failures=[])
    report = msgspec.structs.replace(report, certificate=certificate, accuracy=UNSET)
    (told,) = build_gates.judge(report, LIMITS, 4).undecided
    assert told.startswith("agreement: ")
    assert "98.55%" in told
