"""The output of LiteRT's `benchmark_model`, its result proto or its log, as figures.

Sources: tflite/tools/benchmark, proto/benchmark_result.proto (the field numbers used here) and
benchmark_model.cc (the lines of the log). The output comes from a device, so sizes and types are
checked.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping

from edgekd.core.errors import DeviceError
from edgekd.device.bench_record import LatencyMs
from edgekd.device.benchmark_tool import last_error

# The fields of the proto's messages, in the order of their numbers, from 1 on. Latencies are in
# milliseconds.
LATENCY = (
    "avg",
    "min",
    "max",
    "stddev",
    "median",
    "p5",
    "p95",
    "init",
    "first_inference",
    "average_warm_up",
)
MEMORY = ("init_footprint_kb", "overall_footprint_kb", "peak_mem_mb")
MISC = ("model_size_mb", "num_runs", "num_warmup_runs", "model_throughput_in_mb_per_sec")
# The number of a message in BenchmarkResult -> its fields
MESSAGES = {2: LATENCY, 3: MEMORY, 4: MISC}

NUMBER = r"([0-9][0-9.]*(?:e[+-]?[0-9]+)?)"
US = 1e-3  # milliseconds of a microsecond
# (pattern of a line, {figure: unit of the group}), of the classic tool's log, an older one's, and
# the newer LiteRT tool's
LINES: tuple[tuple[str, dict[str, float]], ...] = (
    (
        (
            f"Average inference timings in us: Warmup: {NUMBER}, Init: {NUMBER}, "
            f"(?:Inference|no stats): {NUMBER}"
        ),
        {"average_warm_up": US, "init": US, "avg": US},
    ),
    (
        (
            f"Inference timings in us: Init: {NUMBER}, First inference: {NUMBER}, "
            f"Warmup \\(avg\\): {NUMBER}, Inference \\(avg\\): {NUMBER}"
        ),
        {"init": US, "first_inference": US, "average_warm_up": US, "avg": US},
    ),
    (
        (
            "Memory footprint delta from the start of the tool \\(MB\\): "
            f"init={NUMBER} overall={NUMBER}"
        ),
        {"init_footprint_kb": 1024, "overall_footprint_kb": 1024},
    ),
    (
        f"Overall peak memory footprint \\(MB\\) via periodic monitoring: {NUMBER}",
        {"peak_mem_mb": 1},
    ),
    (f"Model initialization: +{NUMBER} ms", {"init": 1}),
    (f"Warmup \\(first\\): +{NUMBER} ms", {"first_inference": 1}),
    (f"Warmup \\(avg\\): +{NUMBER} ms", {"average_warm_up": 1}),
    (f"Inference \\(avg\\): +{NUMBER} ms", {"avg": 1}),
    (f"Inference \\(min\\): +{NUMBER} ms", {"min": 1}),
    (f"Inference \\(max\\): +{NUMBER} ms", {"max": 1}),
    (f"Inference \\(std\\): +{NUMBER} ms", {"stddev": 1}),
    (f"Inference \\(median\\): +{NUMBER} ms", {"median": 1}),
    (f"Inference \\(p5\\): +{NUMBER} ms", {"p5": 1}),
    (f"Inference \\(p95\\): +{NUMBER} ms", {"p95": 1}),
)
# figure -> its name in a line that starts with "count="
COUNTED = {
    "min": "min",
    "max": "max",
    "stddev": "std",
    "median": "median",
    "p5": "p5",
    "p95": "p95",
}


def figures(proto: bytes | None, log: str) -> dict[str, float]:
    """The figures named in LATENCY, MEMORY and MISC: from the proto if there is one, else the log.

    Raises DeviceError when neither holds an average, or a figure is no number.
    """
    found = parse_log(log)
    if proto is not None:
        found.update(parse_proto(proto))
    if "avg" not in found:
        raise DeviceError(
            f"benchmark_model told no time{last_error(log)}",
            "run it by hand in adb shell and read its log",
        )
    if any(not math.isfinite(value) or value < 0 for value in found.values()):
        raise DeviceError(
            "benchmark_model's figures are not numbers",
            "run it by hand in adb shell and read its log",
        )
    return found


def parse_proto(data: bytes) -> dict[str, float]:
    """The figures of a serialized tflite.tools.benchmark.BenchmarkResult.

    Raises DeviceError when `data` is not such a message.
    """
    found: dict[str, float] = {}
    for number, value in _fields(data):
        names = MESSAGES.get(number, ())
        if isinstance(value, bytes) and names:
            for field, inner in _fields(value):
                if 1 <= field <= len(names) and not isinstance(inner, bytes):
                    found[names[field - 1]] = inner
    return found


def _fields(data: bytes) -> list[tuple[int, float | bytes]]:
    """(number, value) of a protobuf message's varints, floats, doubles and byte strings.

    Raises DeviceError.
    """
    broken = DeviceError("the result file of benchmark_model is damaged", "run it again")
    found: list[tuple[int, float | bytes]] = []
    at = 0

    def varint() -> int:
        nonlocal at
        value = 0
        for shift in range(0, 70, 7):
            if at >= len(data):
                raise broken
            at += 1
            value |= (data[at - 1] & 0x7F) << shift
            if data[at - 1] < 0x80:
                return value
        raise broken

    def piece(size: int) -> bytes:
        nonlocal at
        if at + size > len(data):
            raise broken
        at += size
        return data[at - size : at]

    while at < len(data):
        key = varint()
        number, wire_type = key >> 3, key & 7  # protobuf.dev, encoding: the tag of a field
        if wire_type == 0:
            found.append((number, float(varint())))
        elif wire_type == 1:
            found.append((number, struct.unpack("<d", piece(8))[0]))
        elif wire_type == 2:
            found.append((number, piece(varint())))
        elif wire_type == 5:
            found.append((number, struct.unpack("<f", piece(4))[0]))
        else:
            raise broken
    return found


def parse_log(log: str) -> dict[str, float]:
    """The figures of the classic tool's log, of an older one's, or of the newer LiteRT tool's."""
    found: dict[str, float] = {}
    for pattern, units in LINES:
        match = re.search(pattern, log)
        if match:
            for (name, unit), text in zip(units.items(), match.groups(), strict=True):
                _keep(found, name, text, unit)
    counted = re.findall(r"^(?:INFO: )?count=(\d{1,9})( .*)?$", log, re.MULTILINE)
    if counted:
        # of two such lines, the first is about the warm-up and the second about the runs
        count, rest = counted[min(1, len(counted) - 1)]
        found["num_runs"] = float(count)
        for name, key in COUNTED.items():
            match = re.search(rf"\b{key}={NUMBER}", rest)
            if match:
                _keep(found, name, match.group(1), US)
    return found


def _keep(found: dict[str, float], name: str, text: str, unit: float) -> None:
    try:
        found[name] = round(float(text) * unit, 9)
    except ValueError:  # such as "1.2.3"
        return


def latency(found: Mapping[str, float]) -> LatencyMs:
    """The "latency_ms" block. The tool never gives single samples, p90 or p99."""

    def ms(name: str) -> float | None:
        return round(found[name], 6) if name in found else None

    return LatencyMs(
        load=ms("init"),
        first=ms("first_inference"),
        p50=ms("median"),
        p90=None,
        p95=ms("p95"),
        p99=None,
        mean=ms("avg"),
        std=ms("stddev"),
        min=ms("min"),
        max=ms("max"),
        samples=[],
    )
