"""LiteRT's classic `benchmark_model`: where its file is found, and how it is started.

EdgeKD never downloads the tool: a user names it, or has it on PATH. Its flags are documented in
tflite/tools/benchmark (README.md, benchmark_model.cc, benchmark_tflite_model.cc).
"""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

from edgekd.core.errors import DeviceError
from edgekd.device.android_delegate import AndroidDelegate
from edgekd.device.device_text import clean
from edgekd.device.log_lines import benchmark_lines
from edgekd.device.log_lines.reader import first_error, read_log

# The name that a build gives, and the name under which TensorFlow published its nightly build.
NAMES = ("benchmark_model", "android_aarch64_benchmark_model")
VARIABLE = "EDGEKD_BENCHMARK_MODEL"
MODEL, PROTO = "model.tflite", "result.pb"
# ELF e_machine -> how Android's ABI names start
MACHINES = {3: "x86", 40: "armeabi", 62: "x86_64", 183: "arm64"}
MACHINE_AT = 18  # where e_machine lies in an ELF file


def find_tool(named: Path | None) -> Path:
    """The tool's file: the named one, $EDGEKD_BENCHMARK_MODEL, or one on PATH. Raises
    DeviceError.
    """
    given = named or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)
    found = given or next((Path(path) for path in map(shutil.which, NAMES) if path), None)
    if found is None or not found.is_file():
        raise DeviceError(
            f"{given} is not a file"
            if given
            else "benchmark_model is not on PATH, and EdgeKD downloads none",
            "build it (LiteRT: bazel build -c opt --config=android_arm64 "
            "//tflite/tools/benchmark:benchmark_model), then give --benchmark-model FILE or set "
            f"{VARIABLE}=FILE",
        )
    return found


def check_architecture(tool: bytes, abi: str) -> None:
    """Raises DeviceError when an ELF file is for another machine than `abi`, such as
    "arm64-v8a".
    """
    if tool[:4] != b"\x7fELF" or len(tool) < MACHINE_AT + 2 or not abi:
        return  # a script that starts the tool, or a device that does not tell its ABI
    machine = MACHINES.get(struct.unpack_from("<H", tool, MACHINE_AT)[0], "an unknown machine")
    if abi.partition("-")[0] != machine:
        raise DeviceError(
            f"this benchmark_model is built for {machine}, and the device runs {abi}",
            f"build it for {abi}",
        )


def arguments(delegate: AndroidDelegate, threads: int, runs: int, min_seconds: float) -> list[str]:
    """The tool's flags. Model and proto lie in its working folder.

    The tool warms up for half a second by itself.
    """
    return [
        f"--graph={MODEL}",
        f"--num_threads={threads}",
        f"--num_runs={runs}",
        f"--min_secs={min_seconds:g}",
        "--report_peak_memory_footprint=true",
        f"--result_file_path={PROTO}",
        *delegate.flags(),
    ]


def failed(exit_code: int, log: str) -> DeviceError:
    """The error for a tool that ended with an exit code other than 0."""
    named = [
        found.groups["names"].strip()
        for found in read_log(log)
        if found.line is benchmark_lines.ACCELERATORS
    ]
    return DeviceError(
        f"benchmark_model ended with exit code {exit_code}{told_cause(log)}",
        f"accelerators there: {clean(named[0])}"
        if named
        else "try --delegate xnnpack; an operator that this delegate does not know can end it",
    )


def told_cause(log: str) -> str:
    """The first error of the log, as the end of a message; empty when there is none."""
    said = first_error(log)
    return f"; it said: {clean(said)[:300]}" if said else ""
