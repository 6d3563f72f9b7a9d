"""The arguments of `edgekd search` and `edgekd.search`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING

from edgekd.app import quantities
from edgekd.app.arguments import (
    DEFAULT_PROFILE,
    DEVICE,
    PRESET,
    RUN_ON,
    SEED,
    SETTING,
    TRACK,
    Arguments,
    PathLike,
    Settings,
)
from edgekd.app.command_options import MAY_BE_EMPTY, option, positional
from edgekd.core.errors import RecipeError
from edgekd.search import storage
from edgekd.search.limits import Limits, Objective

if TYPE_CHECKING:
    from edgekd.app.progress import Progress
    from edgekd.settings.recipe import Recipe

BUDGET = 7200.0  # seconds: an afternoon's worth of waiting, on any machine
# More than any machine has cores to train with. Each worker takes several hundred MB of memory.
MOST_WORKERS = 64


@dataclass(frozen=True)
class Search(Arguments):
    """Find the best network within limits: predict all candidates, train the better ones, build."""

    recipe: PathLike | Recipe | None = field(
        default=None,
        metadata=positional(
            "settings that all candidates share; `edgekd new DIR` writes one",
            "RECIPE.toml",
            nargs=MAY_BE_EMPTY,
        ),
    )
    _: KW_ONLY
    profile: str = field(default=DEFAULT_PROFILE, metadata=option(DEVICE))
    data: PathLike | None = field(
        default=None,
        metadata=option("the images, as for `build` (default: phantom)", "DIR"),
    )
    max_latency: float | None = field(
        default=None,
        metadata=option(
            "most time for one image on the device, such as 15ms (in Python: milliseconds)",
            "TIME",
            parse=quantities.latency,
        ),
    )
    max_size: float | None = field(
        default=None,
        metadata=option(
            "largest .tflite, such as 2MB (in Python: bytes)", "SIZE", parse=quantities.size
        ),
    )
    max_memory: float | None = field(
        default=None,
        metadata=option(
            "most memory on the device, such as 8MB (in Python: bytes)",
            "SIZE",
            parse=quantities.size,
        ),
    )
    max_drop: float | None = field(
        default=None,
        metadata=option(
            "most points of accuracy below the teacher, such as 1.0", "POINTS", parse=float
        ),
    )
    objective: str = field(
        default=Objective.ACCURACY.value,
        metadata=option(
            "what to do best within the limits: accuracy (default), latency or size", "WHAT"
        ),
    )
    budget: float = field(
        default=BUDGET,
        metadata=option(
            "time for the whole search, such as 90m; it ends in time (default: 2h; in Python: "
            "seconds)",
            "TIME",
            parse=quantities.duration,
        ),
    )
    workers: int = field(
        default=1,
        metadata=option(
            "train so many candidates at a time on this machine (default: %(default)s)",
            "N",
            parse=int,
        ),
    )
    also: Sequence[str] = field(
        default=(),
        metadata=option(
            "show the front on this device, too; may be repeated", "PROFILE", repeated=True
        ),
    )
    storage: str | None = field(
        default=None,
        metadata=option(
            "where workers of several machines find the trials: a file on a shared disk, or "
            "postgresql+psycopg://USER@HOST/DATABASE (default: OUT/trials.journal)",
            "FILE|URL",
        ),
    )
    space: PathLike | None = field(
        default=None,
        metadata=option("which candidates there are; --write-space writes one", "FILE.toml"),
    )
    out: PathLike | None = field(
        default=None,
        metadata=option("out folder (default: builds/search-DATA-PROFILE)", "DIR"),
    )
    store: PathLike | None = field(
        default=None,
        metadata=option("keep finished stages here, to share them (default: OUT/store)", "DIR"),
    )
    teacher: str | None = field(
        default=None,
        metadata=option("teacher of all candidates, with its weights, or `none`", "NAME[@FILE]"),
    )
    teacher_frozen: bool = field(
        default=False,
        metadata=option("freeze the teacher and train only a linear head", exclusive="teaching"),
    )
    teacher_as_is: bool = field(
        default=False,
        metadata=option("use a finished classifier exactly as it is", exclusive="teaching"),
    )
    preset: str | None = field(default=None, metadata=PRESET)
    settings: Settings = field(
        default=(),
        metadata=option(SETTING, "STAGE.KEY=VALUE", flag="--set", repeated=True),
    )
    seed: int | None = field(default=None, metadata=SEED)
    device: str | None = field(default=None, metadata=RUN_ON)
    track: str | None = field(default=None, metadata=TRACK)
    progress: Progress | None = None

    def __post_init__(self) -> None:
        """Raise RecipeError that names the argument."""
        super().__post_init__()
        limits = {
            "--max-latency 15ms": self.max_latency,
            "--max-size 2MB": self.max_size,
            "--max-memory 8MB": self.max_memory,
            "--max-drop 1.0": self.max_drop,
        }
        for example, value in limits.items():
            if value is not None and not 0 <= value < math.inf:
                name = example.partition(" ")[0]
                raise RecipeError(
                    f"{name} {value:g}: expected a limit of zero or more", f"write {example}"
                )
        if self.objective not in list(Objective):
            raise RecipeError(
                f"--objective {self.objective!r}: expected accuracy, latency or size",
                "leave it out for accuracy",
            )
        if self.objective != Objective.ACCURACY and self.max_drop is None:
            raise RecipeError(
                f"--objective {self.objective} needs --max-drop: otherwise the smallest network "
                "wins, whatever it has learnt",
                "say how many points of accuracy it may lose: --max-drop 1.0",
            )
        if not 1 <= self.workers <= MOST_WORKERS:
            raise RecipeError(
                f"--workers {self.workers}: expected 1 to {MOST_WORKERS}",
                "give at most as many as there are cores",
            )
        if self.storage is not None:
            storage.check(self.storage)

    @property
    def limits(self) -> Limits:
        """The limits. Raises RecipeError where there is none."""
        found = Limits(
            self.max_latency,
            None if self.max_size is None else round(self.max_size),
            None if self.max_memory is None else round(self.max_memory),
            self.max_drop,
        )
        if found == Limits():
            raise RecipeError(
                "a search needs a limit, and none is given",
                "give at least one of --max-latency 15ms, --max-size 2MB, --max-memory 8MB and "
                "--max-drop 1.0",
            )
        return found
