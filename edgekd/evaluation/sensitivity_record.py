"""Records of a sensitivity run (schema edgekd.why/1): which operators cost accuracy in int8.

Distances ("kl") are mean Kullback-Leibler divergences from reference answers, in nats; 0 means
equal answers. "top1" and "auc" are changes in shares, negative for a loss.
"""

from __future__ import annotations

from typing import Final, Literal

from edgekd.core.records import UNSET, Record, UnsetType
from edgekd.evaluation.accuracy_record import Interval

SCHEMA: Final = "edgekd.why/1"


class Distance(Record, frozen=True, kw_only=True):
    """How far answers are from reference answers.

    `weights_kl` and `range_kl`: of one operator's weights alone, and its range alone; only for the
    operators that cost most.
    """

    kl: float
    kl_ci95: Interval
    top1: float
    auc: float | None
    weights_kl: float | UnsetType = UNSET
    range_kl: float | UnsetType = UNSET


class Return(Record, frozen=True):
    """What leaving one operator in float gives back. `rank`: 1 for the one that gives back most."""

    kl: float
    kl_gained: float
    top1_gained: float
    rank: int


class SensitiveOp(Record, frozen=True):
    """One operator: alone in int8, and left in float while all others are in int8.

    `name`: the edge that it writes. `part`: "weights" or "range" where one of them causes most.
    """

    name: str
    op: str
    shares_range_with: list[str]
    part: str | None
    alone: Distance
    without: Return


class Remedy(Record, frozen=True):
    """One change of the network that was tried, and what it gained.

    `bound`: the operator was left in float, so the gain is an upper bound. `sure`: the gain's
    paired interval excludes zero.
    """

    kind: str
    what: str
    text: str
    next_step: str
    bound: bool
    kl_before: float
    kl_after: float
    kl_gain_ci95: Interval
    sure: bool
    top1: float
    auc: float | None


class Sensitivity(Record, frozen=True, kw_only=True):
    """The whole run, on `images` images that the network was not trained on.

    `whole`: int8 against the same weights in float. `training`: these weights in float against the
    float student. `candidates`: every remedy that was tried; `remedies`: the best of them.
    """

    schema: Literal["edgekd.why/1"] = SCHEMA
    split: str
    images: int
    calibration: int
    seed: int
    whole: Distance
    training: Distance
    reading: str
    ops: list[SensitiveOp]
    remedies: list[Remedy]
    tried: int
    candidates: list[Remedy]
    seconds: float | UnsetType = UNSET
