"""The emulated Raspberry Pi 4: a Python of Arm's own under qemu-user, set up by tools/pi_emulator.py.

It proves that a file computes the same bytes on an Arm core without dot products; its times and memory are void.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekd.core.errors import DeviceError, GateFailed
from edgekd.device.bench import BenchSettings, bench
from edgekd.device.transports import LocalTransport, Progress
from edgekd.settings.device_profiles import DeviceProfile

FOLDER_VARIABLE = "EDGEKD_EMULATOR"


def default_folder() -> Path:
    """$EDGEKD_EMULATOR, or edgekd/pi4 in the user's cache folder (XDG base directory specification)."""
    named = os.environ.get(FOLDER_VARIABLE)
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(named) if named else Path(cache).expanduser() / "edgekd" / "pi4"


def emulated_pi(folder: Path | None = None) -> LocalTransport:
    """This machine with the emulated Python in place of its own. Raises DeviceError when it was not set up."""
    place = default_folder() if folder is None else folder
    python = place.absolute() / "python"
    if not python.is_file():
        raise DeviceError(
            f"there is no emulated Pi in {place}",
            "set it up once, on a Debian: python tools/pi_emulator.py (needs qemu-user-static)",
        )
    return LocalTransport(str(python), name="emulate", emulated=True)


def compared(
    model: bytes,
    profile: DeviceProfile,
    golden: bytes | None,
    settings: BenchSettings,
    on_progress: Progress,
    folder: Path | None = None,
) -> dict[str, Any]:
    """Run a model on the emulated Pi and on this machine; the emulated bench JSON, with a note of what was compared.

    Compared are the bytes of every output: for the random input of the settings' seed, and for each golden image. Raises
    GateFailed when they differ, and what `bench` raises.
    """
    once = replace(
        settings, runs=1, min_seconds=0.0, warmup_runs=0, soak_minutes=None
    )  # times are void, so few
    there = bench(
        model, profile, emulated_pi(folder), golden=golden, settings=once, on_progress=on_progress
    )
    here = bench(model, profile, LocalTransport(), golden=golden, settings=once)
    names = [
        " ".join(
            (run["runtime"]["name"], run["runtime"]["version"], f"({run['runtime']['delegate']})")
        )
        for run in (there, here)
    ]
    inputs = 1 + (there["golden"]["images"] if there["golden"] else 0)
    if there["output_sha256"] != here["output_sha256"]:
        raise GateFailed(
            f"the emulated Pi ({names[0]}) computes other bytes than this machine ({names[1]}) on "
            f"{inputs} inputs",
            "if both are one version, the file has an op whose kernels differ: "
            "`edgekd verify` and the certificate's op check name it",
        )
    there["warnings"].append(f"output bytes of {inputs} inputs equal this machine's {names[1]}")
    return there
