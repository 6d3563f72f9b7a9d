"""The files of a kit: the models with their arguments, the programs that measure them, and what a
person reads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import edgekd
from edgekd.core.artifacts import sha256
from edgekd.core.errors import RecipeError
from edgekd.device import edgebench, runner_job
from edgekd.device.bench_settings import BenchSettings
from edgekd.device.device_text import clean
from edgekd.device.kit import run as on_board
from edgekd.device.model_file import check_model
from edgekd.settings.device_profiles import DeviceProfile

SCHEMA = "edgekd.bench-kit/1"
MODELS = "models"
START, ON_BOARD, README = "run.sh", "run.py", "README.txt"
MARKER = re.compile(r"@@([A-Z]+)@@")
WITH_WHEELS = """\
A 64-bit Linux with Python {pythons}. The folder wheels/ holds numpy and the runtime for it, so
no network is needed. With another Python, numpy and ai-edge-litert must be installed.
"""
WITHOUT_WHEELS = """\
Linux with Python 3.9 or newer, numpy, and the TFLite runtime ai-edge-litert (for a 32-bit system,
tflite-runtime). To install them, the board needs the internet once.
"""


@dataclass(frozen=True)
class Model:
    """One model to measure: a name for people, the bytes of its .tflite, and those of its
    golden.npz or None.
    """

    name: str
    tflite: bytes
    golden: bytes | None = None


def check_profile(profile: DeviceProfile) -> None:
    """Raise RecipeError for a profile whose runtime the kit cannot run: one without Python."""
    packages = [package for *_, package in edgebench.RUNTIMES]
    if not any(package in profile.runtime for package in packages):
        raise RecipeError(
            f"--kit measures with {', '.join(packages)}, and {profile.name} runs {profile.runtime}",
            "a phone is measured with --adb, and other boards with tools of their own",
        )


def files(
    models: Sequence[Model],
    profile: DeviceProfile,
    settings: BenchSettings,
    wheels: Mapping[str, bytes],
) -> dict[str, bytes]:
    """{path: bytes} of a kit. `wheels`: {file name: bytes}, {} for none.

    Raises ModelFileError for a model that is not whole, and RecipeError for an unknown delegate.
    """
    made: dict[str, bytes] = {}
    rows = []
    for model in models:
        check_model(model.tflite, model.name)
        stem = _stem(model.name, made)
        names = runner_job.Names(f"{stem}.tflite", f"{stem}.npz" if model.golden else None)
        made[names.model] = model.tflite
        if names.golden is not None and model.golden is not None:
            made[names.golden] = model.golden
        rows.append(
            {
                "name": clean(model.name),
                "file": names.model,
                "sha256": sha256(model.tflite),
                "arguments": runner_job.arguments(profile, settings, names),
            }
        )
    kit = {
        "schema": SCHEMA,
        "edgekd": edgekd.__version__,
        "profile": profile.name,
        "models": rows,
    }
    here = Path(__file__).parent
    return {
        **made,
        "kit.json": (json.dumps(kit, indent=1) + "\n").encode(),
        ON_BOARD: Path(on_board.__file__).read_bytes(),
        runner_job.RUNNER: runner_job.runner(),
        START: (here / START).read_bytes(),
        README: _readme(len(models), profile, settings, sorted(wheels)).encode(),
        **{f"wheels/{name}": data for name, data in wheels.items()},
    }


def _stem(name: str, taken: Mapping[str, bytes]) -> str:
    """A path below models/ without its ending, from a model's name, that no other model has."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", name.removesuffix(".tflite")).strip("._") or "model"
    stem = f"{MODELS}/{plain[:80]}"
    number = 2
    while f"{stem}.tflite" in taken:
        stem = f"{MODELS}/{plain[:80]}-{number}"
        number += 1
    return stem


def _readme(
    count: int, profile: DeviceProfile, settings: BenchSettings, wheels: Sequence[str]
) -> str:
    """README.txt, which a person reads who knows neither EdgeKD nor Python."""
    found = {
        part[2:] for name in wheels for part in name.split("-") if re.fullmatch(r"cp3\d+", part)
    }
    pythons = " or ".join(f"3.{digits[1:]}" for digits in sorted(found))
    minutes = max(1, round(count * (1 + (settings.soak_minutes or 0.0))))
    title = f"Measure {_counted(count, 'model')} on your board: {clean(profile.title)}"
    words = {
        "COUNT": _counted(count, "model"),
        "TITLE": clean(profile.title),
        "LINE": "=" * len(title),
        "MINUTES": _counted(minutes, "minute"),
        "NEEDS": WITH_WHEELS.format(pythons=pythons) if wheels else WITHOUT_WHEELS,
        "WHEELS": "    wheels/         numpy and the runtime\n" if wheels else "",
        "PROFILE": profile.name,
        "VERSION": edgekd.__version__,
    }
    template = Path(__file__).with_name("README.txt.in").read_text(encoding="utf-8")
    return MARKER.sub(lambda match: words[match[1]], template)


def _counted(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
