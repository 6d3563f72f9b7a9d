"""The sensitivity run as JSON (schema edgekd.why/1): report.json holds it under "why".

Divergences are Kullback-Leibler divergences in nats, averaged over the images. Changes of top-1 and
AUC are shares: 0.01 is one point.
"""

from __future__ import annotations

import enum
from typing import Literal

from edgekd.core.records import UNSET, Record, UnsetType

SCHEMA = "edgekd.why/1"
Part = Literal["weights", "range"]  # the two parts of an operator that rounding changes


class RemedyKind(enum.StrEnum):
    """What a remedy changes."""

    TIGHTER_RANGE = "tighter range"
    WIDER_RANGE = "wider range"
    CALIBRATE_AGAIN = "calibrate again"
    MORE_CALIBRATION = "more calibration"
    PER_CHANNEL_WEIGHTS = "per-channel weights"
    MORE_QAT = "more QAT"
    ANOTHER_OP = "another op"


class Divergence(Record, frozen=True):
    """How far answers lie from reference answers.

    `kl`: the divergence; `kl_ci95`: its 95 % bootstrap interval; `top1`, `auc`: the changes against
    the reference (`auc` is None where a class has no image).
    """

    kl: float
    kl_ci95: list[float]
    top1: float
    auc: float | None


class Alone(Divergence, frozen=True):
    """One operator alone in int8, against the float network; its two parts, where they were
    measured.
    """

    weights_kl: float | UnsetType = UNSET
    range_kl: float | UnsetType = UNSET


class Without(Record, frozen=True):
    """All operators but one in int8. `kl_gained`: what leaving that one in float gives back.

    `rank`: 1 for the operator that gives back the most.
    """

    kl: float
    kl_gained: float
    top1_gained: float
    rank: int


class OperatorSensitivity(Record, frozen=True):
    """What int8 costs at one operator.

    `name`: its edge; `shares_range_with`: further edges in the same range, counted with it. `part`:
    the part that costs clearly more, None where neither does or it was not measured.
    """

    name: str
    op: str
    shares_range_with: list[str]
    part: Part | None
    alone: Alone
    without: Without


class Remedy(Record, frozen=True):
    """A change that was tried, measured against the float student.

    `what`: the operator, or "all ops". `bound`: the most that a remedy of this kind could bring,
    and not a remedy itself. `sure`: the 95 % interval of the gain in KL lies above zero.
    """

    kind: RemedyKind
    what: str
    text: str
    next_step: str
    bound: bool
    kl_before: float
    kl_after: float
    kl_gain_ci95: list[float]
    sure: bool
    top1: float
    auc: float | None


class SensitivityReport(Record, frozen=True, kw_only=True):
    """The whole run. `seconds`: how long it took, added when it is stored.

    `whole`: the int8 network against the same weights in float. `training`: those weights in float
    against the float student. `tried`: how many remedies were tried; `candidates`: all of them.
    """

    schema: str = SCHEMA
    split: str
    images: int
    calibration: int
    seed: int
    whole: Divergence
    training: Divergence
    reading: str
    ops: list[OperatorSensitivity]
    remedies: list[Remedy]
    tried: int
    candidates: list[Remedy]
    seconds: float | UnsetType = UNSET
