"""Operating points of a medical study on the terminal."""

from __future__ import annotations

from edgekd.app.terminal.text import Say, safe
from edgekd.bundle.medical_card import spoken
from edgekd.evaluation.medical_record import Finding, Medical, Rate

SHOWN = 3  # findings; report.json has all of them


def show_medical(say: Say, study: Medical) -> None:
    """Print the first findings, each with its operating points on the test images."""
    for finding in study.findings[:SHOWN]:
        _show(say, finding, study.validation_n)
    if len(study.findings) > SHOWN:
        more = len(study.findings) - SHOWN
        say(f"      {more} more finding{'s' if more > 1 else ''} in report.json")


def _show(say: Say, finding: Finding, validation: int) -> None:
    area = "no AUC"
    if finding.auc is not None and finding.auc_ci95 is not None:
        low, high = finding.auc_ci95
        area = f"AUC {finding.auc:.3f} ({low:.3f} to {high:.3f})"
    say(
        f"[bold]{safe(finding.label)}[/]: {finding.positives} of "
        f"{finding.positives + finding.negatives} test images; {area}; calibration error "
        f"{finding.calibration.ece:.3f}; thresholds from {validation} validation images"
    )
    for point in finding.points:
        say(
            f"      {spoken(point)}, at {point.threshold:.3f}: sensitivity "
            f"{_rate(point.sensitivity)}, specificity {_rate(point.specificity)}"
        )


def _rate(rate: Rate) -> str:
    if rate.value is None or rate.ci95 is None:
        return "unknown"
    low, high = rate.ci95
    return f"{rate.value:.1%} ({low:.1%} to {high:.1%})"
