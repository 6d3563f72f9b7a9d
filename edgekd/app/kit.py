"""`edgekd bench --kit`: from the arguments to a folder, or a .zip, for a person with a board."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from edgekd.app import measured_models
from edgekd.app.arguments import PathLike
from edgekd.app.bench_arguments import Bench
from edgekd.assessment import student_check
from edgekd.bundle import archive, bundle_paths
from edgekd.core import atomic_files
from edgekd.core.errors import RecipeError, StoreError, UnknownName
from edgekd.core.files import exists, reason
from edgekd.core.number_formats import NumberFormat
from edgekd.device import bench
from edgekd.device.bench_settings import BenchSettings
from edgekd.device.kit import folder, wheels
from edgekd.device.kit.folder import Model
from edgekd.settings import model_specs
from edgekd.settings.device_profiles import DeviceProfile

ZIP = ".zip"
AT = "@"  # mobilenetv2_035@160: a network's name and the pixels of a side


def write(
    asked: Bench,
    place: Path,
    profiles: Sequence[DeviceProfile],
    settings: BenchSettings,
    number_format: NumberFormat | None,
) -> list[Path]:
    """Write the kit into a new folder, or as one .zip, and return the paths of the files.

    Raises RecipeError for several profiles, and StoreError where something lies there already.
    """
    if len(profiles) != 1:
        raise RecipeError(
            f"--kit is for one board, and --profile names {len(profiles)}", "make a kit for each"
        )
    (profile,) = profiles
    folder.check_profile(profile)
    bundle_paths.check_outside("--kit", place)
    zipped = place.suffix.lower() == ZIP
    if zipped and exists(place, "--kit"):
        raise StoreError(f"{place} exists already", "give a name that does not exist yet")
    if not zipped:
        bench.check_empty(place)
    if asked.wheels:
        wheels.check(profile)
    models = _models(asked, profile, number_format)
    fetched = wheels.fetch(profile) if asked.wheels else {}
    files = folder.files(models, profile, settings, fetched)
    return [_zip(place, files)] if zipped else bench.written(place, files)


def _models(
    asked: Bench, profile: DeviceProfile, number_format: NumberFormat | None
) -> list[Model]:
    """The models of MODEL and of each --also, each file once."""
    names = [asked.also] if isinstance(asked.also, str | os.PathLike) else asked.also
    found = measured_models.chosen(Path(asked.model), number_format)
    found += [model for name in names for model in _also(name, profile)]
    return list({model.tflite: model for model in reversed(found)}.values())[::-1]


def _also(name: PathLike, profile: DeviceProfile) -> list[Model]:
    """The models of a path, or the untrained network of a name such as mobilenetv2_035@160."""
    network, _, px = str(name).partition(AT)
    if network not in model_specs.names():
        if not exists(Path(name), "--also"):
            raise UnknownName(
                "file, folder or network", network, model_specs.names(), "see: edgekd models"
            )
        return measured_models.every(Path(name))
    if px and not px.isdecimal():
        raise RecipeError(f"--also {name}: {px} is no number of pixels", f"write {network}{AT}96")
    asked = student_check.settings_of(network, [f"data.input_px={px}"] if px else [])
    tflite = student_check.untrained(asked, profile)
    return [Model(f"{network}-{asked.data.input_px}px", tflite)]


def _zip(place: Path, files: dict[str, bytes]) -> Path:
    """Write the files as one .zip, in a folder of the .zip's name."""
    named = {f"{place.stem}/{name}": data for name, data in files.items()}
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        atomic_files.replace(place, archive.pack(named))
    except OSError as error:
        raise StoreError(
            f"{place} cannot be written: {reason(error)}", "give another name"
        ) from error
    return place
