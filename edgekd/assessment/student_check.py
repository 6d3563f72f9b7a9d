"""What `edgekd check` is given: a .tflite, a recipe or a student's name, brought to a graph; and the gate before a build.

A student is converted untrained, by the route that the build takes. Nothing is trained and no image is read.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekd.assessment.assess import check
from edgekd.core import artifacts
from edgekd.core.errors import GateFailed, ModelFileError
from edgekd.settings import recipe
from edgekd.settings.device_profiles import DeviceProfile, load_profile
from edgekd.settings.model_specs import ModelSpec, of_channels, spec
from edgekd.settings.recipe import Recipe
from edgekd.tflite.flatbuffer import read

CLASSES = 10  # of a student checked by name: no data says how many, and the classifier is a small part of any student
UNALLOCATED = (
    "the interpreter could not allocate this file in a process of its own: it may be damaged, or hold an op "
    "that this runtime lacks"
)
VERSION = 1  # of the answer that a build keeps; another one is asked anew


def check_named(text: str, profile_name: str, sets: Sequence[str] = ()) -> dict[str, Any]:
    """The answer for a .tflite's path, a recipe's path, or a student's name.

    Raises ModelFileError, RecipeError, UnknownName, ProfileError or UnsupportedNetwork for what it cannot look at.
    """
    profile = load_profile(profile_name)
    if is_file(text):
        return check_file(Path(text), profile)
    return check_recipe(settings_of(text, sets), profile)


def is_file(text: str) -> bool:
    """Whether a finished .tflite is named."""
    return text.endswith(".tflite")


def settings_of(text: str, sets: Sequence[str]) -> Recipe:
    """The settings of a recipe's path, or of a student's name."""
    is_recipe = text.endswith(".toml")
    return recipe.load(
        Path(text) if is_recipe else None, sets, {} if is_recipe else {"distil.student": text}
    )


def check_recipe(settings: Recipe, profile: DeviceProfile) -> dict[str, Any]:
    """The answer for the student that these settings ask for, on this device."""
    profile = profile.with_edits(settings.edits)
    student = of_channels(spec(settings.distil.student), 1 if settings.data.channels == "1" else 3)
    return check_student(student.edited(profile.edits), settings, profile, CLASSES)


def check_file(path: Path, profile: DeviceProfile) -> dict[str, Any]:
    """The answer for a .tflite, with the arena that an interpreter allocates beside the planned one."""
    from edgekd.assessment.arena import measure_apart
    from edgekd.assessment.edgetpu.compiled_file import is_compiled

    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path}: {error.strerror}", "name a .tflite that exists") from None
    graph = read(data)
    notes: tuple[str, ...] = ()
    measured = None
    if not is_compiled(graph):  # its custom op needs libedgetpu
        measured = measure_apart(data)
        if measured is None:
            notes = (UNALLOCATED,)
    return {
        **check(
            graph, profile, str(path), file_bytes=len(data), measured_arena=measured, notes=notes
        ),
        **_compiled(data, profile),
    }


def _compiled(data: bytes, profile: DeviceProfile) -> dict[str, Any]:
    """{"compiler": what the real edgetpu_compiler says}, where it is installed and the profile is an Edge TPU's."""
    if profile.mapper != "edgetpu":
        return {}
    from edgekd.assessment.edgetpu import compiled_file, edgetpu_compiler

    program = edgetpu_compiler.find()
    if program is None or compiled_file.is_compiled(read(data)):
        return {}
    done = edgetpu_compiler.compile_model(data, program, **profile.compiler)
    return {
        "compiler": {**done.log.to_json(), **compiled_file.read_back(read(done.model)).to_json()}
    }


def check_student(
    student: ModelSpec, settings: Recipe, profile: DeviceProfile, classes: int
) -> dict[str, Any]:
    """The answer for a student that was not trained yet."""
    from edgekd.assessment.untrained_cache import sketch

    px = settings.data.input_px
    data = sketch(student, px, classes, profile.rules)
    return {
        **check(
            read(data),
            profile,
            f"{student.name} at {px} px",
            file_bytes=len(data),
            notes=("untrained: ops, shapes and sizes are those of the trained file",),
        ),
        **_compiled(data, profile),
    }


def before_build(
    student: ModelSpec, settings: Recipe, profile: DeviceProfile, kept: Path
) -> dict[str, Any]:
    """The answer for a build; the one in `kept` (check.json) is taken where it was of the same student and device.

    Raises GateFailed when the profile's floor is not met.
    """
    asked = {
        "version": VERSION,
        "student": dataclasses.asdict(student),
        "px": settings.data.input_px,
        "profile": profile.to_json(),
        "latency": _digest(profile.latency),
    }
    key = artifacts.sha256(artifacts.canonical_json(json.loads(json.dumps(asked))))
    try:
        body: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        body = {}
    if not isinstance(body, dict) or body.get("key") != key:
        body = {**check_student(student, settings, profile, CLASSES), "key": key}
    return body


def _digest(path: str) -> str:
    try:
        return artifacts.sha256(Path(path).read_bytes()) if path else ""
    except OSError:
        return ""  # `check` says what is wrong with it


def refuse(body: dict[str, Any]) -> None:
    """Raise GateFailed, with the best edit as the next step, when an answer says that the floor is not met."""
    if not body["passed"]:
        raise GateFailed("before training: " + "\n  ".join(body["failures"]), next_step(body))


def mending(body: dict[str, Any]) -> dict[str, Any] | None:
    """The edit that mends the op which ends the mapping, or that meets the floor; None where there is none.

    Of several, the one after which most of the multiply-accumulates map.
    """

    def reason(row: dict[str, Any]) -> tuple[str, str] | None:
        return None if row["ends_at"] is None else (row["ends_at"]["op"], row["ends_at"]["status"])

    ends = reason(body["mapped"])
    helpful = [
        row
        for row in body["edits"]
        if (ends and reason(row) != ends) or (row["passes"] and not body["passed"])
    ]
    return max(helpful, key=lambda row: (row["passes"], row["share_of_macs"] or 0.0), default=None)


def next_step(body: dict[str, Any]) -> str:
    """The edit that mends most, else the one that saves most."""
    edit = mending(body) or next(iter(body["edits"]), None)
    if edit is None:
        return "another student (edgekd models), another device, or min_mapped in a profile of your own"
    return f"{edit['edit']}: {edit['how']}" + (
        "; --fix does it" if edit["sets"] and edit == mending(body) else ""
    )
