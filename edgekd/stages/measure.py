"""inputs, distil, convert, evaluate -> bench: the runner on this host, through the same seam that reaches boards."""

from __future__ import annotations

from edgekd.artifacts import Evaluation, Inputs, LiteModel, Measurement, Network
from edgekd.bench import BenchSettings, bench
from edgekd.context import Context
from edgekd.devices import load_profile
from edgekd.golden import golden_npz
from edgekd.recipe import BenchConfig
from edgekd.transports import LocalTransport


def run(inputs: Inputs, student: Network, model: LiteModel, evaluation: Evaluation, *, config: BenchConfig,
        context: Context) -> Measurement:
    """Latency, memory and golden agreement of the .tflite on this host: never the device's own figures."""
    settings = BenchSettings(threads=config.threads, runs=config.runs, min_seconds=config.min_seconds,
                             seed=context.seed)
    body = bench(bytes(model.tflite), load_profile("host"), LocalTransport(),
                 golden=golden_npz(inputs, evaluation, student), settings=settings,
                 on_progress=lambda share: context.progress("bench", round(share * 100), 100))
    return Measurement(body)
