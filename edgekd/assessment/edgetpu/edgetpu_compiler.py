"""Run the real edgetpu_compiler where it is on PATH, and keep both output files.

Flags are those of versions 2.0 to 16.0, which exist for x86-64 Debian only. What it prints is read
by compiler_log.py.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from edgekd.assessment.check_record import CompiledBlock
from edgekd.assessment.compiler_answer import CompilerFailed
from edgekd.assessment.edgetpu.compiler_log import Log, parse
from edgekd.core.errors import DeviceError
from edgekd.core.files import reason
from edgekd.device import agent
from edgekd.device.device_text import clean
from edgekd.device.log_lines.reader import first_error

PROGRAM = "edgetpu_compiler"
TIMEOUT_S = 180  # the compiler's own default of -t, for one attempt
GRACE_S = 30  # how long the compiler may take beyond -t to report the timeout itself
# With -d, how many attempts may take all of -t. Most fail within seconds.
SEARCH_ATTEMPTS = 20
STEM = "model"  # of the file in the temporary folder: a user's file name may begin with a dash
# What a failed compilation leaves behind.
NOTHING = CompiledBlock(edgetpu_ops=0, executable_bytes=0, cpu_ops=[], cpu_tail=[])
FAILED_NEXT = (
    "convert the model with the operators that `edgekd profiles coral-usb` lists, which the "
    "compiler knows"
)
INSTALL = "install Coral's edgetpu-compiler package"


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

    @property
    def limit_s(self) -> int:
        """How long the compiler may take altogether, in seconds."""
        attempts = SEARCH_ATTEMPTS if self.search else 1
        return self.timeout_s * attempts * self.segments + GRACE_S

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

    Raises CompilerFailed with the first error that the compiler printed when it fails, prints
    nothing, or takes longer than `flags.limit_s`, and DeviceError when it cannot be run.
    """
    flags = flags or Flags()
    with tempfile.TemporaryDirectory(prefix="edgekd-edgetpu-") as name:
        folder = Path(name)
        (folder / f"{STEM}.tflite").write_bytes(model)
        printed = _run(flags.arguments(program), folder, flags.limit_s)
        logs = sorted(folder.glob("*.log"))
        text = "\n".join(
            [printed, *(path.read_text(encoding="utf-8", errors="replace") for path in logs)]
        )
        log = parse(text)
        outputs = sorted(folder.glob(f"{STEM}*_edgetpu.tflite"))
        if not log.succeeded or not outputs:
            raise _refused(log, printed)
        return Compiled(outputs[0].read_bytes(), text, log)


def _refused(log: Log, printed: str) -> CompilerFailed:
    """The error for a compilation that left no file."""
    said = log.cause or printed.strip()[-300:] or "nothing"
    tries = f" in {log.attempts} attempts" if log.attempts > 1 else ""
    return CompilerFailed(
        f"{PROGRAM} {log.version} did not compile this model{tries}; it printed: {clean(said)}",
        FAILED_NEXT,
        dataclasses.replace(log, succeeded=False).report(NOTHING),
    )


def _run(command: list[str], folder: Path, limit_s: int) -> str:
    """What the program printed on both streams. It ends with all of its processes, since Coral's
    is a shell script that starts others.
    """
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LC_ALL": "C"},  # its figures are read
            start_new_session=True,
        )
    except OSError as error:
        raise DeviceError(f"{command[0]} cannot be run: {reason(error)}", INSTALL) from None
    try:
        printed, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired as error:
        text = (error.output or b"").decode("utf-8", errors="replace")
        said = first_error(text)
        what = f"{command[0]} took more than {limit_s} s and was stopped"
        raise CompilerFailed(
            what + (f"; it printed: {clean(said)}" if said else ""),
            "raise compiler.timeout_s in a profile of your own, or take a smaller model",
            dataclasses.replace(parse(text), succeeded=False).report(NOTHING),
        ) from None
    finally:
        agent.end_group(process, 0.0)
    return printed.decode("utf-8", errors="replace")
