"""What the tests of the device room share: a runner's answer, quick settings, and a look at the
live processes.
"""

from __future__ import annotations

from pathlib import Path

from edgekd.core.artifacts import sha256
from edgekd.core.records import from_json
from edgekd.device.bench_record import Bench
from edgekd.device.bench_settings import BenchSettings

QUICK = BenchSettings(threads=1, runs=5, min_seconds=0.0, warmup_runs=10, timeout_s=60.0)


def answer(model: bytes) -> dict:
    """A result of schema edgekd.bench/1 as the runner writes it, with made-up figures."""
    return {
        "schema": "edgekd.bench/1",
        "model_sha256": sha256(model),
        "runner_version": "1.0",
        "runtime": {
            "name": "ai-edge-litert",
            "version": "2.1.2",
            "delegate": "xnnpack",
            "threads": 4,
        },
        "host": {
            "machine": "aarch64",
            "cpu": "Raspberry Pi 4 Model B Rev 1.4 (Cortex-A72)",
            "cores": 4,
            "kernel": "6.6",
            "python": "3.11.2",
            "governor": "performance",
            "clock_khz": 1500000,
            "temperature_c": 51.1,
            "throttled": {"before": "0x0", "after": "0x0"},
            "before": {"clock_khz": 1500000, "temperature_c": 48.7},
        },
        "settings": {"warmup_runs": 10, "runs": 3, "min_seconds": 0.0, "seed": 0, "cores": None},
        "latency_ms": {
            "load": 1.0,
            "first": 4.0,
            "p50": 2.0,
            "p90": 2.8,
            "p95": 2.9,
            "p99": 2.98,
            "mean": 2.0,
            "std": 0.8,
            "min": 1.0,
            "max": 3,
            "samples": [1.0, 2.0, 3],
        },
        "memory_kib": {"baseline": 40000, "after_load": 42000, "peak": 44000},
        "golden": {"images": 10, "argmax_agreement": 1.0, "max_abs_lsb": 0, "top1": 0.9},
        "output_sha256": "0" * 64,
        "soak": None,
        "warnings": [],
    }


def bench_of(body: dict, profile: str, transport: str, emulated: bool = False) -> Bench:
    """The runner's answer as a record, with what the host adds."""
    added = {"profile": profile, "transport": transport, "emulated": emulated}
    return from_json(Bench, {**body, **added}, "the answer")


def processes_with(mark: str) -> list[str]:
    """Command lines of live processes that hold `mark`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if mark in line:
            found.append(line)
    return found
