"""Records of search.json (schema edgekd.search/1): what was asked, what was tried, what came out.

A candidate is named by `CandidateRow.name`, which is unique in a file; trials, finalists and fronts
refer to it. Times are in milliseconds for one image unless a name says seconds, sizes in bytes, and
shares and areas under the curve in 0..1. `search_rows` makes rows from what the search works with,
`front` makes the fronts, and `published` writes and reads the file.
"""

from __future__ import annotations

import enum
from typing import Final, Literal

from edgekd.core.intervals import Interval
from edgekd.core.number_formats import NumberFormat
from edgekd.core.records import UNSET, Record, UnsetType
from edgekd.reporting.pareto import Standing
from edgekd.search.limits import Limits, Objective

SCHEMA: Final = "edgekd.search/1"


class SearchState(enum.StrEnum):
    """How far a search got."""

    RUNNING = "running"  # workers are at it
    INTERRUPTED = "interrupted"  # the same command goes on
    FINISHED = "finished"
    NOTHING_FITS = "nothing fits"  # every candidate misses a limit before training
    NOTHING_KEPT = "nothing kept"  # candidates were built, and each misses a limit or a gate


class ScoreKind(enum.StrEnum):
    """The figure that ranks candidates. More is better."""

    AUC = "auc"
    TOP1 = "top1"


class LimitName(enum.StrEnum):
    """What a candidate can miss. Before training it is a `reach.Reason`."""

    OPERATORS = "operators"  # the device cannot run the network as asked
    MEMORY = "memory"
    SIZE = "size"
    LATENCY = "latency"
    DROP = "drop"  # points of top-1 below the teacher


class TrialState(enum.StrEnum):
    """What became of a candidate at a rung."""

    RUNNING = "running"
    WAITING = "waiting"  # trained; the rung is not full enough to decide
    PROMOTED = "promoted"  # to the next rung
    FINALIST = "finalist"  # to the whole build
    STOPPED = "stopped"
    FAILED = "failed"
    LOST = "lost"  # its worker ended; another one takes it up again


class Source(enum.StrEnum):
    """Where a latency comes from."""

    PREDICTED = "predicted"
    MEASURED = "measured"


class FrontBasis(enum.StrEnum):
    """What the points of a front are. They all have the same images and as much training."""

    FINALISTS = "finalists"  # whole builds: the .tflite on the test images
    TRIALS = "trials"  # candidates at the last rung that any reached, on validation images


class Request(Record, frozen=True, kw_only=True):
    """What was asked.

    `also`: further devices. `data`: the data set's name. `data_digest`: of the decoded data set,
    None until it was read. `settings`: of the recipe, as "--set" takes them, beside the candidates'
    own. `command`: that was typed, which also goes on with the search.
    """

    profile: str
    also: list[str]
    data: str
    data_digest: str | None
    limits: Limits
    objective: Objective
    budget_seconds: float | None
    workers: int
    seed: int
    settings: list[str]
    command: str


class ForecastRow(Record, frozen=True, kw_only=True):
    """What is known of a candidate on one device before training; see `forecast.Forecast`."""

    profile: str
    latency_ms: float | None
    low_ms: float | None
    high_ms: float | None
    basis: str
    size_bytes: int
    memory_bytes: int
    macs: int
    refused: list[str]


class CandidateRow(Record, frozen=True, kw_only=True):
    """A candidate, with its forecast on each device, the device of the limits first."""

    name: str
    student: str
    weights: str
    input_px: int
    pruned: float
    edits: dict[str, str]
    number_format: NumberFormat
    forecasts: list[ForecastRow]

    def on(self, profile: str) -> ForecastRow | None:
        """The forecast on a device."""
        return next((row for row in self.forecasts if row.profile == profile), None)


class Miss(Record, frozen=True):
    """A limit that a candidate misses.

    `found`: its figure at the favourable end of the interval, in the unit of the limit; None where
    there is no figure. `text`: in words, such as "latency 7.3 ms at best, at most 5 ms allowed".
    """

    limit: LimitName
    allowed: float | None
    found: float | None
    text: str


class NearMiss(Record, frozen=True):
    """A candidate that misses a limit, and all that it misses."""

    candidate: CandidateRow
    misses: list[Miss]


class DropReason(Record, frozen=True):
    """How many candidates miss a limit. One that misses several counts for the worst of them."""

    limit: LimitName
    candidates: int
    text: str


class Dropped(Record, frozen=True):
    """The candidates that cannot meet the limits. `nearest`: those that miss least, nearest first.

    They were dropped before training.
    """

    candidates: int
    reasons: list[DropReason]
    nearest: list[NearMiss]


class TeacherRow(Record, frozen=True, kw_only=True):
    """The teacher of all candidates, on the validation images."""

    name: str
    top1: float
    top1_ci95: Interval
    auc: float | None
    auc_ci95: Interval | None


class RungRow(Record, frozen=True):
    """A rung: training pauses after `epochs` of a stage, in all.

    The first rung has number 0. `planned`: candidates that it was planned for. `stage`: the
    training that pauses, "distil" or "prune".
    """

    rung: int
    epochs: int
    planned: int
    stage: str = "distil"


class EpochScore(Record, frozen=True):
    """The score on the validation images after an epoch, counted from 1."""

    epoch: int
    score: float


class TrialRow(Record, frozen=True, kw_only=True):
    """A candidate at a rung.

    `epochs`: in all, those of earlier rungs among them. `score`: on the validation images, None
    where there is none. `seconds`: of training at this rung. `worker`: its name. `why`: why it was
    promoted, stopped or failed, in a few words. `curve`: the scores of this rung's epochs.
    """

    candidate: str
    rung: int
    epochs: int
    state: TrialState
    score: float | None
    score_ci95: Interval | None
    seconds: float
    worker: str
    why: str
    curve: list[EpochScore] | UnsetType = UNSET


class Latency(Record, frozen=True, kw_only=True):
    """A latency on a device.

    `low_ms`, `high_ms`: the 90 % interval of a prediction; None for a measurement without one.
    """

    profile: str
    source: Source
    latency_ms: float
    low_ms: float | None
    high_ms: float | None
    basis: str


class FinalistRow(Record, frozen=True, kw_only=True):
    """A whole build. Accuracies are the .tflite's on the test images.

    `folder`: of the build, below that of the search. `drop_points`: top-1 below the teacher's on
    the same images. `latencies`: on each device, measured ones before predicted ones. `certified`:
    None where the build has no certificate yet. `gates`: what the build failed, and `misses`: the
    limits of the search that it misses; both empty where it is good. `command` builds it again.
    """

    candidate: str
    folder: str
    top1: float | None
    top1_ci95: Interval | None
    auc: float | None
    auc_ci95: Interval | None
    drop_points: float | None
    drop_points_ci95: Interval | None
    size_bytes: int | None
    memory_bytes: int | None
    latencies: list[Latency]
    certified: bool | None
    gates: list[str]
    misses: list[Miss]
    seconds: float
    command: str

    def latency(self, profile: str) -> Latency | None:
        """The latency on a device: measured where it was, else predicted."""
        return next((row for row in self.latencies if row.profile == profile), None)


class FrontPoint(Record, frozen=True, kw_only=True):
    """A candidate in the plane of score and latency. Bounds equal the figure where none is known.

    `score`: see `Search.score`.
    """

    candidate: str
    score: float
    score_ci95: Interval
    latency_ms: float
    low_ms: float
    high_ms: float
    source: Source
    standing: Standing


class FrontRow(Record, frozen=True):
    """The Pareto front on one device. `points`: on the front and behind it, fastest first."""

    profile: str
    basis: FrontBasis
    points: list[FrontPoint]


class Choice(Record, frozen=True):
    """A finalist that is worth taking.

    `why`: one sentence. `folder`: of its build. `command` builds it again.
    """

    candidate: str
    why: str
    folder: str
    command: str


class RankCorrelation(Record, frozen=True):
    """How well the first rung orders the candidates: Spearman's rho with the last rung's scores."""

    spearman: float
    candidates: int


class Search(Record, frozen=True, kw_only=True):
    """The whole of search.json.

    `failed`: why the command exits with 1, a sentence each. `score`: which figure ranks.
    `considered`: candidates whose forecast was made; those that were not dropped are `candidates`.
    `seconds`: of wall time, over all runs of the command. `notes`: what the user should know.
    """

    schema: Literal["edgekd.search/1"] = SCHEMA
    edgekd: str  # the version that searched
    state: SearchState
    failed: list[str]
    request: Request
    score: ScoreKind
    considered: int
    candidates: list[CandidateRow]
    dropped: Dropped
    teacher: TeacherRow | UnsetType = UNSET
    rungs: list[RungRow]
    trials: list[TrialRow]
    finalists: list[FinalistRow]
    fronts: list[FrontRow]
    recommended: Choice | None
    runner_up: Choice | None
    rank_correlation: RankCorrelation | UnsetType = UNSET
    seconds: float
    notes: list[str]

    def candidate(self, name: str) -> CandidateRow | None:
        """The candidate of a name."""
        return next((row for row in self.candidates if row.name == name), None)
