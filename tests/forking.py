"""A process that has imported EdgeKD, and runs each command line in a child of its own.

Tests that start a build many times save the imports, which take 4 s. The children end as any
process does, and can be killed.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from tests.conftest import REPOSITORY


class Forking:
    """The process. `run` gives it a command line."""

    def __enter__(self) -> Forking:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.forking"],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert self._line() == "ready"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def run(self, arguments: list[str], kill_after: float | None = None) -> int:
        """Run `edgekd ARGUMENTS`. Returns its exit code, which is negative for a signal.

        `kill_after`: seconds until SIGKILL.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(arguments) + "\n")
        self._process.stdin.flush()
        child = int(self._line())
        if not select.select([self._process.stdout], [], [], kill_after)[0]:
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself just now
                os.kill(child, signal.SIGKILL)
        return int(self._line())

    def _line(self) -> str:
        """The next line that the process wrote. None is waiting in a buffer when this is called."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def serve() -> None:
    """Run the command lines of the standard input. Prints each child's number, then its exit."""
    from edgekd.app import cli

    stages = REPOSITORY / "edgekd" / "pipeline" / "stages"
    for path in sorted(stages.glob("[a-z]*.py")):
        importlib.import_module(f"edgekd.pipeline.stages.{path.stem}")
    importlib.import_module("torch._dynamo")  # torch's optimizers import it
    print("ready", flush=True)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            code = os.EX_SOFTWARE
            try:
                with Path(os.devnull).open("w") as nothing:
                    os.dup2(nothing.fileno(), 1)
                    os.dup2(nothing.fileno(), 2)
                code = cli.main(json.loads(line))
            finally:
                os._exit(code)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
