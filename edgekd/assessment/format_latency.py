"""The predicted latency of number formats other than int8.

It follows from the int8 graph: the network in float has the same operators and shapes, with four
bytes for each value. It is predicted where the profile's latency model was fitted to float models,
and nowhere else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import msgspec

from edgekd.assessment.check_record import FormatLatency, Prediction
from edgekd.assessment.latency import files
from edgekd.assessment.model_placement import place_model
from edgekd.assessment.prediction import predict, unpredicted
from edgekd.core.number_formats import NumberFormat
from edgekd.settings.device_profiles import DeviceProfile
from edgekd.tflite.flatbuffer import LiteGraph, LiteTensor
from edgekd.tflite.integer_graph import is_port_conversion

FLOAT = "fp32"  # the name of float models in latency files
INTEGERS = ("INT8", "UINT8")
UNPACKED = "; float16 weights are unpacked when the file is loaded"


def format_latencies(
    graph: LiteGraph, profile: DeviceProfile, formats: Iterable[NumberFormat]
) -> list[FormatLatency]:
    """The prediction of each format but int8, whose own is in `predicted`.

    `graph`: of the int8 file. Raises ProfileError for a broken latency file.
    """
    others = [one for one in formats if one is not NumberFormat.INT8]
    return [FormatLatency(one, _prediction(one, graph, profile)) for one in others]


def _prediction(wanted: NumberFormat, graph: LiteGraph, profile: DeviceProfile) -> Prediction:
    if wanted is NumberFormat.MIXED:
        return unpredicted(
            "which operators it has in float32 is known when it is made; `edgekd bench` measures "
            "the file"
        )
    known = sorted(files.read(Path(profile.latency))) if profile.latency else []
    real = wanted in (NumberFormat.FLOAT32, NumberFormat.FLOAT16)
    if known and not (real and FLOAT in known):
        return unpredicted(
            f"the latency model of {profile.name} was fitted to {' and '.join(known)} models "
            "alone; `edgekd bench` measures the file"
        )
    in_float = _as_float(graph)
    found = predict(in_float, profile, place_model(in_float, profile), 0)
    if wanted is NumberFormat.FLOAT16 and found.latency_ms is not None:
        return msgspec.structs.replace(found, basis=found.basis + UNPACKED)
    return found


def _as_float(graph: LiteGraph) -> LiteGraph:
    """The graph with float32 in place of 8-bit integers, without conversions at its ports."""
    tensors = [_float_tensor(tensor) for tensor in graph.tensors]
    kept = [op for op in graph.ops if not is_port_conversion(op, graph)]
    ops = [dataclasses.replace(op, index=index) for index, op in enumerate(kept)]
    return dataclasses.replace(graph, tensors=tensors, ops=ops)


def _float_tensor(tensor: LiteTensor) -> LiteTensor:
    if tensor.dtype not in INTEGERS:
        return tensor
    return dataclasses.replace(tensor, dtype="FLOAT32")
