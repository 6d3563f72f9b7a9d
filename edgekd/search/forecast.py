"""What is known of a candidate on one device before anything is trained."""

from __future__ import annotations

import dataclasses

from edgekd.search.candidate import Candidate


@dataclasses.dataclass(frozen=True)
class Forecast:
    """What a device will make of a candidate.

    `profile`: the device's name. `latency_ms`, `low_ms`, `high_ms`: the predicted latency with the
    bounds of its 90 % interval, None where nothing is known. `basis`: the measurements that the
    prediction rests on. `size_bytes`: of the .tflite. `memory_bytes`: what the device needs to run
    it. `macs`: multiply-accumulates for one image. `refused`: why the device cannot run it as
    asked, one reason a line, such as an operator that does not map; empty where it can.
    `too_large`: those of `refused` that are about the device's memory.
    """

    candidate: Candidate
    profile: str
    latency_ms: float | None
    low_ms: float | None
    high_ms: float | None
    basis: str
    size_bytes: int
    memory_bytes: int
    macs: int
    refused: tuple[str, ...] = ()
    too_large: tuple[str, ...] = ()
