"""What is sent to a device for a bench: the runner, the model and the golden set, and the runner's
arguments.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgekd.core.errors import RecipeError
from edgekd.device import edgebench
from edgekd.device.bench_settings import DEFAULTS, BenchSettings
from edgekd.device.model_file import GOLDEN, MODEL
from edgekd.settings.device_profiles import DeviceProfile

RUNNER, RESULT = "edgebench.py", "result.json"


@dataclass(frozen=True)
class Names:
    """The files that the runner reads, by their paths on the device. `golden`: None for none."""

    model: str = MODEL
    golden: str | None = GOLDEN


def runner() -> bytes:
    """The runner's own file."""
    return Path(edgebench.__file__).read_bytes()


def files(model: bytes, golden: bytes | None) -> dict[str, bytes]:
    """{file name: bytes} of the runner, the model and, if given, the golden set."""
    sent = {RUNNER: runner(), MODEL: model}
    return sent if golden is None else {**sent, GOLDEN: golden}


def names(golden: bytes | None) -> Names:
    """The names of `files`."""
    return Names(golden=None if golden is None else GOLDEN)


def arguments(profile: DeviceProfile, settings: BenchSettings, read: Names) -> list[str]:
    """The runner's arguments but --json.

    Raises RecipeError for an unknown delegate.
    """
    try:
        edgebench.Delegate(settings.delegate)
    except ValueError as error:
        raise RecipeError(
            f"unknown delegate: {error}", "give one of these; gpu and nnapi need --adb"
        ) from error
    options: dict[str, object] = {
        "model": read.model,
        "threads": settings.threads or profile.threads,
        "runs": settings.runs,
        "min-seconds": settings.min_seconds,
        "warmup-runs": settings.warmup_runs,
        "seed": settings.seed,
        "timeout": settings.whole_s,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    if read.golden is not None:
        words += ["--golden", read.golden]
    if settings.delegate != DEFAULTS.delegate:
        words.append(f"--delegate={settings.delegate}")
    if settings.cores:
        words += ["--cores", _list(settings.cores)]
    if settings.soak_minutes:
        words += ["--soak", str(settings.soak_minutes)]
    # argparse would take a separate word that starts with a minus sign for an option
    if settings.mean is not None:
        words.append(f"--mean={_list(settings.mean)}")
    if settings.std is not None:
        words.append(f"--std={_list(settings.std)}")
    return words


def _list(values: tuple[float, ...]) -> str:
    return ",".join(map(str, values))
