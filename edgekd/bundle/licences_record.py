"""The record of licences.json (schema edgekd.licences/1), which is also report.json's block
"licences".
"""

from __future__ import annotations

from typing import Literal

from edgekd.core.records import UNSET, Record, UnsetType

Part = Literal["model", "tool"]


class LicenceLink(Record, frozen=True):
    """One part of the model or of its tools, and its terms.

    `part`: "model" when it goes into the weights, "tool" when it only makes or runs them.
    `version`: a package's. `outputs`: of a teacher, what a model that learnt from it may be used
    for: "any", "non-commercial", "no-training" or "not stated". `terms`: what the teacher's terms
    say of that, and where.
    """

    role: str
    name: str
    licence: str
    source: str
    part: Part
    non_commercial: bool
    unknown: bool
    version: str | UnsetType = UNSET
    outputs: str | UnsetType = UNSET
    terms: str | UnsetType = UNSET


class LicenceChain(Record, frozen=True):
    """Every link, and what follows from them.

    `tainted_by` and `unknown` name the links of the model whose terms are non-commercial or not
    known. `result` is the bundle's own licence.
    """

    schema: str
    links: list[LicenceLink]
    tainted_by: list[str]
    unknown: list[str]
    result: str
    note: str
