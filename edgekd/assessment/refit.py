"""`edgekd profiles fit`: fit a profile's latency model again, on measurements of the user's own.

Each bench JSON, and each row of a kit's result, names its model by sha256. The .tflite is looked
for beside the file, so that its features can be counted. The profile's published coefficients stay
as a prior, which is why 8 models are enough for 9 features, and 3 can be used at all.
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
from edgekd.assessment.latency.fit import Prior, Row, fit, held_out, networks
from edgekd.assessment.latency.model import LatencyModel
from edgekd.assessment.measured_rows import BenchRun, read_runs, rows_by_precision
from edgekd.core.errors import ProfileError
from edgekd.core.files import exists, reason
from edgekd.core.records import Record
from edgekd.settings.device_profiles import DeviceProfile, load_profile

FEWEST = 3  # models: with fewer, the errors of models that are left out say nothing of a spread
ENOUGH = 8  # models: from here on the interval is worth having
# The profile whose coefficients are the prior of a profile that has none: a CPU with the same
# kernels.
STAND_IN = "pi4"
# Weights of the prior that are tried by leaving one model out.
WEIGHTS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


class RefitRecord(Record, frozen=True):
    """What `edgekd profiles fit --json` prints.

    `prior_weight`: how many rows the prior counts for, by precision. `left_out`: {file: why} of
    runs that give no time, and {number format: why} of formats with too few models.
    """

    profile: str
    files: list[str]
    prior_weight: dict[str, float]
    left_out: dict[str, str]
    models: dict[str, LatencyModel]


@dataclasses.dataclass(frozen=True)
class Refit:
    """A fitted profile: the files written, and what `RefitRecord` holds."""

    name: str
    files: tuple[Path, ...]
    models: dict[str, LatencyModel]
    weights: dict[str, float]
    left_out: dict[str, str]

    def record(self) -> RefitRecord:
        """For --json."""
        paths = [str(path) for path in self.files]
        return RefitRecord(self.name, paths, self.weights, self.left_out, self.models)

    def lines(self) -> list[str]:
        """For a terminal: errors, files, and what to type next."""
        lines = [f"left out {path}: {why}" for path, why in self.left_out.items()]
        for precision, model in self.models.items():
            few = f"; few models, so it is wide: {ENOUGH} are enough" if model.rows < ENOUGH else ""
            lines.append(
                f"{precision}: {model.rows} models; mean error on models left out "
                f"{model.errors.mean:.1%}, worst {model.errors.worst:.1%}; 90 % interval "
                f"x{math.exp(model.near):.2f}{few}"
            )
        return [
            *lines,
            *map(str, self.files),
            f"next: edgekd check STUDENT --profile {self.files[0]}",
        ]


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
    models, weights = {}, {}
    for precision, own in rows.items():
        if precision not in few:
            weights[precision], models[precision] = _fitted(profile, precision, own, found.first)
    kept = {precision: own for precision, own in rows.items() if precision not in few}
    name = f"{profile.name}-fitted"
    written = _write(out, _texts(profile, name, models, kept))
    return Refit(name, written, models, weights, {**found.left_out, **few})


def _too_few(rows: Sequence[Row]) -> str:
    """What is wrong with the number of models, "" where it is enough."""
    if len({tuple(row.features.values()) for row in rows}) >= FEWEST:
        return ""
    return (
        f"{len(rows)} measurements of too few different models; at least {FEWEST} models are "
        f"needed, and {ENOUGH} are enough"
    )


def _fitted(
    profile: DeviceProfile, precision: str, rows: Sequence[Row], first: BenchRun
) -> tuple[float, LatencyModel]:
    """(weight of the prior, model) of the rows of one precision."""
    start = _prior(profile, precision)
    weight, prior = _weigh(rows, start)
    runtime = first.runtime
    made = fit(
        rows,
        f"{profile.title}, {first.host.cpu or 'own measurements'}",
        f"{runtime.name} {runtime.version}",
        runtime.threads,
        precision,
        prior=prior,
    )
    if start is None or len(networks(rows)) >= ENOUGH:
        return weight, made
    # What few models do not tell comes from the prior, and is no surer than it is.
    near, far = max(made.near, start.near), max(made.far, start.far)
    return weight, msgspec.structs.replace(made, near=near, far=far)


def _prior(profile: DeviceProfile, precision: str) -> LatencyModel | None:
    """The model whose coefficients the fit starts from, None where no model has these features."""
    for candidate in (profile, load_profile(STAND_IN)):
        if candidate.latency:
            models = files.read(Path(candidate.latency))
            model = models.get(precision) or next(iter(models.values()))
            if set(model.coefficients) == set(workload.FEATURES):
                return model
    return None


def _weigh(rows: Sequence[Row], start: LatencyModel | None) -> tuple[float, Prior | None]:
    """The prior with the weight under which models that are left out are predicted best."""
    if start is None:
        return 0.0, None

    def wrong(weight: float) -> float:
        logs = held_out(rows, networks(rows), Prior(start.coefficients, weight))
        return sum(abs(log) for log in logs)

    best = min(WEIGHTS, key=wrong)
    return best, Prior(start.coefficients, best)


def _texts(
    profile: DeviceProfile,
    name: str,
    models: dict[str, LatencyModel],
    rows: dict[str, list[Row]],
) -> dict[str, str]:
    """{file name: text} of the profile, its model and its rows; the profile comes first."""
    count = sum(map(len, rows.values()))
    title = json.dumps(f"{profile.title}, own measurements", ensure_ascii=False)
    source = f"edgekd profiles fit, {count} own measurements in {name}.latency.csv"
    text = (
        f"# {profile.title}, latency fitted on own measurements.\n"
        f'extends = "{profile.name}"\nname = "{name}"\ntitle = {title}\n'
        f"measured_on_hardware = true\n\n"
        f'latency = {{ value = "{name}.latency.json", source = "{source}" }}\n'
    )
    return {
        f"{name}.toml": text,
        f"{name}.latency.json": files.write(models),
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
