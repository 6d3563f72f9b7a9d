"""Verify a finished build, or a bundle that you received, and measure it on a device.

    python examples/verify_and_bench.py out/                       on this machine
    python examples/verify_and_bench.py out/ pi4 pi@raspberrypi    on a Raspberry Pi, over ssh

The device needs Python, numpy and ai-edge-litert; EdgeKD itself stays on this machine.
"""

from __future__ import annotations

import sys

import edgekd


def main(folder: str, profile: str = "host", ssh: str | None = None) -> int:
    """Verify first: a file that was changed is not worth measuring."""
    verified = edgekd.verify(folder)
    for check in verified.checks:
        print(f"{'ok    ' if check.passed else 'FAILED'} {check.check}: {check.found}")
    if not verified.passed:
        return 1
    run = edgekd.bench(folder, profile=profile, ssh=ssh).run
    print(f"{run.profile}: p50 {run.latency_ms.p50} ms, p95 {run.latency_ms.p95} ms")
    if run.golden is not None:
        print(f"golden answers: {run.golden.argmax_agreement:.1%} of {run.golden.images} agree")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
