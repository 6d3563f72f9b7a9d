"""A network in an .onnx file: one image in, logits out, opset 13 to 22.

onnxsim folds the shapes, and onnx2pytorch makes the module;
docs/how_to/convert_your_own_network.md says why these two. What this module checks first is what a
user can get wrong: the file, its opset, its inputs, its weights beside it, and operators that no
importer knows.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path

import onnx
from onnx import inliner, numpy_helper
from torch import nn

from edgekd.core.errors import MissingExtra, ModelFileError, UnsupportedNetwork
from edgekd.networks.foreign import onnx_importer
from edgekd.networks.foreign.model import Asked, Foreign, FromNhwc, Layout, read
from edgekd.networks.foreign.onnx_reading import (
    PUBLISHED,
    OnnxImage,
    digest,
    image_input,
    parsed,
    text,
)
from edgekd.networks.foreign.onnx_strides import write_strided

OPSETS = range(13, 23)
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
# Operators whose course depends on values.
CONTROL = frozenset({"If", "Loop", "Scan", "SequenceAt", "SequenceEmpty", "SequenceInsert"})


def load(path: Path, asked: Asked) -> Foreign:
    """The network of an ONNX file.

    Raises ModelFileError for a file that is damaged, incomplete or of another opset, RecipeError
    for an input that is no image, and UnsupportedNetwork for an operator that cannot be imported.
    """
    data = read(path)
    model = parsed(path, data)
    _check_opset(path, model)
    if model.functions:
        model = inliner.inline_local_functions(model)
    _check_operators(path, model)
    image = image_input(path, model, asked)
    told = text(model, image.channels)
    model = _folded(model, image)
    _check_importable(path, model)
    module = _module(path, model)
    return Foreign(
        name=path.stem,
        module=FromNhwc(module) if image.layout is Layout.NHWC else module,
        px=image.px,
        channels=image.channels,
        origin=path.name,
        digest=digest(path, data),
        mean=told.mean,
        std=told.std,
        classes=told.classes,
        licence=told.licence,
        outputs=tuple(entry.name for entry in model.graph.output),
    )


def is_published(path: Path, data: bytes) -> bool:
    """Whether a file is a model.onnx that EdgeKD published, with int8 numbers that are final."""
    return any(entry.key == PUBLISHED for entry in parsed(path, data).metadata_props)


def _check_opset(path: Path, model: onnx.ModelProto) -> None:
    """Raise ModelFileError for another opset than OPSETS."""
    found = next((row.version for row in model.opset_import if row.domain in ("", "ai.onnx")), 0)
    if found not in OPSETS:
        raise ModelFileError(
            f"{path}: opset {found}, expected {OPSETS[0]} to {OPSETS[-1]}",
            "export it with another opset_version, or bring it over with "
            f"onnx.version_converter.convert_version(model, {17 if found < 17 else OPSETS[-1]})",
        )


def _check_operators(path: Path, model: onnx.ModelProto) -> None:
    """Raise UnsupportedNetwork for operators of other libraries."""
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx") or not onnx.defs.has(node.op_type):
            domain = node.domain or "ai.onnx"
            raise UnsupportedNetwork(
                f"{path}: the operator {node.op_type} of {domain}, in the node {node.name!r}, is "
                "not one of ONNX's own",
                "export the model with ONNX's own operators only",
            )


def _check_importable(path: Path, model: onnx.ModelProto) -> None:
    """Raise UnsupportedNetwork for a quantized model, and for loops and branches that remain after
    folding.
    """
    found = {node.op_type for node in model.graph.node}
    if quantized := sorted(found & QUANTIZED):
        raise UnsupportedNetwork(
            f"{path}: a quantized model (it holds {quantized[0]}); a float model is expected",
            "give the float model that it was made from",
        )
    if control := sorted(found & CONTROL):
        raise UnsupportedNetwork(
            f"{path}: it holds {', '.join(control)}, and a network of a fixed course is expected",
            "if PyTorch exported it, export it with torch.onnx.export(..., dynamo=False), or give "
            "it as a .pt2",
        )


def _folded(model: onnx.ModelProto, image: OnnxImage) -> onnx.ModelProto:
    """The model for one image of a fixed size, with constants and shapes folded; not folded where
    onnxsim cannot.
    """
    import onnxsim

    channels, px = image.channels, image.px
    shape = (1, channels, px, px) if image.layout is Layout.NCHW else (1, px, px, channels)
    entry = next(entry for entry in model.graph.input if entry.name == image.name)
    for dim, size in zip(entry.type.tensor_type.shape.dim, shape, strict=True):
        dim.Clear()
        dim.dim_value = size
    del model.graph.value_info[:]
    _any_batch(model, image.batch)
    model = write_strided(model)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            folded, _ = onnxsim.simplify(model, overwrite_input_shapes={image.name: [*shape]})
    except Exception:  # onnxsim's C++ raises many types; the importer then gets the whole graph
        return model
    return folded


def _any_batch(model: onnx.ModelProto, batch: int) -> None:
    """Let the constant shapes of a model that takes several images at once serve any number."""
    if batch < 2:
        return
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    stored |= {
        node.output[0]: node.attribute[0].t
        for node in model.graph.node
        if node.op_type == "Constant" and node.attribute[0].name == "value"
    }
    for node in model.graph.node:
        if node.op_type != "Reshape" or node.input[1] not in stored:
            continue
        sizes = numpy_helper.to_array(stored[node.input[1]]).copy()
        if sizes.size and sizes[0] == batch and not (sizes < 1).any():
            sizes[0] = -1
            name = stored[node.input[1]].name
            stored[node.input[1]].CopyFrom(numpy_helper.from_array(sizes, name))


def _module(path: Path, model: onnx.ModelProto) -> nn.Module:
    """The network as a module. Raises UnsupportedNetwork and MissingExtra."""
    try:
        convert_model = onnx_importer.load()
    except ImportError:
        raise MissingExtra("onnx2pytorch", "", "an .onnx model") from None
    _no_pads_of_zero(model)
    _no_training_modes(model)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            module: nn.Module = convert_model(model)
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
