"""The data types of a tensor that each vendor's LiteRT plug-in takes.

LiteRT cuts a model into parts by asking the vendor's compiler plug-in which operators it takes
(LiteRtCompilerPluginPartition). The rules here are those of the plug-ins' sources in LiteRT,
litert/vendors, read in November 2026 at the commits that are named below. The operators of each
plug-in stand in the profiles' [ops.legal].

A plug-in may ask its vendor's SDK about every operator that passes these rules: Qualcomm's always
does, MediaTek's from NeuroPilot 8 on. So these rules say what cannot map, and what may. No NPU has
been used to check them. Google's plug-in of ai-edge-litert 2.1.2 needs no SDK for this step, and
gives the same answer (tests/test_npu.py).
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from edgekd.tflite.flatbuffer import LiteTensor


class Vendor(enum.StrEnum):
    """A vendor of NPUs, by the name that a profile's `accelerator` gives."""

    QUALCOMM = "qualcomm"
    MEDIATEK = "mediatek"
    GOOGLE_TENSOR = "google-tensor"
    INTEL_OPENVINO = "intel-openvino"


# The vendors of phones: a model for any phone must suit each of them.
PHONES = (Vendor.QUALCOMM, Vendor.MEDIATEK, Vendor.GOOGLE_TENSOR)

# ConvertDataType in qualcomm/compiler/qnn_compose_graph.cc at 8c7e6a80, and the table in
# Qualcomm_QNN_Compiler.md at a0fcf4f4.
QNN_TYPES = frozenset(
    {
        *("BOOL", "INT4", "INT8", "INT16", "INT32", "INT64"),
        *("UINT8", "UINT16", "UINT32", "UINT64", "FLOAT16", "FLOAT32", "FLOAT64"),
    }
)
QNN_PLAIN = frozenset({"INT64", "UINT64"})  # never quantized
# GetNeuronTensorType in mediatek/compiler/legalizations/neuron_utils.cc at 4fd2a9ec.
NEURON_TYPES = frozenset({"FLOAT32", "FLOAT16", "INT32", "UINT8", "BOOL"})
NEURON_QUANTIZED = frozenset({"INT8", "INT4"})  # only with scales
# MapLiteTypeToOV in intel_openvino/utils.h at 1227944c. Other types have no fixed OpenVINO type.
OPENVINO_TYPES = QNN_TYPES | {"BFLOAT16"}


def _qualcomm(tensor: LiteTensor) -> str:
    if tensor.dtype not in QNN_TYPES:
        return f"QNN has no {tensor.dtype}"
    if tensor.dtype == "INT4" and not tensor.scale.size:
        return "QNN takes INT4 only with a scale"
    if tensor.dtype in QNN_PLAIN and tensor.scale.size:
        return f"QNN takes no quantized {tensor.dtype}"
    return ""


def _mediatek(tensor: LiteTensor) -> str:
    if tensor.dtype in NEURON_TYPES:
        return ""
    if tensor.dtype in NEURON_QUANTIZED:
        return "" if tensor.scale.size else f"NeuroPilot takes {tensor.dtype} only with a scale"
    if tensor.dtype == "INT16":
        one = tensor.scale.size == 1
        return "" if one else "NeuroPilot takes INT16 only with one scale for the tensor"
    if tensor.dtype == "INT64":
        return "" if tensor.data is not None else "NeuroPilot takes INT64 only as a constant"
    return f"NeuroPilot has no {tensor.dtype}"


def _google_tensor(tensor: LiteTensor) -> str:  # noqa: ARG001
    """Its plug-in looks at no data type: google_tensor/compiler/compiler_plugin.cc at 91f21150."""
    return ""


def _intel_openvino(tensor: LiteTensor) -> str:
    return "" if tensor.dtype in OPENVINO_TYPES else f"OpenVINO has no {tensor.dtype}"


TYPE_RULES: dict[Vendor, Callable[[LiteTensor], str]] = {
    Vendor.QUALCOMM: _qualcomm,
    Vendor.MEDIATEK: _mediatek,
    Vendor.GOOGLE_TENSOR: _google_tensor,
    Vendor.INTEL_OPENVINO: _intel_openvino,
}


def refused_type(vendor: Vendor, tensor: LiteTensor) -> str:
    """Why the vendor's plug-in does not take a tensor, "" where it does."""
    return TYPE_RULES[vendor](tensor)
