"""What a device's compiler answered about a model: its table, or that it failed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from edgekd.assessment.check_record import CompilerReport
from edgekd.assessment.edgetpu.status import MAPPED
from edgekd.core.errors import DeviceError


@dataclasses.dataclass(frozen=True)
class CompiledForDevice:
    """What a device's compiler made of a `.tflite`.

    `files`: name in the out folder -> bytes. `report`: what the compiler printed, parsed.
    `cpu_outputs`: names of the tensors that operators left to the CPU write. `mapped`: the status,
    in the report's rows, of an operator that the device runs.
    """

    files: Mapping[str, bytes]
    report: CompilerReport
    cpu_outputs: frozenset[str] = frozenset()
    mapped: str = MAPPED


class CompilerFailed(DeviceError):
    """The compiler ran and made no file. `report`: what it printed, parsed."""

    def __init__(self, what: str, next_step: str, report: CompilerReport) -> None:
        super().__init__(what, next_step)
        self.report = report


# An answer of the compiler; None where it is not installed or could not be run.
CompilerAnswer = CompiledForDevice | CompilerFailed | None


def rows_text(report: CompilerReport) -> Iterable[str]:
    """The rows of the compiler's table, for a reader."""
    return (f"{row.count} {row.op}: {row.status}" for row in report.rows)
