"""inputs, distil, convert, evaluate -> bench: the runner on this host, through the interface that
also reaches boards.
"""

from __future__ import annotations

from edgekd.core.artifacts import Evaluation, Inputs, LiteModel, Measurement, Network
from edgekd.core.context import Context
from edgekd.core.records import to_json
from edgekd.device.bench import bench
from edgekd.device.bench_settings import BenchSettings
from edgekd.device.transports import LocalTransport
from edgekd.pipeline.stage_settings import HostBenchSettings
from edgekd.proof.golden import golden_npz
from edgekd.settings.device_profiles import load_profile


def run(
    inputs: Inputs,
    student: Network,
    model: LiteModel,
    evaluation: Evaluation,
    *,
    settings: HostBenchSettings,
    context: Context,
) -> Measurement:
    """Latency, memory and golden agreement of the .tflite on this host. These are never the
    device's own figures.
    """
    config = settings.config
    measured = bench(
        bytes(model.tflite),
        load_profile("host"),
        LocalTransport(),
        golden=golden_npz(inputs, evaluation, student),
        settings=BenchSettings(
            threads=config.threads,
            runs=config.runs,
            min_seconds=config.min_seconds,
            seed=context.seed,
        ),
        on_progress=lambda share: context.progress("bench", round(share * 100), 100),
    )
    return Measurement(to_json(measured))
