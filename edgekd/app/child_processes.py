"""Processes that a command has started: how they are ended."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Sequence

# Seconds that a process has to end after SIGTERM. It may be in the middle of a long computation.
GRACE = 30.0


def end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End the processes that still run: by SIGTERM, and after GRACE seconds by SIGKILL."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    limit = time.monotonic() + GRACE
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, limit - time.monotonic()))
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.wait()
