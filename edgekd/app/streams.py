"""stdout and stderr as the command line needs them: no character and no closed pipe stops it."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path

from edgekd.core import files
from edgekd.core.errors import EdgeKDError


def prepare() -> None:
    """Let any character be printed, and open the streams that the caller has closed.

    A file's name may hold bytes that are not UTF-8, and a terminal may not know "✓". They are
    printed as escapes.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # `>&-` in a shell
            nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - stays open
            setattr(sys, name, nowhere)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def finish() -> None:
    """Write out what stdout still holds.

    A reader that has closed the pipe, as `head` does, is no error. Raises EdgeKDError when stdout
    is a file on a full disk.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        discard()
    except OSError as error:
        discard()
        raise EdgeKDError(
            f"standard output: {files.reason(error)}", files.next_step(error) or "check the disk"
        ) from None


def discard() -> None:
    """Send what is printed on stdout from now on to nowhere."""
    with contextlib.suppress(OSError, ValueError):  # a stream without a file, as in a notebook
        handle = os.open(os.devnull, os.O_WRONLY)
        os.dup2(handle, sys.stdout.fileno())
        os.close(handle)


def complain(text: str) -> None:
    """Print a line on stderr, if it still can be written to."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)
