"""The report as report.html: one file that loads nothing. Blocks that a build lacks are left out.

Each function of `sections` turns one block of the report into what its template shows, or into None
when the block is absent. Texts from outside (classes, file names, devices) are escaped by Jinja and
lose their control characters.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from edgekd.core.records import present
from edgekd.evaluation.examples import Example
from edgekd.reporting.report_record import Report
from edgekd.reporting.sections import (
    accuracy,
    answers,
    app_inputs,
    certificate,
    confidence,
    device,
    formats,
    groups,
    licences,
    measurement,
    medical,
    origin,
    plan,
    preset,
    summary,
    teachers,
    why,
)
from edgekd.reporting.text import readable


def page(report: Report, examples: Sequence[Example] = ()) -> str:
    """The whole report as HTML. `examples`: the test images to show."""
    parts = {
        "head": summary.head(report),
        "figures": summary.figures(report),
        "notices": summary.notices(report),
        "accuracy": accuracy.accuracy(report),
        "formats": formats.formats(report),
        "app_inputs": app_inputs.app_inputs(report),
        "why": why.why(report),
        "confusion": answers.confusion(report),
        "examples": [answers.example(example) for example in examples],
        "looked": any(example.looks for example in examples),
        "certificate": certificate.certificate(report),
        "artifact": device.artifact(report),
        "device": device.device(report),
        "bench": [measurement.measurement(run, report) for run in present(report.bench) or []],
        "plan": plan.plan(report),
        "presets": preset.presets(report),
        "training": origin.training(report),
        "models": origin.networks(report),
        "teacher_steps": teachers.steps(report),
        "data": origin.data(report),
        "confidence": confidence.confidence(report),
        "labels": confidence.labels(report),
        "medical": medical.medical(report),
        "groups": groups.groups(report),
        "licences": licences.licences(report),
        "bundle": present(report.bundle),
        "stages": origin.stages(report),
        "origin": origin.origin(report),
    }
    return render("report.html", parts)


def render(template: str, parts: Mapping[str, object], package: str = "edgekd.reporting") -> str:
    """A page from a package's templates/, which may include those of this room.

    Texts are escaped and lose their control characters.
    """
    return _environment(package).get_template(template).render(**parts)


@functools.cache
def _environment(package: str) -> jinja2.Environment:
    def cleaned(value: Any) -> Any:  # whatever a template prints
        # charts are finished markup, which charts.py has cleaned
        return (
            value if hasattr(value, "__html__") else "" if value is None else readable(str(value))
        )

    return jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [jinja2.PackageLoader(package), jinja2.PackageLoader("edgekd.reporting")]
        ),
        autoescape=True,
        finalize=cleaned,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
