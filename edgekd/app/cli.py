"""The command line: parse, call, print. Heavy imports stay inside the verb that needs them."""

from __future__ import annotations

import argparse
import atexit
import gc
import json
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import edgekd
from edgekd.core.errors import EdgeKDError, GateFailed, RecipeError
from edgekd.training import processes

if TYPE_CHECKING:
    from edgekd.app.console import Console
    from edgekd.device import bench_targets

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
    _hush()
    try:
        return int(arguments.run(arguments) or 0)
    except EdgeKDError as error:
        if processes.first_to_fail():
            print(
                f"edgekd: {'failed' if isinstance(error, GateFailed) else 'error'}: {printable(str(error))}",
                file=sys.stderr,
            )
        return error.exit_code
    except KeyboardInterrupt:
        if processes.first_to_fail():
            print(
                "edgekd: interrupted; finished stages are kept, and the same command goes on from there",
                file=sys.stderr,
            )
        return 130
    except BrokenPipeError:  # `edgekd report | head`: the reader has gone, which is no error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception:
        if processes.first_to_fail():
            raise
        return 1  # the connection broke because another process failed, which has said why


def _hush() -> None:
    """Keep libraries' notes to their own developers off the user's terminal: nothing in them can be acted upon."""
    warnings.filterwarnings(
        "ignore", category=SyntaxWarning
    )  # libraries' docstrings, where no bytecode is cached
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings(
        "ignore", message=".*experimental_preserve_all_tensors"
    )  # the op-local check is that debugging


def printable(text: str) -> str:
    """Text whose control characters cannot reach the terminal (a file's name may hold escape sequences)."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def _interrupt(_signal: int, _frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgekd",
        description="Distil a large vision teacher into a certified int8 .tflite for a named device.",
        epilog="exit codes: 0 done, 1 a gate failed, 2 bad usage or input, 130 interrupted (the next run resumes)",
    )
    parser.add_argument("--version", action="version", version=f"edgekd {edgekd.__version__}")
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND")

    build = verbs.add_parser(
        "build", help="teacher -> student -> int8 .tflite, certificate, benchmark, report"
    )
    build.add_argument(
        "recipe",
        nargs="?",
        type=Path,
        metavar="RECIPE.toml",
        help="settings; `edgekd new` writes one",
    )
    build.add_argument(
        "--profile", default=DEFAULT_PROFILE, help="the device (default: %(default)s)"
    )
    build.add_argument(
        "--data",
        metavar="DIR",
        help="a folder, FILE.csv, shards:TARS, phantom, elpv, or medmnist:NAME (default: phantom)",
    )
    build.add_argument("--teacher", metavar="NAME[@FILE]", help="a network with weights, or `none`")
    build.add_argument(
        "--teacher-frozen", action="store_true", help="a frozen teacher with a linear head"
    )
    build.add_argument("--student", metavar="NAME[@FILE]", help="the network that is shipped")
    build.add_argument(
        "--out", type=Path, metavar="DIR", help="default: builds/DATA-STUDENT-PROFILE"
    )
    build.add_argument(
        "--store", type=Path, metavar="DIR", help="share finished stages with other builds"
    )
    build.add_argument("--until", metavar="STAGE", help="stop after this stage")
    build.add_argument(
        "--set", action="append", default=[], metavar="STAGE.KEY=VALUE", help="change one setting"
    )
    build.add_argument("--seed", type=int, help="of every random choice (default: 0)")
    build.add_argument(
        "--fix",
        action="store_true",
        help="make the edits that `check --fix` would; the recipe stays",
    )
    build.add_argument("--json", action="store_true", help="print report.json")
    build.set_defaults(run=_build)

    check = verbs.add_parser(
        "check", help="before training: ops, memory, latency and what to edit, for a device"
    )
    check.add_argument("model", metavar="STUDENT|MODEL.tflite|RECIPE.toml")
    check.add_argument(
        "--profile", default=DEFAULT_PROFILE, help="the device (default: %(default)s)"
    )
    check.add_argument(
        "--set", action="append", default=[], metavar="STAGE.KEY=VALUE", help="change one setting"
    )
    check.add_argument(
        "--fix",
        action="store_true",
        help="write the edits that make it map into the recipe (for a name: STUDENT-PROFILE.toml), "
        "and show them",
    )
    check.add_argument("--json", action="store_true", help="print the whole answer")
    check.set_defaults(run=_check)

    bench = verbs.add_parser(
        "bench", help="latency, memory and golden agreement of a .tflite on a device"
    )
    bench.add_argument("model", type=Path, metavar="MODEL.tflite|DIR")
    bench.add_argument(
        "--profile", default="host", help="the device, or several: pi4,pi5 (default: %(default)s)"
    )
    where = bench.add_mutually_exclusive_group()
    where.add_argument("--local", action="store_true", help="on this machine (default)")
    where.add_argument(
        "--ssh",
        metavar="[USER@]HOST[:PORT]",
        help="over OpenSSH, with its keys, agent and known hosts",
    )
    where.add_argument(
        "--adb",
        nargs="?",
        const="",
        metavar="SERIAL",
        help="an Android device, with benchmark_model",
    )
    where.add_argument(
        "--emulate",
        action="store_true",
        help="the emulated Pi 4 of tools/pi_emulator.py: are its output "
        "bytes this machine's? Its times are void",
    )
    where.add_argument(
        "--emit",
        type=Path,
        metavar="DIR",
        help="write runner, model and command for an offline board",
    )
    where.add_argument(
        "--brought", type=Path, metavar="RESULT.json", help="the result that such a board wrote"
    )
    bench.add_argument(
        "--python",
        default="python3",
        metavar="PATH",
        help="--ssh: the Python there (default: %(default)s)",
    )
    bench.add_argument("--ssh-config", type=Path, metavar="FILE", help="--ssh: as ssh -F")
    bench.add_argument(
        "--benchmark-model",
        type=Path,
        metavar="FILE",
        help="--adb: LiteRT's tool, built for the device",
    )
    bench.add_argument(
        "--delegate",
        default="auto",
        metavar="NAME",
        help="auto, xnnpack, none, edgetpu[:DEVICE], external:LIBRARY[,KEY=VALUE...]; "
        "--adb: xnnpack, none, gpu, nnapi[:ACCELERATOR]",
    )
    bench.add_argument("--threads", type=int, help="default: the profile's")
    bench.add_argument("--cores", metavar="LIST", help="run on these cores only, such as 4-7")
    bench.add_argument("--runs", type=int, default=50, help="timed runs (default: %(default)s)")
    bench.add_argument(
        "--soak", type=float, metavar="MINUTES", help="run on for this long: does it throttle?"
    )
    bench.add_argument(
        "--timeout",
        type=float,
        default=600.0,
        metavar="SECONDS",
        help="for all but a soak (default: %(default)s)",
    )
    bench.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="keep the result in DIR/bench (default: MODEL, if it is a folder)",
    )
    bench.add_argument(
        "--json", action="store_true", help="print the whole result; a list for several profiles"
    )
    bench.set_defaults(run=_bench)

    verify = verbs.add_parser(
        "verify", help="check a build or bundle again: hashes, certificate, golden answers"
    )
    verify.add_argument("folder", type=Path, metavar="DIR|BUNDLE")
    verify.add_argument("--json", action="store_true")
    verify.set_defaults(run=_verify)

    report = verbs.add_parser("report", help="show one build, or several side by side")
    report.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    report.add_argument(
        "--why", action="store_true", help="find the ops that int8 costs most, and what would help"
    )
    report.add_argument(
        "--why-slow",
        action="store_true",
        help="rank the ops that a measured model spends its time in",
    )
    report.add_argument(
        "--store", type=Path, metavar="DIR", help="for --why: the store the build was given, if any"
    )
    shape = report.add_mutually_exclusive_group()
    shape.add_argument(
        "--json",
        action="store_true",
        help="report.json with what was measured since, or the comparison",
    )
    shape.add_argument(
        "--html", action="store_true", help="the same as a page, on stdout: --html > page.html"
    )
    report.set_defaults(run=_report)

    profiles = verbs.add_parser(
        "profiles", help="list the devices that are known, show one, or refit its latency model"
    )
    profiles.add_argument(
        "names",
        nargs="*",
        metavar="NAME | fit NAME BENCH.json...",
        help="`fit` refits NAME from your own measurements",
    )
    profiles.add_argument(
        "--models",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="fit: where the measured .tflite files lie, if not beside their measurements",
    )
    profiles.add_argument(
        "--out", type=Path, default=Path(), metavar="DIR", help="fit: where the new profile goes"
    )
    profiles.add_argument("--json", action="store_true")
    profiles.set_defaults(run=_profiles)

    models = verbs.add_parser("models", help="list the networks that are known, or show one")
    models.add_argument("name", nargs="?", metavar="NAME")
    models.add_argument("--json", action="store_true")
    models.set_defaults(run=_models)

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
    from edgekd.app import build as building
    from edgekd.app.console import Console
    from edgekd.settings import recipe

    settings = recipe.load(arguments.recipe, arguments.set, _overrides(arguments))
    if arguments.fix:
        from edgekd.assessment import auto_fix
        from edgekd.settings import device_profiles

        mended = auto_fix.mend(settings, device_profiles.load_profile(arguments.profile))
        print(
            "".join(f"edgekd: --set {key}={value}\n" for key, value in mended.values.items()),
            end="",
            file=sys.stderr,
        )
        settings = mended.settings
    job = building.job(settings, arguments.profile)
    out = arguments.out or BUILDS / building.default_name(job)
    if not processes.launched().main:
        building.follow(job, out, arguments.store, arguments.until)
        return 0
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


@contextmanager
def _uncollected() -> Iterator[None]:
    """No garbage collection, now and at the end of the process: what a check imports and makes stays small, and searching it
    for cycles is a third of the check's time.
    """
    collecting = gc.isenabled()
    gc.disable()
    atexit.register(gc.freeze)  # the interpreter's last search then finds nothing to search
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _check(arguments: argparse.Namespace) -> int:
    with _uncollected():
        return _checked(arguments)


def _checked(arguments: argparse.Namespace) -> int:
    from edgekd.app.console import Console
    from edgekd.assessment import student_check

    if arguments.fix:
        from edgekd.assessment import auto_fix

        found = auto_fix.fix(arguments.model, arguments.profile, arguments.set)
        found.write()
        print(printable(found.diff) or "edgekd: nothing to mend, nothing written", file=sys.stderr)
        body = found.mended.body
    else:
        body = student_check.check_named(arguments.model, arguments.profile, arguments.set)
    if arguments.json:
        print(json.dumps(body, indent=1))
    else:
        Console().show_check(body)
    if not body["passed"]:
        raise GateFailed("\n  ".join(body["failures"]), student_check.next_step(body))
    return 0


def _bench(arguments: argparse.Namespace) -> int:
    from edgekd.app.console import Console
    from edgekd.device import bench, bench_history, bench_targets
    from edgekd.settings import device_profiles

    profiles = [device_profiles.load_profile(name) for name in arguments.profile.split(",")]
    path, golden = bench.find_model(arguments.model)
    settings = bench.BenchSettings(
        threads=arguments.threads,
        runs=arguments.runs,
        timeout_s=arguments.timeout,
        delegate=arguments.delegate,
        cores=bench.core_numbers(arguments.cores),
        soak_minutes=arguments.soak,
    )
    subject = bench_targets.Subject(
        bench.read_model(path), golden.read_bytes() if golden is not None else None, settings
    )
    if arguments.emit is not None:
        for profile in profiles:
            folder = arguments.emit / profile.name if len(profiles) > 1 else arguments.emit
            for written in bench.emit(
                folder, subject.model, profile, golden=subject.golden, settings=settings
            ):
                print(written)
        return 0
    folder = arguments.out or (arguments.model if arguments.model.is_dir() else None)
    console, bodies, written_to, failed = Console(), [], [], []
    with console, _place(arguments, subject) as measure:
        for profile in profiles:
            try:
                body = measure(profile, partial(_show_share, console, f"bench {profile.name}"))
            except EdgeKDError as error:
                if len(profiles) == 1:
                    raise
                failed.append(
                    (profile.name, error)
                )  # a phone's NNAPI may fail where its GPU does not
                continue
            bodies.append(body)
            if folder is not None:
                written_to.append(bench_history.keep(folder, body))
                print(written_to[-1], file=sys.stderr)
    if arguments.json:
        print(json.dumps(bodies if len(profiles) > 1 else bodies[0], indent=1))
    else:
        for body in bodies:
            console.show_bench(body)
        if folder is not None:
            console.show_changes(
                [
                    change
                    for change in bench_history.changes(bench_history.kept(folder))
                    if change.later.path in written_to
                ]
            )
    for name, fault in failed:
        print(f"edgekd: error: {printable(name)}: {printable(str(fault))}", file=sys.stderr)
    return max((fault.exit_code for _, fault in failed), default=0)


def _show_share(console: Console, what: str, share: float) -> None:
    console.progress(what, round(share * 100), 100)


@contextmanager
def _place(
    arguments: argparse.Namespace, subject: bench_targets.Subject
) -> Iterator[bench_targets.Measure]:
    """Where the options say that the bench runs."""
    from edgekd.device import bench_targets

    if arguments.adb is not None:
        with bench_targets.over_adb(
            subject, arguments.adb or None, arguments.benchmark_model
        ) as measure:
            yield measure
    elif arguments.ssh is not None:
        yield bench_targets.over_ssh(subject, arguments.ssh, arguments.python, arguments.ssh_config)
    elif arguments.emulate:
        yield bench_targets.emulated(subject)
    elif arguments.brought is not None:
        yield bench_targets.brought(subject, arguments.brought)
    else:
        yield bench_targets.here(subject)


def _verify(arguments: argparse.Namespace) -> int:
    from edgekd.app import verify as verifying

    checks = verifying.verify(arguments.folder)
    if arguments.json:
        print(
            json.dumps(
                {
                    "schema": "edgekd.verify/1",
                    "passed": all(c["passed"] for c in checks),
                    "checks": checks,
                },
                indent=1,
            )
        )
    else:
        for check in checks:
            print(f"{'ok    ' if check['passed'] else 'FAILED'} {check['check']}: {check['found']}")
    failed = [check["check"] for check in checks if not check["passed"]]
    if failed:
        raise GateFailed(
            f"{arguments.folder}: {', '.join(failed)} failed",
            "build it again, or fetch the files again",
        )
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from edgekd.app.console import Console
    from edgekd.device import bench_history
    from edgekd.reporting.out_folder import read_report

    if arguments.why:
        return _why(arguments)
    if arguments.why_slow:
        return _why_slow(arguments)
    if len(arguments.folders) > 1:
        return _compare(arguments)
    (folder,) = arguments.folders
    body = read_report(folder)
    if arguments.json:
        print(json.dumps(body, indent=1))
    elif arguments.html:
        from edgekd.reporting.html_report import page

        _print_page(page(body))
    else:
        console = Console()
        console.show_report(body, folder, None)
        console.show_changes(bench_history.changes(bench_history.kept(folder)))
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    """Builds side by side: a table, or all of it as JSON or as a page on stdout."""
    from edgekd.app.console import Console
    from edgekd.reporting import comparison

    body = comparison.compare(comparison.read(arguments.folders))
    if arguments.json:
        print(json.dumps(body, indent=1))
    elif arguments.html:
        from edgekd.reporting.comparison_page import page

        _print_page(page(body))
    else:
        Console().show_comparison(body)
    return 0


def _print_page(text: str) -> None:
    """A page of HTML on stdout. Raises RecipeError where that is a terminal, which nobody wants filled with it."""
    if sys.stdout.isatty():
        raise RecipeError(
            "--html prints a page, and stdout is a terminal",
            "send it to a file: ... --html > page.html",
        )
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]  # whatever the locale: the page says utf-8
    sys.stdout.write(text)


def _why_slow(arguments: argparse.Namespace) -> int:
    from edgekd.app.console import Console
    from edgekd.assessment import slowness

    bodies = [slowness.rank(folder) for folder in arguments.folders]
    if arguments.json:
        print(json.dumps(bodies[0] if len(bodies) == 1 else bodies, indent=1))
    else:
        for body in bodies:
            Console().show_slow(body)
    return 0


def _why(arguments: argparse.Namespace) -> int:
    from edgekd.app import why as explaining
    from edgekd.app.console import Console

    if len(arguments.folders) != 1:
        raise RecipeError(
            f"--why takes one folder, found {len(arguments.folders)}",
            "run it on each build in turn",
        )
    (folder,) = arguments.folders
    console = Console()
    with console:
        body = explaining.explain(folder, arguments.store, console.progress)
    if arguments.json:
        print(json.dumps(body, indent=1))
    else:
        console.show_report(body, folder, None)
    return 0


def _profiles(arguments: argparse.Namespace) -> int:
    from edgekd.settings import device_profiles

    names = arguments.names
    if names and names[0] == "fit":
        return _fit(arguments)
    if len(names) > 1:
        raise RecipeError(
            f"edgekd profiles takes one name, found {len(names)}",
            "edgekd profiles fit NAME BENCH.json... refits one",
        )
    profiles = [
        device_profiles.load_profile(name) for name in (names or device_profiles.profile_names())
    ]
    return _listing([profile.to_json() for profile in profiles], bool(names), arguments.json)


def _fit(arguments: argparse.Namespace) -> int:
    from edgekd.assessment import refit

    if len(arguments.names) < 3:
        raise RecipeError(
            "edgekd profiles fit needs a profile and measurements",
            "edgekd profiles fit pi4 bench/*.json",
        )
    made = refit.refit(
        arguments.names[1],
        [Path(name) for name in arguments.names[2:]],
        arguments.models,
        arguments.out,
    )
    if arguments.json:
        print(json.dumps(made.to_json(), indent=1))
    else:
        print("\n".join(made.lines()))
    return 0


def _models(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from edgekd.core.errors import UnknownName
    from edgekd.settings import model_specs as models

    if arguments.name and arguments.name not in models.names():
        raise UnknownName(
            "model",
            arguments.name,
            models.names(),
            "any other timm name can still be tried in a build",
        )
    return _listing(
        [
            asdict(models.spec(name))
            for name in ([arguments.name] if arguments.name else models.names())
        ],
        bool(arguments.name),
        arguments.json,
    )


def _listing(rows: list[dict[str, Any]], one: bool, as_json: bool) -> int:
    if as_json:
        print(json.dumps(rows[0] if one else rows, indent=1))
    elif one:
        for key, value in rows[0].items():
            if value not in ("", [], {}, (), None):
                print(
                    f"{key:20} {value if not isinstance(value, list | tuple) else ', '.join(map(str, value))}"
                )
    else:
        for row in rows:
            print(f"{row['name']:28} {row['title']}")
    return 0


def _new(arguments: argparse.Namespace) -> int:
    from edgekd.settings import recipe

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
    from edgekd.app import doctor

    checks = doctor.examine()
    if arguments.json:
        print(json.dumps(checks, indent=1))
    else:
        for check in checks:
            print(f"{'ok     ' if check['ok'] else 'MISSING'} {check['what']}: {check['found']}")
    return 0 if all(check["ok"] or check["optional"] for check in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
