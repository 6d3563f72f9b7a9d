"""`edgekd profiles fit`: fit a profile's latency model again, on measurements of the user's own.

Each bench JSON, and each row of a kit's result, names its model by sha256. The .tflite is looked
for beside the file, so that its features can be counted. Three models give a factor on the
profile's published model, and more give coefficients (latency/own_device.py).
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path

import msgspec

from edgekd.assessment import workload
from edgekd.assessment.latency import files
from edgekd.assessment.latency.fit import Row, networks
from edgekd.assessment.latency.model import Conditions, LatencyModel
from edgekd.assessment.latency.own_device import ENOUGH, FEWEST, Own, fitted
from edgekd.assessment.measured_rows import BenchRun, read_runs, rows_by_precision
from edgekd.core.errors import ProfileError
from edgekd.core.files import exists, reason
from edgekd.core.records import Record
from edgekd.settings.device_profiles import DeviceProfile, load_profile

# The profile whose coefficients are the prior of a profile that has none: a CPU with the same
# kernels.
STAND_IN = "pi4"


class RefitRecord(Record, frozen=True):
    """What `edgekd profiles fit --json` prints.

    `prior_weight`: how many rows the prior counts for, by precision, for those whose coefficients
    were fitted. `factor`: what multiplies the published model, for the others. `left_out`: {file:
    why} of runs that give no time, and {number format: why} of formats with too few models.
    """

    profile: str
    files: list[str]
    prior_weight: dict[str, float]
    left_out: dict[str, str]
    models: dict[str, LatencyModel]
    factor: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Refit:
    """A fitted profile: the files written, its models by precision, and what was left out."""

    name: str
    files: tuple[Path, ...]
    own: dict[str, Own]
    left_out: dict[str, str]

    @property
    def models(self) -> dict[str, LatencyModel]:
        """{precision: model}."""
        return {precision: own.model for precision, own in self.own.items()}

    def record(self) -> RefitRecord:
        """For --json."""
        return RefitRecord(
            self.name,
            [str(path) for path in self.files],
            {
                precision: own.prior_weight
                for precision, own in self.own.items()
                if own.prior_weight is not None
            },
            self.left_out,
            self.models,
            {
                precision: own.model.factors[0].value
                for precision, own in self.own.items()
                if own.prior_weight is None
            },
        )

    def lines(self) -> list[str]:
        """For a terminal: errors, files, and what to type next."""
        return [
            *(f"left out {path}: {why}" for path, why in self.left_out.items()),
            *(f"{precision}: {_told(own)}" for precision, own in self.own.items()),
            *map(str, self.files),
            f"next: edgekd check STUDENT --profile {self.files[0]}",
        ]


def _told(own: Own) -> str:
    """What was learnt, and how wrong it is, in one line."""
    errors, model = own.model.errors, own.model
    wrong = f"error on models left out: mean {errors.mean:.1%}, worst {errors.worst:.1%}"
    if own.prior_weight is None:
        factor = model.factors[0]
        count = len(factor.ratios)
        learnt = (
            f"{count} models give a factor of {factor.value:.3g} on the published model, 90 % "
            f"interval x{math.exp(math.hypot(model.near, factor.spread)):.2f}"
        )
    else:
        count = len(model.families)  # each measured file is a family of its own
        width = math.exp(model.near)
        learnt = f"coefficients fitted to {count} models, 90 % interval x{width:.2f}"
    more = "" if count >= ENOUGH else f"; {ENOUGH} models make it narrower"
    return f"{learnt}; {wrong}{more}"


def refit(profile_name: str, benches: Sequence[Path], folders: Sequence[Path], out: Path) -> Refit:
    """Fit, and write NAME-fitted.toml with its rows and its model into the folder `out`.

    `benches`: bench JSON files, and results of kits. `folders`: where to look for the measured
    .tflite files, too. A number format with too few models is left out, and named. Raises
    ProfileError for measurements that cannot be used or files that exist, and ModelFileError for a
    model that is not found.
    """
    profile = load_profile(profile_name)
    if profile_name != profile.name:
        raise ProfileError(
            f"{profile_name} is a profile of your own",
            f"fit the profile that it extends, or name {profile.name} here",
        )
    found = read_runs(benches)
    rows = rows_by_precision(found.runs, folders)
    few = {precision: _too_few(own) for precision, own in rows.items() if _too_few(own)}
    if len(few) == len(rows):
        raise ProfileError(
            "; ".join(f"{precision}: {why}" for precision, why in few.items()),
            "measure more models; a kit of several: edgekd bench MODEL --kit DIR --also NAME@PX",
        )
    kept = {precision: own for precision, own in rows.items() if precision not in few}
    at = _conditions(profile, found.first)
    made = {
        precision: fitted(own, _published(profile, precision), at, precision)
        for precision, own in kept.items()
    }
    name = f"{profile.name}-fitted"
    written = _write(out, _texts(profile, name, made, kept))
    return Refit(name, written, made, {**found.left_out, **few})


def _too_few(rows: Sequence[Row]) -> str:
    """What is missing, "" where the models are enough."""
    count = max(networks(rows)) + 1
    if count >= FEWEST:
        return ""
    missing = FEWEST - count
    measured = f"{len(rows)} measurement{'s' if len(rows) != 1 else ''}"
    return (
        f"{measured} of {count} model{'s' if count != 1 else ''}; {missing} more "
        f"model{'s' if missing != 1 else ''} of other sizes or networks "
        f"{'are' if missing != 1 else 'is'} needed, because at least {FEWEST} tell a spread"
    )


def _conditions(profile: DeviceProfile, first: BenchRun) -> Conditions:
    """How the runs were measured."""
    runtime, host = first.runtime, first.host
    delegate = "" if runtime.delegate in (None, "none") else str(runtime.delegate)
    kernels = "XNNPACK" if delegate.lower() == "xnnpack" else delegate
    board = f"{profile.title}, {host.cpu}" if host.cpu else profile.title
    return Conditions(
        board, f"{runtime.name} {runtime.version}", kernels, runtime.threads, host.governor or ""
    )


def _published(profile: DeviceProfile, precision: str) -> LatencyModel | None:
    """The model that the fit starts from, None where no model has these features.

    To a device with a profile of its own, a stand-in's networks are all foreign ones.
    """
    for candidate in (profile, load_profile(STAND_IN)):
        if candidate.latency:
            models = files.read(Path(candidate.latency))
            model = models.get(precision) or next(iter(models.values()))
            if set(model.coefficients) == set(workload.FEATURES):
                if candidate is profile:
                    return model
                return msgspec.structs.replace(model, near=model.far)
    return None


def _texts(
    profile: DeviceProfile,
    name: str,
    made: dict[str, Own],
    rows: dict[str, list[Row]],
) -> dict[str, str]:
    """{file name: text} of the profile, its model and its rows; the profile comes first."""
    count = sum(map(len, rows.values()))
    title = json.dumps(f"{profile.title}, own measurements", ensure_ascii=False)
    learnt = " and ".join(
        f"{precision} {'coefficients' if own.prior_weight is not None else 'factor'}"
        for precision, own in made.items()
    )
    source = f"edgekd profiles fit, {learnt} from {count} own measurements in {name}.latency.csv"
    text = (
        f"# {profile.title}, latency fitted on own measurements.\n"
        f'extends = "{profile.name}"\nname = "{name}"\ntitle = {title}\n'
        f"measured_on_hardware = true\n\n"
        f'latency = {{ value = "{name}.latency.json", source = "{source}" }}\n'
    )
    return {
        f"{name}.toml": text,
        f"{name}.latency.json": files.write(
            {precision: own.model for precision, own in made.items()}
        ),
        f"{name}.latency.csv": _table(rows),
    }


def _table(rows: dict[str, list[Row]]) -> str:
    """The rows as CSV."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["precision", "model", "latency_ms", *workload.FEATURES, "source"])
    for precision, found in rows.items():
        for row in found:
            features = (f"{row.features[name]:.0f}" for name in workload.FEATURES)
            writer.writerow([precision, row.model, row.latency_ms, *features, row.source])
    return table.getvalue()


def _write(out: Path, texts: dict[str, str]) -> tuple[Path, ...]:
    """Write the files into the folder `out`. Raises ProfileError where one of them exists."""
    paths = {out / name: text for name, text in texts.items()}
    for path in paths:
        if exists(path, "--out"):
            raise ProfileError(
                f"{path} exists already", "--out names another folder, or delete the file first"
            )
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path, text in paths.items():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ProfileError(
            f"{out}: {reason(error)}", "--out names a folder that you may write"
        ) from None
    return tuple(paths)
