"""What TensorFlow Lite Micro's interpreter of this machine makes of a model, beside the plan."""

from __future__ import annotations

import numpy as np

from edgekd.assessment.micro.kernel_scratch import KernelLibrary
from edgekd.assessment.micro.micro_arena import micro_arena
from edgekd.assessment.micro.struct_sizes import PointerBytes
from edgekd.core.errors import ModelFileError
from edgekd.tflite import micro_runtime
from edgekd.tflite.flatbuffer import LiteGraph

NOT_INSTALLED = (
    "the arena is as planned: pip install 'edgekd[micro]' compares it with TensorFlow Lite "
    "Micro's interpreter"
)


def compared(data: bytes, graph: LiteGraph) -> str:
    """A note that compares the interpreter's arena with the one that is planned for it.

    The interpreter here has 64-bit pointers and the reference kernels, so its arena is not the
    device's.
    """
    if not micro_runtime.installed():
        return NOT_INSTALLED
    source = graph.tensors[graph.inputs[0]] if len(graph.inputs) == 1 else None
    if source is None or source.dtype != "INT8":
        return "the arena is as planned: it can be compared for models with one int8 input"
    try:
        answer = micro_runtime.run(data, np.zeros((1, *source.shape[1:]), np.int8))
    except ModelFileError as error:
        return f"the arena is as planned: {error.what}"
    planned = micro_arena(graph, KernelLibrary.REFERENCE, PointerBytes.DESKTOP).bytes
    return (
        f"on this machine (64-bit pointers, reference kernels) TensorFlow Lite Micro took "
        f"{answer.arena_bytes:,} bytes; planned for it were {planned:,}"
    )
