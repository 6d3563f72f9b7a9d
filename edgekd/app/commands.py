"""The arguments of every command: those of its function, and those that only a terminal needs.

edgekd.app.argument_parser builds the parser of the command line from these dataclasses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field

from edgekd.app.arguments import Arguments, Build, Check, Convert, PathLike, Report, Verify
from edgekd.app.bench_arguments import Bench
from edgekd.app.command_options import ANY_NUMBER, MAY_BE_EMPTY, option, positional
from edgekd.app.search_arguments import Search
from edgekd.core.errors import RecipeError

# More than any machine has GPUs. Each process takes several hundred MB of memory.
MOST_PROCESSES = 64
WHOLE_JSON = "print the result as JSON"


@dataclass(frozen=True)
class BuildCommand(Build):
    """`edgekd build`."""

    processes: int = field(
        default=1,
        metadata=option(
            "share the training among N processes on this machine (default: %(default)s)",
            "N",
            parse=int,
        ),
    )
    json: bool = field(default=False, metadata=option("print report.json"))

    def __post_init__(self) -> None:
        """Raise RecipeError that names the argument."""
        super().__post_init__()
        if not 1 <= self.processes <= MOST_PROCESSES:
            raise RecipeError(
                f"--processes {self.processes}: expected 1 to {MOST_PROCESSES}",
                "give at most as many as there are cores or GPUs",
            )


@dataclass(frozen=True)
class ConvertCommand(Convert):
    """`edgekd convert`."""

    json: bool = field(default=False, metadata=option("print report.json"))


@dataclass(frozen=True)
class SearchCommand(Search):
    """`edgekd search`."""

    _: KW_ONLY
    write_space: PathLike | None = field(
        default=None,
        metadata=option("write FILE.toml with all that --space takes, and end", "FILE.toml"),
    )
    json: bool = field(default=False, metadata=option("print search.json"))


@dataclass(frozen=True)
class CheckCommand(Check):
    """`edgekd check`."""

    fix: bool = field(
        default=False,
        metadata=option(
            "write the edits that make the student map into the recipe (for a student's name: into "
            "STUDENT-PROFILE.toml), and show them"
        ),
    )
    json: bool = field(default=False, metadata=option(WHOLE_JSON))


@dataclass(frozen=True)
class BenchCommand(Bench):
    """`edgekd bench`."""

    json: bool = field(
        default=False,
        metadata=option("print the result as JSON; for several profiles or models, a list"),
    )


@dataclass(frozen=True)
class VerifyCommand(Verify):
    """`edgekd verify`."""

    _: KW_ONLY
    json: bool = field(default=False, metadata=option(WHOLE_JSON))


@dataclass(frozen=True)
class ReportCommand(Report):
    """`edgekd report`."""

    json: bool = field(
        default=False,
        metadata=option(
            "print report.json with all later measurements, or the comparison", exclusive="shape"
        ),
    )
    html: bool = field(
        default=False,
        metadata=option(
            "print the same as a web page: edgekd report DIR --html > page.html",
            exclusive="shape",
        ),
    )


@dataclass(frozen=True)
class ProfilesCommand(Arguments):
    """`edgekd profiles`."""

    names: Sequence[str] = field(
        default=(),
        metadata=positional(
            "show the profile NAME; `fit` refits its latency model from your own measurements",
            "NAME | fit NAME BENCH.json...",
            nargs=ANY_NUMBER,
        ),
    )
    _: KW_ONLY
    models: Sequence[str] = field(
        default=(),
        metadata=option(
            "fit: folder of the measured .tflite files, if not beside their measurements",
            "DIR",
            repeated=True,
        ),
    )
    out: PathLike = field(
        default=".", metadata=option("fit: folder for the new profile (default: here)", "DIR")
    )
    json: bool = field(default=False, metadata=option(WHOLE_JSON))


@dataclass(frozen=True)
class ModelsCommand(Arguments):
    """`edgekd models`."""

    name: str | None = field(
        default=None, metadata=positional("network to show", "NAME", nargs=MAY_BE_EMPTY)
    )
    _: KW_ONLY
    json: bool = field(default=False, metadata=option(WHOLE_JSON))


@dataclass(frozen=True)
class NewCommand(Arguments):
    """`edgekd new`."""

    folder: PathLike = field(metadata=positional("folder for the new recipe.toml", "DIR"))


@dataclass(frozen=True)
class DoctorCommand(Arguments):
    """`edgekd doctor`."""

    json: bool = field(default=False, metadata=option(WHOLE_JSON))
