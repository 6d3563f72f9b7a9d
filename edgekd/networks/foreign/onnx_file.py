"""A network in an .onnx file: one image in, logits out, opset 13 to 22.

onnxsim folds the shapes, and onnx2pytorch makes the module;
docs/how_to/convert_your_own_network.md says why these two. What this module checks first is what a
user can get wrong: the file, its opset, its inputs, its weights beside it, and operators that no
importer knows.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import warnings
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, checker, numpy_helper
from torch import nn

from edgekd.core.errors import MissingExtra, ModelFileError, RecipeError, UnsupportedNetwork
from edgekd.networks.foreign.model import Asked, Foreign, FromNhwc, Layout, no_size, read

OPSETS = range(13, 23)
CHANNELS = (1, 3)
PUBLISHED = "edgekd"  # the key of edgekd.export.published_onnx in a model's metadata
QUANTIZED = frozenset(
    {
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "QLinearConv",
        "ConvInteger",
        "MatMulInteger",
        "QLinearMatMul",
    }
)


def load(path: Path, asked: Asked) -> Foreign:
    """The network of an ONNX file.

    Raises ModelFileError for a file that is damaged, incomplete or of another opset, RecipeError
    for an input that is no image, and UnsupportedNetwork for an operator that cannot be imported.
    """
    data = read(path)
    model = _parsed(path, data)
    _check_opset(path, model)
    _check_operators(path, model)
    entry = _image_input(path, model)
    px, channels, layout = _layout(path, entry, asked)
    _fix_shape(entry, px, channels, layout)
    module = _module(path, _folded(model, entry.name))
    metadata = {row.key: row.value for row in model.metadata_props}
    return Foreign(
        name=path.stem,
        module=FromNhwc(module) if layout is Layout.NHWC else module,
        px=px,
        channels=channels,
        origin=path.name,
        digest=_digest(path, data, model),
        mean=_numbers(metadata, "mean", channels),
        std=_numbers(metadata, "std", channels),
        classes=_names(metadata),
        licence=metadata.get("license", metadata.get("licence", "")),
    )


def is_published(path: Path, data: bytes) -> bool:
    """Whether a file is a model.onnx that EdgeKD published, with int8 numbers that are final."""
    return any(entry.key == PUBLISHED for entry in _parsed(path, data).metadata_props)


def _parsed(path: Path, data: bytes) -> onnx.ModelProto:
    """The model with its external data. Raises ModelFileError."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception:  # protobuf raises types of its own, which differ between its versions
        raise ModelFileError(
            f"{path}: not an ONNX model, or a truncated one ({len(data)} bytes)",
            "copy the file again, or export the model again",
        ) from None
    if not model.graph.node or not model.opset_import:
        raise ModelFileError(
            f"{path}: an ONNX model without operators",
            "export the model again, or give a .tflite, a recipe or a network's name",
        )
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, checker.ValidationError):
        files = sorted(_external(model))
        raise ModelFileError(
            f"{path}: its weights lie in {', '.join(files[:3])}, which cannot be read beside it",
            f"put {files[0]} into {path.parent}, or export the model as one file",
        ) from None
    return model


def _external(model: onnx.ModelProto) -> set[str]:
    """The names of the files that hold weights."""
    return {
        entry.value
        for tensor in model.graph.initializer
        if tensor.data_location == TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }


def _check_opset(path: Path, model: onnx.ModelProto) -> None:
    """Raise ModelFileError for another opset than OPSETS."""
    found = next((row.version for row in model.opset_import if row.domain in ("", "ai.onnx")), 0)
    if found not in OPSETS:
        raise ModelFileError(
            f"{path}: opset {found}, expected {OPSETS[0]} to {OPSETS[-1]}",
            "export it with another opset_version, or bring it over with "
            "onnx.version_converter.convert_version(model, 17)",
        )


def _check_operators(path: Path, model: onnx.ModelProto) -> None:
    """Raise UnsupportedNetwork for operators of other libraries, and for a quantized model."""
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx") or not onnx.defs.has(node.op_type):
            domain = node.domain or "ai.onnx"
            raise UnsupportedNetwork(
                f"{path}: the operator {node.op_type} of {domain}, in the node {node.name!r}, is "
                "not one of ONNX's own",
                "export the model with ONNX's own operators only",
            )
        if node.op_type in QUANTIZED:
            raise UnsupportedNetwork(
                f"{path}: a quantized model (it holds {node.op_type}); a float model is expected",
                "give the float model that it was made from",
            )


def _image_input(path: Path, model: onnx.ModelProto) -> onnx.ValueInfoProto:
    """The one input that is no weight. Raises RecipeError."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [entry for entry in model.graph.input if entry.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(repr(entry.name) for entry in inputs) or "none"
        raise RecipeError(
            f"{path}: {len(inputs)} inputs ({names}); one image is expected",
            "export the model with one image input, without masks or sizes",
        )
    if len(model.graph.output) != 1:
        names = ", ".join(repr(entry.name) for entry in model.graph.output)
        raise RecipeError(
            f"{path}: {len(model.graph.output)} outputs ({names}); one of logits is expected",
            "export the model with the logits as its only output",
        )
    kind = inputs[0].type.tensor_type
    if kind.elem_type != TensorProto.FLOAT or len(kind.shape.dim) != 4:
        name = TensorProto.DataType.Name(kind.elem_type)
        raise RecipeError(
            f"{path}: its input {inputs[0].name!r} is {name} with {len(kind.shape.dim)} axes; an "
            "image FLOAT with 4 axes is expected",
            "export the model for float32 images [n, 3, height, width] or [n, height, width, 3]",
        )
    return inputs[0]


def _layout(path: Path, entry: onnx.ValueInfoProto, asked: Asked) -> tuple[int, int, Layout]:
    """The side of the image, its channels, and the order of its axes. Raises RecipeError."""
    dims = [dim.dim_value for dim in entry.type.tensor_type.shape.dim]
    first = dims[1] in CHANNELS and asked.layout is not Layout.NHWC
    last = dims[3] in CHANNELS and asked.layout is not Layout.NCHW
    if first == last:
        raise RecipeError(
            f"{path}: its input {entry.name!r} is {dims} (0: any), from which the channels cannot "
            "be told",
            "say it with --layout nchw or --layout nhwc, for an image of 1 or 3 channels",
        )
    layout = Layout.NCHW if first else Layout.NHWC
    channels, height, width = (dims[1], dims[2], dims[3]) if first else (dims[3], dims[1], dims[2])
    if height != width:
        raise RecipeError(
            f"{path}: its input is {height} x {width}; EdgeKD takes square images",
            "export the model for a square input",
        )
    if height and asked.px and asked.px != height:
        raise RecipeError(
            f"{path}: its input is {height} px, and --px says {asked.px}",
            "leave --px out, or export the model with a dynamic size",
        )
    if not height and not asked.px:
        raise no_size(str(path))
    return height or asked.px, channels, layout


def _fix_shape(entry: onnx.ValueInfoProto, px: int, channels: int, layout: Layout) -> None:
    """Give the input one image of a fixed size, which lets all other shapes be folded."""
    sizes = (1, channels, px, px) if layout is Layout.NCHW else (1, px, px, channels)
    for dim, size in zip(entry.type.tensor_type.shape.dim, sizes, strict=True):
        dim.Clear()
        dim.dim_value = size


def _folded(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The model with constants and shapes folded; as it is where onnxsim cannot."""
    import onnxsim

    del model.graph.value_info[:]
    shape = [dim.dim_value for dim in _entry(model, name).type.tensor_type.shape.dim]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            folded, _ = onnxsim.simplify(model, overwrite_input_shapes={name: shape})
    except Exception:  # onnxsim's C++ raises many types; the importer then gets the whole graph
        return model
    return folded


def _entry(model: onnx.ModelProto, name: str) -> onnx.ValueInfoProto:
    return next(entry for entry in model.graph.input if entry.name == name)


def _module(path: Path, model: onnx.ModelProto) -> nn.Module:
    """The network as a module. Raises UnsupportedNetwork and MissingExtra."""
    try:
        from onnx2pytorch import ConvertModel
    except ImportError:
        raise MissingExtra("onnx2pytorch", "", "an .onnx model") from None
    _no_pads_of_zero(model)
    _no_training_modes(model)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            module: nn.Module = ConvertModel(model)
    except Exception as error:  # an importer raises whatever its operators raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UnsupportedNetwork(
            f"{path}: cannot be imported: {reason}",
            "export the model with simpler operators, or give it as a .pt2 or a Python function",
        ) from error
    return module.eval()


def _no_pads_of_zero(model: onnx.ModelProto) -> None:
    """Take out Pad nodes that pad nothing, which some exporters write before every convolution."""
    values = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in list(model.graph.node):
        if node.op_type != "Pad" or len(node.input) < 2 or node.input[1] not in values:
            continue
        if not numpy_helper.to_array(values[node.input[1]]).any():
            _bypass(model, node)


def _no_training_modes(model: onnx.ModelProto) -> None:
    """Take out what says that batch norms do not train, which the importer does not know."""
    for node in model.graph.node:
        for item in list(node.attribute):
            if node.op_type == "BatchNormalization" and item.name == "training_mode" and not item.i:
                node.attribute.remove(item)


def _bypass(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    """Let what reads a node's output read its input."""
    if any(entry.name == node.output[0] for entry in model.graph.output):
        return
    for reader in model.graph.node:
        for place, name in enumerate(reader.input):
            if name == node.output[0]:
                reader.input[place] = node.input[0]
    model.graph.node.remove(node)


def _digest(path: Path, data: bytes, model: onnx.ModelProto) -> str:
    """sha256 of the file, and of the files that hold its weights."""
    digest = hashlib.sha256(data)
    for name in sorted(_external_names(data)):
        digest.update((path.parent / name).read_bytes())
    del model
    return digest.hexdigest()


def _external_names(data: bytes) -> set[str]:
    model = onnx.ModelProto()
    model.ParseFromString(data)
    return _external(model)


def _numbers(metadata: dict[str, str], key: str, channels: int) -> tuple[float, ...]:
    """Numbers in the metadata, one a channel: "[0.485, 0.456, 0.406]"; () for anything else."""
    try:
        found: Any = json.loads(metadata.get(key, "[]"))
        values = tuple(float(value) for value in found)
    except (ValueError, TypeError):
        return ()
    return values if len(values) == channels else ()


def _names(metadata: dict[str, str]) -> tuple[str, ...]:
    """The names of the classes in the metadata: a JSON list, or Ultralytics' {0: 'cat', ...}."""
    try:
        found: Any = json.loads(metadata.get("names", metadata.get("classes", "[]")))
    except ValueError:
        return ()
    return tuple(map(str, found)) if isinstance(found, list) else ()
