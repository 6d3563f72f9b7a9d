"""The output of LiteRT's `benchmark_model`, its result proto or its log, as figures.

Sources: tflite/tools/benchmark, proto/benchmark_result.proto (the field numbers used here), and
log_lines/ (the lines of the log). The output comes from a device, so sizes and types are checked.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping

from edgekd.core.errors import DeviceError
from edgekd.core.records import UNSET
from edgekd.device.bench_record import MOST, LatencyMs, MemoryKib
from edgekd.device.benchmark_tool import told_cause
from edgekd.device.log_lines import benchmark_lines
from edgekd.device.log_lines.line import NUMBER, Says, number
from edgekd.device.log_lines.reader import read_log

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

US = 1e-3  # milliseconds of a microsecond
KB = 1024  # kibibytes of a mebibyte, which the tools call MB
# a named group of the table, in mebibytes -> the figure in kibibytes
IN_KB = {
    "init_footprint_mb": "init_footprint_kb",
    "overall_footprint_mb": "overall_footprint_kb",
}
# figure -> its name in a line that starts with "count="
COUNTED = {
    "avg": "avg",
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
            f"benchmark_model told no time{told_cause(log)}",
            "run it by hand in adb shell and read its log",
        )
    if not all(0 <= value <= MOST for value in found.values()):  # NaN is in no order
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
    for tag, value in _fields(data):
        names = MESSAGES.get(tag, ())
        if isinstance(value, bytes) and names:
            for field, inner in _fields(value):
                if 1 <= field <= len(names) and not isinstance(inner, bytes):
                    found[names[field - 1]] = inner
    return found


def _fields(data: bytes) -> list[tuple[int, float | bytes]]:
    """(tag, value) of a protobuf message's varints, floats, doubles and byte strings.

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
        tag, wire_type = key >> 3, key & 7  # protobuf.dev, encoding: the tag of a field
        if wire_type == 0:
            found.append((tag, float(varint())))
        elif wire_type == 1:
            found.append((tag, struct.unpack("<d", piece(8))[0]))
        elif wire_type == 2:
            found.append((tag, piece(varint())))
        elif wire_type == 5:
            found.append((tag, struct.unpack("<f", piece(4))[0]))
        else:
            raise broken
    return found


def parse_log(log: str) -> dict[str, float]:
    """The figures of the log of benchmark_model, old or new, or of benchmark_litert_model.

    A figure that is told twice is taken from the line with more digits.
    """
    found: dict[str, float] = {}
    parts: list[dict[str, float]] = []  # of each line with a count
    for line in read_log(log):
        if line.line is benchmark_lines.COUNT:
            parts.append(_counted(line.groups))
        elif line.line is benchmark_lines.SESSION:
            found.setdefault("init", number(line.groups["init_ms"]) or 0.0)
        elif line.line is not None and line.line in FIGURES:
            unit = US if line.line in benchmark_lines.MICROSECONDS else 1.0
            for name, text in line.groups.items():
                value = number(text)
                if value is not None:
                    scale = KB if name in IN_KB else unit if name in TIMES else 1.0
                    found[IN_KB.get(name, name)] = round(value * scale, 9)
    if len(parts) > 1:
        # of two such lines, the first is about the warm-up and the second about the runs
        found["num_warmup_runs"] = parts[0]["num_runs"]
        found.update(parts[1])
    elif parts:  # a log that was cut: the mean may be the warm-up's
        found.update((name, value) for name, value in parts[0].items() if name != "avg")
    return found


TIMES = frozenset(LATENCY)  # in the units of their lines; everything else has one unit
FIGURES = tuple(line for line in benchmark_lines.LINES if line.says == Says.FIGURE)


def _counted(groups: Mapping[str, str]) -> dict[str, float]:
    """The figures of a line "count=50 first=... min=...", times in milliseconds.

    Runs that all took the same time have that one alone, as `curr`.
    """
    told = dict(re.findall(rf"(\w+)=({NUMBER})", groups["figures"]))
    found = {"num_runs": float(groups["count"])}
    for name, key in COUNTED.items():
        value = number(told[key]) if key in told else None
        if value is not None:
            found[name] = round(value * US, 9)
    same = number(told.get("curr", ""))
    if same is not None and "min" not in told:
        alike = dict.fromkeys(("avg", "min", "max", "median", "p5", "p95"), round(same * US, 9))
        found = {**alike, "stddev": 0.0, **found}
    return found


def memory(found: Mapping[str, float]) -> MemoryKib:
    """The "memory_kib" block. The tool tells the peak, and how much the process grew."""

    def kib(name: str, scale: float = 1.0) -> int | None:
        value = found.get(name, 0.0) * scale
        return round(value) if value > 0 else None

    loaded, run = kib("init_footprint_kb"), kib("overall_footprint_kb")
    return MemoryKib(
        None,
        None,
        kib("peak_mem_mb", KB),
        load_growth=UNSET if loaded is None else loaded,
        run_growth=UNSET if run is None else run,
    )


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
