"""What the Edge TPU's 8 MiB hold, what must be streamed on every inference, and the features of its latency.

The SRAM keeps the parameters that fit beside the executable and the scratch memory for activations; the others come
over the link each time ("Off-chip memory used for streaming uncached model parameters" in edgetpu_compiler's log).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekd.assessment.workload import Work

# The executable: the custom op of google-coral/test_data's mobilenet_v1_0.25_128_quant_edgetpu.tflite holds 778,324
# bytes of which 478,804 are parameters, and the graph has 31 ops. One pair of files: an estimate, not a law.
EXECUTABLE_BYTES_AN_OP = (778_324 - 478_804) / 31


def cache(works: Sequence[Work], scratch_bytes: int, sram_bytes: int) -> dict[str, Any]:
    """Bytes of SRAM, executable, scratch, budget, cached and streamed parameters of the ops mapped to the Edge TPU.

    `scratch_bytes`: activations alive at once; `sram_bytes`: the profile's parameter_cache_mib. Predicted: real logs
    show budgets from 1.1 MiB (wide activations) over 6.9 to 7.1 MiB (larger classifiers) to 7.9 MiB (tiny ones).
    """
    parameters = sum(row.parameter_bytes for row in works)
    executable = round(EXECUTABLE_BYTES_AN_OP * len(works))
    budget = max(0, sram_bytes - executable - scratch_bytes)
    return {
        "sram_bytes": sram_bytes,
        "executable_bytes": executable,
        "scratch_bytes": scratch_bytes,
        "budget_bytes": budget,
        "cached_bytes": min(parameters, budget),
        "streamed_bytes": max(0, parameters - budget),
    }


def features(works: Sequence[Work], streamed_bytes: float) -> dict[str, float]:
    """Features of an Edge TPU's latency: MACs of its systolic array, depthwise MACs that use it badly, and bytes."""
    return {
        "array_macs": float(sum(row.macs for row in works if row.kind not in ("", "depthwise"))),
        "depthwise": float(sum(row.macs for row in works if row.kind == "depthwise")),
        "streamed_bytes": float(streamed_bytes),
        "moved_bytes": float(sum(row.moved_bytes for row in works)),
        "constant": 1.0,
    }
