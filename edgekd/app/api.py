"""The Python API: `edgekd.build`, `convert`, `search`, `check`, `bench`, `verify` and `report`.

Each function takes the fields of its dataclass in edgekd.app.arguments as keyword arguments, and
returns a typed result of edgekd.app.results. Bad input raises a subclass of edgekd.EdgeKDError. A
failed gate is no error: it makes `result.passed` False, and `result.raise_if_failed()` raises.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable

from edgekd.app import (
    arguments,
    bench_arguments,
    command_options,
    library_warnings,
    search_arguments,
)
from edgekd.app.results import (
    BenchResult,
    BuildResult,
    CheckResult,
    ReportResult,
    SearchResult,
    VerifyResult,
)


def _takes[**P, A, R](
    described: Callable[P, A],
) -> Callable[[Callable[[A], R]], Callable[P, R]]:
    """Decorate a function of one dataclass so that it takes the dataclass's fields instead.

    The signature and the list of arguments in the docstring come from the dataclass.
    """

    def decorate(function: Callable[[A], R]) -> Callable[P, R]:
        @functools.wraps(function)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
            with library_warnings.hidden():
                return function(described(*args, **kwargs))

        signature = inspect.signature(described)
        wrapped.__signature__ = signature.replace(  # type: ignore[attr-defined]
            return_annotation=inspect.signature(function).return_annotation
        )
        wrapped.__doc__ = f"{function.__doc__}\n\n{_explained(described)}"
        del wrapped.__wrapped__  # takes the dataclass itself
        return wrapped

    return decorate


def _explained(described: object) -> str:
    """The arguments of a dataclass with their help texts, as the lines of a docstring."""
    lines = ["    Args:"]
    for field in dataclasses.fields(described):  # type: ignore[arg-type]
        option: command_options.Option | None = field.metadata.get(command_options.KEY)
        told = arguments.CALLBACK if option is None else option.help
        if "%(default)s" in told:
            told %= {"default": field.default}
        lines.append(f"        {field.name}: {told}")
    return "\n".join(lines)


@_takes(arguments.Build)
def build(asked: arguments.Build) -> BuildResult:
    """Distil a student, convert it to int8, certify it, and write everything to the out folder.

    Finished stages are kept: the same call again continues where an earlier one stopped. A gate
    that fails, before or after training, is part of the result.
    """
    from edgekd.app import build as verb

    return verb.run(asked)


@_takes(arguments.Convert)
def convert(asked: arguments.Convert) -> BuildResult:
    """Bring a network that is trained already to a certified int8 .tflite.

    It is calibrated, or trained on with int8 in the loop, and then certified, measured and bundled
    as a build is. Images need no labels: without them, agreement with the float network is shown.
    """
    from edgekd.app import convert as verb

    return verb.run(asked)


@_takes(search_arguments.Search)
def search(asked: search_arguments.Search) -> SearchResult:
    """Find the best network within limits, and build it with its runner-up.

    Every candidate is predicted first. Those that may keep the limits are trained a little, the
    better ones longer, and the best are built whole. The same call again goes on where an earlier
    one stopped. That no network keeps the limits is part of the result.
    """
    from edgekd.app import search as verb

    return verb.run(asked)


@_takes(arguments.Check)
def check(asked: arguments.Check) -> CheckResult:
    """Predict, before any training, what a device makes of a model.

    Nothing is trained: a student is converted with random weights by the route of a build.
    """
    from edgekd.app import check as verb

    return verb.run(asked)


@_takes(bench_arguments.Bench)
def bench(asked: bench_arguments.Bench) -> BenchResult:
    """Measure latency, memory and agreement with the golden set on a device.

    At most one of `local`, `ssh`, `adb`, `emulate`, `emit`, `kit` and `brought` says where.
    """
    from edgekd.app import bench as verb

    return verb.run(asked)


@_takes(arguments.Verify)
def verify(asked: arguments.Verify) -> VerifyResult:
    """Check the files of an out folder or a bundle again, from their bytes."""
    from edgekd.app import verify as verb

    return verb.run(asked)


@_takes(arguments.Report)
def report(asked: arguments.Report) -> ReportResult:
    """Read the report of one build or of a search, or compare many builds."""
    from edgekd.app import report as verb

    return verb.run(asked)
