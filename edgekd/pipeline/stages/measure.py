"""inputs, distil, convert, evaluate -> bench: the runner on this host, through the same seam that reaches boards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekd.core.artifacts import Evaluation, Inputs, LiteModel, Measurement, Network
from edgekd.core.context import Context
from edgekd.device.bench import BenchSettings, bench
from edgekd.device.transports import LocalTransport
from edgekd.proof.golden import golden_npz
from edgekd.settings.device_profiles import load_profile
from edgekd.settings.recipe import BenchConfig


def run(
    inputs: Inputs,
    student: Network,
    model: LiteModel,
    evaluation: Evaluation,
    *,
    config: BenchConfig,
    host: Mapping[str, Any],
    context: Context,
) -> Measurement:
    """Latency, memory and golden agreement of the .tflite on this host: never the device's own figures."""
    del host  # hashed: a shared store must not serve the latency of another machine
    settings = BenchSettings(
        threads=config.threads, runs=config.runs, min_seconds=config.min_seconds, seed=context.seed
    )
    body = bench(
        bytes(model.tflite),
        load_profile("host"),
        LocalTransport(),
        golden=golden_npz(inputs, evaluation, student),
        settings=settings,
        on_progress=lambda share: context.progress("bench", round(share * 100), 100),
    )
    return Measurement(body)
