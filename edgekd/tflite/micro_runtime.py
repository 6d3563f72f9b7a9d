"""TensorFlow Lite Micro's interpreter of the package tflite-micro, in a process of its own.

It runs the runtime's reference kernels on this machine, with 64-bit pointers: the arithmetic is
that of a microcontroller with reference kernels, the arena is larger. The package is the extra
"micro". The interpreter prints what it allocated on stderr, and a file that it cannot run may crash
it, so it never runs in this process.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import io
import os
import re
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgekd.core.errors import MissingExtra, ModelFileError

PACKAGE, EXTRA = "tflite-micro", "micro"
# The interpreter needs an arena before it says how much it took. This suits every network that a
# microcontroller can hold.
ARENA_BYTES = 64 * 2**20
TIMEOUT_S = 120
_ALLOCATED = re.compile(r"Arena allocation (total|head|tail) (\d+) bytes")


@dataclasses.dataclass(frozen=True)
class MicroAnswer:
    """What the interpreter made of a model.

    `outputs`: one row of codes for each input, int8 [n, k]. `arena_bytes` = `head_bytes` +
    `tail_bytes`: what it allocated. `version`: of the package.
    """

    outputs: npt.NDArray[np.int8]
    arena_bytes: int
    head_bytes: int
    tail_bytes: int
    version: str


def installed() -> bool:
    """Whether the package is there."""
    return importlib.util.find_spec("tflite_micro") is not None


def run(model: bytes, codes: npt.NDArray[np.int8]) -> MicroAnswer:
    """Run a full-integer model with one input and one output on every row of `codes`.

    `codes`: int8 [n, height, width, channels]. Raises MissingExtra without the package, and
    ModelFileError with the interpreter's own words for a model that it does not run.
    """
    if not installed():
        raise MissingExtra(PACKAGE, EXTRA, "running a model in TensorFlow Lite Micro")
    given = io.BytesIO()
    np.savez(given, model=np.frombuffer(model, np.uint8), codes=codes)
    home = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH", "")]))
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__],
            input=given.getvalue(),
            capture_output=True,
            check=False,
            timeout=TIMEOUT_S,
            env={**os.environ, "PYTHONPATH": path},
        )
    except subprocess.TimeoutExpired:
        raise _refused(f"gave no answer in {TIMEOUT_S} seconds") from None
    said = done.stderr.decode(errors="replace")
    if done.returncode < 0:
        raise _refused(f"crashed ({signal.Signals(-done.returncode).name})")
    sizes = {name: int(size) for name, size in _ALLOCATED.findall(said)}
    if done.returncode or not {"total", "head", "tail"} <= sizes.keys():
        raise _refused(f"refuses the model: {_first_words(said)}")
    outputs = np.load(io.BytesIO(done.stdout), allow_pickle=False)
    version = metadata.version(PACKAGE)
    return MicroAnswer(outputs, sizes["total"], sizes["head"], sizes["tail"], version)


def _refused(how: str) -> ModelFileError:
    return ModelFileError(
        f"TensorFlow Lite Micro {how}",
        "check the model: edgekd check MODEL.tflite --profile esp32-s3 says which operators run",
    )


def _first_words(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return (lines or ["it gives no reason"])[0][:200]


def main() -> int:
    """Run the model and the codes of the .npz on stdin; outputs as .npy on stdout."""
    # The package has no types, so mypy must not follow this import.
    runtime = importlib.import_module("tflite_micro.python.tflite_micro.runtime")
    given = np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False)
    model, codes = given["model"].tobytes(), given["codes"]
    try:
        interpreter = runtime.Interpreter.from_bytes(model, arena_size=ARENA_BYTES)
        outputs = []
        for row in codes:
            interpreter.set_input(row[None], 0)
            interpreter.invoke()
            outputs.append(interpreter.get_output(0).reshape(-1))
    except (RuntimeError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    interpreter.print_allocations()
    np.save(sys.stdout.buffer, np.array(outputs))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
