"""Compare students on several devices before training any of them.

    python examples/check_before_training.py mobilenetv2_050,resnet18 pi4,coral-usb

For each pair the script prints how many operators the device accelerates, the predicted latency,
and the memory. `edgekd models` and `edgekd profiles` list the names. Nothing is trained.
"""

from __future__ import annotations

import sys

import edgekd


def main(students: str, devices: str, input_px: str = "96") -> int:
    """Print one line for each student and device."""
    print(f"{'student':28} {'device':14} {'mapped':>9} {'latency':>10} {'arena':>10}")
    for student in students.split(","):
        for device in devices.split(","):
            result = edgekd.check(
                student, profile=device, settings={"data.input_px": int(input_px)}
            )
            mapped, latency = result.check.mapped, result.check.predicted.latency_ms
            told = "unknown" if latency is None else f"{latency:.2f} ms"
            arena = f"{result.check.memory.arena_bytes / 1024:.0f} KiB"
            counts = f"{mapped.mapped}/{mapped.ops}"
            print(f"{student:28} {device:14} {counts:>9} {told:>10} {arena:>10}")
            for failure in result.failed:
                print(f"    fails: {failure}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
