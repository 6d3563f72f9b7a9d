"""What an .onnx file says of itself: its model with all weights, its one image input, and its
metadata. Whether its operators can be imported is the matter of `onnx_file`.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, checker

from edgekd.core.errors import ModelFileError, RecipeError
from edgekd.networks.foreign.model import Asked, Layout, no_size, read, square

CHANNELS = (1, 3)
LFS = b"version https://git-lfs"  # how a pointer of Git LFS begins
PUBLISHED = "edgekd"  # the key of edgekd.export.published_onnx in a model's metadata
# The keys under which exporters write the names of the classes. "character" is PaddlePaddle's, with
# a name a line; "names" is Ultralytics', a Python dictionary by number.
CLASS_KEYS = ("names", "classes", "labels", "character")


@dataclasses.dataclass(frozen=True)
class OnnxImage:
    """The image input of a model: its name, the side in pixels, channels, order of the axes, and
    how many images the file takes at once (0: any number).
    """

    name: str
    px: int
    channels: int
    layout: Layout
    batch: int


@dataclasses.dataclass(frozen=True)
class OnnxText:
    """What the metadata says. `mean`, `std`: for pixels in 0..1; empty where it says nothing."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]
    licence: str


def parsed(path: Path, data: bytes) -> onnx.ModelProto:
    """The model with its external data. Raises ModelFileError."""
    if data.startswith(LFS):
        raise ModelFileError(
            f"{path}: a pointer of Git LFS, which stands for the file", "fetch it: git lfs pull"
        )
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception:  # protobuf raises types of its own, which differ between its versions
        raise ModelFileError(
            f"{path}: not an ONNX model, or a truncated one ({len(data)} bytes)",
            "copy the file again, or export the model again",
        ) from None
    if not model.graph.node or not model.opset_import:
        what = "an ONNX model without operators" if data else "an empty file"
        raise ModelFileError(
            f"{path}: {what}",
            "export the model again, or give a .tflite, a recipe or a network's name",
        )
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, checker.ValidationError):
        files = external(model)
        raise ModelFileError(
            f"{path}: its weights lie in {', '.join(files[:3])}, which cannot be read beside it",
            f"put {files[0]} beside {path.name}, or export the model as one file",
        ) from None
    return model


def external(model: onnx.ModelProto) -> list[str]:
    """The names of the files beside a model that hold its weights, sorted."""
    names = {
        entry.value
        for tensor in model.graph.initializer
        if tensor.data_location == TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return sorted(names)


def digest(path: Path, data: bytes) -> str:
    """sha256 of the file, and of the files that hold its weights."""
    model = onnx.ModelProto()
    model.ParseFromString(data)
    found = hashlib.sha256(data)
    for name in external(model):
        found.update(read(path.parent / name))
    return found.hexdigest()


def image_input(path: Path, model: onnx.ModelProto, asked: Asked) -> OnnxImage:
    """The one input that is no weight. Raises RecipeError unless it is an image."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [entry for entry in model.graph.input if entry.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(repr(entry.name) for entry in inputs) or "none"
        raise RecipeError(
            f"{path}: {len(inputs)} inputs ({names}); one image is expected",
            "export the model with one image input, without masks or sizes",
        )
    (entry,) = inputs
    kind = entry.type.tensor_type
    if kind.elem_type != TensorProto.FLOAT or len(kind.shape.dim) != 4:
        name = TensorProto.DataType.Name(kind.elem_type)
        raise RecipeError(
            f"{path}: its input {entry.name!r} is {name} with {len(kind.shape.dim)} axes; an "
            "image FLOAT with 4 axes is expected",
            "export the model for float32 images [n, 3, height, width] or [n, height, width, 3]",
        )
    dims = [dim.dim_value for dim in kind.shape.dim]
    px, channels, layout = _layout(path, entry.name, dims, asked)
    return OnnxImage(entry.name, px, channels, layout, dims[0])


def check_one_output(path: Path, model: onnx.ModelProto) -> None:
    """Raise RecipeError for a model with several outputs."""
    if len(model.graph.output) != 1:
        names = ", ".join(repr(entry.name) for entry in model.graph.output)
        raise RecipeError(
            f"{path}: {len(model.graph.output)} outputs ({names}); one of logits is expected",
            "export the model with the logits as its only output",
        )


def _layout(path: Path, name: str, dims: list[int], asked: Asked) -> tuple[int, int, Layout]:
    """The side of the image, its channels, and the order of its axes. Raises RecipeError."""
    first = dims[1] in CHANNELS and asked.layout is not Layout.NHWC
    last = dims[3] in CHANNELS and asked.layout is not Layout.NCHW
    if first == last:
        raise RecipeError(
            f"{path}: its input {name!r} is {dims} (0: any), from which the channels cannot "
            "be told",
            f"say it with {asked.options.layout.format('nchw')} or "
            f"{asked.options.layout.format('nhwc')}, for an image of 1 or 3 channels",
        )
    layout = Layout.NCHW if first else Layout.NHWC
    channels, height, width = (dims[1], dims[2], dims[3]) if first else (dims[3], dims[1], dims[2])
    side = square(str(path), height, width, asked)
    if not side and not asked.px:
        raise no_size(str(path), asked)
    return side or asked.px, channels, layout


def text(model: onnx.ModelProto, channels: int) -> OnnxText:
    """What the model's metadata says."""
    metadata = {row.key: row.value for row in model.metadata_props}
    return OnnxText(
        mean=_numbers(metadata, "mean", channels),
        std=_numbers(metadata, "std", channels),
        classes=_names(metadata),
        licence=metadata.get("license", metadata.get("licence", "")),
    )


def _numbers(metadata: dict[str, str], key: str, channels: int) -> tuple[float, ...]:
    """Numbers in the metadata, one a channel: "[0.485, 0.456, 0.406]"; () for anything else."""
    try:
        found: Any = json.loads(metadata.get(key, "[]"))
        values = tuple(float(value) for value in found)
    except (ValueError, TypeError):
        return ()
    return values if len(values) == channels else ()


def _names(metadata: dict[str, str]) -> tuple[str, ...]:
    """The names of the classes: a list in JSON or Python, a dictionary by number, or lines."""
    told = next((metadata[key] for key in CLASS_KEYS if metadata.get(key)), "")
    try:
        found: Any = ast.literal_eval(told)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return tuple(told.split("\n")) if "\n" in told else ()
    if isinstance(found, dict):
        found = [name for _, name in sorted(found.items(), key=lambda row: str(row[0]).zfill(6))]
    return tuple(map(str, found)) if isinstance(found, (list, tuple)) else ()
