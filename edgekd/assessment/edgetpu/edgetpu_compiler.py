"""Run the real edgetpu_compiler where it is on PATH, keep both output files, and read its log.

Flags and text are those of versions 2.0 to 16.0, which exist for x86-64 Debian only. The compiler
prints a summary, then a table "Operator / Count / Status". The table is always in the .log file,
and on stdout with -s. A crash can leave nothing but the version line, which is a failure, too.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from edgekd.assessment.check_record import (
    CompiledBlock,
    CompilerReport,
    CompilerRow,
)
from edgekd.core.errors import DeviceError
from edgekd.core.files import reason
from edgekd.core.records import UNSET

PROGRAM = "edgetpu_compiler"
TIMEOUT_S = 180  # the compiler's own default of -t; one search step of -d may take as long
GRACE_S = 30  # how long the compiler may take beyond -t to report the timeout itself
STEM = "model"  # of the file in the temporary folder: a user's file name may begin with a dash
INSTALL = "install Coral's edgetpu-compiler package"

_TABLE_HEAD = re.compile(r"^Operator\s+Count\s+Status\s*$")
_ROW = re.compile(r"^([A-Z_0-9]+)\s+(\d+)\s+(.+?)\s*$")
_VERSION = re.compile(r"Edge TPU Compiler version (\S+)")
_TIME = re.compile(r"^Models? compiled successfully in (\d+) ms")
_ERRORS = (
    "ERROR",
    "Internal compiler error",
    "Compilation failed",
    "Invalid model",
    "Model could",
)
_SIZES = {  # text in the log -> key of ours
    "Input size": "input_bytes",
    "Output size": "output_bytes",
    "On-chip memory used for caching model parameters": "cached_bytes",
    "On-chip memory remaining for caching model parameters": "cache_left_bytes",
    "On-chip memory available for caching model parameters": "cache_left_bytes",  # version 2.0
    "Off-chip memory used for streaming uncached model parameters": "streamed_bytes",
}
_COUNTS = {
    "Number of Edge TPU subgraphs": "subgraphs",
    "Total number of operations": "operations",
    "Number of operations that will run on Edge TPU": "mapped",
    "Number of operations that will run on CPU": "on_cpu",
}
_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_SIZE = re.compile(r"^([\d.]+)(B|KiB|MiB|GiB)$")


@dataclasses.dataclass(frozen=True)
class Log:
    """What a compilation printed.

    `sizes` are in bytes, by the values of `_SIZES`; `counts` by the values of `_COUNTS`. A figure
    that was not printed is absent, and `milliseconds` is then None.
    """

    version: str
    succeeded: bool
    milliseconds: int | None
    sizes: dict[str, int]
    counts: dict[str, int]
    rows: list[CompilerRow]
    errors: list[str]

    @property
    def mapped(self) -> int:
        """Operators mapped to the Edge TPU, by the table."""
        return sum(row.count for row in self.rows if row.status == "Mapped to Edge TPU")

    @property
    def operations(self) -> int:
        """All operators, by the table."""
        return sum(row.count for row in self.rows)

    def report(self, compiled: CompiledBlock) -> CompilerReport:
        """The record for check and report. `compiled`: what stands in the compiler's output."""
        return CompilerReport(
            version=self.version,
            succeeded=self.succeeded,
            milliseconds=self.milliseconds,
            input_bytes=self.sizes.get("input_bytes", UNSET),
            output_bytes=self.sizes.get("output_bytes", UNSET),
            cached_bytes=self.sizes.get("cached_bytes", UNSET),
            cache_left_bytes=self.sizes.get("cache_left_bytes", UNSET),
            streamed_bytes=self.sizes.get("streamed_bytes", UNSET),
            subgraphs=self.counts.get("subgraphs", UNSET),
            on_cpu=self.counts.get("on_cpu", UNSET),
            operations=self.operations,
            mapped=self.mapped,
            rows=self.rows,
            errors=self.errors,
            edgetpu_ops=compiled.edgetpu_ops,
            executable_bytes=compiled.executable_bytes,
            cpu_ops=compiled.cpu_ops,
            cpu_tail=compiled.cpu_tail,
        )


def parse(text: str) -> Log:
    """Read stdout, the .log file, or both in turn (a table that is repeated counts once)."""
    version = _VERSION.search(text)
    lines = [line.strip() for line in text.splitlines()]
    sizes: dict[str, int] = {}
    counts: dict[str, int] = {}
    milliseconds: int | None = None
    for line in lines:
        found = _TIME.match(line)
        milliseconds = int(found[1]) if found else milliseconds
        name, colon, value = line.partition(": ")
        size = _SIZE.match(value.strip())
        if colon and name in _SIZES and size:
            sizes[_SIZES[name]] = round(float(size[1]) * _UNITS[size[2]])
        elif colon and name in _COUNTS and value.strip().isdigit():
            counts[_COUNTS[name]] = int(value)
    errors = [line for line in lines if line.startswith(_ERRORS)]
    tables = _tables(lines)
    finished = milliseconds is not None or "Compilation succeeded!" in text or bool(tables)
    return Log(
        version[1] if version else "",
        finished and not errors,
        milliseconds,
        sizes,
        counts,
        tables[-1] if tables else [],
        errors,
    )


def _tables(lines: Sequence[str]) -> list[list[CompilerRow]]:
    """The tables of operators, one for each head line."""
    tables: list[list[CompilerRow]] = []
    inside = False
    for line in lines:
        row = _ROW.match(line) if inside else None
        if _TABLE_HEAD.match(line):
            inside = True
            tables.append([])
        elif row:
            tables[-1].append(CompilerRow(row[1], int(row[2]), row[3]))
        else:
            inside = inside and not line  # an empty line stands below the head
    return tables


@dataclasses.dataclass(frozen=True)
class Flags:
    """The compiler's options.

    `runtime`: -m, the oldest libedgetpu runtime that must run the file (14 for version 16.0).
    `segments`: -n, parts for pipelining over several accelerators. `stop_at`: -i, tensors at which
    the partition ends. `many_subgraphs`: -a, which is undocumented. `search`: -d. `timeout_s`: -t.
    """

    runtime: int | None = None
    segments: int = 1
    stop_at: Sequence[str] = ()
    many_subgraphs: bool = False
    search: bool = False
    timeout_s: int = TIMEOUT_S

    def arguments(self, program: str) -> list[str]:
        """The command line for model.tflite in the working directory, written to the same place."""
        flags = [program, "-s", "-o", ".", "-t", str(self.timeout_s)]
        if self.runtime is not None:
            flags += ["-m", str(self.runtime)]
        if self.segments != 1:
            flags += ["-n", str(self.segments)]
        if self.stop_at:
            flags += ["-i", ",".join(self.stop_at)]
        if self.many_subgraphs:
            flags += ["-a"]
        if self.search:
            flags += ["-d"]
        return [*flags, f"{STEM}.tflite"]


@dataclasses.dataclass(frozen=True)
class Compiled:
    """The compiled file, and what the compiler printed, as text and parsed."""

    model: bytes
    log_text: str
    log: Log


def find() -> str | None:
    """Path of the compiler, None where it is not installed."""
    return shutil.which(PROGRAM)


def compile_model(model: bytes, program: str, flags: Flags | None = None) -> Compiled:
    """Compile a .tflite with the program at the path `program`.

    Raises DeviceError with the compiler's last words when it fails, prints nothing, or takes longer
    than `flags.timeout_s` and GRACE_S together.
    """
    flags = flags or Flags()
    with tempfile.TemporaryDirectory(prefix="edgekd-edgetpu-") as name:
        folder = Path(name)
        (folder / f"{STEM}.tflite").write_bytes(model)
        printed = _run(flags.arguments(program), folder, flags.timeout_s)
        logs = sorted(folder.glob("*.log"))
        text = "\n".join(
            [printed, *(path.read_text(encoding="utf-8", errors="replace") for path in logs)]
        )
        log = parse(text)
        outputs = sorted(folder.glob(f"{STEM}*_edgetpu.tflite"))
        if not log.succeeded or not outputs:
            last = "; ".join(log.errors) or printed.strip()[-300:] or "nothing"
            raise DeviceError(
                f"{PROGRAM} {log.version} did not compile this model; it printed: {last}",
                "edgekd check MODEL --profile coral-usb says which operators it would refuse",
            )
        return Compiled(outputs[0].read_bytes(), text, log)


def _run(command: list[str], folder: Path, timeout_s: int) -> str:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s + GRACE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DeviceError(
            f"{command[0]} took more than {timeout_s + GRACE_S} s and was stopped",
            "raise compiler.timeout_s in a profile of your own, or take a smaller model",
        ) from None
    except OSError as error:
        raise DeviceError(f"{command[0]} cannot be run: {reason(error)}", INSTALL) from None
    return done.stdout.decode("utf-8", errors="replace")
