"""The section on what each step gained the teacher."""

from __future__ import annotations

import dataclasses

from edgekd.core.records import present
from edgekd.reporting import text as fmt
from edgekd.reporting.network_record import NetworkBlock, TeacherStep
from edgekd.reporting.report_record import Report


@dataclasses.dataclass(frozen=True)
class StepLine:
    """One step. `kept`: "yes" where the teacher that teaches has it."""

    step: str
    top1: str
    auc: str
    cross_entropy: str
    held_out: str
    kept: str


@dataclasses.dataclass(frozen=True)
class TeacherView:
    """The steps of one teacher. `images`: how many validation images judge them, in words."""

    name: str
    images: str
    rows: list[StepLine]


def steps(report: Report) -> list[TeacherView]:
    """Each teacher that has steps to show."""
    return [
        TeacherView(
            f"{role}: {network.name}", _images(network), [_line(step) for step in network.steps]
        )
        for role, network in report.models.items()
        if network.steps
    ]


def _images(network: NetworkBlock) -> str:
    judged = (present(network.metrics) or {}).get("val")
    return "the validation images" if judged is None else fmt.plural(judged.n, "validation image")


def _line(step: TeacherStep) -> StepLine:
    return StepLine(
        step=step.step,
        top1=fmt.percent(step.top1),
        auc=fmt.cell(present(step.auc)),
        cross_entropy=fmt.number(step.cross_entropy),
        held_out=fmt.cell(present(step.held_out)),
        kept="yes" if step.kept else "",
    )
