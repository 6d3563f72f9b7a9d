"""The check that a build makes before it trains: the answer is kept, and a failure stops it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import msgspec

from edgekd.assessment.check_record import DeviceCheck
from edgekd.assessment.edit_ranking import next_step
from edgekd.assessment.mappers.registry import mapper_for
from edgekd.assessment.student_check import CLASSES, check_student
from edgekd.core import artifacts
from edgekd.core.errors import GateFailed, ModelFileError
from edgekd.core.records import from_json, present
from edgekd.export import format_packages
from edgekd.settings.device_profiles import DeviceProfile
from edgekd.settings.model_specs import ModelSpec
from edgekd.settings.recipe import Recipe

VERSION = 2  # of the kept answer: an answer of another version is computed again


def before_build(
    student: ModelSpec, settings: Recipe, profile: DeviceProfile, kept: Path
) -> DeviceCheck:
    """The check of a build's student.

    `kept`: the check.json of an earlier build. Its answer is taken when it is of the same student
    and device.
    """
    asked = {
        "version": VERSION,
        "student": dataclasses.asdict(student),
        "px": settings.data.input_px,
        "profile": profile.to_json(),
        "latency": _digest(profile.latency),
        "compiler": _compiler_of(profile),
    }
    if sides := settings.ports.sides(settings.data.input_px):  # older answers keep their keys
        asked["frame"] = list(sides)
    formats = format_packages.wanted(settings.convert, profile)
    if len(formats) > 1:  # older answers, of int8 alone, keep their keys
        asked["formats"] = list(formats)
    key = artifacts.sha256(artifacts.canonical_json(json.loads(json.dumps(asked))))
    answer = _read(kept)
    if answer is not None and answer.key == key:
        return answer
    return msgspec.structs.replace(check_student(student, settings, profile, CLASSES), key=key)


def _read(path: Path) -> DeviceCheck | None:
    """The answer in a file, None where there is none that this version reads."""
    try:
        return from_json(DeviceCheck, json.loads(path.read_text(encoding="utf-8")), str(path))
    except (OSError, ValueError, RecursionError, ModelFileError):
        return None


def _digest(path: str) -> str:
    try:
        return artifacts.sha256(Path(path).read_bytes()) if path else ""
    except OSError:
        return ""  # `check_student` says what is wrong with the file


def _compiler_of(profile: DeviceProfile) -> list[str | int]:
    """What tells one installed compiler from another; empty where none is installed."""
    program = shutil.which(mapper_for(profile).compiler or " ")
    if program is None:
        return []
    state = Path(program).stat()
    return [program, state.st_size, state.st_mtime_ns]


def refuse(check: DeviceCheck) -> None:
    """Raise GateFailed when a check says that the profile's limits are not met.

    The error's next step is the edit that helps most.
    """
    if not check.passed:
        raise GateFailed(
            "before training: " + "\n  ".join(check.failures),
            present(check.next_step) or next_step(check),
        )
