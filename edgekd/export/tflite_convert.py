"""Converts the exported ONNX to a full-integer .tflite that holds the learned ranges and codes
exactly.
"""

from __future__ import annotations

from edgekd.core.artifacts import Exported, LiteModel
from edgekd.core.errors import UnsupportedNetwork
from edgekd.export.onnx_to_tflite import lower
from edgekd.tflite.runtime import describe

DESCRIPTION = "EdgeKD int8"  # what model viewers show as the file's description


def convert(exported: Exported) -> LiteModel:
    """The full-integer .tflite of an exported network: int8 input and output, or uint8 by the
    rules.

    Equal input gives equal bytes. Raises UnsupportedNetwork for a node that has no int8 lowering,
    and ModelFileError for an ONNX that was changed.
    """
    data, correspondence = lower(exported, DESCRIPTION)
    facts = describe(data)
    if not facts["full_integer"]:
        raise UnsupportedNetwork(
            f"the converted file is not full integer: {facts['ops']}",
            "take another student; `edgekd models` lists those that convert",
        )
    return LiteModel(facts=facts, correspondence=correspondence, tflite=data)
