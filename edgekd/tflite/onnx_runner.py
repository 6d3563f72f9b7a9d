"""The one module that opens ONNX Runtime: logits of a model.onnx, values of chosen tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.core import cores, pages
from edgekd.core.errors import DataError, MissingExtra, ModelFileError


def open_session(model: bytes, form: str = "fused") -> Any:
    """A session on one thread; several threads may run it at the same time.

    `form`: "fused", or "as_written", in which every node runs by itself in its own type. Raises
    ModelFileError for a file that is not ONNX, MissingExtra without onnxruntime.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra("onnxruntime", "", "running an ONNX model") from error
    options = onnxruntime.SessionOptions()
    # One thread: the networks are small, and results do not depend on the number of cores.
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    # Without it, x86-64 without VNNI sums int8 products in pairs that saturate at int16: wrong
    # answers.
    options.add_session_config_entry("session.x64quantprecision", "1")
    if form == "as_written":
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(
            bytes(model), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime raises its own family of types without a common base
        raise ModelFileError(
            f"ONNX Runtime cannot read this model: {str(error).strip().splitlines()[0]}",
            "give the model.onnx that `edgekd build` wrote",
        ) from error


def logits(model: bytes | memoryview, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Outputs of `Exported.qdq` on uint8 images [n, px, px, channels] (NHWC): float32 [n, classes].

    Raises ModelFileError for a file that is not ONNX, DataError when the images do not fit it.
    """
    session = open_session(bytes(model))
    (port,) = session.get_inputs()
    nchw = images.transpose(0, 3, 1, 2)
    if port.type != "tensor(uint8)" or list(port.shape[1:]) != list(nchw.shape[1:]):
        raise DataError(
            f"the model takes {port.type} {port.shape}, found uint8 images {list(nchw.shape)}",
            "decode images to the model's own size",
        )

    def some(part: slice) -> npt.NDArray[np.float32]:
        found, resident = [], pages.Resident(images)
        for image in nchw[part]:
            found.append(session.run(None, {port.name: np.ascontiguousarray(image[None])})[0])
            resident.used(1, image.nbytes)
        return np.concatenate(found)

    return np.concatenate(cores.in_order(some, cores.shares(len(images))))


def values(
    model: bytes, names: list[str], feed: npt.NDArray[np.float32]
) -> dict[str, npt.NDArray[np.float32]]:
    """{name: value} of tensors of a float ONNX graph on one input, float32 in the graph's own
    layout and shape.
    """
    import onnx

    proto = onnx.load_model_from_string(model)
    (port,) = proto.graph.input
    present = {output.name for output in proto.graph.output}
    wanted = [name for name in names if name != port.name]
    proto.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in wanted
        if name not in present
    )
    found = open_session(proto.SerializeToString()).run(wanted, {port.name: feed})
    computed = dict(zip(wanted, found, strict=True))
    return {name: feed if name == port.name else computed[name] for name in names}
