"""`edgekd profiles fit`: a profile's latency model fitted again, on measurements of the user's own.

Each bench JSON names its model by sha256; the .tflite is looked for beside it, so that its features can be counted. The
profile's published coefficients stay as a prior, which is why 8 models are enough for 9 features.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekd.assessment import latency, workload
from edgekd.assessment.latency import LatencyModel, Prior, Row
from edgekd.core.artifacts import sha256
from edgekd.core.errors import ModelFileError, ProfileError
from edgekd.settings.device_profiles import DeviceProfile, load_profile
from edgekd.tflite.flatbuffer import read

BENCH = "edgekd.bench/1"
EXPECTED = "name bench JSON files, as edgekd bench --json prints them"
FEWEST = 4  # models: with fewer, leaving one out leaves nothing to learn a spread from
ENOUGH = 8  # models: from here on the interval is worth having
STAND_IN = "pi4"  # whose coefficients are the prior of a profile that has none: a CPU with the same kernels
WEIGHTS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # of the prior, tried by leaving one model out


@dataclasses.dataclass(frozen=True)
class Refit:
    """What was made: the files written, the models fitted, and the weight that the prior was given.

    `left_out`: {file: why} of the runs that tell no time.
    """

    name: str
    files: tuple[Path, ...]
    models: dict[str, LatencyModel]
    weights: dict[str, float]
    left_out: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """For --json."""
        return {
            "profile": self.name,
            "files": [str(path) for path in self.files],
            "prior_weight": self.weights,
            "left_out": self.left_out,
            "models": {key: model.to_json() for key, model in self.models.items()},
        }

    def lines(self) -> list[str]:
        """For a person."""
        told = [f"left out {path}: {why}" for path, why in self.left_out.items()]
        for precision, model in self.models.items():
            told.append(
                f"{precision}: {model.rows} models; mean error on models left out {model.errors['mean']:.1%}, worst "
                f"{model.errors['worst']:.1%}; 90 % interval x{math.exp(model.near):.2f}"
                + (
                    f"; few models, so it is wide: {ENOUGH} are enough"
                    if model.rows < ENOUGH
                    else ""
                )
            )
        return [
            *told,
            *map(str, self.files),
            f"next: edgekd check STUDENT --profile {self.files[0]}",
        ]


def refit(profile_name: str, benches: Sequence[Path], folders: Sequence[Path], out: Path) -> Refit:
    """Fit and write NAME-fitted.toml with its rows and its model into `out`.

    Raises ProfileError, for measurements that cannot be used or files that exist, and ModelFileError, for a model that is
    not found.
    """
    profile = load_profile(profile_name)
    asked = [(path, _bench(path)) for path in benches]
    left_out = {str(path): why for path, body in asked for why in [_tells_no_time(body)] if why}
    bodies = [(path, body) for path, body in asked if str(path) not in left_out]
    if not bodies:
        raise ProfileError(
            f"none of the {len(benches)} runs tells a time: "
            + "; ".join(f"{path}: {why}" for path, why in left_out.items()),
            "measure on the board itself",
        )
    _alike(bodies)
    runtime = bodies[0][1]["runtime"]
    rows: dict[str, list[Row]] = {}
    for path, body in bodies:
        precision, row = _row(path, body, folders)
        rows.setdefault(precision, []).append(row)
    models, weights = {}, {}
    for precision, found in rows.items():
        if len({tuple(row.features.values()) for row in found}) < FEWEST:
            raise ProfileError(
                f"{len(found)} {precision} measurements of too few different models; at least {FEWEST} models "
                f"are needed, and {ENOUGH} are enough",
                "measure more models with edgekd bench --json",
            )
        start = _prior(profile, precision)
        weights[precision], prior = _weigh(found, start)
        device = f"{profile.title}, {bodies[0][1]['host'].get('cpu') or 'own measurements'}"
        models[precision] = latency.fit(
            found,
            device,
            f"{runtime['name']} {runtime['version']}",
            int(runtime["threads"]),
            precision,
            prior=prior,
        )
    name = f"{profile.name}-fitted"
    return Refit(
        name, _write(profile_name, profile, name, models, rows, out), models, weights, left_out
    )


def _bench(path: Path) -> dict[str, Any]:
    """One measurement. Raises ProfileError, naming the file."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ProfileError(f"{path}: {error.strerror}", EXPECTED) from None
    except ValueError as error:
        raise ProfileError(f"{path} is not JSON: {error}", EXPECTED) from None
    if not isinstance(body, dict) or body.get("schema") != BENCH:
        raise ProfileError(f"{path}: its schema is not {BENCH}", EXPECTED)
    try:
        p50 = body["latency_ms"]["p50"]
        p50, _ = None if p50 is None else float(p50), body["emulated"]
        _ = (
            body["model_sha256"] + "",
            body["runtime"]["name"],
            body["runtime"]["version"],
            int(body["runtime"]["threads"]),
            body["host"].get("cpu"),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProfileError(
            f"{path}: {error} is missing or wrong", "measure again with edgekd bench"
        ) from None
    if p50 is not None and not (math.isfinite(p50) and p50 > 0):
        raise ProfileError(f"{path}: latency_ms.p50 is {p50}", "measure again with edgekd bench")
    return body


def _tells_no_time(body: dict[str, Any]) -> str:
    """Why a run is left out, "" for one that counts."""
    if body["emulated"]:
        return "measured on an emulated board, so its times are void"
    return "its tool told no p50" if body["latency_ms"]["p50"] is None else ""


def _alike(bodies: Sequence[tuple[Path, dict[str, Any]]]) -> None:
    """Refuse measurements of different runtimes or thread counts: they are different curves."""
    first, expected = bodies[0][0], _conditions(bodies[0][1])
    for path, body in bodies:
        if _conditions(body) != expected:
            raise ProfileError(
                f"{path} was measured with {' '.join(map(str, _conditions(body)))}, {first} with "
                f"{' '.join(map(str, expected))}",
                "fit one runtime and one number of threads at a time",
            )


def _conditions(body: dict[str, Any]) -> tuple[Any, ...]:
    runtime = body["runtime"]
    return (
        runtime["name"],
        runtime["version"],
        runtime.get("delegate"),
        f"{runtime['threads']} threads",
    )


def _row(path: Path, body: dict[str, Any], folders: Sequence[Path]) -> tuple[str, Row]:
    """(precision, row) of one measurement, its features counted in the .tflite it was of."""
    wanted = body["model_sha256"]
    places = [path.parent, path.parent.parent, *folders]
    for folder in places:
        for model in sorted(folder.glob("*.tflite")):
            data = model.read_bytes()
            if sha256(data) == wanted:
                graph = read(data)
                return workload.precision(graph), Row(
                    model.stem,
                    model.stem,
                    workload.features(workload.work(graph)),
                    float(body["latency_ms"]["p50"]),
                    f"own measurement, {path.name}",
                )
    raise ModelFileError(
        f"{path} is of the model {wanted[:12]}, which lies in none of {', '.join(map(str, places))}",
        "--models DIR names the folder of the measured .tflite files",
    )


def _prior(profile: DeviceProfile, precision: str) -> LatencyModel | None:
    for candidate in (profile, load_profile(STAND_IN)):
        if candidate.latency:
            models = latency.read(Path(candidate.latency))
            model = models.get(precision) or next(iter(models.values()))
            if set(model.coefficients) == set(workload.FEATURES):
                return model
    return None


def _weigh(rows: Sequence[Row], start: LatencyModel | None) -> tuple[float, Prior | None]:
    """The prior with the weight under which left-out models are predicted best."""
    if start is None:
        return 0.0, None

    def wrong(weight: float) -> float:
        logs = latency.held_out(rows, latency.networks(rows), Prior(start.coefficients, weight))
        return sum(abs(log) for log in logs)

    best = min(WEIGHTS, key=wrong)
    return best, Prior(start.coefficients, best)


def _write(
    base: str,
    profile: DeviceProfile,
    name: str,
    models: dict[str, LatencyModel],
    rows: dict[str, list[Row]],
    out: Path,
) -> tuple[Path, ...]:
    """The profile first, then its model and its rows."""
    count = sum(map(len, rows.values()))
    if base != profile.name:
        raise ProfileError(
            f"{base} is a profile of your own",
            f"refit the one it extends, or name {profile.name} here",
        )
    text = (
        f'# {profile.title}, latency fitted on own measurements.\nextends = "{base}"\nname = "{name}"\n'
        f"title = {json.dumps(profile.title + ', own measurements', ensure_ascii=False)}\nmeasured_on_hardware = true\n\n"
        f'latency = {{ value = "{name}.latency.json", source = "edgekd profiles fit, {count} own measurements in '
        f'{name}.latency.csv" }}\n'
    )
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["precision", "model", "latency_ms", *workload.FEATURES, "source"])
    for precision, found in rows.items():
        for row in found:
            writer.writerow(
                [
                    precision,
                    row.model,
                    row.latency_ms,
                    *(f"{row.features[f]:.0f}" for f in workload.FEATURES),
                    row.source,
                ]
            )
    files = {
        out / f"{name}.toml": text,
        out / f"{name}.latency.json": latency.write(models),
        out / f"{name}.latency.csv": table.getvalue(),
    }
    for path in files:
        if path.exists():
            raise ProfileError(
                f"{path} exists already", "--out names another folder, or delete it first"
            )
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path, body in files.items():
            path.write_text(body, encoding="utf-8")
    except OSError as error:
        raise ProfileError(
            f"{out}: {error.strerror}", "--out names a folder that you may write"
        ) from None
    return tuple(files)
