"""Prints what the resize inside the file changes: answers of finished builds behind a frame.

    python -m tools.measure_frames DATA/test builds/DIR ...

The trained network of each build is put behind a frame of three times its side. Top-1 of its own
file and of the framed one on all test images (a folder of class folders), the share of answers
that are those of Pillow's resize outside, and the range of top-1 over five resizers.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgekd.core.artifacts import QuantNetwork
from edgekd.core.resizer_names import Resizer
from edgekd.core.store import Store
from edgekd.data import images
from edgekd.data.resizers.algorithms import fitted
from edgekd.export.onnx_export import from_network
from edgekd.export.tflite_convert import convert
from edgekd.networks import builders
from edgekd.quantization.framing import framed
from edgekd.quantization.restoring import rebuild
from edgekd.tflite import runtime
from tools.measure_resizers import TRAINED


def main() -> None:
    """Print a row for each build."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("builds", type=Path, nargs="+")
    asked = parser.parse_args()
    paths = sorted(asked.data.glob("*/*"))
    classes = sorted({path.parent.name for path in paths})
    labels = np.array([classes.index(path.parent.name) for path in paths])
    pictures = [images.decode(path.read_bytes(), path.name) for path in paths]
    print("| build | frame | outside | inside | same answer | range outside | range inside |")
    print("|---" * 7 + "|", flush=True)
    for out in asked.builds:
        trained = _trained(out)
        whole = framed(
            trained, builders.create(trained.arch, trained.options), [3 * trained.px] * 2
        )
        files = [(out / "model.tflite").read_bytes(), _file(whole)]
        sides = (trained.px, 3 * trained.px)
        answers = [
            [_answers(file, pictures, _by(name, side)) for name in TRAINED]
            for file, side in zip(files, sides, strict=True)
        ]
        right = [[float((said == labels).mean()) for said in each] for each in answers]
        same = float((answers[0][0] == answers[1][0]).mean())
        ranges = [f"{(max(each) - min(each)) * 100:.1f}" for each in right]
        print(
            f"| {out.name} | {sides[1]} x {sides[1]} | {right[0][0]:.1%} | {right[1][0]:.1%} | "
            f"{same:.1%} | {ranges[0]} | {ranges[1]} |",
            flush=True,
        )


def _trained(out: Path) -> QuantNetwork:
    """The trained int8 network of a build, from its store or the one beside its folder."""
    report = json.loads((out / "report.json").read_text())
    key = next(row["key"] for row in report["stages"] if row["stage"] == "qat")
    shared = out.parent / "store"
    entry = Store(out).find("qat", key) or Store(out, shared).find("qat", key)
    assert entry is not None, out
    found: QuantNetwork = entry.artifact()
    return found


def _file(trained: QuantNetwork) -> bytes:
    return bytes(convert(from_network(trained, rebuild(trained))).tflite)


def _by(name: Resizer, side: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda image: images.as_rgb(fitted(image, side, "squash", name))


def _answers(
    file: bytes, pictures: list[np.ndarray], make: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """The class that a file gives each picture."""
    shown = np.stack([make(picture) for picture in pictures])
    return np.asarray(runtime.run(file, shown).argmax(1))


if __name__ == "__main__":
    main()
