"""Predict the latency of a model whose operators have been placed, from the latency model."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgekd.assessment import workload
from edgekd.assessment.check_record import Origin, Prediction
from edgekd.assessment.latency import files
from edgekd.assessment.latency.model import LatencyModel
from edgekd.assessment.mappers.mapper import Mapper
from edgekd.assessment.mappers.registry import mapper_for
from edgekd.assessment.model_placement import ModelPlacement
from edgekd.assessment.workload import Work
from edgekd.settings.device_profiles import DeviceProfile, load_profile
from edgekd.tflite.flatbuffer import LiteGraph

EACH_RUN = "(start of a run)"  # the time of no operator: starting a run, streaming parameters
# Whose measurements stand in where a profile has none of the model's own precision.
PREFER = ("int8", "fp32")


@dataclasses.dataclass(frozen=True)
class Pricing:
    """What operators cost on one device. `note`: a reservation for the basis, "" for none.

    `streamed_bytes`: parameters that cross the accelerator's link on every inference.
    `constant`: whether the cost of starting an inference is included.
    """

    model: LatencyModel
    mapper: Mapper
    note: str
    streamed_bytes: float = 0.0
    constant: bool = True

    def features(self, works: Sequence[Work]) -> dict[str, float]:
        """The features of these operators."""
        found = self.mapper.features(works, self.streamed_bytes)
        return found if self.constant else {**found, "constant": 0.0}

    def one(self, row: Work) -> float:
        """Milliseconds of a single operator, without the cost of starting an inference."""
        return self.model.cost(self.features([row])) - self.model.cost(self.features([]))

    def time_by_op(self, works: Sequence[Work]) -> dict[str, float]:
        """{operator: ms of all operators of its kind}, and EACH_RUN. The model is additive."""
        start = self.model.cost(self.features([]))
        kinds = dict.fromkeys(row.op for row in works)
        times = {
            kind: self.model.cost(self.features([row for row in works if row.op == kind])) - start
            for kind in kinds
        }
        return {**times, EACH_RUN: start}


def pricing(profile: DeviceProfile, precision: str) -> Pricing | None:
    """What operators cost on a profile's device, None where nothing was measured.

    `precision`: "int8", "fp32" or "fp16"; see `workload.precision`. The profile's number of threads
    counts, where it was measured. Raises ProfileError when the
    profile's latency file is broken.
    """
    if not profile.latency:
        return None
    model, note = _of_precision(files.read(Path(profile.latency)), precision)
    return Pricing(model.with_threads(profile.threads), mapper_for(profile), note)


def _of_precision(models: Mapping[str, LatencyModel], wanted: str) -> tuple[LatencyModel, str]:
    """(model, reservation) for a precision; the model of another precision where there is none."""
    if wanted in models:
        return models[wanted], ""
    other = next(name for name in (*PREFER, *models) if name in models)
    return models[other], f"; measured with {other} models, and this model is {wanted}"


def predict(
    graph: LiteGraph, profile: DeviceProfile, mapped: ModelPlacement, streamed_bytes: int
) -> Prediction:
    """The latency of a graph: mapped operators on the device, the others on the fallback CPU.

    Raises ProfileError when the latency file of the profile, or of its fallback CPU, is broken.
    """
    if mapped.origin is Origin.COMPILED:
        return unpredicted(
            "a compiled file no longer says what it computes; check the model it was made from"
        )
    precision = workload.precision(graph)
    own = pricing(profile, precision)
    if own is None:
        return unpredicted(f"no measurements of {profile.name}: {profile.sources['latency']}")
    works = workload.work(graph)
    placed = list(zip(works, mapped.placements, strict=True))
    # Without a fallback CPU, an operator that does not map runs on the same cores.
    on = [row for row, one in placed if one.mapped or not profile.fallback_cpu]
    away = [row for row, one in placed if not one.mapped and profile.fallback_cpu]
    parts, times, bases = [], Counter[str](), []
    if on or not away:
        own = dataclasses.replace(own, streamed_bytes=streamed_bytes)
        parts.append(own.model.predict(own.features(on)))
        bases.append(parts[-1].basis + own.note)
        times.update(own.time_by_op(on))
    if away:
        cpu = load_profile(profile.fallback_cpu)
        fallback = pricing(cpu, precision)
        if fallback is None:
            return unpredicted(
                f"{len(away)} ops fall back to {cpu.name}, for which there are no measurements"
            )
        # One inference is started once.
        fallback = dataclasses.replace(fallback, constant=not on)
        parts.append(fallback.model.predict(fallback.features(away)))
        bases.append(
            f"{len(away)} ops on the CPU as on {cpu.name}: {parts[-1].basis}{fallback.note}"
        )
        times.update(fallback.time_by_op(away))
    return Prediction(
        latency_ms=sum(part.latency_ms for part in parts),
        low_ms=sum(part.low_ms for part in parts),
        high_ms=sum(part.high_ms for part in parts),
        basis="; plus ".join(bases),
        time_by_op=dict(times),
    )


def unpredicted(basis: str) -> Prediction:
    """A latency that is not known. `basis`: why."""
    return Prediction(latency_ms=None, low_ms=None, high_ms=None, basis=basis)
