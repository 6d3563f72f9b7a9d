"""How a model uses the Edge TPU's 8 MiB of memory, and the features of its latency.

The SRAM keeps the parameters that fit beside the executable and the scratch memory for
activations. The others come over the link on every inference: "Off-chip memory used for streaming
uncached model parameters" in the log of edgetpu_compiler.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from edgekd.assessment.workload import Work

# Bytes of executable for one operator. The custom op of google-coral/test_data's
# mobilenet_v1_0.25_128_quant_edgetpu.tflite holds 778,324 bytes, of which 478,804 are parameters,
# and the graph has 31 operators. This is one pair of files: an estimate and no law.
EXECUTABLE_BYTES_AN_OP = (778_324 - 478_804) / 31


@dataclasses.dataclass(frozen=True)
class CacheUse:
    """How the parameters of the mapped operators use the accelerator's memory, in bytes.

    `sram_bytes` is the whole memory. `executable_bytes` and `scratch_bytes` are taken from it;
    `budget_bytes` is left for parameters. `cached_bytes` of the parameters fit, and
    `streamed_bytes` cross the link on every inference.
    """

    sram_bytes: int
    executable_bytes: int
    scratch_bytes: int
    budget_bytes: int
    cached_bytes: int
    streamed_bytes: int


def cache(works: Sequence[Work], scratch_bytes: int, sram_bytes: int) -> CacheUse:
    """Predict the use of the memory by the operators mapped to the Edge TPU.

    `scratch_bytes`: activations that are alive at the same time. `sram_bytes`: the profile's
    parameter_cache_mib in bytes. Budgets in real logs: 1.1 MiB (wide activations), 6.9 to 7.1 MiB
    (larger classifiers), 7.9 MiB (tiny classifiers).
    """
    parameters = sum(row.parameter_bytes for row in works)
    executable = round(EXECUTABLE_BYTES_AN_OP * len(works))
    budget = max(0, sram_bytes - executable - scratch_bytes)
    return CacheUse(
        sram_bytes,
        executable,
        scratch_bytes,
        budget,
        min(parameters, budget),
        max(0, parameters - budget),
    )


def features(works: Sequence[Work], streamed_bytes: float) -> dict[str, float]:
    """The features of an Edge TPU's latency model: {feature: MACs, bytes, or 1}.

    Depthwise MACs stand apart, because they use the systolic array badly.
    """
    return {
        "array_macs": float(sum(row.macs for row in works if row.kind not in ("", "depthwise"))),
        "depthwise": float(sum(row.macs for row in works if row.kind == "depthwise")),
        "streamed_bytes": float(streamed_bytes),
        "moved_bytes": float(sum(row.moved_bytes for row in works)),
        "constant": 1.0,
    }
