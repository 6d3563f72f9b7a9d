"""The command line: parses the arguments, runs one verb, and turns errors into exit codes."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

import edgekd
from edgekd.app import argument_parser, commands, library_warnings
from edgekd.app.printing import printable
from edgekd.core.errors import EdgeKDError, GateFailed
from edgekd.training import processes


@dataclass(frozen=True)
class Verb:
    """One command: `run(arguments)` in edgekd/app/verbs/NAME.py, which returns an exit code."""

    name: str
    help: str
    arguments: type

    def run(self, namespace: argparse.Namespace) -> int:
        """Import the verb's module, so that no other verb's libraries are loaded, and run it."""
        module = importlib.import_module(f"edgekd.app.verbs.{self.name}")
        return int(module.run(argument_parser.parsed(self.arguments, namespace)))


VERBS = (
    Verb(
        "build",
        "teacher -> student -> int8 .tflite, certificate, benchmark, report",
        commands.BuildCommand,
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
    Verb("report", "show one build, or several side by side", commands.ReportCommand),
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
    parser = make_parser()
    namespace = parser.parse_args(argv)
    if namespace.verb is None:
        parser.print_help()
        return 2
    signal.signal(signal.SIGTERM, _interrupt)
    library_warnings.hide()
    try:
        return next(verb for verb in VERBS if verb.name == namespace.verb).run(namespace)
    except EdgeKDError as error:
        kind = "failed" if isinstance(error, GateFailed) else "error"
        if processes.first_to_fail():
            print(f"edgekd: {kind}: {printable(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        if processes.first_to_fail():
            print(
                "edgekd: interrupted; finished stages are kept, and the same command resumes",
                file=sys.stderr,
            )
        return 130
    except BrokenPipeError:  # `edgekd report | head`: the reader has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception:
        if processes.first_to_fail():
            raise
        return 1  # another process failed first, and has printed the reason


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line. `namespace.verb` is None where no command is given."""
    parser = argparse.ArgumentParser(
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


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
