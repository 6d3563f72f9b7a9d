"""export -> convert: the exported network as a full-integer .tflite."""

from __future__ import annotations

from edgekd.core.artifacts import Exported, LiteModel
from edgekd.core.context import Context
from edgekd.export.tflite_convert import convert


def run(exported: Exported, *, context: Context) -> LiteModel:
    """Convert the exported network."""
    del context  # nothing here is random or takes long
    return convert(exported)
