"""What the command line says of an error that nothing else expected, and the log that it keeps.

The message says what was being done, and names a file that holds the rest: the traceback, the
command, and the versions. That file can be attached to a bug report.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shlex
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

import edgekd
from edgekd.app.printing import printable
from edgekd.core import files
from edgekd.core.errors import EdgeKDError

# Set to anything, this environment variable shows the traceback on the terminal, too.
DEBUG = "EDGEKD_DEBUG"
# Characters of an error's own text. Some libraries put whole graphs into theirs.
LONGEST = 400
# What torch writes in a RuntimeError when memory ends; it has no class of its own for the CPU.
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def as_expected(error: Exception, verb: str, argv: Sequence[str]) -> EdgeKDError:
    """The message for an error that is not EdgeKD's own; its log is written.

    `verb`: the command that was running. Notes that were added to the error on its way say more,
    such as the stage.
    """
    doing = ", ".join([f"edgekd {verb}", *getattr(error, "__notes__", ())])
    what, step = _told(error)
    log = _write(error, argv)
    details = f"{log} holds the traceback" if log else f"{DEBUG}=1 shows the traceback"
    told = EdgeKDError(f"{what} (in {doing})", f"{step}; {details}")
    told.__cause__ = error
    return told


def _told(error: Exception) -> tuple[str, str]:
    """What happened, and what to do about it."""
    text = _short(str(error))
    if isinstance(error, OSError):
        known = isinstance(error.filename, str | bytes)
        where = f"{os.fsdecode(error.filename)}: " if known else ""
        return f"{where}{files.reason(error)}", files.next_step(error) or "check disk and network"
    if isinstance(error, MemoryError) or any(part in text.lower() for part in _NO_MEMORY):
        return (
            f"the memory is full: {text or type(error).__name__}",
            "take a smaller distil.batch or data.input_px, or a machine with more memory",
        )
    if isinstance(error, ImportError):
        return f"a library cannot be loaded: {text}", "install edgekd again"
    if isinstance(error, RecursionError):
        return "the input is nested too deeply", "give a file that is nested less deeply"
    return f"{type(error).__name__}: {text}", "this is a fault in EdgeKD: please report it"


def _short(text: str) -> str:
    """The first lines of a text, at most LONGEST characters."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _write(error: Exception, argv: Sequence[str]) -> Path | None:
    """Write the log of an error; None when that is impossible, as on a full disk."""
    trace = "".join(traceback.format_exception(error))
    text = (
        f"edgekd {edgekd.__version__}, Python {platform.python_version()}, {platform.platform()}\n"
        f"command: edgekd {shlex.join(argv)}\n\n{trace}"
    )
    with contextlib.suppress(OSError):  # the folder may be gone
        text = f"folder: {Path.cwd()}\n{text}"
    try:
        handle, name = tempfile.mkstemp(prefix="edgekd-error-", suffix=".log")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(printable(text))
    except OSError:
        return None
    return Path(name)
