"""`edgekd report --why-slow`: the operators of a measured model, ranked by the time they take.

For a run on this machine, each operator is timed here as a model of its own, with the run's threads
and the runtime's default kernels. Alone, an operator finds its weights in the cache and its
neighbours idle, so the sum differs from the time of the whole model; the answer gives both. For a
run elsewhere, the times are predicted by the profile's latency model, operator by operator.
"""

from __future__ import annotations

import copy
import statistics
import time
from pathlib import Path
from typing import Final, Literal

import numpy as np

from edgekd.assessment import workload
from edgekd.assessment.check_record import Origin
from edgekd.assessment.model_placement import place_model
from edgekd.assessment.prediction import Pricing, pricing
from edgekd.core.artifacts import sha256
from edgekd.core.errors import ModelFileError
from edgekd.core.records import Record
from edgekd.device.bench_history import Run, kept
from edgekd.device.model_file import find_model, read_model
from edgekd.settings.device_profiles import DeviceProfile, load_profile
from edgekd.tflite.flatbuffer import LiteGraph, read, schema, write
from edgekd.tflite.runtime import LiteRunner

SCHEMA: Final = "edgekd.slow/1"
HERE = "local"  # the transport of a run on this machine
# An operator is first run for WARM_S seconds without timing, then at least RUNS times and for at
# least LEAST_S seconds. A MobileNetV2 takes about 2 s.
WARM_S = 0.005
RUNS = 20
LEAST_S = 0.01
MEASURED = "each op timed alone on this machine"
PREDICTED = "predicted by the profile's latency model; no op was timed there"


class SlowOp(Record, frozen=True):
    """One operator: its place in the graph, the name and shape of its output, and its time.

    `macs`: multiply-accumulates. `ms`: milliseconds. `share`: of the sum over all operators.
    """

    index: int
    op: str
    tensor: str
    shape: list[int]
    macs: int
    ms: float
    share: float


class Slowness(Record, frozen=True, kw_only=True):
    """The answer (schema edgekd.slow/1), slowest operators first.

    `whole_ms`: the run's p50. `sum_ms`: the operators together. `by_op`: {operator: ms}.
    """

    schema: Literal["edgekd.slow/1"] = SCHEMA
    model: str
    profile: str
    basis: str
    whole_ms: float
    sum_ms: float
    by_op: dict[str, float]
    ops: list[SlowOp]


def rank(folder: Path) -> Slowness:
    """Rank the operators of the newest timed run in a folder.

    `folder`: of a build, or the one given to `edgekd bench --out`. Raises ModelFileError where it
    holds no model, or no timed run of the model, and ProfileError.
    """
    path, _ = find_model(folder)
    data = read_model(path)
    run = _newest(folder, data)
    graph, profile = read(data), load_profile(run.bench.profile)
    here = run.bench.transport == HERE
    times = time_alone(data, run.bench.runtime.threads) if here else predicted(graph, profile)
    total = sum(times)
    rows = [
        SlowOp(
            index=op.index,
            op=op.name,
            tensor=graph.tensors[op.outputs[0]].name,
            shape=list(graph.tensors[op.outputs[0]].shape),
            macs=row.macs,
            ms=spent,
            share=spent / total,
        )
        for op, row, spent in zip(graph.ops, workload.work(graph), times, strict=True)
    ]
    kinds = dict.fromkeys(op.name for op in graph.ops)
    by_op = {kind: sum(row.ms for row in rows if row.op == kind) for kind in kinds}
    return Slowness(
        model=str(path),
        profile=profile.name,
        basis=MEASURED if here else PREDICTED,
        whole_ms=run.p50,
        sum_ms=total,
        by_op=dict(sorted(by_op.items(), key=lambda item: -item[1])),
        ops=sorted(rows, key=lambda row: -row.ms),
    )


def _newest(folder: Path, data: bytes) -> Run:
    found = [run for run in kept(folder) if run.bench.model_sha256 == sha256(data)]
    if not found:
        raise ModelFileError(
            f"{folder / 'bench'} holds no timed run of this model",
            f"measure it: edgekd bench {folder} --profile NAME --out {folder}",
        )
    return found[-1]


def predicted(graph: LiteGraph, profile: DeviceProfile) -> list[float]:
    """Milliseconds of each operator on a device, by its latency model.

    An operator left to the CPU is priced by the model of the fallback CPU. Raises ModelFileError
    where the profile, or its fallback CPU, has no measurements.
    """
    mapped = place_model(graph, profile)
    cpu = load_profile(profile.fallback_cpu) if profile.fallback_cpu else profile
    precision = workload.precision(graph)

    def priced(device: DeviceProfile) -> Pricing:
        found = pricing(device, precision) if mapped.origin is Origin.PREDICTED else None
        if found is None:
            raise ModelFileError(
                f"the cost of this model's operators on {device.name} is not known",
                "measure on this machine (edgekd bench MODEL --profile host), or fit the profile "
                "(edgekd profiles fit)",
            )
        return found

    needed = {one.mapped for one in mapped.placements}
    prices = {on: priced(profile if on else cpu) for on in needed}
    return [
        prices[one.mapped].one(row)
        for row, one in zip(workload.work(graph), mapped.placements, strict=True)
    ]


def time_alone(data: bytes, threads: int) -> list[float]:
    """Milliseconds of each operator of a .tflite as a model of its own, on zeros.

    Each is the median of at least RUNS runs.
    """
    return [_timed(one, threads) for one in single_ops(data)]


def single_ops(data: bytes) -> list[bytes]:
    """Each operator of a .tflite as a .tflite of its own.

    It takes the operator's activations and returns its results. Raises ModelFileError.
    """
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
        operator.inputs = [place[i] for i in op.inputs]
        operator.outputs = [place[i] for i in op.outputs]
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
