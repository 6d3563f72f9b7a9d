"""`edgekd bench`: from the arguments to measurements, each kept beside the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgekd.app import measured_models, micro_answers
from edgekd.app.arguments import PathLike
from edgekd.app.bench_arguments import Bench
from edgekd.app.progress import Advanced, Progress, silent
from edgekd.app.results import BenchFailure, BenchResult
from edgekd.bundle import bundle_paths
from edgekd.core.errors import DeviceError, EdgeKDError, RecipeError, UnknownName
from edgekd.core.files import is_folder
from edgekd.core.number_formats import NumberFormat
from edgekd.device import bench, bench_history, bench_targets, transports
from edgekd.device.bench_record import Bench as BenchRecord
from edgekd.device.bench_settings import BenchSettings, core_numbers
from edgekd.device.device_text import clean
from edgekd.device.kit import result
from edgekd.device.kit.result import Returned
from edgekd.settings.device_profiles import DeviceProfile, load_profile, profile_names

HOST = "host"  # the profile where none is named


def run(asked: Bench) -> BenchResult:
    """Measure on every profile that is named, or write the folders for a board without network.

    With several profiles, a failure on one of them is part of the result. Raises EdgeKDError for
    bad input, and DeviceError when the only profile cannot be measured.
    """
    _one_place(asked)
    _kit_only(asked)
    model, number_format = Path(asked.model), _number_format(asked.format)
    settings = BenchSettings(
        threads=asked.threads,
        runs=asked.runs,
        timeout_s=asked.timeout,
        delegate=asked.delegate,
        cores=core_numbers(asked.cores),
        soak_minutes=asked.soak,
    )
    profiles = [load_profile(name) for name in (asked.profile or HOST).split(",")]
    if asked.kit is not None:
        from edgekd.app import kit  # its untrained networks need the room of assessments

        made = kit.write(asked, Path(asked.kit), profiles, settings, number_format)
        return BenchResult(files=tuple(made))
    folder = None if asked.emit is not None else _kept_in(asked, model)
    if folder is not None:
        bench_history.check_place(folder)
    returned = None if asked.brought is None else _returned(Path(asked.brought))
    if returned is not None:
        return _from_kit(asked, returned, folder, number_format)
    found = measured_models.one(model, number_format)
    subject = bench_targets.Subject(found.tflite, found.golden, settings)
    if asked.emit is not None:
        bundle_paths.check_outside("--emit", Path(asked.emit))
        return BenchResult(files=tuple(_emit(Path(asked.emit), subject, profiles)))
    return _measure(asked, subject, profiles, folder)


def _number_format(name: str | None) -> NumberFormat | None:
    """The number format of --format. Raises UnknownName."""
    if name is None:
        return None
    try:
        return NumberFormat(name)
    except ValueError:
        raise UnknownName(
            "number format", name, list(NumberFormat), "give --format float16"
        ) from None


def _kit_only(asked: Bench) -> None:
    """Raise RecipeError for an option that says nothing without --kit."""
    given = {"--also": bool(asked.also), "--wheels": asked.wheels}
    for option, there in given.items():
        if there and asked.kit is None:
            raise RecipeError(f"{option} belongs to --kit", "give --kit NAME.zip with it")


def _returned(file: Path) -> Returned | None:
    """The result of a kit in a file; None for a file of another kind."""
    body = result.parsed(bench_targets.read_brought(file))
    return None if body is None else result.read(body, str(file))


def _from_kit(
    asked: Bench, returned: Returned, folder: Path | None, number_format: NumberFormat | None
) -> BenchResult:
    """The measurements of a kit for the models of MODEL; other models of the kit are left.

    Raises DeviceError where the file holds none of these models.
    """
    path, profile = Path(asked.model), _profile_of(asked, returned)
    found = measured_models.chosen(path, number_format)
    rows = {model.name: returned.row_of(model.tflite) for model in found}
    known = {model: row for model, row in rows.items() if row is not None}
    if not known:
        raise DeviceError(
            f"{returned.name} holds results of other models ({returned.models}), and none of "
            f"{path}",
            "give the model that was in the kit: its folder models/ has all of them",
        )
    runs: dict[str, BenchRecord] = {}
    failures: list[BenchFailure] = []
    for model, row in known.items():
        try:
            measured = returned.measurement(row, profile.name)
        except EdgeKDError as error:
            if len(known) == 1:
                raise
            failures.append(BenchFailure(f"{profile.name}, {model}", error))
        else:
            runs[model] = bench.completed(measured, profile)
    files = [] if folder is None else [bench_history.keep(folder, run) for run in runs.values()]
    return BenchResult(tuple(runs.values()), tuple(files), tuple(failures), folder, tuple(runs))


def _profile_of(asked: Bench, returned: Returned) -> DeviceProfile:
    """The profile of --profile, or the one that a kit was made for. Raises RecipeError."""
    named = asked.profile or returned.body.profile
    if asked.profile is None and named not in profile_names():
        raise RecipeError(
            f"{returned.name} is of a kit for {clean(named)}, a profile that EdgeKD does not have",
            "name it: --profile ./my_board.toml",
        )
    if "," in named:
        raise RecipeError(
            f"{returned.name} is of one board, and --profile names several", "name one of them"
        )
    return load_profile(named)


def _kept_in(asked: Bench, model: Path) -> Path | None:
    """The folder that keeps the measurements; None where they are only printed.

    It is never inside a bundle, whose manifest lists all of its files. Raises RecipeError when
    --out names a place in one.
    """
    if asked.out is not None:
        bundle_paths.check_outside("--out", Path(asked.out))
        return Path(asked.out)
    if not is_folder(model, "the model") and not bundle_paths.is_bundle(model):
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
        "kit": asked.kit is not None,
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
        tool, libraries = _path(asked.benchmark_model), _path(asked.npu_libraries)
        with bench_targets.over_adb(subject, asked.adb or None, tool, libraries) as measure:
            yield measure
    elif asked.ssh is not None:
        yield bench_targets.over_ssh(subject, asked.ssh, asked.python, _path(asked.ssh_config))
    elif asked.emulate:
        yield bench_targets.emulated(subject)
    elif asked.brought is not None:
        data = bench_targets.read_brought(Path(asked.brought))
        yield bench_targets.brought(subject, data)
    else:
        yield micro_answers.beside(bench_targets.here(subject), subject)


def _path(given: PathLike | None) -> Path | None:
    return None if given is None else Path(given)
