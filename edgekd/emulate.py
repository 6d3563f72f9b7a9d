"""The emulated Raspberry Pi 4: a Python of Arm's own under qemu-user, set up by tools/pi_emulator.py.

It proves that a file computes the same bytes on an Arm core without dot products; its times and memory are void.
"""

from __future__ import annotations

import os
from pathlib import Path

from edgekd.errors import DeviceError
from edgekd.transports import LocalTransport

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
        raise DeviceError(f"there is no emulated Pi in {place}",
                          "set it up once, on a Debian: python tools/pi_emulator.py (needs qemu-user-static)")
    return LocalTransport(str(python), name="emulate", emulated=True)
