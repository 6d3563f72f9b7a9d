"""The emulated Raspberry Pi 4: a Python for Arm under qemu-user, which tools/pi_emulator.py sets
up.

It shows that a file computes the same bytes on an Arm core without dot products. Its times and
memory are void.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import msgspec

from edgekd.core.errors import DeviceError, GateFailed
from edgekd.device.bench import bench
from edgekd.device.bench_record import Bench
from edgekd.device.bench_settings import BenchSettings
from edgekd.device.transports import LocalTransport, Progress
from edgekd.settings.device_profiles import DeviceProfile

FOLDER_VARIABLE = "EDGEKD_EMULATOR"


def default_folder() -> Path:
    """$EDGEKD_EMULATOR, or edgekd/pi4 in the user's cache folder (XDG base directory
    specification).
    """
    named = os.environ.get(FOLDER_VARIABLE)
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(named) if named else Path(cache).expanduser() / "edgekd" / "pi4"


def emulated_pi(folder: Path | None = None) -> LocalTransport:
    """A transport to this machine, with the emulated Python in the place of its own.

    `folder`: where the emulator lies; None takes `default_folder`. Raises DeviceError when it was
    not set up.
    """
    place = default_folder() if folder is None else folder
    python = place.absolute() / "python"
    if not python.is_file():
        raise DeviceError(
            f"there is no emulated Pi in {place}",
            "set it up once, on Debian: python tools/pi_emulator.py (needs qemu-user-static)",
        )
    return LocalTransport(str(python), name="emulate", emulated=True)


def compared(
    model: bytes,
    profile: DeviceProfile,
    golden: bytes | None,
    settings: BenchSettings,
    on_progress: Progress,
    folder: Path | None = None,
) -> Bench:
    """Run a model on the emulated Pi and on this machine, and compare the bytes of every output.

    The inputs are the random input of the settings' seed and each golden image. Returns the
    emulated run, with a note of what was compared. Raises GateFailed when the bytes differ, and
    everything that `bench` raises.
    """
    # times are void, so one run is enough
    once = replace(settings, runs=1, min_seconds=0.0, warmup_runs=0, soak_minutes=None)
    there = bench(
        model, profile, emulated_pi(folder), golden=golden, settings=once, on_progress=on_progress
    )
    here = bench(model, profile, LocalTransport(), golden=golden, settings=once)
    inputs = 1 + (there.golden.images if there.golden else 0)
    if there.output_sha256 != here.output_sha256:
        raise GateFailed(
            f"the emulated Pi ({_runtime(there)}) computes other bytes than this machine "
            f"({_runtime(here)}) on {inputs} inputs",
            "if both run the same version, kernels of one operator differ: `edgekd verify` and the "
            "certificate's operator check name it",
        )
    note = f"output bytes of {inputs} inputs equal this machine's {_runtime(here)}"
    return msgspec.structs.replace(there, warnings=[*there.warnings, note])


def _runtime(run: Bench) -> str:
    return f"{run.runtime.name} {run.runtime.version} ({run.runtime.delegate})"
