"""`edgekd bench`: from the arguments to measurements, each kept beside the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgekd.app.arguments import Bench, PathLike
from edgekd.app.progress import Advanced, Progress, silent
from edgekd.app.results import BenchFailure, BenchResult
from edgekd.bundle import archive, bundle_paths
from edgekd.core.errors import EdgeKDError, ModelFileError, RecipeError
from edgekd.core.files import is_file, is_folder, reason
from edgekd.device import bench, bench_history, bench_targets, transports
from edgekd.device.bench_record import Bench as BenchRecord
from edgekd.device.bench_settings import BenchSettings, core_numbers
from edgekd.device.model_file import GOLDEN, MODEL, check_model, find_model, read_model
from edgekd.settings.device_profiles import DeviceProfile, load_profile


def run(asked: Bench) -> BenchResult:
    """Measure on every profile that is named, or write the folders for a board without network.

    With several profiles, a failure on one of them is part of the result. Raises EdgeKDError for
    bad input, and DeviceError when the only profile cannot be measured.
    """
    _one_place(asked)
    model = Path(asked.model)
    profiles = [load_profile(name) for name in asked.profile.split(",")]
    settings = BenchSettings(
        threads=asked.threads,
        runs=asked.runs,
        timeout_s=asked.timeout,
        delegate=asked.delegate,
        cores=core_numbers(asked.cores),
        soak_minutes=asked.soak,
    )
    subject = bench_targets.Subject(*_model_and_golden(model), settings)
    if asked.emit is not None:
        bundle_paths.check_outside("--emit", Path(asked.emit))
        return BenchResult(files=tuple(_emit(Path(asked.emit), subject, profiles)))
    folder = _kept_in(asked, model)
    if folder is not None:
        bench_history.check_place(folder)
    return _measure(asked, subject, profiles, folder)


def _model_and_golden(model: Path) -> tuple[bytes, bytes | None]:
    """The bytes of a model, and of the golden set that belongs to it or None.

    `model`: a .tflite, a folder that holds model.tflite, or the .zip of a bundle. Raises
    ModelFileError.
    """
    if is_file(model, "the model") and bundle_paths.is_bundle(model):
        files = archive.read(model)
        if MODEL not in files:
            raise ModelFileError(f"{model} holds no {MODEL}", "give the .zip of a bundle")
        check_model(files[MODEL], f"{model}: {MODEL}")
        return files[MODEL], files.get(GOLDEN)
    path, golden = find_model(model)
    try:
        return read_model(path), golden.read_bytes() if golden is not None else None
    except OSError as error:
        raise ModelFileError(
            f"{golden} cannot be read: {reason(error)}", "make it readable, or move it away"
        ) from error


def _kept_in(asked: Bench, model: Path) -> Path | None:
    """The folder that keeps the measurements; None where they are only printed.

    It is never inside a bundle, whose manifest lists all of its files. Raises RecipeError when
    --out names a place in one.
    """
    if asked.out is not None:
        bundle_paths.check_outside("--out", Path(asked.out))
        return Path(asked.out)
    if not is_folder(model) and not bundle_paths.is_bundle(model):
        return None
    if bundle_paths.is_bundle(model):
        return bundle_paths.measurements_of(model)
    around = bundle_paths.bundle_around(model)
    return model if around is None else bundle_paths.measurements_of(around)


def _measure(
    asked: Bench,
    subject: bench_targets.Subject,
    profiles: list[DeviceProfile],
    folder: Path | None,
) -> BenchResult:
    runs: list[BenchRecord] = []
    files: list[Path] = []
    failures: list[BenchFailure] = []
    with _place(asked, subject) as measure:
        for profile in profiles:
            try:
                measured = measure(
                    profile, _share(asked.progress or silent, f"bench {profile.name}")
                )
            except EdgeKDError as error:
                if len(profiles) == 1:
                    raise
                # The others may still work: a phone's NNAPI may fail where its GPU does not.
                failures.append(BenchFailure(profile.name, error))
                continue
            runs.append(measured)
            if folder is not None:
                files.append(bench_history.keep(folder, measured))
    return BenchResult(tuple(runs), tuple(files), tuple(failures), folder)


def _emit(
    folder: Path, subject: bench_targets.Subject, profiles: list[DeviceProfile]
) -> Iterator[Path]:
    """Write a folder for each profile, and give the paths of the files.

    Nothing is written when one of the folders is not empty.
    """
    places = [folder / profile.name if len(profiles) > 1 else folder for profile in profiles]
    for place in places:
        bench.check_empty(place)
    for place, profile in zip(places, profiles, strict=True):
        yield from bench.emit(
            place, subject.model, profile, golden=subject.golden, settings=subject.settings
        )


def _share(progress: Progress, task: str) -> transports.Progress:
    return lambda share: progress(Advanced(task, round(share * 100), 100, {}))


def _one_place(asked: Bench) -> None:
    """Raise RecipeError when the arguments name more than one place to measure."""
    places = {
        "local": asked.local,
        "ssh": asked.ssh is not None,
        "adb": asked.adb is not None,
        "emulate": asked.emulate,
        "emit": asked.emit is not None,
        "brought": asked.brought is not None,
    }
    named = [name for name, given in places.items() if given]
    if len(named) > 1:
        raise RecipeError(
            f"{' and '.join(named)} name different places to measure", f"give {named[0]} alone"
        )


@contextmanager
def _place(asked: Bench, subject: bench_targets.Subject) -> Iterator[bench_targets.Measure]:
    """The function that measures where the arguments say."""
    if asked.adb is not None:
        tool = _path(asked.benchmark_model)
        with bench_targets.over_adb(subject, asked.adb or None, tool) as measure:
            yield measure
    elif asked.ssh is not None:
        yield bench_targets.over_ssh(subject, asked.ssh, asked.python, _path(asked.ssh_config))
    elif asked.emulate:
        yield bench_targets.emulated(subject)
    elif asked.brought is not None:
        yield bench_targets.brought(subject, Path(asked.brought))
    else:
        yield bench_targets.here(subject)


def _path(given: PathLike | None) -> Path | None:
    return None if given is None else Path(given)
