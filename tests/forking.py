"""A process that has imported EdgeKD, and runs each command line in a child of its own.

Tests that start many commands save the imports, which take 5 s, and the keys of the stages' code.
The children end as any process does, and can be killed. Each has an environment, a folder and an
output of its own.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from types import TracebackType

# Not from conftest, which would make the process a folder that pytest's own processes share.
REPOSITORY = Path(__file__).resolve().parent.parent


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
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def run(
        self,
        arguments: list[str],
        *,
        script: Path | None = None,
        path: list[Path] | None = None,
        folder: Path = REPOSITORY,
        kill_after: float | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run `edgekd ARGUMENTS` in `folder`. The return code is negative for a signal.

        `script`: a file that is run instead, as `python SCRIPT ARGUMENTS` runs it. `path`: where
        packages are looked for first. `kill_after`: seconds until SIGKILL.
        """
        assert self._process.stdin is not None
        with tempfile.TemporaryDirectory() as place:
            out, err = (Path(place, name) for name in ("out", "err"))
            own = str(script) if script else ""
            search = [str(part) for part in path or []]
            given = [own, arguments, search, *map(str, (folder, out, err))]
            self._process.stdin.write(json.dumps(given) + "\n")
            self._process.stdin.flush()
            child = int(self._line())
            if not select.select([self._process.stdout], [], [], kill_after)[0]:
                with contextlib.suppress(ProcessLookupError):  # it has ended by itself just now
                    os.kill(child, signal.SIGKILL)
            code = int(self._line())
            return subprocess.CompletedProcess(arguments, code, out.read_text(), err.read_text())

    def _line(self) -> str:
        """The next line that the process wrote. None is waiting in a buffer when this is called."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def serve() -> None:
    """Run the command lines of the standard input. Prints each child's number, then its exit."""
    from edgekd.app import cli
    from edgekd.pipeline.stage_keys import source_digest

    stages = REPOSITORY / "edgekd" / "pipeline" / "stages"
    for path in sorted(stages.glob("[a-z]*.py")):
        importlib.import_module(f"edgekd.pipeline.stages.{path.stem}")
        source_digest(f"pipeline.stages.{path.stem}")  # reads the package's source, once for all
    importlib.import_module("torch._dynamo")  # torch's optimizers import it
    print("ready", flush=True)
    for line in sys.stdin:
        script, arguments, path, folder, out, err = json.loads(line)
        for name in (out, err):
            Path(name).touch()  # they are there even if the child is killed at once
        child = os.fork()
        if not child:
            sys.path[:0] = path
            os.chdir(folder)
            for number, name in ((1, out), (2, err)):
                os.dup2(os.open(name, os.O_WRONLY), number)
            code: int | str | None = os.EX_SOFTWARE
            try:
                if script:
                    sys.argv = [script, *arguments]
                    runpy.run_path(script, run_name="__main__")
                    code = 0
                else:
                    code = cli.main(arguments)
            except SystemExit as end:
                code = end.code
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code if isinstance(code, int) else 0 if code is None else 1)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
