"""The .tflite that the argument of `edgekd check` names, or None where it names something else."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from edgekd.core import files
from edgekd.core.errors import ModelFileError, PathError, RecipeError
from edgekd.device.model_file import MODEL
from edgekd.settings.model_specs import names
from edgekd.tflite.flatbuffer import IDENTIFIER

SUFFIX = ".tflite"
RECIPE = "recipe.toml"  # in the out folder of every build
TAKES = "give a .tflite, the out folder of a build, a recipe (.toml), or a network's name"
CONVERT = "convert it to .tflite first, or give the network's name (edgekd models)"
NAME = "give the name of the network that it is of (edgekd models)"
# What people give in place of a .tflite, by the end of its name: what it is, and the next step.
KINDS = {
    ".onnx": ("an ONNX file", CONVERT),
    ".h5": ("a Keras file", CONVERT),
    ".keras": ("a Keras file", CONVERT),
    ".pb": ("a TensorFlow graph", CONVERT),
    ".pt": ("a PyTorch file", NAME),
    ".pth": ("a PyTorch file", NAME),
    ".safetensors": ("a file of weights", NAME),
    ".zip": ("an archive", "unpack it, and check its model.tflite"),
    ".json": ("a JSON file", TAKES),
    ".csv": ("a table", TAKES),
    ".lite": ("a file of another kind", TAKES),
}
OTHER = ("a file of another kind", TAKES)


def tflite_of(text: str) -> Path | None:
    """The .tflite that the text names: a file, or model.tflite of a folder.

    None for a recipe or a network's name. Raises ModelFileError for a file or a folder of another
    kind, and for a file that does not exist.
    """
    path = Path(text)
    if text.endswith(".toml") or text in names():
        return None
    if text.lower().endswith(SUFFIX):
        return path
    kind = KINDS.get(path.suffix.lower())
    try:
        is_folder, is_file = files.is_folder(path), files.is_file(path)
    except PathError:
        if os.sep in text:
            raise
        return None  # a name that no file can have
    if is_folder:
        # A folder without a model may happen to have the name of a network.
        plain = os.sep not in text and not path.suffix
        return None if plain and not files.is_file(path / MODEL) else _in_folder(path)
    if is_file:
        if _begins_like_a_tflite(path):
            return path
        what, step = kind or OTHER
        raise ModelFileError(f"{text} is {what}, and check reads .tflite files", step)
    if kind or os.sep in text:
        raise ModelFileError(f"{text} does not exist", TAKES)
    return None


def refuse_folder(text: str) -> None:
    """Raise ModelFileError where the text, which is no network's name, names a folder."""
    with contextlib.suppress(PathError):  # a name that no folder can have
        if files.is_folder(Path(text)):
            _in_folder(Path(text))


def _in_folder(folder: Path) -> Path:
    """The model.tflite of a folder. Raises ModelFileError that says what else is there."""
    if files.is_file(folder / MODEL):
        return folder / MODEL
    inside = [path.name for path in files.listed(folder)]
    others = [name for name in inside if name.endswith(SUFFIX)]
    others += [RECIPE] if RECIPE in inside else []
    raise ModelFileError(
        f"{folder} is a folder without {MODEL}",
        f"name the file: edgekd check {folder / others[0]}" if others else TAKES,
    )


def _begins_like_a_tflite(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(8)[4:] == IDENTIFIER
    except OSError:
        return False


def refuse_settings(path: Path, settings: object) -> None:
    """Raise RecipeError where settings are given for a finished file: none changes it."""
    if settings:
        raise RecipeError(
            f"--set changes nothing of {path}, which is a finished model",
            "leave --set out, or name the recipe or the network that the model is made from",
        )
