"""Bench JSON files (schema edgekd.bench/1) as rows for a latency model."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path

from edgekd.assessment import workload
from edgekd.assessment.latency.fit import Row
from edgekd.core.artifacts import sha256
from edgekd.core.errors import ModelFileError, ProfileError
from edgekd.core.files import reason
from edgekd.core.records import Record, from_json
from edgekd.device.bench_record import SCHEMA, Throttled
from edgekd.device.edgebench import throttled_during
from edgekd.tflite.flatbuffer import read

EXPECTED = "name bench JSON files, as edgekd bench --json prints them"
AGAIN = "measure again with edgekd bench"


class BenchRuntime(Record, frozen=True):
    """The runtime of a run. Runs of different runtimes are not fitted together."""

    name: str
    version: str
    threads: int
    delegate: str | None = None


class BenchHost(Record, frozen=True):
    """The device of a run, and what it said of throttling before and after the run."""

    cpu: str | None = None
    throttled: Throttled | None = None


class BenchLatency(Record, frozen=True):
    """The median latency in milliseconds, None where the tool gives none."""

    p50: float | None


class BenchRun(Record, frozen=True):
    """The part of a bench JSON that a latency model is fitted on."""

    schema: str
    model_sha256: str
    emulated: bool
    runtime: BenchRuntime
    host: BenchHost
    latency_ms: BenchLatency

    @property
    def void(self) -> str:
        """Why the run gives no usable time, "" for a run that does."""
        if self.emulated:
            return "measured on an emulated board, so its times are void"
        words = self.host.throttled
        if words is not None and throttled_during([words.before, words.after]):
            return (
                f"the board throttled or lacked voltage during it (get_throttled {words.before}, "
                f"then {words.after}), so its times are not the board's"
            )
        return "its tool printed no p50" if self.latency_ms.p50 is None else ""


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Usable runs by path, and the others: {path: why the run was left out}."""

    runs: dict[Path, BenchRun]
    left_out: dict[str, str]

    @property
    def first(self) -> BenchRun:
        """A run whose runtime and device stand for all."""
        return next(iter(self.runs.values()))


def read_runs(paths: Sequence[Path]) -> Measurements:
    """Read bench JSON files.

    Raises ProfileError for a file that is no bench JSON, for runs of different runtimes or thread
    counts, and where no run gives a time.
    """
    runs = {path: _read(path) for path in paths}
    left_out = {str(path): run.void for path, run in runs.items() if run.void}
    usable = {path: run for path, run in runs.items() if not run.void}
    if not usable:
        raise ProfileError(
            f"none of the {len(paths)} runs gives a time: "
            + "; ".join(f"{path}: {why}" for path, why in left_out.items()),
            "measure on the board itself",
        )
    first, expected = next((path, run.runtime) for path, run in usable.items())
    for path, run in usable.items():
        if run.runtime != expected:
            raise ProfileError(
                f"{path} was measured with {_conditions(run.runtime)}, {first} with "
                f"{_conditions(expected)}",
                "fit one runtime and one number of threads at a time",
            )
    return Measurements(usable, left_out)


def _read(path: Path) -> BenchRun:
    """One run. Raises ProfileError, naming the file."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ProfileError(f"{path}: {reason(error)}", EXPECTED) from None
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"{path} is not JSON: {error}", EXPECTED) from None
    if not isinstance(body, dict) or body.get("schema") != SCHEMA:
        raise ProfileError(f"{path}: its schema is not {SCHEMA}", EXPECTED)
    try:
        run = from_json(BenchRun, body, str(path))
    except ModelFileError as error:
        raise ProfileError(error.what, AGAIN) from None
    p50 = run.latency_ms.p50
    if p50 is not None and not (math.isfinite(p50) and p50 > 0):
        raise ProfileError(f"{path}: latency_ms.p50 is {p50}, not a time above 0", AGAIN)
    return run


def _conditions(runtime: BenchRuntime) -> str:
    """What two runs must share, in words."""
    return f"{runtime.name} {runtime.version} {runtime.delegate} {runtime.threads} threads"


def rows_by_precision(runs: dict[Path, BenchRun], folders: Sequence[Path]) -> dict[str, list[Row]]:
    """{precision: rows}, with the features counted in the .tflite files that were measured.

    A file is found by its sha256 beside the JSON, in the folder above it, or in `folders`. Raises
    ModelFileError for a model that is not found.
    """
    rows: dict[str, list[Row]] = {}
    for path, run in runs.items():
        precision, row = _row(path, run, folders)
        rows.setdefault(precision, []).append(row)
    return rows


def _row(path: Path, run: BenchRun, folders: Sequence[Path]) -> tuple[str, Row]:
    """(precision, row) of one usable run."""
    places = [path.parent, path.parent.parent, *folders]
    for folder in places:
        for model in sorted(folder.glob("*.tflite")):
            data = model.read_bytes()
            if sha256(data) == run.model_sha256:
                graph = read(data)
                return workload.precision(graph), Row(
                    model.stem,
                    model.stem,
                    workload.features(workload.work(graph)),
                    run.latency_ms.p50 or 0.0,
                    f"own measurement, {path.name}",
                )
    raise ModelFileError(
        f"{path} is a run of the model {run.model_sha256[:12]}, which is in none of the folders "
        f"{', '.join(map(str, places))}",
        "--models DIR names the folder of the measured .tflite files",
    )
