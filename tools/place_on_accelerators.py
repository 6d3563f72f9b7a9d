"""Where the operators of int8 students run on each NPU, and what they need on microcontrollers.

    python tools/place_on_accelerators.py STUDENT.tflite ...

Prints the two tables of docs/measured/npu_placement.md and docs/measured/microcontrollers.md. The
NPUs' placements are predicted from the sources of LiteRT's plug-ins. A microcontroller's arena is
planned; beside it stands what TensorFlow Lite Micro's interpreter takes on this machine, where the
package tflite-micro is installed. With a golden.npz beside a student, its answers are compared.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from edgekd.assessment.graph_check import check_graph
from edgekd.assessment.micro.kernel_scratch import KernelLibrary
from edgekd.assessment.micro.micro_arena import micro_arena
from edgekd.assessment.micro.struct_sizes import PointerBytes
from edgekd.settings.device_profiles import load_profile, profile_names
from edgekd.tflite import micro_runtime, runtime
from edgekd.tflite.flatbuffer import LiteGraph, read


def placement(name: str, graph: LiteGraph) -> list[str]:
    """A row for each NPU."""
    rows = []
    for profile in profiles("npu"):
        mapped = check_graph(graph, load_profile(profile), name).mapped
        left: dict[str, int] = {}
        for row in mapped.fallback:
            left[row.op] = left.get(row.op, 0) + 1
        rest = ", ".join(f"{count} {op}" for op, count in left.items()) or "nothing"
        share = f"{mapped.share_of_macs:.1%}" if mapped.share_of_macs is not None else ""
        cells = (name, profile, f"{mapped.mapped} of {mapped.ops}", share, mapped.partitions, rest)
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return rows


def profiles(mapper: str) -> list[str]:
    return [name for name in profile_names() if load_profile(name).mapper == mapper]


def memory(name: str, data: bytes, graph: LiteGraph) -> list[str]:
    """A row for each microcontroller."""
    rows = []
    for profile in profiles("tflite-micro"):
        check = check_graph(graph, load_profile(profile), name, file_bytes=len(data))
        limits = load_profile(profile)
        arena = f"{check.memory.arena_bytes / 1024:.0f} of {limits.arena_kib}"
        flash = f"{len(data) / 1024:.0f} of {limits.flash_kib * limits.max_memory_share:.0f}"
        verdict = "fits" if check.passed else "does not fit"
        rows.append(f"| {name} | {profile} | {arena} | {flash} | {verdict} |")
    return rows


def in_the_interpreter(name: str, data: bytes, graph: LiteGraph, golden: Path) -> str:
    """A row with the interpreter's arena and answers, beside the plan and LiteRT's."""
    images = np.load(golden)["inputs"] if golden.exists() else None
    source = graph.tensors[graph.inputs[0]]
    if images is None:
        images = np.zeros((1, *source.shape[1:]), np.uint8)
    answer = micro_runtime.run(data, runtime.quantize_pixels(images, source))
    planned = micro_arena(graph, KernelLibrary.REFERENCE, PointerBytes.DESKTOP)
    expected = runtime.run(data, images, kernels="reference").reshape(answer.outputs.shape)
    off = np.abs(answer.outputs.astype(int) - expected)
    stored = runtime.run(data, images).reshape(answer.outputs.shape)
    agree = (answer.outputs.argmax(axis=1) == stored.argmax(axis=1)).sum()
    cells = (
        name,
        f"{answer.arena_bytes:,}",
        f"{planned.bytes:,}",
        f"{planned.bytes / answer.arena_bytes - 1:+.3%}",
        f"{(off == 0).sum()} of {off.size}",
        off.max(),
        f"{agree} of {len(images)}",
    )
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("students", nargs="+", type=Path)
    students = parser.parse_args().students
    data = {path.parent.name: path.read_bytes() for path in students}
    graphs = {name: read(content) for name, content in data.items()}
    print("| student | profile | operators that map | of the MACs | parts | left to the CPU |")
    print("|---|---|---|---|---|---|")
    for name, graph in graphs.items():
        print("\n".join(placement(name, graph)))
    print("\n| student | profile | arena, KiB | model in flash, KiB | |")
    print("|---|---|---|---|---|")
    for name, graph in graphs.items():
        print("\n".join(memory(name, data[name], graph)))
    if micro_runtime.installed():
        print("\n| student | arena taken | planned | off | equal codes | most off | same answer |")
        print("|---|---|---|---|---|---|---|")
        for path in students:
            name = path.parent.name
            if "GELU" not in graphs[name].counts():
                golden = path.with_name("golden.npz")
                print(in_the_interpreter(name, data[name], graphs[name], golden))


if __name__ == "__main__":
    main()
