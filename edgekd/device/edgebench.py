"""The device runner: times one TFLite model on this machine and checks its golden answers.

It writes one JSON file, with the schema edgekd.bench/1 (`Result` below) or, for a run that failed,
edgekd.bench-error/1 (`ErrorJson`).

It is copied to the device alone. It needs Python 3.9 or newer, the standard library, numpy and one
TFLite runtime (ai-edge-litert, tflite-runtime or tensorflow), and imports nothing of edgekd. It is
run as

    python3 -I edgebench.py --model model.tflite --golden golden.npz --threads 4 --json out.json

The process that is started only watches. It starts a second process that loads the model. So a
model or a runtime that kills its process is reported as an error in the same JSON file. The second
process times the call to `invoke` alone, as TFLite's benchmark_model does: copies of the input and
the output are not counted.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import ctypes
import gc
import hashlib
import importlib
import io
import json
import math
import os
import platform
import re
import signal
import statistics
import struct
import subprocess
import sys
import sysconfig
import threading
import time
import zipfile
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, NoReturn, TypedDict, cast

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

VERSION = "1.4"
SCHEMA = "edgekd.bench/1"
ERROR_SCHEMA = "edgekd.bench-error/1"

EXIT_DONE = 0
EXIT_BAD_INPUT = 2
EXIT_DEVICE = 3
EXIT_INTERRUPTED = 130

MAX_SAMPLES = 20_000  # a model of 50 us fills this in a second; percentiles gain nothing from more
# The longest warm-up. A Pi 4 reaches its working clock (ondemand governor) well before.
WARMUP_SECONDS = 10.0
WARMUP_WINDOW = 5  # runs in each of the two windows whose medians are compared
WARMUP_TOLERANCE = 0.05  # the medians of the two windows may differ by this share
MAX_SECONDS = 150.0  # of timed runs, as benchmark_model's --max_secs
TIMEOUT_S = 600.0  # for everything but a soak
MAX_GOLDEN_BYTES = 256 * 2**20  # unpacked; half of a 512 MiB board
# Lines of a dead child's stderr that are kept: the first ones, since the first error is the cause
# of the others, and the last ones, since a traceback ends with its error.
HEAD_LINES = 20
TAIL_LINES = 20
SOAK_WINDOWS = 120  # points of a soak's trace: enough to draw, and a vcgencmd call each
SOAK_LEAST_WINDOW_S = 0.2  # a window must be long next to the time that reading the clock takes
# A soak that is slower at its end by this share, or whose clock is lower, counts: above run-to-run
# noise.
SLOWER = 0.05
# The answer of `vcgencmd get_throttled`.
THROTTLED_LINE = r"throttled=(?P<word>0x[0-9a-fA-F]{1,8})"
# Its word (raspberrypi/documentation, vcgencmd): bit 0 under-voltage,
# 1 clock capped, 2 throttled, 3 soft temperature limit. They hold now; the same bits, shifted by
# THROTTLED_PAST, say that it has happened since the board was started.
THROTTLED_NOW = 0xF
THROTTLED_PAST = 16
THROTTLED_BITS = (
    "under-voltage",
    "a capped clock",
    "throttling",
    "the soft temperature limit",
)
MAX_CORE = 1023  # CPU_SETSIZE, sched.h
# Coral's Debian packages libedgetpu1-std and -max install it under this name.
EDGE_TPU_LIBRARY = "libedgetpu.so.1"
# The lowest and the highest code of each integer type that takes pixels.
CODES = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}
TIE = 1e-3  # codes; scales are float32, so a tie is known to about 128 * 2^-24 = 8e-6 codes

# The least and the most value of each setting.
LIMITS: dict[str, tuple[float, float]] = {
    "threads": (1, 256),
    "runs": (1, MAX_SAMPLES),
    "min_seconds": (0, MAX_SECONDS),
    "warmup_runs": (0, MAX_SAMPLES),
    "seed": (0, 2**32 - 1),
    "timeout_s": (0.1, 86_400),
    "soak_minutes": (0.01, 720),
}

# Tried in this order: module, the class inside it, the prefix of its delegate functions, its
# package.
RUNTIMES = (
    ("ai_edge_litert.interpreter", "Interpreter", "", "ai-edge-litert"),
    ("tflite_runtime.interpreter", "Interpreter", "", "tflite-runtime"),
    ("tensorflow", "lite.Interpreter", "lite.experimental.", "tensorflow"),
)

Progress = Callable[[float], None]  # is called with a share from 0 to 1


# The JSON that is written -----------------------------------------------------------------------
# None stands for what this machine does not tell.


class Machine(TypedDict):
    """What tells this machine from others."""

    node: str
    machine: str
    cpu: str | None
    cores: int


class Conditions(TypedDict):
    """Clock in kHz, temperature in degrees Celsius, and the Raspberry Pi's throttling flags
    ("0x0").
    """

    clock_khz: int | None
    temperature_c: float | None
    throttled: str | None


class Throttled(TypedDict):
    """The throttling flags before and after the run."""

    before: str
    after: str


class HostBefore(TypedDict):
    """Clock and temperature before the run."""

    clock_khz: int | None
    temperature_c: float | None


class Host(TypedDict):
    """The machine; clock and temperature are those after the run."""

    machine: str
    cpu: str | None
    cores: int
    kernel: str
    python: str
    governor: str | None
    clock_khz: int | None
    temperature_c: float | None
    throttled: Throttled | None
    before: HostBefore


class RuntimeUsed(TypedDict):
    """The TFLite runtime, and who ran the operators."""

    name: str
    version: str
    threads: int
    delegate: str | None


class Settings(TypedDict):
    """How the times were taken; `warmup_runs` counts the runs that were made."""

    warmup_runs: int
    runs: int
    min_seconds: float
    seed: int
    cores: list[int] | None


class Percentiles(TypedDict):
    """Milliseconds of the timed runs, to a nanosecond."""

    p50: float
    p90: float
    p95: float
    p99: float
    mean: float
    std: float
    min: float
    max: float
    samples: list[float]


class Latency(Percentiles):
    """The same, with the time to load the model and the time of the first inference."""

    load: float
    first: float


class Memory(TypedDict):
    """Resident memory in KiB: before the model, with it, and at most."""

    baseline: int | None
    after_load: int | None
    peak: int | None


class FurtherAnswers(TypedDict):
    """An output behind the answers: the golden images that were compared, and the largest
    difference in codes.
    """

    name: str
    images: int
    max_abs_lsb: int | None


class GoldenShares(TypedDict):
    """Shares of answers that equal the golden ones and the labels; the largest difference
    in codes.
    """

    images: int
    argmax_agreement: float
    max_abs_lsb: int | None
    top1: float


class GoldenAnswers(GoldenShares, total=False):
    """The same, with the other outputs of a model that has several."""

    further: list[FurtherAnswers]


class SoakWindow(Conditions):
    """One row of a soak's trace."""

    at_s: float
    p50_ms: float
    runs: int


class SoakVerdict(TypedDict):
    """Whether the machine held its speed: "steady", "slows" or "throttles", by how much,
    and why.
    """

    verdict: str
    slowdown: float
    reason: str


class Soak(SoakVerdict):
    """A run without a pause."""

    minutes: float
    trace: list[SoakWindow]


class Measured(TypedDict):
    """What the process that loads the model finds."""

    runtime: RuntimeUsed
    host: Host
    settings: Settings
    latency_ms: Latency
    memory_kib: Memory
    golden: GoldenAnswers | None
    output_sha256: str
    soak: Soak | None
    warnings: list[str]


class Result(Measured):
    """The whole JSON of a measurement."""

    schema: str
    model_sha256: str
    runner_version: str


class ErrorJson(TypedDict):
    """The whole JSON of a run that failed."""

    schema: str
    runner_version: str
    kind: str
    message: str
    next_step: str


class BenchError(Exception):
    """A run that failed. `kind` is model, golden, runtime, delegate, crash, timeout or device."""

    def __init__(self, kind: str, message: str, next_step: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.next_step = next_step

    @property
    def exit_code(self) -> int:
        """2 when the given files are at fault, 3 when this machine is."""
        return EXIT_BAD_INPUT if self.kind in ("model", "golden") else EXIT_DEVICE

    def to_json(self) -> ErrorJson:
        """The error as it is written in the place of a result."""
        return {
            "schema": ERROR_SCHEMA,
            "runner_version": VERSION,
            "kind": self.kind,
            "message": self.message,
            "next_step": self.next_step,
        }


class BadModelError(BenchError):
    """A file that is not a whole TFLite flatbuffer."""

    def __init__(self, message: str, next_step: str = "copy or build the model again") -> None:
        super().__init__("model", message, next_step)


# The flatbuffer, before any runtime sees it -----------------------------------------------------


class _Flatbuffer:
    """Bounds-checked reading of a flatbuffer.

    A step that would leave the file raises BadModelError.
    """

    def __init__(self, data: bytes) -> None:
        self.data = memoryview(data)
        self.end = 0  # of everything that was read so far

    def need(self, start: int, size: int, what: str) -> None:
        if start < 0 or start + size > len(self.data):
            raise BadModelError(
                f"the file is cut short or damaged: {what} lies at bytes {start} to "
                f"{start + size}, and the file has {len(self.data)}"
            )
        self.end = max(self.end, start + size)

    def number(self, code: str, at: int, what: str) -> int:
        self.need(at, struct.calcsize(code), what)
        return int(struct.unpack_from("<" + code, self.data, at)[0])

    def follow(self, at: int, what: str) -> int:
        """The place to which the offset at `at` points."""
        return at + self.number("I", at, what)

    def table(self, at: int, what: str) -> int:
        """`at`, after a check that the table and its vtable lie inside the file."""
        vtable = at - self.number("i", at, what)
        size = self.number("H", vtable, what)
        if size < 4 or size % 2:
            raise BadModelError(
                f"the file is damaged: the vtable of {what} says it has {size} bytes"
            )
        self.need(vtable, size, what)
        self.need(at, self.number("H", vtable + 2, what), what)
        return at

    def field(self, table: int, index: int) -> int:
        """The place of field `index` of a checked table; 0 when the field is not set."""
        vtable = table - self.number("i", table, "a table")
        slot = 4 + 2 * index
        if slot >= self.number("H", vtable, "a vtable"):
            return 0
        offset = self.number("H", vtable + slot, "a vtable")
        return table + offset if offset else 0

    def scalar(self, table: int, index: int, code: str) -> int:
        at = self.field(table, index)
        return self.number(code, at, "a field") if at else 0

    def vector(self, table: int, index: int, item_size: int, what: str) -> tuple[int, int]:
        """(first byte, number of items) of a vector field; (0, 0) when the field is not set."""
        at = self.field(table, index)
        if not at:
            return 0, 0
        start = self.follow(at, what)
        count = self.number("I", start, what)
        self.need(start + 4, count * item_size, what)
        return start + 4, count

    def tables(self, table: int, index: int, what: str) -> list[int]:
        """The tables of a vector of tables, each checked."""
        start, count = self.vector(table, index, 4, what)
        return [self.table(self.follow(start + 4 * i, what), f"{what} {i}") for i in range(count)]

    def text(self, table: int, index: int, what: str) -> None:
        """Check a string field, its closing NUL included."""
        start, length = self.vector(table, index, 1, what)
        self.need(start, length + 1 if start else 0, what)

    def child(self, table: int, index: int, what: str) -> int:
        """The table to which a field points, checked; 0 when the field is not set."""
        at = self.field(table, index)
        return self.table(self.follow(at, what), what) if at else 0

    def indices(self, table: int, index: int, below: int, what: str) -> None:
        """Check a vector of int32 tensor numbers: from -1 (left out) to `below` - 1."""
        start, count = self.vector(table, index, 4, what)
        self.need(start, 4 * count, what)
        for value in struct.unpack_from(f"<{count}i", self.data, start):
            if not -1 <= value < below:
                raise BadModelError(
                    f"the file is damaged: {what} name tensor {value}, and there are {below}"
                )


def check_model(data: bytes) -> None:
    """Raises BadModelError for bytes that are not a whole TFLite flatbuffer.

    Runtimes read flatbuffers without a verifier, so a file that is cut short can make them read
    outside it. Checked are the identifier, and that every offset, vector and index lies inside its
    bounds. Field numbers are those of TFLite's schema.fbs (version 3).
    """
    if len(data) < 8:
        raise BadModelError(f"the file has {len(data)} bytes; a TFLite model has more")
    if data[4:8] != b"TFL3":
        raise BadModelError(
            f"not a TFLite model: bytes 4 to 8 are {bytes(data[4:8])!r}, not b'TFL3'",
            "give a .tflite file",
        )
    flat = _Flatbuffer(data)
    model = flat.table(flat.follow(0, "the model"), "the model")
    codes = flat.tables(model, 1, "operator code")
    for code in codes:
        flat.text(code, 1, "the name of a custom operator")
    buffers = flat.tables(model, 4, "buffer")
    _check_buffers(flat, buffers)
    flat.text(model, 3, "the description")
    for entry in flat.tables(model, 6, "metadata"):
        flat.text(entry, 0, "the name of a metadata entry")
    subgraphs = flat.tables(model, 2, "subgraph")
    if not subgraphs:
        raise BadModelError("the file has no subgraph, so there is nothing to run")
    for subgraph in subgraphs:
        _check_subgraph(flat, subgraph, len(codes), len(buffers))
    appended = data[flat.end : flat.end + 20].lstrip(b"\0")
    if appended.startswith(b"PK\x03\x04") and not zipfile.is_zipfile(io.BytesIO(data)):
        raise BadModelError(
            "the file is cut short: the label files appended to the model, a zip, have no end"
        )


def _check_buffers(flat: _Flatbuffer, buffers: list[int]) -> None:
    for number, buffer in enumerate(buffers):
        flat.vector(buffer, 0, 1, f"the data of buffer {number}")
        offset, size = flat.scalar(buffer, 1, "Q"), flat.scalar(buffer, 2, "Q")
        if offset > 1:  # 0 and 1 mean: no data outside the flatbuffer
            flat.need(offset, size, f"the data of buffer {number}")


def _check_subgraph(flat: _Flatbuffer, subgraph: int, codes: int, buffers: int) -> None:
    flat.text(subgraph, 4, "the name of a subgraph")
    tensors = flat.tables(subgraph, 0, "tensor")
    for number, tensor in enumerate(tensors):
        flat.vector(tensor, 0, 4, f"the shape of tensor {number}")
        flat.text(tensor, 3, f"the name of tensor {number}")
        if flat.scalar(tensor, 2, "I") >= buffers:
            raise BadModelError(
                f"the file is damaged: tensor {number} names a buffer that is not there"
            )
        what = f"the quantization of tensor {number}"
        quantization = flat.child(tensor, 4, what)
        if quantization:
            # min, max and scale are floats, zero_point is int64
            for index, item_size in ((0, 4), (1, 4), (2, 4), (3, 8)):
                flat.vector(quantization, index, item_size, what)
    flat.indices(subgraph, 1, len(tensors), "the inputs")
    flat.indices(subgraph, 2, len(tensors), "the outputs")
    for number, operator in enumerate(flat.tables(subgraph, 3, "operator")):
        if flat.scalar(operator, 0, "I") >= codes:
            raise BadModelError(
                f"the file is damaged: operator {number} names an operator code that is not there"
            )
        flat.indices(operator, 1, len(tensors), f"the inputs of operator {number}")
        flat.indices(operator, 2, len(tensors), f"the outputs of operator {number}")
        flat.child(operator, 4, f"the options of operator {number}")
        flat.vector(operator, 5, 1, f"the custom options of operator {number}")


# Pixels to input codes --------------------------------------------------------------------------


def pixel_codes(
    pixels: Array,
    dtype: str,
    scale: float,
    zero_point: int,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> Array:
    """The input of a network for stored pixels: uint8 [..., c] in, `dtype` [..., c] out.

    Without `mean` and `std`, an 8-bit input takes the pixel itself: the int8 code is pixel - 128,
    and the uint8 code is the pixel. EdgeKD's models are built so
    (`edgekd.tflite.int8_rules.input_range`), and an app needs one XOR.

    With `mean` or `std` (one number, or one for each channel; 0.5 for the one left out), the
    tensor's own quantization decides, as for a model from elsewhere: real = (pixel / 255 - mean) /
    std, and code = clip(round(real / scale) + zero_point). A tie (within TIE codes) is rounded up,
    or down where rounding up would lift the brightest pixel out of the range of codes. So for mean
    = std = 0.5 and scale = 1/127.5, the int8 code is pixel - 128 with zero point 0 and with -1. An
    int16 input always takes the code by its quantization, and a float32 input takes `real`.

    Raises ValueError for another dtype, and when `mean` or `std` does not fit the channels.
    """
    import numpy as np

    channels = pixels.shape[-1]
    if dtype not in CODES and dtype != "float32":
        raise ValueError(
            f"an input of type {dtype} takes no pixels; {', '.join(CODES)} and float32 do"
        )
    low, high = CODES.get(dtype, (0, 255))
    level = np.arange(256, dtype=np.float64)[:, None]
    middle, spread = ([0.5] if mean is None else mean), ([0.5] if std is None else std)
    if {len(middle), len(spread)} - {1, channels}:
        raise ValueError(
            f"mean has {len(middle)} numbers and std {len(spread)}; the images have {channels} "
            "channels"
        )
    real = np.broadcast_to(
        (level / 255.0 - np.asarray(middle, float)) / np.asarray(spread, float), (256, channels)
    )
    if dtype == "float32":
        table = real.astype(np.float32)
    # Without a scale, there is no rule to apply.
    elif dtype != "int16" and ((mean is None and std is None) or not scale):
        table = np.broadcast_to(level + low, (256, channels)).astype(dtype)
    else:
        exact = real / (scale or 1.0) + zero_point
        up, down = np.floor(exact + 0.5 + TIE), np.ceil(exact - 0.5 - TIE)
        table = np.clip(np.where(up.max(axis=0) <= high, up, down), low, high).astype(dtype)
    return np.asarray(table[pixels, np.arange(channels)])


# What this machine says of itself ---------------------------------------------------------------

# MIDR part numbers, from Arm's reference manuals
CPU_PARTS = {
    "0xd03": "Cortex-A53",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd0b": "Cortex-A76",
    "0xd0d": "Cortex-A77",
    "0xd05": "Cortex-A55",
}
CPU = "/sys/devices/system/cpu/cpu0/cpufreq/"


def _read(path: str) -> str | None:
    """The stripped text of a short file of the kernel; None when the file is not there."""
    try:
        with Path(path).open(encoding="utf-8", errors="replace") as file:
            return file.read(65536).strip("\0 \t\r\n") or None
    except OSError:
        return None


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"-?\d{1,15}", text) else None


def _field(text: str, key: str) -> str | None:
    found = re.search(rf"^{re.escape(key)}\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else None


def cpu_name() -> str | None:
    """The board with its core ("Raspberry Pi 4 Model B Rev 1.4 (Cortex-A72)"), or the processor's
    name.
    """
    info = _read("/proc/cpuinfo") or ""
    part = _field(info, "CPU part")
    board = _read("/proc/device-tree/model") or _field(info, "Model")
    core = CPU_PARTS.get(part.lower(), f"Arm part {part}") if part else None
    if board:
        return f"{board} ({core})" if core else board
    return _field(info, "model name") or core or platform.processor() or None


def temperature_c() -> float | None:
    """Temperature of the processor's thermal zone, or else of the first zone."""
    zones = [f"/sys/class/thermal/thermal_zone{number}/" for number in range(16)]
    zones.sort(key=lambda zone: "cpu" not in (_read(zone + "type") or ""))
    for zone in zones:
        value = _whole(_read(zone + "temp"))
        if value is not None:
            return value / 1000.0
    return None


def throttled() -> str | None:
    """The Raspberry Pi's flags of under-voltage and throttling ("0x50005"); None on other
    machines.
    """
    try:
        answer = subprocess.run(
            ["vcgencmd", "get_throttled"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=5,
            check=False,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.fullmatch(THROTTLED_LINE, answer.decode("ascii", "replace").strip())
    return found.group("word") if found else None


def throttled_during(words: Sequence[str | None]) -> int:
    """What happened between the first and the last of these throttling words, as bits 0 to 3.

    A bit counts when a word has it now, or when it newly appears among the bits about the past. A
    bit about the past that was set from the start may stem from before: it says nothing.
    """
    known = [int(word, 16) for word in words if word is not None]
    if not known:
        return 0
    now, past = 0, 0
    for word in known:
        now |= word & THROTTLED_NOW
        past |= word >> THROTTLED_PAST & THROTTLED_NOW
    return now | past & ~(known[0] >> THROTTLED_PAST)


def throttled_names(bits: int) -> str:
    """Bits 0 to 3 in words, such as "under-voltage and throttling"."""
    return " and ".join(name for place, name in enumerate(THROTTLED_BITS) if bits >> place & 1)


def cores() -> int:
    """Cores that this process may run on: fewer than the machine has in a container or under
    taskset.
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> Machine:
    """What tells this machine from others: its network name, architecture, processor and cores."""
    return {
        "node": platform.node(),
        "machine": platform.machine(),
        "cpu": cpu_name(),
        "cores": cores(),
    }


def conditions() -> Conditions:
    """Clock, temperature and throttling as they are now."""
    return {
        "clock_khz": _whole(_read(CPU + "scaling_cur_freq")),
        "temperature_c": temperature_c(),
        "throttled": throttled(),
    }


def host_facts(before: Conditions, after: Conditions) -> Host:
    """The JSON's "host", from the `conditions()` before and after the run."""
    throttled = None
    if before["throttled"] is not None and after["throttled"] is not None:
        throttled = Throttled(before=before["throttled"], after=after["throttled"])
    return {
        "machine": platform.machine(),
        "cpu": cpu_name(),
        "cores": cores(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "governor": _read(CPU + "scaling_governor"),
        "clock_khz": after["clock_khz"],
        "temperature_c": after["temperature_c"],
        "throttled": throttled,
        "before": {
            "clock_khz": before["clock_khz"],
            "temperature_c": before["temperature_c"],
        },
    }


def host_warnings(host: Host, threads: int) -> list[str]:
    """Reasons why the times of this run can hardly be compared with others."""
    notes = []
    if host["governor"] not in (None, "performance"):
        notes.append(
            f"the clock is governed by {host['governor']!r}; for steady times: echo performance | "
            "sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
        )
    if threads > host["cores"]:
        notes.append(f"{threads} threads on {host['cores']} usable cores")
    flags = host["throttled"]
    bits = throttled_during([flags["before"], flags["after"]]) if flags else 0
    if flags and bits:
        notes.append(
            f"the board was throttled or lacked voltage during this run: {throttled_names(bits)} "
            f"(get_throttled {flags['before']} before, {flags['after']} after): these times are "
            "not the board's; cool it or change its power supply, and run again"
        )
    earlier, later = host["before"]["clock_khz"], host["clock_khz"]
    if earlier and later and later < earlier * (1 - SLOWER):
        notes.append(
            f"the clock fell from {earlier / 1000:.0f} to {later / 1000:.0f} MHz during the run: "
            "the machine throttles, or its governor lowers the clock"
        )
    return notes


# Memory, in KiB ---------------------------------------------------------------------------------


def _status_kib(key: str) -> int | None:
    value = _field(_read("/proc/self/status") or "", key)
    return _whole(value.split()[0]) if value else None


def resident_kib() -> int | None:
    """Resident memory of this process: from smaps_rollup, which counts exactly, or VmRSS.

    None on systems other than Linux, as for the functions below.
    """
    value = _field(_read("/proc/self/smaps_rollup") or "", "Rss")
    return _whole(value.split()[0]) if value else _status_kib("VmRSS")


def peak_kib() -> int | None:
    """The most resident memory since `forget_peak` (VmHWM)."""
    return _status_kib("VmHWM")


def forget_peak() -> None:
    """Reset VmHWM to the memory that is resident now, where the kernel allows it (proc(5),
    clear_refs 5).
    """
    with (
        contextlib.suppress(OSError),
        Path("/proc/self/clear_refs").open("w", encoding="ascii") as file,
    ):
        file.write("5")


# Measuring, in the process that loads the model -------------------------------------------------


class Runtime:
    """A TFLite runtime that was imported: its Interpreter class, package, version and delegates."""

    def __init__(self, module: Any, interpreter: str, delegates: str, package: str) -> None:
        self.interpreter = _within_module(module, interpreter)
        self.load_delegate = _within_module(module, delegates + "load_delegate")
        self.resolvers = _within_module(module, delegates + "OpResolverType")
        self.name = package
        self.version = metadata.version(package)

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    def load(self, model: str, threads: int, delegate: Delegate) -> Any:
        """An interpreter with its tensors allocated. Raises BenchError "model" or "delegate"."""
        words: dict[str, object] = {"model_path": model, "num_threads": threads}
        if delegate.kind == "none":
            words["experimental_op_resolver_type"] = (
                self.resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            )
        if delegate.library:
            try:
                words["experimental_delegates"] = [
                    self.load_delegate(delegate.library, delegate.options)
                ]
            except (OSError, ValueError, RuntimeError) as error:
                raise BenchError(
                    "delegate",
                    f"the delegate {delegate} cannot be loaded from {delegate.library}: "
                    f"{_one_line(error) or 'it gives no reason'}",
                    delegate.advice,
                ) from error
        try:
            interpreter = self.interpreter(**words)
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            compiled = "edgetpu-custom-op" in str(error)
            raise BenchError(
                "model",
                f"{self} refuses {model}: {_one_line(error)}",
                "this file was compiled for the Edge TPU: give --delegate edgetpu on a machine "
                "that has one, or the model from which it was compiled"
                if compiled
                else "see the operator and its version in the message; a newer runtime may know it",
            ) from error
        return interpreter


class Delegate:
    """Who runs the operators, by a name on the command line.

    auto: what the runtime does by itself. xnnpack: the same, with an error when XNNPACK took no
    operator. none: the built-in kernels. edgetpu[:DEVICE]: libedgetpu, with DEVICE as it names
    devices (usb, usb:0, pci, pci:1). external:LIBRARY[,KEY=VALUE...]: any library with TFLite's
    external delegate functions. Raises ValueError for another name.
    """

    def __init__(self, name: str) -> None:
        kind, colon, rest = name.partition(":")
        self.name, self.kind, self.library = name, kind, ""
        self.options: dict[str, str] = {}
        if kind == "edgetpu" and (rest or not colon):
            self.library = EDGE_TPU_LIBRARY
            self.options = {"device": rest} if rest else {}
        elif kind == "external" and rest:
            self.library, *pairs = rest.split(",")
            self.options = dict(_pair(pair) for pair in pairs)
        elif colon or kind not in ("auto", "xnnpack", "none"):
            raise ValueError(
                f"{name!r} is not auto, xnnpack, none, edgetpu[:DEVICE] or "
                "external:LIBRARY[,KEY=VALUE...]"
            )

    def __str__(self) -> str:
        return self.name

    @property
    def advice(self) -> str:
        """What to do when the delegate does not load."""
        if self.kind == "edgetpu":
            return (
                "install libedgetpu1-std, plug the accelerator in, and check that this user may "
                "use it; devices are named usb, usb:0, pci or pci:0"
            )
        return "give the path of a shared library built for this machine, and options that it knows"


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ValueError(f"{text!r} is not KEY=VALUE")
    return key, value


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _within_module(module: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        module = getattr(module, part)
    return module


def import_runtime() -> Runtime:
    """Import numpy, and the first runtime that can be imported.

    numpy's memory counts as the baseline's. Raises BenchError "runtime" when numpy or every runtime
    is missing.
    """
    try:
        importlib.import_module("numpy")
    except ImportError as error:
        raise BenchError(
            "runtime", f"numpy cannot be imported by {sys.executable}: {error}", runtime_advice()
        ) from error
    tried = []
    for module, interpreter, delegates, package in RUNTIMES:
        try:
            return Runtime(importlib.import_module(module), interpreter, delegates, package)
        # a runtime that was built for another numpy fails in more ways than ImportError
        except Exception as error:
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            tried.append(f"{package}: {first}")
    raise BenchError(
        "runtime",
        f"no TFLite runtime can be imported by {sys.executable} ({'; '.join(tried)})",
        runtime_advice(),
    )


def runtime_advice() -> str:
    """The command that installs a runtime on this machine.

    ai-edge-litert has wheels for 64-bit Linux (x86-64 and Arm) from Python 3.9 on. 32-bit Arm has
    tflite-runtime 2.14 up to Python 3.11, built for numpy 1. Other processors have none. Where the
    system's Python is closed to pip (PEP 668), the command makes a virtual environment.
    """
    machine, bits = platform.machine(), struct.calcsize("P") * 8
    if machine in ("x86_64", "AMD64", "aarch64", "arm64") and bits == 64:
        packages = "ai-edge-litert numpy"
    elif machine in ("armv7l", "armv8l", "aarch64") and sys.version_info < (3, 12):
        packages = "'tflite-runtime==2.14.0' 'numpy<2'"
    else:
        return (
            f"no TFLite runtime has a wheel for {bits}-bit Python {platform.python_version()} on "
            f"{machine}; use a 64-bit system"
            + (" (64-bit Raspberry Pi OS)" if machine.startswith(("arm", "aarch")) else "")
        )
    closed = (
        Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED").exists()
        and sys.prefix == sys.base_prefix
    )
    if closed:
        return (
            f"on this machine: {sys.executable} -m venv ~/edgekd && ~/edgekd/bin/python -m pip "
            f"install {packages}; then measure with --python '~/edgekd/bin/python'"
        )
    return f"on this machine: {sys.executable} -m pip install {packages}"


def quantile(ordered: Sequence[float], share: float) -> float:
    """A quantile of sorted values, by linear interpolation (numpy's default). `share`: 0 to 1."""
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def summary(samples: Sequence[float]) -> Percentiles:
    """Percentiles, mean, standard deviation (of the population) and extremes of times in ms."""
    ordered = sorted(samples)
    return {
        "p50": round(quantile(ordered, 0.5), 6),
        "p90": round(quantile(ordered, 0.9), 6),
        "p95": round(quantile(ordered, 0.95), 6),
        "p99": round(quantile(ordered, 0.99), 6),
        "mean": round(statistics.fmean(ordered), 6),
        "std": round(statistics.pstdev(ordered), 6),
        "min": round(ordered[0], 6),
        "max": round(ordered[-1], 6),
        "samples": [round(sample, 6) for sample in samples],
    }


def warm_up(timed: Callable[[], float], most: int) -> tuple[int, list[str]]:
    """Run until two windows of runs agree, for at most `most` runs and WARMUP_SECONDS.

    `timed` makes one run and returns its milliseconds. Returns (number of runs, warnings).
    """
    times: list[float] = []
    change = math.inf
    while len(times) < most and sum(times) < WARMUP_SECONDS * 1e3:
        times.append(timed())
        if len(times) >= 2 * WARMUP_WINDOW:
            before = statistics.median(times[-2 * WARMUP_WINDOW : -WARMUP_WINDOW])
            change = abs(statistics.median(times[-WARMUP_WINDOW:]) / before - 1.0)
            if change <= WARMUP_TOLERANCE:
                return len(times), []
    if math.isinf(change):
        return len(times), [
            f"{len(times)} warm-up runs are too few to tell whether the times had settled"
        ]
    return len(times), [f"times still changed by {change:.0%} after {len(times)} warm-up runs"]


class Model:
    """A loaded model: `timed` runs it on what its inputs hold, and `answer` on stored pixels."""

    def __init__(self, interpreter: Any) -> None:
        self.interpreter = interpreter
        self.seen = hashlib.sha256()  # of every output that was looked at
        self.inputs = interpreter.get_input_details()
        self.outputs = interpreter.get_output_details()

    def fill(self, seed: int) -> None:
        """Fill the inputs at random: all codes for 8 and 16 bits, 0 to 1 for floats.

        Wider integers are indices and are set to zero.
        """
        import numpy as np

        random = np.random.default_rng(seed)
        for detail in self.inputs:
            kind, shape = np.dtype(detail["dtype"]), tuple(detail["shape"])
            if kind.kind in "iu" and kind.itemsize > 2:
                value = np.zeros(shape, kind)
            elif kind.kind in "iu":
                limits = np.iinfo(kind)
                value = random.integers(limits.min, limits.max, shape, dtype=kind, endpoint=True)
            elif kind.kind == "f":
                value = random.random(shape).astype(kind)
            elif kind.kind == "b":
                value = random.random(shape) < 0.5
            else:
                raise BenchError(
                    "model",
                    f"input {detail['name']!r} is of type {kind}, for which there are no random "
                    "values",
                    "give a model whose inputs are numbers",
                )
            self.interpreter.set_tensor(detail["index"], value)

    def timed(self) -> float:
        """Milliseconds of one invoke."""
        start = time.perf_counter_ns()
        self.interpreter.invoke()
        return (time.perf_counter_ns() - start) / 1e6

    def answer(
        self, image: Array, mean: Sequence[float] | None, std: Sequence[float] | None
    ) -> Array:
        """The output for uint8 pixels [px, px, c]: [classes], in the output's own dtype."""
        import numpy as np

        detail = self.inputs[0]
        scale, zero_point = detail["quantization"]
        codes = pixel_codes(
            image, np.dtype(detail["dtype"]).name, float(scale), int(zero_point), mean, std
        )
        self.interpreter.set_tensor(detail["index"], codes[None])
        self.interpreter.invoke()
        self.look()
        return np.asarray(self.interpreter.get_tensor(self.outputs[0]["index"])).reshape(-1)

    def further(self) -> list[Array]:
        """The outputs behind the answers, of the last run."""
        import numpy as np

        return [
            np.array(self.interpreter.get_tensor(detail["index"])) for detail in self.outputs[1:]
        ]

    def look(self) -> None:
        """Add the bytes of every output to `seen`."""
        for detail in self.outputs:
            self.seen.update(self.interpreter.get_tensor(detail["index"]).tobytes())

    def delegate(self) -> str | None:
        """The delegate that runs part of the graph: "xnnpack" or "none"; None when this cannot be
        seen.

        XNNPACK is the only delegate that runtimes apply by themselves.
        """
        try:
            names = [op["op_name"] for op in self.interpreter._get_ops_details()]
        except Exception:  # private in every runtime, and only informative here
            return None
        return "xnnpack" if "DELEGATE" in names else "none"


GOLDEN_ARRAYS = ("inputs", "logits_int8", "labels", "logits", "mean", "std")
FURTHER_ARRAY = "output_{}_int8"  # of output 1, 2, ... behind the answers, which are output 0
GOLDEN_AGAIN = "make the golden set again with edgekd build"


def read_golden(path: str) -> dict[str, Array]:
    """The arrays of golden.npz.

    inputs uint8 [n,px,px,c], logits_int8 int8 [n,classes], labels int64 [n]; mean and std float, if
    given. Where an image may have several labels, labels are 0 or 1, int64 [n,classes], and logits,
    float32 [n,classes], show where zero lies. output_N_int8, int8 [m,...], is there for a model
    with several outputs. Other arrays are ignored. Raises BenchError "golden".
    """
    import numpy as np

    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(entry.file_size for entry in archive.infolist())
        if total > MAX_GOLDEN_BYTES:
            raise BenchError(
                "golden",
                f"{path} unpacks to {total} bytes; at most {MAX_GOLDEN_BYTES} are read",
                "use fewer golden images",
            )
        with np.load(path, allow_pickle=False) as stored:
            golden = {key: stored[key] for key in GOLDEN_ARRAYS if key in stored}
            while (key := FURTHER_ARRAY.format(_further_arrays(golden) + 1)) in stored:
                golden[key] = stored[key]
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        NotImplementedError,
        zipfile.BadZipFile,
        zipfile.error,
    ) as error:
        raise BenchError(
            "golden", f"{path} is not a readable .npz without pickles: {error}", GOLDEN_AGAIN
        ) from error
    _check_golden(path, golden)
    return golden


def _further_arrays(golden: dict[str, Array]) -> int:
    """How many outputs behind the answers a golden set has codes of."""
    return len(set(golden) - set(GOLDEN_ARRAYS))


def _check_golden(path: str, golden: dict[str, Array]) -> None:
    """Check that the arrays are there, and their types and shapes."""
    import numpy as np

    several = "labels" in golden and golden["labels"].ndim == 2
    for key, dtype, rank in (
        ("inputs", "uint8", 4),
        ("logits_int8", "int8", 2),
        ("labels", "int64", 2 if several else 1),
        *([("logits", "float32", 2)] if several else []),
        *((key, "int8", golden[key].ndim) for key in golden if key not in GOLDEN_ARRAYS),
    ):
        if key not in golden:
            raise BenchError("golden", f"{path} has no array {key!r}", GOLDEN_AGAIN)
        array = golden[key]
        if array.dtype != np.dtype(dtype) or array.ndim != rank:
            raise BenchError(
                "golden",
                f"{path}: {key} is {array.dtype} with {array.ndim} dimensions, not {dtype} with "
                f"{rank}",
                GOLDEN_AGAIN,
            )
    inputs, codes, labels = golden["inputs"], golden["logits_int8"], golden["labels"]
    if several and not labels.shape == golden["logits"].shape == codes.shape:
        raise BenchError(
            "golden",
            f"{path}: labels, logits and logits_int8 are of different shapes",
            GOLDEN_AGAIN,
        )
    if not len(labels) or not len(inputs) == len(codes) == len(labels):
        raise BenchError(
            "golden",
            f"{path}: inputs, logits_int8 and labels are not of one length above 0",
            GOLDEN_AGAIN,
        )


class _Tally:
    """Counts how often a model's outputs agree with the golden answers and with the labels.

    Where an image may have several labels, each label is an answer, which is positive when the
    output is at least zero; the counts are then shares of labels.
    """

    def __init__(self, golden: dict[str, Array], dtype: str, zero_point: int) -> None:
        self.golden = golden
        self.coded = dtype in ("int8", "uint8")
        self.shift = 128 if dtype == "uint8" else 0  # from uint8 to int8 codes
        self.zero = zero_point - self.shift if self.coded else 0
        self.several = golden["labels"].ndim == 2
        self.same = self.hits = 0.0
        self.worst = 0
        self.further: dict[int, int] = {}  # the largest difference of each output behind it

    def add(self, number: int, output: Array) -> None:
        """Count the output for golden image `number`."""
        import numpy as np

        found = output.astype(np.int64) - self.shift if self.coded else output
        expected = self.golden["logits_int8"][number].astype(np.int64)
        label = self.golden["labels"][number]
        if self.several:
            positive = found >= self.zero
            self.same += float((positive == (self.golden["logits"][number] >= 0)).mean())
            self.hits += float((positive == (label == 1)).mean())
        else:
            self.same += int(np.argmax(found) == np.argmax(expected))
            self.hits += int(np.argmax(found) == label)
        if self.coded:
            self.worst = max(self.worst, int(np.abs(found - expected).max()))

    def add_further(self, number: int, outputs: list[Array]) -> None:
        """Count the outputs behind the answers for golden image `number`."""
        import numpy as np

        for place, found in enumerate(outputs, 1):
            stored = self.golden[FURTHER_ARRAY.format(place)]
            if number < len(stored) and found.dtype in (np.int8, np.uint8):
                shift = 128 if found.dtype == np.uint8 else 0
                off = np.abs(found.astype(np.int64) - shift - stored[number])
                self.further[place] = max(self.further.get(place, 0), int(off.max()))

    def answers_of(self, names: Sequence[str]) -> GoldenAnswers:
        """The shares, and a row for each output behind the answers. `names`: of these."""
        found = cast("GoldenAnswers", self.answers())
        if names:
            found["further"] = [
                {
                    "name": name,
                    "images": len(self.golden[FURTHER_ARRAY.format(place)]),
                    "max_abs_lsb": self.further.get(place),
                }
                for place, name in enumerate(names, 1)
            ]
        return found

    def answers(self) -> GoldenShares:
        """The shares; max_abs_lsb is None where the output is not an 8-bit code."""
        images = len(self.golden["labels"])
        return {
            "images": images,
            "argmax_agreement": round(self.same / images, 6),
            "max_abs_lsb": self.worst if self.coded else None,
            "top1": round(self.hits / images, 6),
        }


def agreement(
    model: Model,
    golden: dict[str, Array],
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    progress: Progress,
) -> GoldenAnswers:
    """Run every golden image. Raises BenchError "golden" when the set does not fit the model.

    `mean` and `std` are as for `pixel_codes`. A float32 or int16 input takes the golden set's own
    where they are None.
    """
    import numpy as np

    images, classes = golden["inputs"], golden["logits_int8"].shape[1]
    expected_outputs = 1 + _further_arrays(golden)
    if len(model.inputs) != 1 or len(model.outputs) != expected_outputs:
        raise BenchError(
            "golden",
            f"the model has {len(model.inputs)} inputs and {len(model.outputs)} outputs; the "
            f"golden set is for 1 and {expected_outputs}",
            "give the golden set that was made with this model, or run without --golden",
        )
    for place, detail in enumerate(model.outputs[1:], 1):
        stored = golden[FURTHER_ARRAY.format(place)]
        coded = np.dtype(detail["dtype"]) in (np.int8, np.uint8)  # others are not compared
        if coded and stored.shape[1:] != tuple(detail["shape"]):
            raise BenchError(
                "golden",
                f"the golden set has {list(stored.shape[1:])} for output {place}, and the model "
                f"gives {[int(side) for side in detail['shape']]}",
                "give the golden set that was made with this model",
            )
    wanted, answers = tuple(model.inputs[0]["shape"]), int(np.prod(model.outputs[0]["shape"]))
    if wanted != (1, *images.shape[1:]) or answers != classes:
        raise BenchError(
            "golden",
            f"the golden set has images of {list(images.shape[1:])} and {classes} "
            f"logits, the model takes {[int(d) for d in wanted]} and gives {answers}",
            "give the golden set that was made with this model",
        )
    if np.dtype(model.inputs[0]["dtype"]) in (np.float32, np.int16):
        mean = mean or golden.get("mean", np.array([0.5])).reshape(-1).tolist()
        std = std or golden.get("std", np.array([0.5])).reshape(-1).tolist()
    output = model.outputs[0]
    tally = _Tally(golden, np.dtype(output["dtype"]).name, int(output["quantization"][1]))
    for number, image in enumerate(images):
        try:
            tally.add(number, model.answer(image, mean, std))
            tally.add_further(number, model.further())
        except ValueError as error:
            raise BenchError(
                "golden", str(error), "give --mean and --std with one number, or one a channel"
            ) from error
        progress((number + 1) / len(images))
    return tally.answers_of([str(detail["name"]) for detail in model.outputs[1:]])


def timed_runs(model: Model, options: Options, progress: Progress) -> list[float]:
    """Milliseconds of each run, until both `runs` and `min_seconds` are reached.

    Ends in any case at MAX_SECONDS or MAX_SAMPLES.
    """
    samples: list[float] = []
    start = time.perf_counter_ns()
    while len(samples) < MAX_SAMPLES:
        seconds = (time.perf_counter_ns() - start) / 1e9
        enough = len(samples) >= options.runs and seconds >= options.min_seconds
        if enough or (samples and seconds >= MAX_SECONDS):
            break
        samples.append(model.timed())
        progress(min(len(samples) / options.runs, seconds / max(options.min_seconds, 1e-9), 1.0))
    return samples


def soak(
    timed: Callable[[], float],
    minutes: float,
    sense: Callable[[], Conditions],
    progress: Progress,
) -> Soak:
    """Run for `minutes` without a pause, with a trace of one row for each window.

    `timed`: makes one run and returns its ms. `sense`: the machine's conditions, asked once in a
    window.
    """
    whole = minutes * 60.0
    window = max(whole / SOAK_WINDOWS, SOAK_LEAST_WINDOW_S)
    trace: list[SoakWindow] = []
    start = now = time.perf_counter()
    while now - start < whole:
        samples: list[float] = []
        opened = now
        while not samples or now - opened < window:
            samples.append(timed())
            now = time.perf_counter()
        trace.append(
            {
                "at_s": round(now - start, 3),
                "p50_ms": round(statistics.median(samples), 6),
                "runs": len(samples),
                **sense(),
            }
        )
        now = time.perf_counter()
        progress(min((now - start) / whole, 1.0))
    return {"minutes": minutes, **soak_verdict(trace), "trace": trace}


def soak_verdict(trace: Sequence[SoakWindow]) -> SoakVerdict:
    """The last quarter of a soak against its first tenth, by the medians of p50.

    "throttles": the board said so, or it became slower by more than SLOWER while its clock fell by
    as much. "slows": slower by as much, and nothing shows why. "steady": neither.
    """
    first, last = trace[: max(1, len(trace) // 10)], trace[-max(1, len(trace) // 4) :]

    def change(start: Sequence[float | None], end: Sequence[float | None]) -> float:
        """The share by which the median rose; NaN, which compares as false, when it is not
        known.
        """
        medians = [
            statistics.median(known) if known else math.nan
            for known in ([value for value in part if value is not None] for part in (start, end))
        ]
        return medians[1] / medians[0] - 1.0

    slowdown = change([row["p50_ms"] for row in first], [row["p50_ms"] for row in last])
    clock = change([row["clock_khz"] for row in first], [row["clock_khz"] for row in last])
    told = [row["throttled"] for row in trace]
    flags = [flag for flag in told if flag is not None and int(flag, 16) & THROTTLED_NOW]
    bits = throttled_during(told)
    if flags:
        verdict = "throttles"
        reason = f"get_throttled said {flags[0]} in {len(flags)} of {len(trace)} windows"
    elif bits:
        verdict = "throttles"
        reason = f"get_throttled tells of {throttled_names(bits)} between two windows"
    elif slowdown > SLOWER and clock < -SLOWER:
        verdict = "throttles"
        reason = f"{slowdown:.0%} slower in the end, with a clock {-clock:.0%} lower"
    elif slowdown > SLOWER:
        verdict = "slows"
        reason = f"{slowdown:.0%} slower in the end; the clock does not show why"
    else:
        verdict, reason = "steady", f"the end is {slowdown:+.1%} against the start"
    return {"verdict": verdict, "slowdown": round(slowdown, 6), "reason": reason}


def pin(cores_wanted: Sequence[int]) -> None:
    """Keep this process on these cores. Raises BenchError "device" where that is not possible."""
    try:
        os.sched_setaffinity(0, cores_wanted)
    except (OSError, ValueError, AttributeError) as error:
        raise BenchError(
            "device",
            f"this process cannot be kept on cores {list(cores_wanted)}: {error}",
            f"this machine has cores 0 to {(os.cpu_count() or 1) - 1}",
        ) from error


class Times(NamedTuple):
    """What the timed part of a run gives: ms of the first inference and of each sample."""

    first: float
    warmup_runs: int
    samples: list[float]
    soak: Soak | None
    warnings: list[str]


def measure(options: Options, progress: Progress) -> Measured:
    """Load the model, time it and check its golden answers. Raises BenchError."""
    if options.cores:
        pin(options.cores)
    runtime = import_runtime()
    gc.collect()
    forget_peak()
    before, baseline = conditions(), resident_kib()
    start = time.perf_counter_ns()
    model = Model(runtime.load(options.model, options.threads, options.delegate))
    load = (time.perf_counter_ns() - start) / 1e6
    after_load = resident_kib()
    model.fill(options.seed)
    times = take_times(model, runtime, options, progress)
    peak, after = peak_kib(), conditions()
    model.look()
    answers, warnings = None, times.warnings
    if options.golden:  # read only now, so that its images do not count as the model's memory
        answers = agreement(
            model,
            read_golden(options.golden),
            options.mean,
            options.std,
            lambda done: progress(0.8 + 0.2 * done),
        )
    host = host_facts(before, after)
    delegate = delegate_used(model, options.delegate, warnings)
    known = [value for value in (after_load, peak) if value is not None]
    return {
        "runtime": {
            "name": runtime.name,
            "version": runtime.version,
            "threads": options.threads,
            "delegate": delegate,
        },
        "host": host,
        "settings": {
            "warmup_runs": times.warmup_runs,
            "runs": options.runs,
            "min_seconds": options.min_seconds,
            "seed": options.seed,
            "cores": options.cores,
        },
        "latency_ms": {
            "load": round(load, 6),
            "first": round(times.first, 6),
            **summary(times.samples),
        },
        "memory_kib": {
            "baseline": baseline,
            "after_load": after_load,
            "peak": max(known) if known else None,
        },
        "golden": answers,
        "output_sha256": model.seen.hexdigest(),
        "soak": times.soak,
        "warnings": [*host_warnings(host, options.threads), *warnings],
    }


def take_times(model: Model, runtime: Runtime, options: Options, progress: Progress) -> Times:
    """Warm up, make the timed runs and, if asked for, a soak.

    Raises BenchError "model" when the runtime fails.
    """
    share = 0.2 if options.soak else 0.6  # of the whole progress, for the timed runs
    soaked = None
    gc.disable()
    try:
        first = model.timed()
        warmed, warnings = warm_up(model.timed, options.warmup_runs)
        progress(0.2)
        samples = timed_runs(model, options, lambda done: progress(0.2 + share * done))
        if options.soak:
            soaked = soak(
                model.timed, options.soak, conditions, lambda done: progress(0.4 + 0.4 * done)
            )
    except RuntimeError as error:
        raise BenchError(
            "model",
            f"{runtime} cannot run {options.model}: {_one_line(error)}",
            "see the operator in the message; a newer runtime may run it",
        ) from error
    finally:
        gc.enable()
    if len(samples) < options.runs:
        warnings.append(
            f"stopped after {MAX_SECONDS:.0f} s with {len(samples)} of {options.runs} runs"
        )
    if soaked and soaked["verdict"] != "steady":
        warnings.append(
            f"soak of {options.soak:g} minutes: it {soaked['verdict']} ({soaked['reason']})"
        )
    return Times(first, warmed, samples, soaked, warnings)


def delegate_used(model: Model, wanted: Delegate, warnings: list[str]) -> str | None:
    """The delegate for the JSON. Adds to `warnings` where a delegate took no operator.

    Raises BenchError "delegate" when XNNPACK was asked for and took none.
    """
    found = model.delegate()
    if wanted.kind == "xnnpack" and found == "none":
        raise BenchError(
            "delegate",
            "XNNPACK took no operator of this model",
            "leave --delegate out, or use a runtime with XNNPACK: ai-edge-litert, or tensorflow",
        )
    if wanted.library:
        if found == "none":
            warnings.append(f"the delegate {wanted} was loaded and took no operator")
        return f"{wanted.kind}:{wanted.library}"
    if found == "none" and wanted.kind == "auto":
        import numpy as np

        if np.dtype(model.inputs[0]["dtype"]) == np.int16:
            warnings.append("no delegate ran any operator: XNNPACK has no int16 activations")
            return found
        warnings.append(
            "no delegate ran any operator; tflite-runtime up to 2.14 runs int8 without XNNPACK, "
            "which can be many times slower than ai-edge-litert"
        )
    return found


def child_main(options: Options) -> int:
    """The process that loads the model.

    It writes JSON lines to standard output: {"progress": share} any number of times, then
    {"result": Measured} or {"error": ErrorJson}.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a runtime prints goes to stderr and cannot mix with the answers
    die_with_parent(options.limit_s)
    shown = time.monotonic()

    def progress(share: float) -> None:
        nonlocal shown
        if time.monotonic() - shown >= 0.2:  # a line costs some 10 us, next to runs of that length
            shown = time.monotonic()
            print(json.dumps({"progress": share}), file=answers, flush=True)

    try:
        answer = json.dumps({"result": measure(options, progress)}, allow_nan=False)
    except BenchError as error:
        answer = json.dumps({"error": error.to_json()})
    print(answer, file=answers, flush=True)
    return EXIT_DONE


def die_with_parent(timeout_s: float) -> None:
    """Leave no process behind: die with the parent (on Linux), and at the latest soon after the
    parent's own limit.
    """
    # SIGALRM's default action ends the process inside native code, too
    signal.alarm(math.ceil(timeout_s) + 10)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG = 1, linux/prctl.h


# Watching, in the process that was started ------------------------------------------------------


def supervise(command: Sequence[str], timeout_s: float, progress: Progress) -> Measured:
    """Start `command`, which answers as `child_main` does, and return its result.

    Raises BenchError: the child's own error, "crash" when it dies, and "timeout" when it does not
    end. The process is gone when this returns or raises.
    """
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stderr is not None
    said = Said()
    listener = threading.Thread(target=said.keep, args=(child.stderr,), daemon=True)
    listener.start()
    late = threading.Event()

    def stop() -> None:
        late.set()
        child.kill()

    watchdog = threading.Timer(timeout_s, stop)
    watchdog.daemon = True
    watchdog.start()
    answer: dict[str, Any] = {}  # the last line, which may hold anything
    try:
        for line in child.stdout:
            answer = _parsed(line)
            if "progress" in answer:
                progress(answer["progress"])
        code = child.wait()
    finally:
        watchdog.cancel()
        if child.poll() is None:
            child.kill()
            child.wait()
        listener.join(timeout=1)
        child.stdout.close()
    if "result" in answer and code == 0:
        return cast(Measured, answer["result"])
    if "error" in answer:
        told = answer["error"]
        raise BenchError(told["kind"], told["message"], told["next_step"])
    raise _ended(code, late.is_set(), timeout_s, said.in_order())


def _parsed(line: bytes) -> dict[str, Any]:
    """The JSON object in a line; an empty one for a line that was cut off when the child died."""
    try:
        parsed = json.loads(line)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _ended(code: int, late: bool, timeout_s: float, lines: Sequence[str]) -> BenchError:
    """The error for a child that ended without an answer. `lines`: what it said, cause first."""
    if late:
        return BenchError(
            "timeout",
            f"the model did not finish within {timeout_s:g} s",
            "give a longer --timeout, fewer --runs or a smaller model",
        )
    said = " | ".join(lines)
    return BenchError(
        "crash",
        f"the process that ran the model {_death(code)}" + (f"; it said: {said}" if said else ""),
        "try another version of the runtime, or --threads 1; if it was killed for memory, a "
        "smaller model",
    )


class Said:
    """The first and the last lines of a stream, without empty lines and lines of mere information.

    A stream is read to its end, so that its writer never blocks.
    """

    def __init__(self) -> None:
        self.head: list[str] = []
        self.tail: collections.deque[str] = collections.deque(maxlen=TAIL_LINES)

    def keep(self, stream: IO[bytes]) -> None:
        """Read the stream to its end."""
        with stream:
            for data in stream:
                line = data.decode("utf-8", "replace").strip()[:500]
                if not line or line.startswith(("INFO:", "VERBOSE:")):
                    continue
                if len(self.head) < HEAD_LINES:
                    self.head.append(line)
                else:
                    self.tail.append(line)

    def in_order(self) -> list[str]:
        """The lines with the cause first.

        The cause is the end of a traceback, or else the first line that speaks of an error, because
        the errors after it follow from it.
        """
        lines = [*self.head, *self.tail]
        if any(line.startswith("Traceback") for line in lines):
            cause = lines[-1]
        else:
            spoken = re.compile(r"error|fail|abort|terminat|fatal|not found|cannot", re.IGNORECASE)
            cause = next((line for line in lines if spoken.search(line)), "")
        return [cause, *(line for line in lines if line != cause)] if cause else lines


def _death(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code} and no result"
    names = {number.value: number.name for number in signal.Signals}
    why = ": the machine may be out of memory" if -code == signal.SIGKILL else ""
    return f"was killed by signal {-code} ({names.get(-code, 'unknown')}){why}"


def run(options: Options, arguments: Sequence[str]) -> Result:
    """Check the model, run it in a second process, and put the result together. Raises BenchError.

    `arguments`: the command line that `options` were read from.
    """
    try:
        data = Path(options.model).read_bytes()
    except OSError as error:
        raise BadModelError(
            f"{options.model} cannot be read: {error.strerror}", "give the path of a .tflite file"
        ) from error
    try:
        check_model(data)
    except BadModelError as error:
        raise BadModelError(f"{options.model}: {error.message}", error.next_step) from error
    if options.golden and not Path(options.golden).is_file():
        raise BenchError(
            "golden",
            f"{options.golden} is not a file",
            "give the path of a golden.npz, or leave it out",
        )
    digest = hashlib.sha256(data).hexdigest()
    del data
    command = [sys.executable, "-I", str(Path(__file__).resolve()), *arguments, "--child"]
    found = supervise(command, options.limit_s, lambda share: say(f"progress {share:.2f}"))
    say("progress 1.00")
    return {"schema": SCHEMA, "model_sha256": digest, "runner_version": VERSION, **found}


def say(text: str) -> None:
    """Write one line to stderr, for the process or the person that started this one."""
    print(f"edgebench: {text}", file=sys.stderr, flush=True)


def write(path: str | None, answer: Result | ErrorJson) -> None:
    """Write the answer into its file, whole or not at all, or to stdout when there is no path."""
    text = json.dumps(answer, indent=1, allow_nan=False) + "\n"
    if path is None:
        sys.stdout.write(text)
        return
    part = Path(path + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _numbers(text: str) -> list[float]:
    values = [float(part) for part in text.split(",")]
    if not all(math.isfinite(value) for value in values):
        raise ValueError
    return values


def _deviations(text: str) -> list[float]:
    values = _numbers(text)
    if min(values) <= 0:
        raise ValueError
    return values


def core_list(text: str) -> list[int]:
    """The core numbers in a text such as "0-3" or "0,2,4-5", sorted, each once. Raises
    ValueError.
    """
    found: set[int] = set()
    for part in text.split(","):
        low, _, high = part.partition("-")
        numbers = range(int(low), int(high or low) + 1)
        if not numbers or numbers[-1] > MAX_CORE:
            raise ValueError(f"{text!r} is not a list of cores such as 0-3 or 4,5")
        found.update(numbers)
    return sorted(found)


def _delegate(text: str) -> Delegate:
    try:
        return Delegate(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _within(setting: str, kind: Callable[[str], Any]) -> Callable[[str], Any]:
    low, high = LIMITS[setting]

    def convert(text: str) -> Any:
        value = kind(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not between {low} and {high}")
        return value

    return convert


class Options(argparse.Namespace):
    """The command line; each attribute is described in `parser`."""

    model: str
    golden: str | None
    delegate: Delegate
    cores: list[int] | None
    soak: float | None
    threads: int
    runs: int
    min_seconds: float
    warmup_runs: int
    mean: list[float] | None
    std: list[float] | None
    seed: int
    timeout: float | None
    packages: list[str]
    json: str | None
    child: bool

    @property
    def limit_s(self) -> float:
        """Seconds for everything, a soak included."""
        return TIMEOUT_S + 60.0 * (self.soak or 0.0) if self.timeout is None else self.timeout


def parser() -> argparse.ArgumentParser:
    """The command line, with the exit codes in its help."""
    made = argparse.ArgumentParser(
        prog="edgebench.py",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Time a TFLite model on this machine and check its golden answers.",
        epilog="exit codes:\n  0    done; the result is in --json, or on stdout\n"
        "  2    the arguments, the model or the golden set are wrong\n"
        "  3    this machine failed: no TFLite runtime, a crash, a timeout\n"
        "  130  interrupted\n"
        "After 2 (except for wrong arguments) and 3, the JSON holds the error, schema "
        f"{ERROR_SCHEMA}.",
    )
    _add_files(made)
    _add_place(made)
    _add_runs(made)
    made.add_argument(
        "--child",
        action="store_true",
        help="measure in this process and answer in JSON lines; the runner starts itself this way, "
        "so that it outlives a crash",
    )
    made.add_argument("--version", action="version", version=VERSION)
    return made


def _add_files(made: argparse.ArgumentParser) -> None:
    add = made.add_argument
    add("--model", required=True, metavar="M.tflite")
    add(
        "--golden",
        metavar="golden.npz",
        help="arrays inputs uint8 [n,px,px,c], logits_int8 int8 [n,classes] and labels int64 [n]; "
        "mean and std if given",
    )
    add("--json", metavar="out.json", help="where to write the result; default: stdout")
    add(
        "--packages",
        action="append",
        default=[],
        metavar="DIR",
        help="look for numpy and the runtime in this folder first",
    )
    add(
        "--mean",
        type=_numbers,
        help="one number, or one for each channel, for pixels scaled to 0..1: quantize pixels by "
        "the model's own input scale, as a model from elsewhere needs; without --mean and --std, "
        "an 8-bit input takes the pixels themselves, as EdgeKD's models need",
    )
    add("--std", type=_deviations, help="as --mean; 0.5 when only the other is given")


def _add_place(made: argparse.ArgumentParser) -> None:
    add = made.add_argument
    add(
        "--delegate",
        type=_delegate,
        default="auto",
        metavar="NAME",
        help="auto (default: what the runtime does by itself), xnnpack, none, edgetpu[:DEVICE], or "
        "external:LIBRARY[,KEY=VALUE...]",
    )
    add(
        "--cores",
        type=core_list,
        metavar="LIST",
        help="run on these cores only, such as 0-3 or 4,5",
    )
    add(
        "--threads",
        type=_within("threads", int),
        default=min(4, cores()),
        help="default: %(default)s",
    )


def _add_runs(made: argparse.ArgumentParser) -> None:
    add = made.add_argument
    add(
        "--runs",
        type=_within("runs", int),
        default=50,
        help="fewest measured runs; default: %(default)s",
    )
    add(
        "--min-seconds",
        type=_within("min_seconds", float),
        default=1.0,
        help="least time spent on measured runs; default: %(default)s",
    )
    add(
        "--warmup-runs",
        type=_within("warmup_runs", int),
        default=100,
        help=f"most warm-up runs; they stop earlier when two windows of {WARMUP_WINDOW} runs "
        f"agree to {WARMUP_TOLERANCE * 100:.0f} %%; default: %(default)s",
    )
    add(
        "--soak",
        type=_within("soak_minutes", float),
        metavar="MINUTES",
        help="after the timed runs, run on for this long and say whether the machine throttles",
    )
    add("--seed", type=_within("seed", int), default=0, help="of the random input that is timed")
    add(
        "--timeout",
        type=_within("timeout_s", float),
        help=f"seconds for everything; default: {TIMEOUT_S:g}, and a soak's own time",
    )


def _stop(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)  # unwinds through supervise, which ends the child


def main(arguments: Sequence[str]) -> int:
    """Run the command line and return the exit code."""
    options = parser().parse_args(arguments, namespace=Options())
    sys.path[:0] = options.packages
    if options.child:
        return child_main(options)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        try:
            result = run(options, arguments)
        except BenchError as error:
            say(
                f"error: {error.message}"
                + (f"\n  next: {error.next_step}" if error.next_step else "")
            )
            write(options.json, error.to_json())
            return error.exit_code
        write(options.json, result)
    except OSError as error:
        say(f"error: {options.json} cannot be written: {error}")
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        say("interrupted")
        return EXIT_INTERRUPTED
    latency = result["latency_ms"]
    say(
        f"done: p50 {latency['p50']:.3f} ms, p99 {latency['p99']:.3f} ms over "
        f"{len(latency['samples'])} runs"
    )
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
