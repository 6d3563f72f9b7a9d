"""The record behind `edgekd verify --json` (schema edgekd.verify/1)."""

from __future__ import annotations

from typing import Literal

from edgekd.core.records import UNSET, Record, UnsetType
from edgekd.proof.certificate_record import Failure


class VerifyCheck(Record, frozen=True):
    """One check. `found`: what it found, in one sentence.

    `failures`: each difference, in a check of an out folder; a bundle's checks name theirs in
    `found`.
    """

    check: str
    passed: bool
    found: str
    failures: list[Failure] | UnsetType = UNSET


class Verification(Record, frozen=True, kw_only=True):
    """Every check of an out folder or a bundle. `passed`: whether all of them passed."""

    schema: Literal["edgekd.verify/1"] = "edgekd.verify/1"
    passed: bool
    checks: list[VerifyCheck]
