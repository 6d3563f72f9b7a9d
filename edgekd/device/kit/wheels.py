"""numpy and the TFLite runtime as wheels for a board's Python, fetched by pip on this machine."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from edgekd.core.errors import DeviceError, RecipeError
from edgekd.device.device_text import MAX_TEXT, clean
from edgekd.settings.device_profiles import DeviceProfile

PACKAGES = ("ai-edge-litert", "numpy")
# Raspberry Pi OS 12 (bookworm) has Python 3.11, and 13 (trixie) has 3.13.
PYTHONS = ("3.11", "3.13")
# The processors that ai-edge-litert has Linux wheels for.
MACHINES = ("aarch64", "x86_64")
# The minor versions of glibc 2 that a wheel may need. Debian 12 has 2.36.
GLIBC = (35, 34, 31, 28, 27, 17)
TIMEOUT_S = 600.0


def platforms(machine: str) -> tuple[str, ...]:
    """The platform tags (PEP 600) of wheels that run on Debian 12, the newest first."""
    return (*(f"manylinux_2_{minor}_{machine}" for minor in GLIBC), f"manylinux2014_{machine}")


def pinned() -> list[str]:
    """PACKAGES in the versions that are installed here, so that boards can be compared."""
    return [f"{name}=={metadata.version(name)}" for name in PACKAGES]


def check(profile: DeviceProfile) -> None:
    """Raise RecipeError where the profile's board has no wheels."""
    if profile.machine not in MACHINES:
        named = profile.machine or "no processor"
        raise RecipeError(
            f"--wheels: profile {profile.name} names {named}; there are wheels for "
            f"{' and '.join(MACHINES)}",
            "leave --wheels out; run.sh then says what to install on the board",
        )


def fetch(profile: DeviceProfile) -> dict[str, bytes]:
    """{file name: bytes} of the wheels for each of PYTHONS.

    pip fetches them from where it is set up to. A Python for which a package has no wheel is left
    out. Raises DeviceError when no Python is left, and RecipeError where the board has no wheels.
    """
    check(profile)
    found: dict[str, bytes] = {}
    said = ""
    for python in PYTHONS:
        with tempfile.TemporaryDirectory(prefix="edgekd-wheels-") as folder:
            ran = _download(python, profile.machine, Path(folder))
            if ran.returncode == 0:
                found |= {path.name: path.read_bytes() for path in Path(folder).glob("*.whl")}
            else:
                lines = ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"]
                said = clean(lines[-1])[:MAX_TEXT]
    if not found:
        raise DeviceError(
            f"pip could not fetch {' and '.join(pinned())} for {profile.machine}: {said}",
            "try again with a network, or leave --wheels out; run.sh then says what to install",
        )
    return found


def _download(python: str, machine: str, folder: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
    words += ["--disable-pip-version-check", "--only-binary=:all:", "--implementation", "cp"]
    words += ["--python-version", python, "--dest", str(folder)]
    words += [word for name in platforms(machine) for word in ("--platform", name)]
    try:
        return subprocess.run(
            [*words, *pinned()], capture_output=True, text=True, check=False, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 1, "", f"no answer in {TIMEOUT_S:g} s")
