"""Measurements are kept beside the model as bench/*.json, read back and compared."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from edgekd.core.errors import ModelFileError, StoreError
from edgekd.core.files import exists, is_folder, reason
from edgekd.core.records import from_json, to_json
from edgekd.device.bench_record import SCHEMA, Bench
from edgekd.device.transports import MAX_FILE_BYTES

STAMP = "%Y%m%dT%H%M%S.%fZ"  # ISO 8601, basic form: sorts by time
# Parts of a run, of consecutive samples. Their medians show drift inside a run, which single
# samples hide.
BLOCKS = 5
# A change of p50 under 3 % counts as noise whatever the samples say: clocks and memory pages differ
# from run to run.
FLOOR = 0.03
UNKNOWN = 0.05  # the spread that is assumed for a run whose tool gives no samples
SIGMAS = 3.0  # a change must be larger than three standard deviations
LEAST_RUNS = 3  # runs of one model that show the spread from run to run


class Place(NamedTuple):
    """The device and how it ran. Only runs at the same place are compared."""

    profile: str
    transport: str
    cpu: str | None
    runtime: str
    delegate: str | None
    threads: int


@dataclass(frozen=True)
class Run:
    """One timed measurement, and its file. Its p50 is known and above 0."""

    path: Path
    bench: Bench

    @property
    def place(self) -> Place:
        """What two runs must share to be compared."""
        bench, runtime = self.bench, self.bench.runtime
        return Place(
            bench.profile,
            bench.transport,
            bench.host.cpu,
            runtime.name,
            runtime.delegate,
            runtime.threads,
        )

    @property
    def p50(self) -> float:
        """Median of one inference, in ms."""
        p50 = self.bench.latency_ms.p50
        assert p50 is not None
        return p50

    @property
    def spread(self) -> float:
        """The spread inside the run, as a share of p50; UNKNOWN without samples.

        It is the standard deviation of the medians of BLOCKS parts of the run.
        """
        samples = self.bench.latency_ms.samples
        size = len(samples) // BLOCKS
        if size == 0:
            return UNKNOWN
        parts = [samples[number * size : (number + 1) * size] for number in range(BLOCKS)]
        return statistics.stdev(map(statistics.median, parts)) / self.p50


@dataclass(frozen=True)
class Change:
    """A run against the run before it at the same place.

    `ratio`: the later p50 divided by the earlier one. `noise`: the share that a change must exceed.
    """

    earlier: Run
    later: Run
    ratio: float
    noise: float

    @property
    def real(self) -> bool:
        """Whether the change is more than noise."""
        return abs(math.log(self.ratio)) > math.log1p(self.noise)

    def __str__(self) -> str:
        place, before, after = self.later.place, self.earlier.bench, self.later.bench
        told = (
            f"{place.profile} ({place.transport}): p50 {self.earlier.p50:.2f} -> "
            f"{self.later.p50:.2f} ms ({self.ratio - 1:+.1%}), "
            f"{'beyond' if self.real else 'within'} noise (±{self.noise:.1%})"
        )
        notes = []
        if before.model_sha256 != after.model_sha256:
            notes.append("another model")
        if before.runtime.version != after.runtime.version:
            notes.append(f"runtime {before.runtime.version} -> {after.runtime.version}")
        return f"{told}; {', '.join(notes)}" if notes else told


def check_place(folder: Path) -> None:
    """Raise StoreError or PathError when `folder`/bench could not be written. Makes nothing.

    A measurement takes minutes, so this is asked before it.
    """
    place = folder / "bench"
    there = next(path for path in (place, *place.parents) if exists(path, "--out"))
    if not is_folder(there):
        raise _unwritable(place, f"{there} is not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise _unwritable(place, os.strerror(errno.EACCES).lower())


def keep(folder: Path, bench: Bench) -> Path:
    """Write a measurement into `folder`/bench, under a name made of profile, transport and time.

    Returns the path. No file is overwritten, and none is left half-written. Raises StoreError when
    the folder cannot be written.
    """
    place = folder / "bench"
    names = [
        re.sub(r"[^A-Za-z0-9_.]+", "_", name).strip("._") or "unnamed"
        for name in (bench.profile, bench.transport)
    ]
    text = json.dumps(to_json(bench), indent=1, allow_nan=False) + "\n"
    path = place / f"{'-'.join(names)}-{datetime.now(UTC).strftime(STAMP)}.json"
    part = path.with_suffix(".part")
    try:
        place.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("x", encoding="utf-8") as file:
                file.write(text)
            part.rename(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(place, reason(error)) from error
    return path


def _unwritable(place: Path, why: str) -> StoreError:
    return StoreError(f"{place} cannot be written: {why}", "name another folder with --out")


def kept(folder: Path) -> list[Run]:
    """Every timed run in `folder`/bench, oldest first. Other files and emulated runs are
    left out.
    """
    found = []
    for path in sorted((folder / "bench").glob("*.json")):
        bench = _read(path)
        if bench is not None:
            stamp = re.search(r"\d{8}T\d{6}\.\d{6}Z", path.name)
            written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            when = stamp.group() if stamp else written.strftime(STAMP)
            found.append((when, path.name, Run(path, bench)))
    return [run for _, _, run in sorted(found, key=lambda row: row[:2])]


def _read(path: Path) -> Bench | None:
    """The measurement in a file; None for a file that is none, was emulated, or has no p50."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return None
        bench = from_json(Bench, msgspec.json.decode(path.read_bytes()), str(path))
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError, ModelFileError):
        return None
    texts = [bench.profile, bench.transport, bench.model_sha256, bench.host.cpu or ""]
    texts += [bench.runtime.name, bench.runtime.version, bench.runtime.delegate or ""]
    times = [bench.latency_ms.p50 or 0.0, *bench.latency_ms.samples]
    sound = (
        bench.schema == SCHEMA
        and not bench.emulated
        and all(text.isprintable() for text in texts)
        and all(time > 0 for time in times)
    )
    return bench if sound else None


def changes(runs: Sequence[Run]) -> list[Change]:
    """Each run against the last one before it at the same place: of the same model, or of any where
    there is none.

    Noise is SIGMAS standard deviations of the difference of two medians, and at least FLOOR. The
    deviation comes from the spread inside both runs and, with LEAST_RUNS runs of one model, from
    the spread from run to run.
    """
    found = []
    for number, later in enumerate(runs):
        before = [run for run in runs[:number] if run.place == later.place]
        if not before:
            continue
        own = [run for run in before if run.bench.model_sha256 == later.bench.model_sha256]
        earlier = (own or before)[-1]
        same = [
            math.log(run.p50)
            for run in before
            if run.bench.model_sha256 == earlier.bench.model_sha256
        ]
        between = statistics.stdev(same) * math.sqrt(2) if len(same) >= LEAST_RUNS else 0.0
        noise = max(FLOOR, SIGMAS * max(math.hypot(earlier.spread, later.spread), between))
        found.append(Change(earlier, later, later.p50 / earlier.p50, noise))
    return found
