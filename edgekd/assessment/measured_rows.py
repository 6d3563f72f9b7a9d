"""Bench JSON files (schema edgekd.bench/1) and results of kits as rows for a latency model."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path

from edgekd.assessment import workload
from edgekd.assessment.latency.fit import Row
from edgekd.core.artifacts import Json, sha256
from edgekd.core.errors import EdgeKDError, ModelFileError, ProfileError
from edgekd.core.files import reason
from edgekd.core.records import Record, from_json, to_json
from edgekd.device.bench_record import SCHEMA, Throttled
from edgekd.device.device_text import clean
from edgekd.device.edgebench import throttled_during
from edgekd.device.kit import result
from edgekd.device.kit.result import Returned
from edgekd.tflite.flatbuffer import read_main

EXPECTED = "name bench JSON files, as edgekd bench --json prints them, or results of a kit"
AGAIN = "measure again with edgekd bench"


class BenchRuntime(Record, frozen=True):
    """The runtime of a run. Runs of different runtimes are not fitted together."""

    name: str
    version: str
    threads: int
    delegate: str | None = None


class BenchHost(Record, frozen=True):
    """The device of a run, and what it said of throttling before and after the run.

    `governor`: of the CPU's clock, None where it is not known.
    """

    cpu: str | None = None
    governor: str | None = None
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
class Measured:
    """One run, and where it comes from.

    `path`: its file. `name`: for people; of a kit's result, with the name of the model.
    """

    path: Path
    name: str
    run: BenchRun


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Usable runs, and the others: {name: why the run was left out}."""

    runs: list[Measured]
    left_out: dict[str, str]

    @property
    def first(self) -> BenchRun:
        """A run whose runtime and device stand for all."""
        return self.runs[0].run


def read_runs(paths: Sequence[Path]) -> Measurements:
    """Read bench JSON files and results of kits.

    Raises ProfileError for a file that is neither, for runs of different runtimes or thread
    counts, and where no run gives a time.
    """
    runs: list[Measured] = []
    left_out: dict[str, str] = {}
    for path in paths:
        runs += _read(path, left_out)
    left_out |= {one.name: one.run.void for one in runs if one.run.void}
    usable = [one for one in runs if not one.run.void]
    if not usable:
        raise ProfileError(
            f"none of the {len(left_out)} runs gives a time: "
            + "; ".join(f"{name}: {why}" for name, why in left_out.items()),
            "measure on the board itself",
        )
    first = usable[0]
    for one in usable:
        if one.run.runtime != first.run.runtime:
            raise ProfileError(
                f"{one.name} was measured with {_conditions(one.run.runtime)}, {first.name} with "
                f"{_conditions(first.run.runtime)}",
                "fit one runtime and one number of threads at a time",
            )
    return Measurements(usable, left_out)


def _read(path: Path, left_out: dict[str, str]) -> list[Measured]:
    """The runs of a file. A kit's models that failed are added to `left_out`.

    Raises ProfileError, naming the file.
    """
    try:
        data = path.read_bytes()
        body = json.loads(data)
    except OSError as error:
        raise ProfileError(f"{path}: {reason(error)}", EXPECTED) from None
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"{path} is not JSON: {error}", EXPECTED) from None
    returned = result.parsed(data)
    if returned is not None:
        return _of_kit(path, result.read(returned, str(path)), left_out)
    if not isinstance(body, dict) or body.get("schema") != SCHEMA:
        raise ProfileError(f"{path}: its schema is not {SCHEMA}", EXPECTED)
    return [Measured(path, str(path), _run(body, str(path)))]


def _of_kit(path: Path, returned: Returned, left_out: dict[str, str]) -> list[Measured]:
    """The runs of a kit's result."""
    found = []
    for row in returned.body.measured:
        name = f"{path}: {clean(row.name)}"
        try:
            measured = returned.measurement(row, returned.body.profile)
        except EdgeKDError as error:
            left_out[name] = error.what
        else:
            found.append(Measured(path, name, _run(to_json(measured), name)))
    return found


def _run(body: dict[str, Json], name: str) -> BenchRun:
    """One run from its JSON object. Raises ProfileError, which names it."""
    try:
        run = from_json(BenchRun, body, name)
    except ModelFileError as error:
        raise ProfileError(error.what, AGAIN) from None
    p50 = run.latency_ms.p50
    if p50 is not None and not (math.isfinite(p50) and p50 > 0):
        raise ProfileError(f"{name}: latency_ms.p50 is {p50}, not a time above 0", AGAIN)
    return run


def _conditions(runtime: BenchRuntime) -> str:
    """What two runs must share, in words."""
    return f"{runtime.name} {runtime.version} {runtime.delegate} {runtime.threads} threads"


def rows_by_precision(runs: Sequence[Measured], folders: Sequence[Path]) -> dict[str, list[Row]]:
    """{precision: rows}, with the features counted in the .tflite files that were measured.

    A file is found by its sha256 beside the JSON, in the folder models beside it (as in a kit), in
    the folder above it, or in `folders`. Raises ModelFileError for a model that is not found.
    """
    rows: dict[str, list[Row]] = {}
    for one in runs:
        precision, row = _row(one, folders)
        rows.setdefault(precision, []).append(row)
    return rows


def _row(one: Measured, folders: Sequence[Path]) -> tuple[str, Row]:
    """(precision, row) of one usable run."""
    path, run = one.path, one.run
    places = [path.parent, path.parent / "models", path.parent.parent, *folders]
    for folder in places:
        for model in sorted(folder.glob("*.tflite")):
            data = model.read_bytes()
            if sha256(data) == run.model_sha256:
                graph = read_main(data)
                return workload.precision(graph), Row(
                    model.stem,
                    model.stem,
                    workload.features(workload.work(graph)),
                    run.latency_ms.p50 or 0.0,
                    f"own measurement, {path.name}",
                )
    raise ModelFileError(
        f"{one.name} is a run of the model {run.model_sha256[:12]}, which is in none of the "
        f"folders {', '.join(map(str, places))}",
        "--models DIR names the folder of the measured .tflite files",
    )
