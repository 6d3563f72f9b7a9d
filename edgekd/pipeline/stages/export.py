"""qat -> export: the trained int8 network as ONNX, as a float graph on the int8 grid and with Q/DQ
pairs.
"""

from __future__ import annotations

from edgekd.core.artifacts import Exported, QuantNetwork
from edgekd.core.context import Context
from edgekd.export.onnx_export import from_network
from edgekd.quantization.restoring import rebuild


def run(qat: QuantNetwork, *, context: Context) -> Exported:
    """Export the trained network, which is rebuilt from the artifact's builder and options."""
    del context  # nothing here is random or takes long
    return from_network(qat, rebuild(qat))
