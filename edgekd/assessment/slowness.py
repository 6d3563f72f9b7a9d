"""`edgekd report --why-slow`: which ops the time of a measured model goes to, ranked.

A run on this machine is measured: each op as a model of its own, timed here by itself with the run's threads and the
runtime's default kernels. Alone an op finds its weights in the cache and its neighbours idle, so the sum differs from the
whole; both are told. A run elsewhere is predicted by the profile's latency model, op by op: no op was timed there.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.assessment import latency, workload
from edgekd.assessment.assess import of_precision
from edgekd.assessment.edgetpu.edgetpu_cost import features as edgetpu_features
from edgekd.assessment.mapping import map_model
from edgekd.assessment.workload import Work
from edgekd.core.artifacts import sha256
from edgekd.core.errors import ModelFileError
from edgekd.device.bench import find_model, read_model
from edgekd.device.bench_history import Run, kept
from edgekd.settings.device_profiles import DeviceProfile, load_profile
from edgekd.tflite.flatbuffer import LiteGraph, read, schema, write
from edgekd.tflite.runtime import LiteRunner

SCHEMA = "edgekd.slow/1"
HERE = "local"  # the transport of a run on this machine
WARM_S, RUNS, LEAST_S = (
    0.005,
    20,
    0.01,
)  # an op: first, then at least so many runs and seconds; a MobileNetV2 takes some 2 s
MEASURED, PREDICTED = (
    "each op timed alone on this machine",
    "predicted by the profile's latency model; no op was timed there",
)


def rank(folder: Path) -> dict[str, Any]:
    """The ops of the newest timed run in `folder`, a build's or one given to `edgekd bench --out`, slowest first.

    {"schema", "model", "profile", "basis", "whole_ms" (the run's p50), "sum_ms" (of the ops), "by_op": {op: ms},
    "ops": [{"index", "op", "tensor" (its output), "shape", "macs", "ms", "share" (of the sum)}]}

    Raises ModelFileError where there is no model, or no timed run of it, and ProfileError.
    """
    path, _ = find_model(folder)
    data = read_model(path)
    run = _newest(folder, data)
    graph, profile = read(data), load_profile(run.body["profile"])
    here = run.body["transport"] == HERE
    times = alone(data, run.body["runtime"]["threads"]) if here else predicted(graph, profile)
    total = sum(times)
    works = workload.work(graph)
    rows: list[dict[str, Any]] = [
        {
            "index": op.index,
            "op": op.name,
            "tensor": graph.tensors[op.outputs[0]].name,
            "shape": list(graph.tensors[op.outputs[0]].shape),
            "macs": row.macs,
            "ms": spent,
            "share": spent / total,
        }
        for op, row, spent in zip(graph.ops, works, times, strict=True)
    ]
    kinds = dict.fromkeys(op.name for op in graph.ops)
    by_op = {kind: sum(row["ms"] for row in rows if row["op"] == kind) for kind in kinds}
    return {
        "schema": SCHEMA,
        "model": str(path),
        "profile": profile.name,
        "basis": MEASURED if here else PREDICTED,
        "whole_ms": run.p50,
        "sum_ms": total,
        "by_op": dict(sorted(by_op.items(), key=lambda item: -item[1])),
        "ops": sorted(rows, key=lambda row: -row["ms"]),
    }


def _newest(folder: Path, data: bytes) -> Run:
    found = [run for run in kept(folder) if run.body["model_sha256"] == sha256(data)]
    if not found:
        raise ModelFileError(
            f"{folder / 'bench'} holds no timed run of this model",
            f"measure it: edgekd bench {folder} --profile NAME --out {folder}",
        )
    return found[-1]


def predicted(graph: LiteGraph, profile: DeviceProfile) -> list[float]:
    """Milliseconds of each op on a device, by its latency model; an op left to the CPU by the fallback's model.

    Raises ModelFileError where the profile, or its fallback, rests on no measurements.
    """
    mapped = map_model(graph, profile)
    sides = {
        True: profile,
        False: load_profile(profile.fallback_cpu) if profile.fallback_cpu else profile,
    }
    wanted = workload.precision(graph)

    def pricing(device: DeviceProfile) -> Callable[[Work], float]:
        if not device.latency or mapped.origin == "compiled file":
            raise ModelFileError(
                f"nothing tells what an op of this model costs on {device.name}",
                "measure on this machine (edgekd bench MODEL --profile host), or refit the profile",
            )
        model, _ = of_precision(latency.read(Path(device.latency)), wanted)

        def count(rows: Sequence[Work]) -> dict[str, float]:
            return (
                edgetpu_features(rows, 0.0)
                if device.mapper == "edgetpu"
                else workload.features(rows)
            )

        return lambda row: model.cost(count([row])) - model.cost(count([]))

    needed = {verdict.mapped for verdict in mapped.verdicts}
    price = {side: pricing(device) for side, device in sides.items() if side in needed}
    return [
        price[verdict.mapped](row)
        for row, verdict in zip(workload.work(graph), mapped.verdicts, strict=True)
    ]


def alone(data: bytes, threads: int) -> list[float]:
    """Milliseconds of each op of a .tflite as a model of its own: the median of at least RUNS runs, on zeros."""
    return [_timed(one, threads) for one in singles(data)]


def singles(data: bytes) -> list[bytes]:
    """Each op of a .tflite as a .tflite that takes the op's activations and gives its results. Raises ModelFileError."""
    parts = schema()
    graph = read(data)
    whole = parts.ModelT.InitFromObj(parts.Model.GetRootAs(data, 0))
    whole.metadata, whole.metadataBuffer, whole.signatureDefs, whole.description = [], [], [], ""
    found = []
    for op in graph.ops:
        used = list(dict.fromkeys(index for index in (*op.inputs, *op.outputs) if index >= 0))
        place = {index: number for number, index in enumerate(used)} | {-1: -1}
        model = copy.copy(whole)
        subgraph = copy.copy(whole.subgraphs[0])
        model.subgraphs = [subgraph]
        subgraph.tensors = [copy.copy(whole.subgraphs[0].tensors[index]) for index in used]
        model.buffers = [whole.buffers[0]] + [
            whole.buffers[tensor.buffer] for tensor in subgraph.tensors
        ]
        for number, tensor in enumerate(subgraph.tensors):
            tensor.buffer = number + 1
        operator = copy.copy(whole.subgraphs[0].operators[op.index])
        operator.inputs, operator.outputs = (
            [place[i] for i in op.inputs],
            [place[i] for i in op.outputs],
        )
        subgraph.operators = [operator]
        subgraph.inputs = [place[i] for i in op.inputs if i >= 0 and graph.tensors[i].data is None]
        subgraph.outputs = operator.outputs
        found.append(write(model))
    return found


def _timed(data: bytes, threads: int) -> float:
    interpreter = LiteRunner(data, threads=threads).interpreter
    for port in interpreter.get_input_details():
        interpreter.set_tensor(port["index"], np.zeros(port["shape"], port["dtype"]))
    warm = time.perf_counter() + WARM_S
    while time.perf_counter() < warm:
        interpreter.invoke()
    samples: list[float] = []
    started = time.perf_counter()
    while len(samples) < RUNS or time.perf_counter() - started < LEAST_S:
        before = time.perf_counter()
        interpreter.invoke()
        samples.append(time.perf_counter() - before)
    return statistics.median(samples) * 1e3
