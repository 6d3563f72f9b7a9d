"""The real edgetpu_compiler, where it is on PATH: run it, keep both of its output files, read its log.

Flags and text are those of versions 2.0 to 16.0 (x86-64 Debian only). The compiler prints a summary, then a table
"Operator / Count / Status"; the table is always in the .log file, and on stdout with -s. A crash can leave nothing
but the version line, and that is a failure, too.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekd.core.errors import DeviceError

PROGRAM = "edgetpu_compiler"
TIMEOUT_S = 180  # the compiler's own default of -t; one search step of -d may take as long
GRACE_S = 30  # what it may take beyond -t to say so before it is killed
STEM = "model"  # a name of our own inside the temporary folder: a user's may begin with a dash

_TABLE_HEAD = re.compile(r"^Operator\s+Count\s+Status\s*$")
_ROW = re.compile(r"^([A-Z_0-9]+)\s+(\d+)\s+(.+?)\s*$")
_VERSION = re.compile(r"Edge TPU Compiler version (\S+)")
_TIME = re.compile(r"^Models? compiled successfully in (\d+) ms")
_SIZES = {  # what the log says -> our key
    "Input size": "input_bytes",
    "Output size": "output_bytes",
    "On-chip memory used for caching model parameters": "cached_bytes",
    "On-chip memory remaining for caching model parameters": "cache_left_bytes",
    "On-chip memory available for caching model parameters": "cache_left_bytes",  # 2.0
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
    """What a compilation said. Sizes in bytes; `rows`: {"op", "count", "status"}; None for what it did not say."""

    version: str
    succeeded: bool
    milliseconds: int | None
    sizes: dict[str, int]
    counts: dict[str, int]
    rows: list[dict[str, Any]]
    errors: list[str]

    @property
    def mapped(self) -> int:
        """Ops mapped to the Edge TPU, by the table."""
        return sum(row["count"] for row in self.rows if row["status"] == "Mapped to Edge TPU")

    @property
    def operations(self) -> int:
        """All ops, by the table."""
        return sum(row["count"] for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """For report.json."""
        return {
            "version": self.version,
            "succeeded": self.succeeded,
            "milliseconds": self.milliseconds,
            **self.sizes,
            **self.counts,
            "operations": self.operations,
            "mapped": self.mapped,
            "rows": self.rows,
            "errors": self.errors,
        }


def parse(text: str) -> Log:
    """Read stdout, the .log file, or both one after the other (a repeated table counts once)."""
    version = _VERSION.search(text)
    sizes: dict[str, int] = {}
    counts: dict[str, int] = {}
    tables: list[list[dict[str, Any]]] = []
    errors: list[str] = []
    milliseconds: int | None = None
    inside = False
    for raw in text.splitlines():
        line = raw.strip()
        if _TABLE_HEAD.match(line):
            inside = True
            tables.append([])
            continue
        row = _ROW.match(line) if inside else None
        if row:
            tables[-1].append({"op": row[1], "count": int(row[2]), "status": row[3]})
            continue
        inside = inside and not line
        found = _TIME.match(line)
        milliseconds = int(found[1]) if found else milliseconds
        name, colon, value = line.partition(": ")
        size = _SIZE.match(value.strip())
        if colon and name in _SIZES and size:
            sizes[_SIZES[name]] = round(float(size[1]) * _UNITS[size[2]])
        elif colon and name in _COUNTS and value.strip().isdigit():
            counts[_COUNTS[name]] = int(value)
        elif line.startswith(
            (
                "ERROR",
                "Internal compiler error",
                "Compilation failed",
                "Invalid model",
                "Model could",
            )
        ):
            errors.append(line)
    succeeded = not errors and (
        milliseconds is not None or "Compilation succeeded!" in text or bool(tables)
    )
    return Log(
        version[1] if version else "",
        succeeded,
        milliseconds,
        sizes,
        counts,
        tables[-1] if tables else [],
        errors,
    )


@dataclasses.dataclass(frozen=True)
class Compiled:
    """Both output files and what was said."""

    model: bytes
    log_text: str
    log: Log


def find() -> str | None:
    """Path of the compiler, None where it is not installed."""
    return shutil.which(PROGRAM)


def version(program: str) -> str:
    """Its version. Raises DeviceError when it does not say one."""
    said = _run([program, "--version"], Path.cwd(), TIMEOUT_S)
    found = _VERSION.search(said)
    if not found:
        raise DeviceError(
            f"{program} --version says {said.strip()[:200]!r}",
            "install Coral's edgetpu-compiler package",
        )
    return found[1]


def arguments(
    program: str,
    *,
    runtime: int | None = None,
    segments: int = 1,
    stop_at: Sequence[str] = (),
    many_subgraphs: bool = False,
    search: bool = False,
    timeout_s: int = TIMEOUT_S,
) -> list[str]:
    """The command line for model.tflite, run in its own folder, written there.

    `runtime`: -m, least libedgetpu runtime (14 for 16.0). `segments`: -n, for pipelining over several accelerators.
    `stop_at`: -i, tensors at which the partition ends. `many_subgraphs`: -a, undocumented. `search`: -d.
    """
    flags = [program, "-s", "-o", ".", "-t", str(timeout_s)]
    if runtime is not None:
        flags += ["-m", str(runtime)]
    if segments != 1:
        flags += ["-n", str(segments)]
    if stop_at:
        flags += ["-i", ",".join(stop_at)]
    if many_subgraphs:
        flags += ["-a"]
    if search:
        flags += ["-d"]
    return [*flags, f"{STEM}.tflite"]


def compile_model(model: bytes, program: str, **flags: Any) -> Compiled:
    """Compile a .tflite. `flags`: those of `arguments`.

    Raises DeviceError with the compiler's last words when it fails, is silent, or takes too long.
    """
    with tempfile.TemporaryDirectory(prefix="edgekd-edgetpu-") as name:
        folder = Path(name)
        (folder / f"{STEM}.tflite").write_bytes(model)
        said = _run(arguments(program, **flags), folder, int(flags.get("timeout_s", TIMEOUT_S)))
        logs = sorted(folder.glob("*.log"))
        text = "\n".join(
            [said, *(path.read_text(encoding="utf-8", errors="replace") for path in logs)]
        )
        log = parse(text)
        outputs = sorted(folder.glob(f"{STEM}*_edgetpu.tflite"))
        if not log.succeeded or not outputs:
            last = "; ".join(log.errors) or said.strip()[-300:] or "nothing"
            raise DeviceError(
                f"{PROGRAM} {log.version} did not compile this model; it said: {last}",
                "edgekd check MODEL --profile coral-usb says which ops it would refuse",
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
            "give it longer, or a smaller model",
        ) from None
    except OSError as error:
        raise DeviceError(
            f"{command[0]} cannot be run: {error.strerror}",
            "install Coral's edgetpu-compiler package",
        ) from None
    return done.stdout.decode("utf-8", errors="replace")
