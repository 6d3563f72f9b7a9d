"""LiteRT's classic `benchmark_model`: its flags for a run, and its result proto or its log as figures.

Flags and log lines: tflite/tools/benchmark (README.md, benchmark_model.cc, benchmark_tflite_model.cc, and
proto/benchmark_result.proto, whose field numbers are used here). The tool is never downloaded; a user names it, or has it
on PATH. What is read comes from a device and is not believed: sizes and types are checked.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd.core.errors import DeviceError, RecipeError

NAMES = (
    "benchmark_model",
    "android_aarch64_benchmark_model",
)  # as built, and as TensorFlow's nightly was named
VARIABLE = "EDGEKD_BENCHMARK_MODEL"
MODEL, PROTO = "model.tflite", "result.pb"
NNAPI_ENDED, NNAPI_NAMES = (
    35,
    29,
)  # API levels: deprecated since Android 15; accelerators have names since Android 10
MACHINES = {
    3: "x86",
    40: "armeabi",
    62: "x86_64",
    183: "arm64",
}  # ELF e_machine -> how Android's ABI names start
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
MISC = ("model_size_mb", "num_runs", "num_warmup_runs", "model_throughput_in_mb_per_sec")
MEMORY = ("init_footprint_kb", "overall_footprint_kb", "peak_mem_mb")
NUMBER = r"([0-9][0-9.]*(?:e[+-]?[0-9]+)?)"


@dataclass(frozen=True)
class AndroidDelegate:
    """Who runs the ops, by the name on the command line: xnnpack, none, gpu, or nnapi[:ACCELERATOR].

    Raises RecipeError for another name.
    """

    name: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"xnnpack|none|gpu|nnapi(:[A-Za-z0-9_.-]+)?", self.name):
            raise RecipeError(
                f"the delegate {self.name!r} is not one that runs over adb",
                "give xnnpack, none, gpu, nnapi or nnapi:ACCELERATOR",
            )

    @property
    def kind(self) -> str:
        return self.name.partition(":")[0]

    def flags(self) -> list[str]:
        """For benchmark_model. NNAPI may not fall back to its own CPU kernels, which would be measured as an accelerator."""
        accelerator = self.name.partition(":")[2]
        return {
            "xnnpack": ["--use_xnnpack=true"],
            "none": ["--use_xnnpack=false"],
            "gpu": ["--use_gpu=true", "--use_xnnpack=false"],
            "nnapi": [
                "--use_nnapi=true",
                "--use_xnnpack=false",
                "--disable_nnapi_cpu=true",
                *([f"--nnapi_accelerator_name={accelerator}"] if accelerator else []),
            ],
        }[self.kind]

    def warnings(self, api_level: int | None) -> list[str]:
        """What this Android version makes of it. Raises DeviceError where it cannot work."""
        if self.kind != "nnapi" or api_level is None:
            return []
        if ":" in self.name and api_level < NNAPI_NAMES:
            raise DeviceError(
                f"this device has API level {api_level}; NNAPI accelerators have names from {NNAPI_NAMES} on",
                "give --delegate nnapi without a name",
            )
        return ["NNAPI is deprecated since Android 15 (API level 35), which this device has"] * (
            api_level >= NNAPI_ENDED
        )


def find_tool(named: Path | None) -> Path:
    """The tool's file: as named, from $EDGEKD_BENCHMARK_MODEL, or on PATH. Raises DeviceError."""
    given = named or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)
    found = given or next((Path(path) for path in map(shutil.which, NAMES) if path), None)
    if found is None or not found.is_file():
        raise DeviceError(
            f"{given} is not a file"
            if given
            else "benchmark_model is not on PATH, and EdgeKD downloads none",
            "build it (LiteRT: bazel build -c opt --config=android_arm64 "
            f"//tflite/tools/benchmark:benchmark_model), then --benchmark-model FILE or {VARIABLE}=FILE",
        )
    return found


def check_architecture(tool: bytes, abi: str) -> None:
    """Raises DeviceError when an ELF file is of another machine than `abi`, Android's name such as "arm64-v8a"."""
    if tool[:4] != b"\x7fELF" or len(tool) < 20:
        return  # a script that starts the tool
    machine = MACHINES.get(struct.unpack_from("<H", tool, 18)[0], "an unknown machine")
    if abi and (machine == "an unknown machine" or re.split(r"[-]", abi)[0] != machine):
        raise DeviceError(
            f"this benchmark_model is built for {machine}, and the device runs {abi}",
            f"build it for {abi}",
        )


def arguments(delegate: AndroidDelegate, threads: int, runs: int, min_seconds: float) -> list[str]:
    """The tool's flags; the model and the proto lie in its working folder. It warms up for half a second by itself."""
    return [
        f"--graph={MODEL}",
        f"--num_threads={threads}",
        f"--num_runs={runs}",
        f"--min_secs={min_seconds:g}",
        "--report_peak_memory_footprint=true",
        f"--result_file_path={PROTO}",
        *delegate.flags(),
    ]


def figures(proto: bytes | None, log: str) -> dict[str, float]:
    """Milliseconds (`LATENCY` names), `MEMORY` and `MISC`: from the proto where it is there, then the log.

    Raises DeviceError when neither holds an average.
    """
    found = parse_log(log)
    if proto is not None:
        found.update(parse_proto(proto))
    if "avg" not in found:
        raise DeviceError(
            f"benchmark_model told no time{_last_error(log)}",
            "run it by hand in adb shell and read its log",
        )
    if any(not math.isfinite(value) or value < 0 for value in found.values()):
        raise DeviceError(
            "benchmark_model's figures are not numbers",
            "run it by hand in adb shell and read its log",
        )
    return found


def _last_error(log: str) -> str:
    lines = [
        line.strip()
        for line in log.splitlines()
        if re.search(r"error|fail|abort|not found|fault", line, re.IGNORECASE)
    ]
    return f"; it said: {lines[-1][:300]}" if lines else ""


def failed(exit_code: int, log: str) -> DeviceError:
    """The error of a tool that ended with another exit code than 0."""
    told = re.search(r"NNAPI accelerators available: \[([^\]]{0,500})\]", log)
    return DeviceError(
        f"benchmark_model ended with exit code {exit_code}{_last_error(log)}",
        f"accelerators there: {told.group(1).strip()}"
        if told
        else "try --delegate xnnpack; an op that this delegate does not know can end it",
    )


def parse_proto(data: bytes) -> dict[str, float]:
    """tflite.tools.benchmark.BenchmarkResult: LatencyMetrics (2), MemoryMetrics (3), MiscMetrics (4).

    Raises DeviceError when it is not such a message.
    """
    found: dict[str, float] = {}
    for number, value in _fields(data):
        names = {2: LATENCY, 3: MEMORY, 4: MISC}.get(number, ())
        if isinstance(value, bytes):
            found.update(
                {
                    names[field - 1]: inner
                    for field, inner in (_fields(value) if names else ())
                    if 1 <= field <= len(names) and not isinstance(inner, bytes)
                }
            )
    return found


def _fields(data: bytes) -> list[tuple[int, float | bytes]]:
    """(number, value) of a protobuf message: varints, 32-bit floats and byte strings. Raises DeviceError."""
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

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            found.append((key >> 3, float(varint())))
            continue
        size = varint() if key & 7 == 2 else {5: 4, 1: 8}.get(key & 7, len(data))
        if at + size > len(data):
            raise broken
        piece = data[at : at + size]
        at += size
        found.append(
            (
                key >> 3,
                piece if key & 7 == 2 else struct.unpack("<f" if size == 4 else "<d", piece)[0],
            )
        )
    return found


def parse_log(log: str) -> dict[str, float]:
    """Figures of the classic tool's log, of a very old one's, or of the newer LiteRT tool's."""
    found: dict[str, float] = {}

    def take(pattern: str, names: Mapping[str, float]) -> None:
        match = re.search(pattern, log)
        if match:
            for (name, unit), text in zip(names.items(), match.groups(), strict=True):
                try:
                    found[name] = round(float(text) * unit, 9)
                except ValueError:  # "1.2.3"
                    continue

    us = 1e-3
    take(
        f"Average inference timings in us: Warmup: {NUMBER}, Init: {NUMBER}, (?:Inference|no stats): {NUMBER}",
        {"average_warm_up": us, "init": us, "avg": us},
    )
    take(
        f"Inference timings in us: Init: {NUMBER}, First inference: {NUMBER}, Warmup \\(avg\\): {NUMBER}, "
        f"Inference \\(avg\\): {NUMBER}",
        {"init": us, "first_inference": us, "average_warm_up": us, "avg": us},
    )
    take(
        f"Memory footprint delta from the start of the tool \\(MB\\): init={NUMBER} overall={NUMBER}",
        {"init_footprint_kb": 1024, "overall_footprint_kb": 1024},
    )
    take(
        f"Overall peak memory footprint \\(MB\\) via periodic monitoring: {NUMBER}",
        {"peak_mem_mb": 1},
    )
    for pattern, name in (
        ("Model initialization", "init"),
        ("Warmup \\(first\\)", "first_inference"),
        ("Warmup \\(avg\\)", "average_warm_up"),
        ("Inference \\(avg\\)", "avg"),
        ("Inference \\(min\\)", "min"),
        ("Inference \\(max\\)", "max"),
        ("Inference \\(std\\)", "stddev"),
        ("Inference \\(median\\)", "median"),
        ("Inference \\(p5\\)", "p5"),
        ("Inference \\(p95\\)", "p95"),
    ):
        take(f"{pattern}: +{NUMBER} ms", {name: 1})
    counted = re.findall(r"^(?:INFO: )?count=(\d{1,9})( .*)?$", log, re.MULTILINE)
    if counted:
        count, rest = counted[
            -1 if len(counted) < 2 else 1
        ]  # the first tells of the warm-up, the second of the runs
        found["num_runs"] = float(count)
        for name, key in (
            ("min", "min"),
            ("max", "max"),
            ("stddev", "std"),
            ("median", "median"),
            ("p5", "p5"),
            ("p95", "p95"),
        ):
            match = re.search(rf"\b{key}={NUMBER}", rest)
            if match:
                found[name] = round(float(match.group(1)) * us, 9)
    return found


def taken(log: str, delegate: AndroidDelegate) -> list[str]:
    """What the log says of the delegate's share of the graph, as warnings; none when it took all."""
    rows = re.findall(
        r"Replacing (\d{1,6}) out of (\d{1,6}) node\(s\) with delegate \((\w{1,80})\) node, yielding "
        r"(\d{1,6}) partitions",
        log,
    )
    said = [
        f"{name} took {part} of {whole} ops in {pieces} parts; the rest ran on the CPU's built-in kernels"
        for part, whole, name, pieces in rows
        if part != whole
    ]
    if (
        not rows
        and delegate.kind in ("gpu", "nnapi")
        and not re.search(r"[Aa]pplied .*(GPU|NNAPI)", log)
    ):
        said.append(
            f"the log does not say that {delegate.kind} took any op: these may be times of the CPU"
        )
    return said[:10]


def latency(found: Mapping[str, float]) -> dict[str, Any]:
    """Schema edgekd.bench/1's "latency_ms"; what the tool does not tell is None, and it never tells single samples."""
    names = {
        "load": "init",
        "first": "first_inference",
        "p50": "median",
        "p90": "",
        "p95": "p95",
        "p99": "",
        "mean": "avg",
        "std": "stddev",
        "min": "min",
        "max": "max",
    }
    return {
        **{key: round(found[name], 6) if name in found else None for key, name in names.items()},
        "samples": [],
    }
