"""bench/*.json: measurements are kept beside the model, read back, and compared: is a change more than noise?"""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgekd.core.errors import StoreError
from edgekd.device.edgebench import SCHEMA
from edgekd.device.transports import MAX_FILE_BYTES

STAMP = "%Y%m%dT%H%M%S.%fZ"  # ISO 8601, basic form: sorts by time
BLOCKS = (
    5  # of consecutive samples; their medians show drift inside a run, which single samples hide
)
FLOOR = 0.03  # ours: no change of p50 below 3 % is called one, whatever the samples say; clocks and pages differ by run
UNKNOWN = 0.05  # ours: the spread of a run whose tool gives no samples
SIGMAS = 3.0  # a change is called one beyond three standard deviations


@dataclass(frozen=True)
class Run:
    """One bench JSON and the file it lies in."""

    path: Path
    body: Mapping[str, Any]

    @property
    def place(self) -> tuple[Any, ...]:
        """What two runs must share to be compared: the device and how it ran."""
        runtime = self.body["runtime"]
        return (
            self.body["profile"],
            self.body["transport"],
            self.body["host"]["cpu"],
            runtime["name"],
            runtime["delegate"],
            runtime["threads"],
        )

    @property
    def p50(self) -> float:
        return float(self.body["latency_ms"]["p50"])

    @property
    def spread(self) -> float:
        """Standard deviation of the medians of BLOCKS parts of the run, as a share of p50; UNKNOWN without samples."""
        samples = self.body["latency_ms"]["samples"]
        size = len(samples) // BLOCKS
        if size == 0:
            return UNKNOWN
        medians = [
            statistics.median(samples[number * size : (number + 1) * size])
            for number in range(BLOCKS)
        ]
        return statistics.stdev(medians) / self.p50


@dataclass(frozen=True)
class Change:
    """A run against the one before it at the same place.

    `ratio`: of p50, later by earlier. `noise`: the share above which that is a change.
    """

    earlier: Run
    later: Run
    ratio: float
    noise: float

    @property
    def real(self) -> bool:
        """Whether it is more than noise."""
        return abs(math.log(self.ratio)) > math.log1p(self.noise)

    def __str__(self) -> str:
        profile, transport, *_ = self.later.place
        what = "beyond" if self.real else "within"
        told = (
            f"{profile} ({transport}): p50 {self.earlier.p50:.2f} -> {self.later.p50:.2f} ms ({self.ratio - 1:+.1%}), "
            f"{what} noise (±{self.noise:.1%})"
        )
        notes = []
        if self.earlier.body["model_sha256"] != self.later.body["model_sha256"]:
            notes.append("another model")
        versions = [run.body["runtime"]["version"] for run in (self.earlier, self.later)]
        if versions[0] != versions[1]:
            notes.append(f"runtime {versions[0]} -> {versions[1]}")
        return f"{told}; {', '.join(notes)}" if notes else told


def keep(folder: Path, body: Mapping[str, Any]) -> Path:
    """Write a bench JSON into `folder`/bench under a name that says profile, transport and time; nothing is overwritten.

    Raises StoreError.
    """
    place = folder / "bench"
    stem = (
        "-".join(
            re.sub(r"[^A-Za-z0-9_.]+", "_", str(body[key])).strip("._") or "unnamed"
            for key in ("profile", "transport")
        )
        + f"-{datetime.now(UTC).strftime(STAMP)}"
    )
    try:
        place.mkdir(parents=True, exist_ok=True)
        path = place / f"{stem}.json"
        with path.open("x", encoding="utf-8") as file:
            json.dump(body, file, indent=1, allow_nan=False)
            file.write("\n")
    except OSError as error:
        raise StoreError(
            f"{place} cannot be written: {error.strerror}", "name another folder with --out"
        ) from error
    return path


def kept(folder: Path) -> list[Run]:
    """Every timed run in `folder`/bench, oldest first. Files that are none, and emulated runs, are left out."""
    found = []
    for path in sorted((folder / "bench").glob("*.json")):
        body = _body(path)
        if body is not None:
            stamp = re.search(r"\d{8}T\d{6}\.\d{6}Z", path.name)
            when = (
                stamp.group()
                if stamp
                else datetime.fromtimestamp(path.stat().st_mtime, UTC).strftime(STAMP)
            )
            found.append((when, path.name, Run(path, body)))
    return [run for _, _, run in sorted(found, key=lambda row: row[:2])]


def _body(path: Path) -> dict[str, Any] | None:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return None
        body = json.loads(path.read_bytes())
        latency, runtime = body["latency_ms"], body["runtime"]
        numbers = [latency["p50"], *latency["samples"]]
        texts = [
            body["profile"],
            body["transport"],
            body["model_sha256"],
            runtime["name"],
            runtime["version"],
            body["host"]["cpu"] or "",
            runtime["delegate"] or "",
        ]
        sound = (
            body["schema"] == SCHEMA
            and body["emulated"] is False
            and type(runtime["threads"]) is int
            and all(isinstance(text, str) and text.isprintable() for text in texts)
            and all(type(number) in (int, float) and 0 < number < math.inf for number in numbers)
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return body if sound else None


def changes(runs: Sequence[Run]) -> list[Change]:
    """Each run against the one before it at the same place.

    Noise: SIGMAS standard deviations of the difference of two medians, from the spread inside both runs and, where three
    runs of one model are there, from run to run; FLOOR at least.
    """
    found = []
    for number, later in enumerate(runs):
        before = [run for run in runs[:number] if run.place == later.place]
        if not before:
            continue
        earlier = before[-1]
        same = [
            math.log(run.p50)
            for run in before
            if run.body["model_sha256"] == earlier.body["model_sha256"]
        ]
        between = statistics.stdev(same) * math.sqrt(2) if len(same) >= 3 else 0.0
        noise = max(FLOOR, SIGMAS * max(math.hypot(earlier.spread, later.spread), between))
        found.append(Change(earlier, later, later.p50 / earlier.p50, noise))
    return found
