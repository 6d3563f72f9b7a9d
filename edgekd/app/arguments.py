"""The arguments of every verb, defined once: for the Python API and for the command line.

Each verb has one frozen dataclass; that of `bench` is in edgekd.app.bench_arguments. Its fields are
the keyword arguments of the function in edgekd.app.api. Their metadata (edgekd.app.command_options)
says how the same argument is written on the command line. edgekd.app.commands adds what only a
terminal needs, such as `--json`. A field without metadata exists in Python alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from typing import TYPE_CHECKING

from edgekd.app.command_options import (
    KEY,
    MAY_BE_EMPTY,
    ONE_OR_MORE,
    Option,
    option,
    positional,
)
from edgekd.app.progress import Progress
from edgekd.core.errors import RecipeError

if TYPE_CHECKING:
    from edgekd.settings.recipe import Recipe
    from edgekd.settings.setting_types import Toml

type PathLike = str | os.PathLike[str]
type Settings = Mapping[str, Toml] | Sequence[str]

DEFAULT_PROFILE = "pi4"
# Of `progress`, which the command line does not have.
CALLBACK = "function that is called with each edgekd.Update; `print` will do"
# Several fields say the same thing in several verbs.
DEVICE = "device profile (default: %(default)s); see `edgekd profiles`"
RUN_ON = option("train on auto, cpu, cuda, cuda:N or mps (default: auto, a GPU if any)", "DEVICE")
FORMATS = option("also float16, float32, dynamic, int16x8, mixed (default: the profile's)", "A,B")
PX = option("side of the input in pixels, for a model of any size", parse=int)
LAYOUT = option("order of the axes: nchw or nhwc", "LAYOUT")
TRUST = option("let code inside MODEL run, as a pickle holds it")
OUTPUTS = option("outputs to keep of several, the answers (logits) first (default: all)", "A,B")
TRACK = option("keep settings, figures and pages in mlflow, wandb or tensorboard", "TRACKER")
PRESET = option(
    "settings as a set: quick (a first look), standard or patient (ten times as long), and beside "
    "it distil-prune-quantise (a pruned student)",
    "NAME[,NAME]",
)
SETTING = "change one setting of the recipe; may be repeated"
SEED = option("seed of every random choice (default: 0)", parse=int)


class Arguments:
    """Base class of the arguments of a verb. An empty text is refused where a name is expected, and
    so is a NUL character.

    An empty text is most often a shell variable that is not set. As a path it would mean the folder
    that the command runs in.
    """

    def __post_init__(self) -> None:
        """Raise RecipeError that names the argument."""
        for field_ in fields(self):  # type: ignore[arg-type]  # subclasses are dataclasses
            option_: Option | None = field_.metadata.get(KEY)
            if option_ is None or option_.const == "" or field_.name == "settings":
                continue
            value = getattr(self, field_.name)
            parts = value if isinstance(value, list | tuple) else (value,)
            if any(isinstance(part, str) and "\0" in part for part in parts):
                raise RecipeError(
                    f"{option_.called(field_.name)} holds a NUL character",
                    "remove it: no name of a file has one",
                )
            if any(part == "" for part in parts):
                raise RecipeError(
                    f"{option_.called(field_.name)} is empty",
                    "name one; if it comes from a shell variable, set the variable first",
                )


@dataclass(frozen=True)
class Build(Arguments):
    """Distil a student, convert it to int8, certify it, and write everything to the out folder."""

    recipe: PathLike | Recipe | None = field(
        default=None,
        metadata=positional(
            "settings file; `edgekd new DIR` writes one", "RECIPE.toml", nargs=MAY_BE_EMPTY
        ),
    )
    _: KW_ONLY
    profile: str = field(default=DEFAULT_PROFILE, metadata=option(DEVICE))
    data: PathLike | None = field(
        default=None,
        metadata=option(
            "a folder, FILE.csv, shards:TARS, phantom, elpv, or medmnist:NAME (default: phantom)",
            "DIR",
        ),
    )
    teacher: str | None = field(
        default=None, metadata=option("teacher network with its weights, or `none`", "NAME[@FILE]")
    )
    teacher_frozen: bool = field(
        default=False,
        metadata=option(
            "freeze the teacher and train only a linear head on its features", exclusive="teaching"
        ),
    )
    teacher_as_is: bool = field(
        default=False,
        metadata=option(
            "use a finished classifier exactly as it is (teacher.epochs=0)", exclusive="teaching"
        ),
    )
    student: str | None = field(
        default=None, metadata=option("network to train and ship", "NAME[@FILE]")
    )
    preset: str | None = field(default=None, metadata=PRESET)
    minutes: float | None = field(
        default=None,
        metadata=option("plan the whole build so that it takes so long", "M", parse=float),
    )
    formats: str | None = field(default=None, metadata=FORMATS)
    out: PathLike | None = field(
        default=None, metadata=option("out folder (default: builds/DATA-STUDENT-PROFILE)", "DIR")
    )
    store: PathLike | None = field(
        default=None, metadata=option("keep finished stages here, to share them", "DIR")
    )
    until: str | None = field(default=None, metadata=option("stop after this stage", "STAGE"))
    settings: Settings = field(
        default=(),
        metadata=option(SETTING, "STAGE.KEY=VALUE", flag="--set", repeated=True),
    )
    seed: int | None = field(default=None, metadata=SEED)
    device: str | None = field(default=None, metadata=RUN_ON)
    fix: bool = field(
        default=False,
        metadata=option("apply the edits that `check --fix` finds; the recipe file stays as it is"),
    )
    log: PathLike | None = field(
        default=None, metadata=option("append what happens to FILE, one JSON object a line", "FILE")
    )
    tensorboard: PathLike | None = field(
        default=None, metadata=option("write the figures of training to event files in DIR", "DIR")
    )
    track: str | None = field(default=None, metadata=TRACK)
    progress: Progress | None = None


@dataclass(frozen=True)
class Convert(Arguments):
    """Bring a network that is trained already to a certified int8 .tflite."""

    model: str = field(
        metadata=positional(
            "MODEL.onnx, MODEL.pt2, package.module:function, NAME@WEIGHTS, "
            "torchvision:NAME[@WEIGHTS] or hf-hub:REPO",
            "MODEL",
        )
    )
    _: KW_ONLY
    profile: str = field(default=DEFAULT_PROFILE, metadata=option(DEVICE))
    data: PathLike | None = field(
        default=None,
        metadata=option(
            "images to calibrate and test with: a folder, with labels or without, or any --data of "
            "`build`",
            "DIR",
        ),
    )
    qat: int | None = field(
        default=None,
        metadata=option(
            "train so many epochs with int8 in the loop, with the float network as the teacher "
            "(default: calibrate only)",
            "EPOCHS",
            parse=int,
        ),
    )
    px: int | None = field(default=None, metadata=PX)
    mean: str | None = field(
        default=None, metadata=option("mean of each channel for pixels in 0..1", "R,G,B")
    )
    std: str | None = field(
        default=None, metadata=option("deviation of each channel for pixels in 0..1", "R,G,B")
    )
    order: str | None = field(
        default=None, metadata=option("order of the colours: rgb (default) or bgr", "ORDER")
    )
    layout: str | None = field(default=None, metadata=LAYOUT)
    outputs: str | None = field(default=None, metadata=OUTPUTS)
    trust: bool = field(default=False, metadata=TRUST)
    formats: str | None = field(default=None, metadata=FORMATS)
    out: PathLike | None = field(
        default=None, metadata=option("out folder (default: builds/DATA-MODEL-PROFILE)", "DIR")
    )
    store: PathLike | None = field(
        default=None, metadata=option("keep finished stages here, to share them", "DIR")
    )
    until: str | None = field(default=None, metadata=option("stop after this stage", "STAGE"))
    settings: Settings = field(
        default=(),
        metadata=option(SETTING, "STAGE.KEY=VALUE", flag="--set", repeated=True),
    )
    seed: int | None = field(default=None, metadata=SEED)
    device: str | None = field(default=None, metadata=RUN_ON)
    progress: Progress | None = None


@dataclass(frozen=True)
class Check(Arguments):
    """Predict, before any training, what a device makes of a model: operators, memory, latency."""

    model: PathLike | Recipe = field(
        metadata=positional(
            "a student's name, a MODEL of `convert`, a finished model, or a recipe",
            "STUDENT|MODEL|MODEL.tflite|RECIPE.toml",
        )
    )
    _: KW_ONLY
    profile: str = field(default=DEFAULT_PROFILE, metadata=option(DEVICE))
    px: int | None = field(default=None, metadata=PX)
    layout: str | None = field(default=None, metadata=LAYOUT)
    outputs: str | None = field(default=None, metadata=OUTPUTS)
    trust: bool = field(default=False, metadata=TRUST)
    sizes: str | None = field(
        default=None,
        metadata=option("also predict a student with these sides of its input, in pixels", "A,B"),
    )
    widths: str | None = field(
        default=None,
        metadata=option("also predict it without these shares of its channels, 0 to 0.75", "A,B"),
    )
    settings: Settings = field(
        default=(),
        metadata=option(SETTING, "STAGE.KEY=VALUE", flag="--set", repeated=True),
    )


@dataclass(frozen=True)
class Verify(Arguments):
    """Check the files of an out folder or a bundle again, from their bytes."""

    folder: PathLike = field(
        metadata=positional("an out folder, or a bundle (folder or .zip)", "DIR|BUNDLE")
    )


@dataclass(frozen=True)
class Report(Arguments):
    """Read the report of one build or of a search, or compare many builds."""

    folders: PathLike | Sequence[PathLike] = field(
        metadata=positional("out folder of a build or a search", "DIR", nargs=ONE_OR_MORE)
    )
    _: KW_ONLY
    why: bool = field(
        default=False,
        metadata=option("the operators that lose most accuracy in int8, and remedies"),
    )
    why_slow: bool = field(
        default=False, metadata=option("the operators of a measured model by the time they take")
    )
    store: PathLike | None = field(
        default=None, metadata=option("--why: the --store of the build, if it had one", "DIR")
    )
    progress: Progress | None = None
