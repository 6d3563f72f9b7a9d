"""The section on licences: what the model was made from, and under which terms."""

from __future__ import annotations

import dataclasses

from edgekd.core.records import present
from edgekd.reporting.report_record import Report

LISTED = 20  # parts shown one by one


@dataclasses.dataclass(frozen=True)
class LicenceLine:
    """One part of the model."""

    role: str
    name: str
    licence: str
    source: str


@dataclasses.dataclass(frozen=True)
class LicencesView:
    """The licence that results, and the parts that it results from."""

    result: str
    tainted: list[str]
    unknown: list[str]
    rows: list[LicenceLine]


def licences(report: Report) -> LicencesView | None:
    """The licence chain of the model's parts, or None where it is not known."""
    block = present(report.licences)
    if block is None:
        return None
    return LicencesView(
        result=block.result,
        tainted=block.tainted_by,
        unknown=block.unknown,
        rows=[
            LicenceLine(
                row.role,
                row.name,
                row.licence,
                "; ".join(filter(None, [row.source, present(row.terms)])),
            )
            for row in block.links
            if row.part == "model"
        ][:LISTED],
    )
