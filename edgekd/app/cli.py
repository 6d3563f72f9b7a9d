"""The command line: parses the arguments, runs one verb, and turns errors into exit codes."""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

import edgekd
from edgekd.app import argument_parser, commands, crash_log, library_warnings, streams
from edgekd.app.printing import printable
from edgekd.core import cores, files
from edgekd.core.errors import EdgeKDError, GateFailed, WorkerLost
from edgekd.training import processes

RESUMED = ("build", "search")
KEPT = "; finished stages are kept, and the same command resumes"


class Terminated(KeyboardInterrupt):
    """SIGTERM has come. Like Ctrl-C, it lets the command tidy up and then end."""


@dataclass(frozen=True)
class Verb:
    """One command: `run(arguments)` in edgekd/app/verbs/NAME.py, which returns an exit code."""

    name: str
    help: str
    arguments: type

    def run(self, namespace: argparse.Namespace, words: Sequence[str]) -> int:
        """Run the verb, in as many processes as its arguments ask for.

        Its module is imported here, so that no other verb's libraries are loaded.
        """
        asked: object = argument_parser.parsed(self.arguments, namespace)
        count = getattr(asked, "processes", 1)
        if count > 1 and not processes.watched():
            from edgekd.app import process_launcher

            return process_launcher.run(words, count)
        return int(importlib.import_module(f"edgekd.app.verbs.{self.name}").run(asked))


VERBS = (
    Verb(
        "build",
        "teacher -> student -> int8 .tflite, certificate, benchmark, report",
        commands.BuildCommand,
    ),
    Verb(
        "convert",
        "a network that is trained already -> int8 .tflite, certificate, benchmark, report",
        commands.ConvertCommand,
    ),
    Verb(
        "search",
        "the best network within limits: all candidates predicted, the better ones trained, built",
        commands.SearchCommand,
    ),
    Verb(
        "check",
        "before training: operators, memory, latency and possible edits for a device",
        commands.CheckCommand,
    ),
    Verb(
        "bench",
        "measure latency, memory and golden agreement of a .tflite on a device",
        commands.BenchCommand,
    ),
    Verb(
        "verify",
        "check a build or bundle again: hashes, certificate, golden answers",
        commands.VerifyCommand,
    ),
    Verb("report", "show a build or a search, or compare builds", commands.ReportCommand),
    Verb(
        "profiles",
        "list the device profiles, show one, or refit its latency model",
        commands.ProfilesCommand,
    ),
    Verb("models", "list the known networks, or show one", commands.ModelsCommand),
    Verb("new", "write a recipe with every setting and its default", commands.NewCommand),
    Verb("doctor", "show what this machine has, and what is missing", commands.DoctorCommand),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0: done. 1: a gate failed. 2: bad usage or input. 130: interrupted; the next run resumes.
    """
    streams.prepare()
    cores.one_thread_for_numpy()
    words = sys.argv[1:] if argv is None else list(argv)
    parser = make_parser()
    namespace = parser.parse_args(words)
    if namespace.verb is None:
        parser.print_help()
        return 2
    with contextlib.suppress(ValueError):  # only the main thread may
        signal.signal(signal.SIGTERM, _interrupt)
    library_warnings.hide()
    try:
        _check_working_folder()
        code = next(verb for verb in VERBS if verb.name == namespace.verb).run(namespace, words)
        streams.finish()
    except EdgeKDError as error:
        return _failed(error)
    except KeyboardInterrupt as reason:
        # Otherwise the command that watches this process says so.
        if not processes.watched() and processes.first_to_fail():
            told = _interrupted(reason)
            streams.complain(
                f"edgekd: {told}{KEPT if namespace.verb in ('build', 'search') else ''}"
            )
        return 130
    except BrokenPipeError:  # `edgekd report --json | head`: the reader has closed the pipe
        streams.discard()
        return 0
    except Exception as error:
        return _failed(crash_log.as_expected(error, namespace.verb, words))
    finally:
        if processes.watched():
            # This process ends now. The command that watches it may tell it to, maybe once more,
            # and Python would print a traceback while it leaves.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
    return code


def _interrupted(reason: KeyboardInterrupt) -> str:
    """Who stopped the command. torchrun sends SIGTERM to a process when another one has ended."""
    if isinstance(reason, Terminated) and processes.under_launcher():
        return "ended by the launcher, maybe because another process of this build has ended"
    return "interrupted"


def _check_working_folder() -> None:
    """Raise EdgeKDError when the folder that the command runs in is gone. Some libraries crash."""
    try:
        Path.cwd()
    except OSError as error:
        raise EdgeKDError(
            f"the working folder: {files.reason(error)}", "cd to a folder that exists"
        ) from None


def _failed(error: EdgeKDError) -> int:
    """Print why the command failed. Returns the exit code."""
    # Where several processes train, the first that fails prints the reason for all of them.
    silent = isinstance(error, WorkerLost) and processes.watched()
    if not silent and processes.first_to_fail():
        if os.environ.get(crash_log.DEBUG):
            traceback.print_exception(error)
        kind = "failed" if isinstance(error, GateFailed) else "error"
        streams.complain(f"edgekd: {kind}: {printable(str(error))}")
    with contextlib.suppress(EdgeKDError):
        streams.finish()
    return error.exit_code


@functools.cache
def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line. `namespace.verb` is None where no command is given."""
    parser = _Parser(
        prog="edgekd",
        description=(
            "Distil a large vision teacher into a certified int8 .tflite for a named device."
        ),
        epilog=(
            "exit codes: 0 done, 1 a gate failed, 2 bad usage or input, 130 interrupted "
            "(the next run resumes)"
        ),
    )
    parser.add_argument("--version", action="version", version=f"edgekd {edgekd.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="verb")
    for verb in VERBS:
        argument_parser.add_arguments(
            commands.add_parser(verb.name, help=verb.help), verb.arguments
        )
    return parser


class _Parser(argparse.ArgumentParser):
    """A parser whose messages show control characters as escapes."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated


if __name__ == "__main__":
    sys.exit(main())
