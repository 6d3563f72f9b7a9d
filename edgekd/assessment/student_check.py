"""What `edgekd check` is given (a .tflite, a recipe, or a student's name), brought to a graph.

A student is converted untrained, by the route that a build takes. Nothing is trained, and no image
is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from edgekd.assessment.check_record import DeviceCheck
from edgekd.assessment.graph_check import check_graph
from edgekd.assessment.mappers.registry import mapper_for
from edgekd.core.errors import ModelFileError
from edgekd.core.files import reason
from edgekd.settings import recipe
from edgekd.settings.device_profiles import DeviceProfile, load_profile
from edgekd.settings.model_specs import ModelSpec, of_channels, spec
from edgekd.settings.recipe import Recipe
from edgekd.tflite.flatbuffer import read

# Classes of a student that is checked by name. No data says how many there are, and the classifier
# is a small part of any student.
CLASSES = 10
UNALLOCATED = (
    "the interpreter could not allocate this file in a process of its own: the file may be "
    "damaged, or it may hold an operator that this runtime lacks"
)
UNTRAINED = "untrained: operators, shapes and sizes are those of the trained file"


def check_named(text: str, profile_name: str, sets: Sequence[str] = ()) -> DeviceCheck:
    """Check a .tflite by its path, a recipe by its path, or a student by its name.

    `sets`: settings as the command line gives them, "section.key=value". Raises ModelFileError,
    RecipeError, UnknownName, ProfileError or UnsupportedNetwork for what cannot be checked.
    """
    profile = load_profile(profile_name)
    if is_model_file(text):
        return check_file(Path(text), profile)
    return check_recipe(settings_of(text, sets), profile)


def is_model_file(text: str) -> bool:
    """Whether the text names a finished .tflite."""
    return text.endswith(".tflite")


def settings_of(text: str, sets: Sequence[str]) -> Recipe:
    """The settings of a recipe's path, or of a student's name."""
    is_recipe = text.endswith(".toml")
    return recipe.load(
        Path(text) if is_recipe else None, sets, {} if is_recipe else {"distil.student": text}
    )


def check_recipe(settings: Recipe, profile: DeviceProfile) -> DeviceCheck:
    """Check the student that these settings ask for."""
    profile = profile.with_edits(settings.edits)
    student = of_channels(spec(settings.distil.student), 1 if settings.data.channels == "1" else 3)
    return check_student(student.edited(profile.edits), settings, profile, CLASSES)


def check_file(path: Path, profile: DeviceProfile) -> DeviceCheck:
    """Check a .tflite; an interpreter also allocates it, to compare with the planned arena.

    Raises ModelFileError for a file that cannot be read.
    """
    from edgekd.assessment.arena import measure_apart
    from edgekd.assessment.edgetpu.compiled_file import is_compiled

    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path}: {reason(error)}", "name a .tflite that exists") from None
    graph = read(data)
    notes: tuple[str, ...] = ()
    measured = None
    if not is_compiled(graph):  # the compiler's own operator needs libedgetpu
        measured = measure_apart(data)
        if measured is None:
            notes = (UNALLOCATED,)
    found = check_graph(
        graph, profile, str(path), file_bytes=len(data), measured_arena=measured, notes=notes
    )
    return found if is_compiled(graph) else _with_compiler(found, data, profile)


def check_student(
    student: ModelSpec, settings: Recipe, profile: DeviceProfile, classes: int
) -> DeviceCheck:
    """Check a student that has not been trained yet."""
    from edgekd.assessment.untrained_cache import untrained_model

    px = settings.data.input_px
    data = untrained_model(student, px, classes, profile.rules)
    name = f"{student.name} at {px} px"
    found = check_graph(read(data), profile, name, file_bytes=len(data), notes=(UNTRAINED,))
    return _with_compiler(found, data, profile)


def _with_compiler(found: DeviceCheck, model: bytes, profile: DeviceProfile) -> DeviceCheck:
    """Add what the device's own compiler prints, where it is installed."""
    compiled = mapper_for(profile).compile(model, profile)
    return found if compiled is None else msgspec.structs.replace(found, compiler=compiled.report)
