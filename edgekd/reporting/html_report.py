"""report.json's body -> report.html: one file that needs nothing else. Parts that a build did not reach are left out.

Each function of report_*.py turns one block of the body into what templates/report.html shows of it, or None when the block
is absent. Texts from outside (classes, file names, devices) are escaped by Jinja and lose their control characters.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from edgekd.evaluation.examples import Example
from edgekd.reporting.charts import readable
from edgekd.reporting.sections import accuracy as report_accuracy
from edgekd.reporting.sections import answers as report_answers
from edgekd.reporting.sections import certificate as report_certificate
from edgekd.reporting.sections import device as report_device
from edgekd.reporting.sections import origin as report_origin
from edgekd.reporting.sections import papers as report_papers
from edgekd.reporting.sections import summary as report_summary
from edgekd.reporting.sections import why as report_why


def page(body: Mapping[str, Any], examples: Sequence[Example] = ()) -> str:
    """The whole report as HTML. `body`: report.json's, schema edgekd.report/1, with whatever it holds so far.

    `body["gates"]`, if there, lists what the build failed, as `report.gates` tells it.
    """
    parts = {
        "head": report_summary.head(body),
        "figures": report_summary.figures(body),
        "notices": report_summary.notices(body),
        "accuracy": report_accuracy.accuracy(body),
        "why": report_why.why(body),
        "confusion": report_answers.confusion(body),
        "examples": [report_answers.example(example) for example in examples],
        "looked": any(example.looks for example in examples),
        "certificate": report_certificate.certificate(body),
        "artifact": report_device.artifact(body),
        "device": report_device.device(body),
        "bench": [report_device.bench(run, body) for run in body.get("bench") or []],
        "training": report_origin.training(body),
        "models": report_origin.models(body),
        "data": report_origin.data(body),
        "stages": report_origin.stages(body),
        "origin": report_origin.origin(body),
        "papers": report_papers.view(body),
    }
    return render("report.html", parts)


def render(template: str, parts: Mapping[str, Any]) -> str:
    """A page from templates/. Texts are escaped and lose their control characters; charts come as finished markup."""
    return _environment().get_template(template).render(**parts)


@functools.cache
def _environment() -> jinja2.Environment:
    def cleaned(value: Any) -> Any:
        # charts come as finished markup, which they cleaned themselves
        return (
            value if hasattr(value, "__html__") else "" if value is None else readable(str(value))
        )

    return jinja2.Environment(
        loader=jinja2.PackageLoader("edgekd.reporting"),
        autoescape=True,
        finalize=cleaned,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
