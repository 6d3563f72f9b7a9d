"""The .tflite that is measured: found in a folder, read whole, and refused when it is cut short or
damaged.
"""

from __future__ import annotations

from pathlib import Path

from edgekd.core.errors import ModelFileError
from edgekd.core.files import is_file, is_folder, reason
from edgekd.core.number_formats import FOLDER
from edgekd.device import edgebench

MODEL, GOLDEN = "model.tflite", "golden.npz"


def read_model(path: Path) -> bytes:
    """The bytes of a whole .tflite. Raises ModelFileError that names the file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(
            f"{path} cannot be read: {reason(error)}", "give the path of a .tflite file"
        ) from error
    check_model(data, str(path))
    return data


def check_model(data: bytes, name: str) -> None:
    """Raises ModelFileError that names `name` when `data` is not a whole TFLite flatbuffer."""
    try:
        edgebench.check_model(data)
    except edgebench.BadModelError as error:
        raise ModelFileError(f"{name}: {error.message}", error.next_step) from error


def find_model(path: Path) -> tuple[Path, Path | None]:
    """(model, golden set or None) of a .tflite file, or of a folder that holds model.tflite.

    A golden set is taken only from beside a file named model.tflite, because these two belong
    together, and from beside the folder formats, whose files are of the same network. Raises
    ModelFileError when there is no model.
    """
    model = path / MODEL if is_folder(path, "the model") else path
    if not is_file(model):
        raise ModelFileError(
            f"{model} does not exist",
            "give a .tflite file, or the out folder of a finished `edgekd build`",
        )
    in_formats = model.parent.name == FOLDER
    golden = model.parent.parent / GOLDEN if in_formats else model.with_name(GOLDEN)
    belongs = in_formats or model.name == MODEL
    return model, golden if belongs and is_file(golden) else None
