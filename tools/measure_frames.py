"""Prints what the resize inside the file changes: answers of finished builds behind a frame.

    python -m tools.measure_frames DATA/test builds/DIR ... --factor 3

The trained network of each build is put behind a frame of so many times its side. All test images
(a folder of class folders) are brought to the frame by Pillow. Printed are top-1 of the build's own
file and of the framed one; the share of images with the same answer as by Pillow's resize to the
network's side, of the frame and of the image itself; how far those answers that differ are apart,
in steps of the output; whether the framed file is certified on these images; and the range of top-1
over five resizers, outside and inside, as `measure_resizers` prints it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgekd.core.artifacts import LiteModel, QuantNetwork
from edgekd.core.frames import FACTORS, USUAL_FACTOR
from edgekd.core.resizer_names import Resizer
from edgekd.core.store import Store
from edgekd.data import images
from edgekd.data.resizers.algorithms import fitted
from edgekd.export.onnx_export import from_network
from edgekd.export.tflite_convert import convert
from edgekd.networks import builders
from edgekd.proof.certificate import certify
from edgekd.quantization import integer_pass
from edgekd.quantization.framing import framed
from edgekd.quantization.restoring import rebuild
from edgekd.tflite import runtime
from tools.measure_resizers import TRAINED, range_cells

Codes = np.ndarray


def main() -> None:
    """Print a row for each build."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("builds", type=Path, nargs="+")
    parser.add_argument("--factor", type=int, choices=FACTORS, default=USUAL_FACTOR)
    asked = parser.parse_args()
    paths = sorted(asked.data.glob("*/*"))
    classes = sorted({path.parent.name for path in paths})
    labels = np.array([classes.index(path.parent.name) for path in paths])
    pictures = [images.decode(path.read_bytes(), path.name) for path in paths]
    print(
        "| build | frame | outside | inside | as Pillow of the frame | as Pillow of the image | "
        "steps apart | certificate | range outside | 95 % | by chance | unsure | range inside | "
        "95 % | by chance | unsure |"
    )
    print("|---" * 16 + "|", flush=True)
    for out in asked.builds:
        trained = _trained(out)
        px, side = trained.px, asked.factor * trained.px
        whole = framed(trained, builders.create(trained.arch, trained.options), [side] * 2)
        file, lite = bytes(_model(trained).tflite), _model(whole)
        outside = [_codes(file, pictures, _by(name, px)) for name in TRAINED]
        inside = [_codes(bytes(lite.tflite), pictures, _by(name, side)) for name in TRAINED]
        frames = [_by(Resizer.PILLOW, side)(picture) for picture in pictures]
        of_frame = _codes(file, frames, lambda frame, px=px: images.resized(frame, px, px))
        apart = _apart(outside[0], inside[0])
        cells = [
            out.name,
            f"{side} x {side}",
            *(f"{_right(each[0], labels):.1%}" for each in (outside, inside)),
            *(f"{_agree(each, inside[0]):.1%}" for each in (of_frame, outside[0])),
            f"{min(apart)} to {max(apart)}" if apart else "-",
            _certified(whole, lite, np.stack(frames)),
        ]
        for each in (outside, inside):
            cells += range_cells(np.stack([codes.argmax(1) for codes in each]), labels)
        print(f"| {' | '.join(cells)} |", flush=True)


def _right(codes: Codes, labels: np.ndarray) -> float:
    return float((codes.argmax(1) == labels).mean())


def _agree(one: Codes, other: Codes) -> float:
    return float((one.argmax(1) == other.argmax(1)).mean())


def _apart(one: Codes, other: Codes) -> list[int]:
    """For each image with two answers: how many steps its own class lost to the other one."""
    found = []
    for before, after in zip(one.astype(int), other.astype(int), strict=True):
        old, new = before.argmax(), after.argmax()
        if old != new:
            found.append(int(before[old] - before[new] + after[new] - after[old]))
    return found


def _trained(out: Path) -> QuantNetwork:
    """The trained int8 network of a build, from its store or the one beside its folder."""
    report = json.loads((out / "report.json").read_text())
    key = next(row["key"] for row in report["stages"] if row["stage"] == "qat")
    shared = out.parent / "store"
    entry = Store(out).find("qat", key) or Store(out, shared).find("qat", key)
    assert entry is not None, out
    found: QuantNetwork = entry.artifact()
    return found


def _model(trained: QuantNetwork) -> LiteModel:
    return convert(from_network(trained, rebuild(trained)))


def _certified(trained: QuantNetwork, model: LiteModel, frames: np.ndarray) -> str:
    """Whether the file is the network that was trained, on frames uint8 [n, side, side, c]."""
    found = certify(trained, model, frames, integer_pass.answers(rebuild(trained), frames))
    return "passed" if found.passed else f"{found.failures_total} failures"


def _by(name: Resizer, side: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda image: images.as_rgb(fitted(image, side, "squash", name))


def _codes(
    file: bytes, pictures: list[np.ndarray], make: Callable[[np.ndarray], np.ndarray]
) -> Codes:
    """The output codes that a file gives each picture, int8 [n, classes]."""
    return np.asarray(runtime.run(file, np.stack([make(picture) for picture in pictures])))


if __name__ == "__main__":
    main()
