"""The models that `edgekd bench` measures: of a file, a folder, or a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgekd.bundle import archive, bundle_paths
from edgekd.core.errors import ModelFileError, RecipeError
from edgekd.core.files import is_file, is_folder, reason
from edgekd.core.number_formats import FOLDER, NumberFormat, file_name
from edgekd.device.kit.folder import Model
from edgekd.device.model_file import GOLDEN, MODEL, check_model, find_model, read_model

SUFFIX = ".tflite"


def one(path: Path, number_format: NumberFormat | None = None) -> Model:
    """The model that a path names, in one number format: int8, or that of the file.

    `path`: a .tflite, a folder that holds model.tflite, or a bundle as a .zip. Raises
    ModelFileError where there is no such model, and RecipeError for a format of a single file.
    """
    if _is_zip(path):
        return _in_files(path, archive.read(path), number_format or NumberFormat.INT8)
    if number_format is None:
        return _from_disk(path)
    if not is_folder(path, "the model"):
        raise RecipeError(
            f"--format {number_format}: {path} is one file, in one format",
            "leave --format out, or give the out folder or the bundle",
        )
    file = path / file_name(number_format)
    if not is_file(file):
        there = [str(found.relative_to(path)) for found in sorted((path / FOLDER).glob("*"))]
        raise _lacks(path, number_format, there)
    return _from_disk(file)


def every(path: Path) -> list[Model]:
    """Every model in a path: one .tflite; int8 and the other formats of an out folder or a
    bundle; or all .tflite files of another folder.

    Raises ModelFileError where there is none.
    """
    if _is_zip(path):
        files = archive.read(path)
        others = [one for one in NumberFormat if file_name(one) in files]
        return [_in_files(path, files, one) for one in others or [NumberFormat.INT8]]
    if not is_folder(path, "the model"):
        return [_from_disk(path)]
    if is_file(path / MODEL):
        found = [path / file_name(one) for one in NumberFormat]
        return [_from_disk(file) for file in found if is_file(file)]
    found = sorted(file for file in path.glob(f"*{SUFFIX}") if file.is_file())
    if not found:
        raise ModelFileError(
            f"{path} holds no {SUFFIX} file", "give a .tflite, an out folder, or a bundle"
        )
    return [_from_disk(file) for file in found]


def chosen(path: Path, number_format: NumberFormat | None) -> list[Model]:
    """The model in that number format, or with None every model. Raises as `one` and `every`."""
    return every(path) if number_format is None else [one(path, number_format)]


def _is_zip(path: Path) -> bool:
    return is_file(path, "the model") and bundle_paths.is_bundle(path)


def _from_disk(path: Path) -> Model:
    file, golden = find_model(path)
    try:
        answers = golden.read_bytes() if golden is not None else None
    except OSError as error:
        raise ModelFileError(
            f"{golden} cannot be read: {reason(error)}", "make it readable, or move it away"
        ) from error
    return Model(file.name, read_model(file), answers)


def _in_files(path: Path, files: Mapping[str, bytes], number_format: NumberFormat) -> Model:
    """One of a zipped bundle's models. `files`: {path: bytes}."""
    name = file_name(number_format)
    if MODEL not in files:
        raise ModelFileError(f"{path} holds no {MODEL}", "give the .zip of a bundle")
    if name not in files:
        raise _lacks(path, number_format, [one for one in files if one.startswith(f"{FOLDER}/")])
    check_model(files[name], f"{path}: {name}")
    return Model(name.rpartition("/")[2], files[name], files.get(GOLDEN))


def _lacks(path: Path, number_format: NumberFormat, there: list[str]) -> ModelFileError:
    return ModelFileError(
        f"{path} holds no {file_name(number_format)}; besides {MODEL}, which is int8, it has "
        f"{', '.join(there) or 'no other format'}",
        f"edgekd build --formats {number_format} makes one",
    )
