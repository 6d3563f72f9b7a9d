"""Measures every model of a kit on this board, and writes one result file. Started by run.sh.

It needs Python 3.9 or newer and the standard library; each model is measured by edgebench.py, which
needs numpy and a TFLite runtime. Where the folder wheels/ holds both for this Python, they are
unpacked into packages/ and nothing else of this machine is used. The result file is written anew
after each model, so that an interruption keeps what was measured.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RUNNER, KIT = "edgebench.py", "kit.json"
PACKAGES, WHEELS = HERE / "packages", HERE / "wheels"
RESULT_SCHEMA = "edgekd.bench-kit-result/1"
LAST_32_BIT = (3, 11)  # the last Python that tflite-runtime has a wheel for
FIRST = (3, 9)  # the oldest Python that edgebench.py is written for
EXIT_DONE, EXIT_BOARD, EXIT_INTERRUPTED = 0, 3, 130
ONE = "one.json"  # the result of the model that is measured at the moment
# Imports what a measurement needs, in a process of its own, since a broken package may crash it.
PROBE = (
    "import sys; sys.path[:0] = sys.argv[1:]; import numpy\n"
    "try: import ai_edge_litert.interpreter\n"
    "except ImportError: import tflite_runtime.interpreter"
)


class Stop(Exception):
    """Nothing can be measured; the text says why and what to type."""


def main() -> int:
    """Measure, and return the exit code."""
    try:
        if sys.version_info < FIRST:
            raise Stop(
                f"this Python is {platform.python_version()}, and 3.9 or newer is needed.\n"
                "Install a newer system image, or name another Python:\n\n"
                "    PYTHON=/path/to/python3 sh run.sh"
            )
        kit = json.loads((HERE / KIT).read_text(encoding="utf-8"))
        check_models(kit)
        result = result_path()
        packages = with_packages()
        return measure_all(kit, packages, result)
    except Stop as stop:
        print(f"\nIt cannot be measured: {stop}")
    except KeyboardInterrupt:
        print("\nStopped.")
        return EXIT_INTERRUPTED
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        print(
            f"\nIt cannot be measured: {error}.\nIf the disk is full, make room. Else copy the "
            "whole folder to the board again."
        )
    return EXIT_BOARD


def check_models(kit: dict[str, Any]) -> None:
    """Raise Stop for a model that is not the one of the list: a damaged or incomplete copy."""
    for row in kit["models"]:
        path = HERE / row["file"]
        found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"
        if found != row["sha256"]:
            raise Stop(
                f"{row['file']} is damaged or missing. Copy the whole folder to the board again."
            )


def result_path() -> Path:
    """Where the result goes: a new file, so that an earlier run is kept.

    Raises Stop where this folder cannot be written.
    """
    node = re.sub(r"[^A-Za-z0-9-]+", "-", platform.node()).strip("-")[:63] or "board"
    if not os.access(str(HERE), os.W_OK | os.X_OK):
        raise Stop(
            f"nothing can be written into {HERE}.\nCopy the folder to your home folder, and start "
            "it there."
        )
    numbers = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    names = (f"result-{node}{number}.edgekd-bench.json" for number in numbers)
    return next(HERE / name for name in names if not (HERE / name).exists())


# numpy and the runtime --------------------------------------------------------------------------


def with_packages() -> list[str]:
    """The folders that Python looks into first: the unpacked wheels, or none.

    Raises Stop when numpy or the runtime is missing.
    """
    fitting = wheels_for_this_python()
    if fitting:
        unpack(fitting)
        if not lacks([str(PACKAGES)]):
            return [str(PACKAGES)]
    missing = lacks([])
    if not missing:
        return []
    tried = lacks([str(PACKAGES)]) if fitting else ""
    why = f"The packages of this folder do not work here: {tried}.\n" if tried else ""
    raise Stop(
        "Python's numpy or the TFLite runtime ai-edge-litert is missing\n"
        f"(Python {platform.python_version()} on {platform.machine()}: {missing}).\n{why}"
        "Connect the board to the internet, and type these three lines:\n\n"
        "    python3 -m venv .venv\n"
        f"    .venv/bin/pip install {packages_for_this_python()}\n"
        "    sh run.sh\n\n"
        "If the first line fails:  sudo apt install python3-venv"
    )


def packages_for_this_python() -> str:
    """What pip has to install, as edgebench.py says it. Raises Stop where there is no runtime."""
    if struct.calcsize("P") == 8:
        return "ai-edge-litert numpy"
    if sys.version_info[:2] <= LAST_32_BIT:
        return "'tflite-runtime==2.14.0' 'numpy<2'"
    raise Stop(
        "no TFLite runtime exists for a 32-bit system with Python "
        f"{platform.python_version()}. Install a 64-bit system (64-bit Raspberry Pi OS)."
    )


def lacks(folders: list[str]) -> str:
    """The last line of what fails when numpy and a runtime are imported, "" when nothing does."""
    command = [sys.executable, "-I", "-c", PROBE, *folders]
    ran = subprocess.run(command, capture_output=True, check=False)
    if ran.returncode == 0:
        return ""
    lines = ran.stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:200] if lines else f"Python ended with code {ran.returncode}"


def wheels_for_this_python() -> list[Path]:
    """The wheels of the kit that fit this Python, this processor and this C library."""
    return sorted(path for path in WHEELS.glob("*.whl") if fits(path.name))


def fits(name: str) -> bool:
    """Whether a wheel of that file name fits: NAME-VERSION-PYTHON-ABI-PLATFORM.whl (PEP 427)."""
    parts = name[: -len(".whl")].split("-")
    if len(parts) < 5:
        return False
    own = f"cp{sys.version_info.major}{sys.version_info.minor}"
    pythons = parts[-3].split(".")
    if own not in pythons and "py3" not in pythons:
        return False
    return any(platform_fits(one) for one in parts[-1].split("."))


def platform_fits(tag: str) -> bool:
    """Whether a platform tag such as manylinux_2_28_aarch64 (PEP 600) fits this machine."""
    if tag == "any":
        return True
    found = re.match(r"manylinux_2_(\d+)_(.+)$", tag)
    if found is None:
        old = re.match(r"manylinux2014_(.+)$", tag)  # the old name of manylinux_2_17
        return old is not None and old.group(1) == platform.machine()
    return found.group(2) == platform.machine() and int(found.group(1)) <= c_library()


def c_library() -> int:
    """The minor version of glibc 2, 0 where there is no glibc."""
    found = re.match(r"glibc 2\.(\d+)", os.confstr("CS_GNU_LIBC_VERSION") or "")
    return int(found.group(1)) if found else 0


def unpack(wheels: list[Path]) -> None:
    """Unpack the wheels into packages/, unless they lie there from an earlier run."""
    mark = PACKAGES / "unpacked.txt"
    names = "\n".join(path.name for path in wheels)
    if mark.is_file() and mark.read_text(encoding="utf-8") == names:
        return
    print("Unpacking numpy and the runtime ...", flush=True)
    shutil.rmtree(str(PACKAGES), ignore_errors=True)
    for path in wheels:
        with zipfile.ZipFile(str(path)) as wheel:
            wheel.extractall(str(PACKAGES))  # it keeps names inside the folder
    mark.write_text(names, encoding="utf-8")


# Measuring --------------------------------------------------------------------------------------


def measure_all(kit: dict[str, Any], packages: list[str], result: Path) -> int:
    """Measure each model in turn. Returns the exit code."""
    rows: list[dict[str, Any]] = []
    models = kit["models"]
    void = emulated()
    for number, row in enumerate(models, 1):
        print(f"{number} of {len(models)}: {row['name']} ...", end=" ", flush=True)
        try:
            found = measure(row, packages)
        except KeyboardInterrupt:
            kept = f"; {result.name} holds those before" if rows else ""
            print(f"\nStopped at model {number} of {len(models)}{kept}.")
            return EXIT_INTERRUPTED
        print(told(found, void), flush=True)
        rows.append({"name": row["name"], "model_sha256": row["sha256"], "result": found})
        write(result, whole(kit, rows, void))
    failed = sum("latency_ms" not in row["result"] for row in rows)
    if failed:
        print(f"\n{failed} of {len(rows)} models could not be measured. The file says why.")
    print(f"\nDone. Send back this one file:\n\n    {result}")
    return EXIT_BOARD if failed else EXIT_DONE


def measure(row: dict[str, Any], packages: list[str]) -> dict[str, Any]:
    """What edgebench.py says of one model: its result or its error."""
    one = HERE / ONE
    one.unlink() if one.exists() else None
    command = [sys.executable, "-I", RUNNER, *row["arguments"], "--json", ONE]
    command += [word for folder in packages for word in ("--packages", folder)]
    ran = subprocess.run(command, cwd=str(HERE), capture_output=True, check=False)
    try:
        found = json.loads(one.read_text(encoding="utf-8"))
        one.unlink()
    except (OSError, ValueError):
        said = ran.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        return {
            "schema": "edgekd.bench-error/1",
            "runner_version": "unknown",
            "kind": "device",
            "message": f"the runner left no result (exit code {ran.returncode}) {said}",
            "next_step": "run it again",
        }
    return dict(found)


def told(found: dict[str, Any], void: bool) -> str:
    """One line for the person at the board."""
    if "latency_ms" not in found:
        return f"failed: {found.get('message', 'no reason given')}"
    if void:
        return "done; this board is emulated, so its times are void"
    return f"{found['latency_ms']['p50']:.2f} ms"


def whole(kit: dict[str, Any], rows: list[dict[str, Any]], void: bool) -> dict[str, Any]:
    """The result file. `sha256` is over the rows, and shows a file that was cut or changed."""
    text = json.dumps(rows, sort_keys=True, separators=(",", ":"))
    return {
        "schema": RESULT_SCHEMA,
        "edgekd": kit["edgekd"],
        "profile": kit["profile"],
        "emulated": void,
        "measured": rows,
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    }


def emulated() -> bool:
    """Whether another processor pretends to be this one, so that no time means anything.

    Under qemu-user, the kernel (Linux 6.1 and newer) names its own processor; the emulated Pi of
    EdgeKD says so in the name of its board.
    """

    def read(path: str) -> str:
        try:
            return Path(path).read_text(encoding="utf-8", errors="replace").strip("\0\n ")
        except OSError:
            return ""

    real = read("/proc/sys/kernel/arch")
    board = read("/proc/device-tree/model")
    return "(emulated)" in board or bool(real and family(real) != family(platform.machine()))


def family(machine: str) -> str:
    """The kind of processor: a 32-bit system on a 64-bit kernel is no emulation."""
    if machine.startswith(("arm", "aarch64")):
        return "arm"
    return "x86" if re.match(r"x86_64$|i\d86$|amd64$", machine) else machine


def write(path: Path, body: dict[str, Any]) -> None:
    """Write the file whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(body, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    part.replace(path)


if __name__ == "__main__":
    sys.exit(main())
