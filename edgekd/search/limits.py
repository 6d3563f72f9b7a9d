"""What the user asks of the network: limits, and what to do best within them."""

from __future__ import annotations

import dataclasses
import enum


class Objective(enum.StrEnum):
    """What the search does best among the candidates that keep every limit."""

    ACCURACY = "accuracy"
    LATENCY = "latency"
    SIZE = "size"


@dataclasses.dataclass(frozen=True)
class Limits:
    """The most that a network may take or lose; None where the user sets no limit.

    `latency_ms`: milliseconds for one image on the device. `size_bytes`: of the .tflite.
    `memory_bytes`: of the tensor arena and what else the device's profile counts as memory.
    `drop_points`: points of top-1 below the teacher.
    """

    latency_ms: float | None = None
    size_bytes: int | None = None
    memory_bytes: int | None = None
    drop_points: float | None = None
