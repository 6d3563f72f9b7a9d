"""The command line: parse, call, print. Heavy imports stay inside the verb that needs them."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import edgekd
from edgekd.errors import EdgeKDError, GateFailed, RecipeError

DEFAULT_PROFILE = "pi4"
BUILDS = Path("builds")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. 0 done, 1 a gate failed, 2 bad usage or input, 130 interrupted (the next run resumes)."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if not hasattr(arguments, "run"):
        parser.print_help()
        return 2
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return int(arguments.run(arguments) or 0)
    except EdgeKDError as error:
        print(f"edgekd: {'failed' if isinstance(error, GateFailed) else 'error'}: {printable(str(error))}",
              file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("edgekd: interrupted; finished stages are kept, and the same command goes on from there",
              file=sys.stderr)
        return 130
    except BrokenPipeError:  # `edgekd report | head`: the reader has gone, which is no error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def printable(text: str) -> str:
    """Text whose control characters cannot reach the terminal (a file's name may hold escape sequences)."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def _interrupt(_signal: int, _frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgekd", description="Distil a large vision teacher into a certified int8 .tflite for a named device.",
        epilog="exit codes: 0 done, 1 a gate failed, 2 bad usage or input, 130 interrupted (the next run resumes)",
    )
    parser.add_argument("--version", action="version", version=f"edgekd {edgekd.__version__}")
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND")

    build = verbs.add_parser("build", help="teacher -> student -> int8 .tflite, certificate, benchmark, report")
    build.add_argument("recipe", nargs="?", type=Path, metavar="RECIPE.toml", help="settings; `edgekd new` writes one")
    build.add_argument("--profile", default=DEFAULT_PROFILE, help="the device (default: %(default)s)")
    build.add_argument("--data", metavar="DIR", help="a folder, phantom, elpv, or medmnist:NAME (default: phantom)")
    build.add_argument("--teacher", metavar="NAME[@FILE]", help="a network with weights, or `none`")
    build.add_argument("--teacher-frozen", action="store_true", help="a frozen teacher with a linear head")
    build.add_argument("--student", metavar="NAME[@FILE]", help="the network that is shipped")
    build.add_argument("--out", type=Path, metavar="DIR", help="default: builds/DATA-STUDENT-PROFILE")
    build.add_argument("--store", type=Path, metavar="DIR", help="share finished stages with other builds")
    build.add_argument("--until", metavar="STAGE", help="stop after this stage")
    build.add_argument("--set", action="append", default=[], metavar="STAGE.KEY=VALUE", help="change one setting")
    build.add_argument("--seed", type=int, help="of every random choice (default: 0)")
    build.add_argument("--json", action="store_true", help="print report.json")
    build.set_defaults(run=_build)

    bench = verbs.add_parser("bench", help="latency, memory and golden agreement of a .tflite on a device")
    bench.add_argument("model", type=Path, metavar="MODEL.tflite|DIR")
    bench.add_argument("--profile", default="host", help="the device (default: %(default)s)")
    where = bench.add_mutually_exclusive_group()
    where.add_argument("--local", action="store_true", help="on this machine (default)")
    where.add_argument("--emit", type=Path, metavar="DIR", help="write runner, model and command for an offline board")
    bench.add_argument("--threads", type=int, help="default: the profile's")
    bench.add_argument("--runs", type=int, default=50, help="timed runs (default: %(default)s)")
    bench.add_argument("--json", action="store_true", help="print the whole result")
    bench.set_defaults(run=_bench)

    verify = verbs.add_parser("verify", help="check a build or bundle again: hashes, certificate, golden answers")
    verify.add_argument("folder", type=Path, metavar="DIR|BUNDLE")
    verify.add_argument("--json", action="store_true")
    verify.set_defaults(run=_verify)

    report = verbs.add_parser("report", help="show one build, or several side by side")
    report.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    report.add_argument("--json", action="store_true")
    report.set_defaults(run=_report)

    for name, text, function in (("profiles", "the devices", _profiles), ("models", "the networks", _models)):
        verb = verbs.add_parser(name, help=f"list {text} that are known, or show one")
        verb.add_argument("name", nargs="?", metavar="NAME")
        verb.add_argument("--json", action="store_true")
        verb.set_defaults(run=function)

    new = verbs.add_parser("new", help="write a recipe with every setting and its default")
    new.add_argument("folder", type=Path, metavar="DIR")
    new.set_defaults(run=_new)

    doctor = verbs.add_parser("doctor", help="what this machine has, and what is missing")
    doctor.add_argument("--json", action="store_true")
    doctor.set_defaults(run=_doctor)
    return parser


def _overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    """The command line's own options as recipe keys."""
    found: dict[str, Any] = {}
    if arguments.data is not None:
        found["data.source"] = arguments.data
    if arguments.teacher is not None:
        found["teacher.name"], found["teacher.weights"] = _name_and_file(arguments.teacher)
    if arguments.teacher_frozen:
        found["teacher.mode"] = "frozen"
    if arguments.student is not None:
        found["distil.student"], found["distil.weights"] = _name_and_file(arguments.student)
    if arguments.seed is not None:
        found["seed"] = arguments.seed
    return found


def _name_and_file(text: str) -> tuple[str, str]:
    name, at, file = text.partition("@")
    if at and not file:
        raise RecipeError(f"{text!r} names no file after @", "write NAME@FILE, or NAME alone")
    return name, file


def _build(arguments: argparse.Namespace) -> int:
    from edgekd import building, recipe
    from edgekd.console import Console

    settings = recipe.load(arguments.recipe, arguments.set, _overrides(arguments))
    job = building.job(settings, arguments.profile)
    out = arguments.out or BUILDS / building.default_name(job)
    console = Console()
    with console:
        body, failed = building.build(job, out, arguments.store, arguments.until, console)
    if arguments.json:
        print(json.dumps(body, indent=1))
    else:
        console.show_report(body, out, arguments.until)
    if failed:
        raise GateFailed("\n  ".join(failed))
    return 0


def _bench(arguments: argparse.Namespace) -> int:
    from edgekd import bench, devices
    from edgekd.console import Console
    from edgekd.transports import LocalTransport

    profile = devices.load_profile(arguments.profile)
    path, golden = bench.find_model(arguments.model)
    model = bench.read_model(path)
    known = golden.read_bytes() if golden is not None else None
    settings = bench.BenchSettings(threads=arguments.threads, runs=arguments.runs)
    if arguments.emit is not None:
        for written in bench.emit(arguments.emit, model, profile, golden=known, settings=settings):
            print(written)
        return 0
    console = Console()
    with console:
        body = bench.bench(model, profile, LocalTransport(), golden=known, settings=settings,
                           on_progress=lambda share: console.progress("bench", round(share * 100), 100))
    if arguments.json:
        print(json.dumps(body, indent=1))
    else:
        console.show_bench(body)
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from edgekd import verifying

    checks = verifying.verify(arguments.folder)
    if arguments.json:
        print(json.dumps({"schema": "edgekd.verify/1", "passed": all(c["passed"] for c in checks), "checks": checks},
                         indent=1))
    else:
        for check in checks:
            print(f"{'ok    ' if check['passed'] else 'FAILED'} {check['check']}: {check['found']}")
    failed = [check["check"] for check in checks if not check["passed"]]
    if failed:
        raise GateFailed(f"{arguments.folder}: {', '.join(failed)} failed", "build it again, or fetch the files again")
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from edgekd.console import Console
    from edgekd.verifying import read_json

    bodies = [read_json(folder / "report.json", "edgekd.report/1") for folder in arguments.folders]
    if arguments.json:
        print(json.dumps(bodies[0] if len(bodies) == 1 else bodies, indent=1))
    elif len(bodies) == 1:
        Console().show_report(bodies[0], arguments.folders[0], None)
    else:
        Console().show_comparison(dict(zip(map(str, arguments.folders), bodies, strict=True)))
    return 0


def _profiles(arguments: argparse.Namespace) -> int:
    from edgekd import devices

    profiles = [devices.load_profile(name) for name in ([arguments.name] if arguments.name else devices.profile_names())]
    return _listing([profile.to_json() for profile in profiles], arguments)


def _models(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from edgekd import models
    from edgekd.errors import UnknownName

    if arguments.name and arguments.name not in models.names():
        raise UnknownName("model", arguments.name, models.names(), "any other timm name can still be tried in a build")
    return _listing([asdict(models.spec(name)) for name in ([arguments.name] if arguments.name else models.names())],
                    arguments)


def _listing(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> int:
    if arguments.json:
        print(json.dumps(rows[0] if arguments.name else rows, indent=1))
    elif arguments.name:
        for key, value in rows[0].items():
            if value not in ("", [], {}, (), None):
                print(f"{key:20} {value if not isinstance(value, list | tuple) else ', '.join(map(str, value))}")
    else:
        for row in rows:
            print(f"{row['name']:28} {row['title']}")
    return 0


def _new(arguments: argparse.Namespace) -> int:
    from edgekd import recipe

    path = arguments.folder / "recipe.toml"
    if path.exists():
        raise RecipeError(f"{path} exists already", "name another folder, or delete it first")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(recipe.to_toml(recipe.Recipe()), encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"{path}: {error.strerror}", "name a folder that you may write") from None
    print(f"{path}\nnext: edgekd build {path} --profile {DEFAULT_PROFILE}")
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    from edgekd import doctor

    checks = doctor.examine()
    if arguments.json:
        print(json.dumps(checks, indent=1))
    else:
        for check in checks:
            print(f"{'ok     ' if check['ok'] else 'MISSING'} {check['what']}: {check['found']}")
    return 0 if all(check["ok"] or check["optional"] for check in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
