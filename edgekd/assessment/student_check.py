"""What `edgekd check` is given (a .tflite, a recipe, or a student's name), brought to a graph.

A student is converted untrained, by the route that a build takes. Nothing is trained, and no image
is read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import msgspec

from edgekd.assessment.arena import Allocation, measure_apart
from edgekd.assessment.check_record import DeviceCheck
from edgekd.assessment.checked_file import refuse_settings, tflite_of
from edgekd.assessment.compiler_answer import CompilerAnswer, CompilerFailed
from edgekd.assessment.edgetpu.compiled_file import is_compiled
from edgekd.assessment.format_latency import format_latencies
from edgekd.assessment.graph_check import NOT_RUN, check_graph
from edgekd.assessment.loading import installed_lacks
from edgekd.assessment.mappers.registry import mapper_for
from edgekd.assessment.micro.on_this_machine import compared
from edgekd.core import files
from edgekd.core.errors import DeviceError, GateFailed, ModelFileError
from edgekd.core.records import present
from edgekd.export import format_packages
from edgekd.networks import input_size
from edgekd.settings import recipe
from edgekd.settings.device_profiles import DeviceProfile, load_profile
from edgekd.settings.model_specs import ModelSpec, of_channels, spec
from edgekd.settings.recipe import ConvertConfig, Recipe
from edgekd.tflite.flatbuffer import LiteGraph, read, read_main

# Classes of a student that is checked by name. No data says how many there are, and the classifier
# is a small part of any student.
CLASSES = 10
UNANSWERED = (
    "no interpreter of this machine allocated the file, so its arena and its tensors were not tried"
)
UNCALIBRATED = "not calibrated: operators, shapes and sizes are those of the finished file"
UNTRAINED = "untrained: operators, shapes and sizes are those of the trained file"


def check_named(text: str, profile_name: str, sets: Sequence[str] = ()) -> DeviceCheck:
    """Check a .tflite by its path or by its folder, a recipe by its path, or a student by its name.

    `sets`: settings as the command line gives them, "section.key=value". Raises ModelFileError,
    RecipeError, UnknownName, ProfileError or UnsupportedNetwork for what cannot be checked.
    """
    profile = load_profile(profile_name)
    file = tflite_of(text)
    if file is not None:
        refuse_settings(file, sets)
        return check_file(file, profile)
    return check_recipe(settings_of(text, sets), profile)


def settings_of(text: str, sets: Sequence[str]) -> Recipe:
    """The settings of a recipe's path, or of a student's name."""
    is_recipe = text.endswith(".toml")
    return recipe.load(
        Path(text) if is_recipe else None, sets, {} if is_recipe else {"distil.student": text}
    )


def check_recipe(settings: Recipe, profile: DeviceProfile) -> DeviceCheck:
    """Check the student that these settings ask for, whether pruning keeps its target, and where
    low-rank pairs gain.
    """
    profile = profile.with_edits(settings.edits)
    student = student_of(settings, profile)
    check = check_student(student, settings, profile, CLASSES)
    if not check.passed and check.predicted.latency_ms is None:  # the failures say why
        return check
    try:
        if settings.prune.target_latency:
            from edgekd.assessment import latency_cut

            cut = latency_cut.planned(student, settings, profile, CLASSES)
            check = msgspec.structs.replace(check, pruned=cut)
            settings = recipe.changed(
                settings, {"prune.target_latency": "", "prune.ratio": cut.ratio}
            )
        if settings.prune.low_rank:
            from edgekd.assessment import low_rank_check

            pairs = low_rank_check.block(settings, student, profile, CLASSES)
            check = msgspec.structs.replace(check, low_rank=pairs)
    except GateFailed as error:
        return msgspec.structs.replace(
            check,
            passed=False,
            failures=[*check.failures, error.what],
            next_step=present(check.next_step) or error.next_step,
        )
    return check


def untrained(settings: Recipe, profile: DeviceProfile) -> bytes:
    """The .tflite of the student that these settings ask for, with random weights.

    It takes the time of the trained file, since int8 kernels do the same work for all weights.
    """
    from edgekd.assessment.untrained_cache import untrained_model

    profile = profile.with_edits(settings.edits)
    student = student_of(settings, profile)
    return untrained_model(student, settings.data.input_px, CLASSES, profile.rules)


def student_of(settings: Recipe, profile: DeviceProfile) -> ModelSpec:
    """The student of these settings, with the edits of the profile."""
    student = spec(settings.distil.student).with_options(settings.distil.options)
    student = input_size.sized(student, settings.data.input_px)
    student = of_channels(student, 1 if settings.data.channels == "1" else 3)
    return student.edited(profile.edits)


def check_file(path: Path, profile: DeviceProfile) -> DeviceCheck:
    """Check a .tflite; an interpreter also allocates it, to compare with the planned arena.

    Raises ModelFileError for a file that cannot be read.
    """
    data = _bytes(path)
    try:
        graph = read_main(data)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error.what}", error.next_step) from None
    compiled = is_compiled(graph)
    allocation, notes = NOT_RUN, list[str]()
    if not compiled:  # the compiler's own operator needs libedgetpu
        allocation, notes = _allocated(data, graph)
    if profile.micro_kernels and graph.inputs:
        # LiteRT's arena says nothing about TensorFlow Lite Micro's.
        allocation = dataclasses.replace(allocation, arena_bytes=None)
        notes = [compared(data, graph)]
    answer = None if compiled else _compiled(data, profile, notes)
    notes += _left_out(graph)
    return check_graph(
        graph,
        profile,
        str(path),
        file_bytes=len(data),
        finished=True,
        allocation=allocation,
        compiler=answer,
        notes=tuple(notes),
    )


def _left_out(graph: LiteGraph) -> list[str]:
    """A note where the file has more subgraphs than the one that is judged."""
    others = len(graph.written.subgraphs) - 1
    if not others:
        return []
    judged = "the first is judged, which calls no other; the size of the file counts all"
    return [f"the file has {others + 1} subgraphs; {judged}"]


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelFileError(
            f"{path}: {files.reason(error)}", files.next_step(error) or "name a .tflite that exists"
        ) from None


def _allocated(data: bytes, graph: LiteGraph) -> tuple[Allocation, list[str]]:
    """What an interpreter of this machine makes of a file, and what to note about that."""
    if not graph.inputs:
        return NOT_RUN, []
    old = installed_lacks(graph)
    if old:
        return NOT_RUN, [f"{old} of this machine cannot load the file, so its arena is as planned"]
    found = measure_apart(data)
    silent = found.arena_bytes is None and not found.refusal
    return found, [UNANSWERED] if silent else []


def check_student(
    student: ModelSpec, settings: Recipe, profile: DeviceProfile, classes: int
) -> DeviceCheck:
    """Check a student that has not been trained yet."""
    from edgekd.assessment.untrained_cache import untrained_model

    px = settings.data.input_px
    sides = settings.ports.sides(px)
    data = untrained_model(student, px, classes, profile.rules, sides)
    name = f"{student.name} at {px} px"
    if sides:
        name += f", behind a frame of {sides[0]} x {sides[1]}"
    return _unfinished(name, data, profile, settings.convert, UNTRAINED)


def check_given(
    name: str, data: bytes, profile: DeviceProfile, config: ConvertConfig
) -> DeviceCheck:
    """Check a network of the user's. `data`: its .tflite, with ranges that mean nothing."""
    return _unfinished(name, data, profile, config, UNCALIBRATED, finished=True)


def _unfinished(
    name: str,
    data: bytes,
    profile: DeviceProfile,
    config: ConvertConfig,
    note: str,
    *,
    finished: bool = False,
) -> DeviceCheck:
    """Check a .tflite without an interpreter. `finished`: no setting changes the network."""
    notes = [note]
    answer = _compiled(data, profile, notes)
    graph = read(data)
    check = check_graph(
        graph,
        profile,
        name,
        file_bytes=len(data),
        finished=finished,
        compiler=answer,
        notes=tuple(notes),
    )
    latencies = format_latencies(graph, profile, format_packages.wanted(config, profile))
    return msgspec.structs.replace(check, formats=latencies) if latencies else check


def _compiled(model: bytes, profile: DeviceProfile, notes: list[str]) -> CompilerAnswer:
    """What the device's own compiler answers. Where it cannot be run, a note says so."""
    try:
        return mapper_for(profile).compile(model, profile)
    except CompilerFailed as error:
        return error
    except DeviceError as error:
        notes.append(f"{error.what}; what follows is predicted")
        return None
