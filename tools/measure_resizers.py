"""Prints what students lose when apps resize in other ways, with and without views.resizers.

    python -m tools.measure_resizers DATA --out builds/resizers --px 64 --seeds 2

DATA is a folder with train/ and test/. For each size and seed it builds the same student twice: on
images that Pillow resized, and on images of five resizers. Both builds differ in nothing else. It
prints a Markdown table of top-1 of the int8 files on all test images, by resizer, with

* the range over the five resizers, and its 95 % interval over images drawn again,
* the range that chance alone gives: where each image's five answers are dealt out to the resizers
  at random, as if all resizers were equally good,
* unsure: the share of images whose answer depends on the resizer.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import edgekd
from edgekd.core.resizer_names import Resizer
from edgekd.data import images
from edgekd.data.resizers.algorithms import fitted
from edgekd.tflite import runtime

TRAINED = (Resizer.PILLOW, Resizer.OPENCV, Resizer.ANDROID, Resizer.IOS, Resizer.NEAREST)
FURTHER = (Resizer.PILLOW_BICUBIC, Resizer.OPENCV_AREA)
ARMS = {"today": (Resizer.PILLOW,), "resizers": TRAINED}
DRAWS = 1000  # of the interval, and of the range by chance

type Right = NDArray[np.bool_]  # [resizers, images]: whether an answer is right


def main() -> None:
    """Build all students and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--student", default="mobilenetv2_035")
    parser.add_argument("--px", type=int, action="append", required=True)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    asked = parser.parse_args()
    print(
        f"| px | seed | student | {' | '.join((*TRAINED, *FURTHER))} | range over the five | "
        "95 % | by chance | unsure |"
    )
    print("|---" * 14 + "|", flush=True)
    for px in asked.px:
        shown, labels = tested(asked.data / "test", px)
        for seed in range(asked.seeds):
            for arm, resizers in ARMS.items():
                model = _build(asked, px, seed, arm, resizers)
                print(f"| {px} | {seed} | {arm} | {row(model, shown, labels)} |", flush=True)


def tested(folder: Path, px: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All test images by each resizer, uint8 [resizers, n, px, px, 3], and their classes."""
    paths = sorted(folder.glob("*/*"))
    classes = sorted({path.parent.name for path in paths})
    found = np.empty((len(TRAINED) + len(FURTHER), len(paths), px, px, 3), np.uint8)
    for place, path in enumerate(paths):
        image = images.decode(path.read_bytes(), path.name)
        for number, name in enumerate((*TRAINED, *FURTHER)):
            found[number, place] = images.as_rgb(fitted(image, px, "squash", name))
    return found, np.array([classes.index(path.parent.name) for path in paths])


def row(model: bytes, shown: NDArray[np.uint8], labels: NDArray[np.int64]) -> str:
    """The cells of one file."""
    answers = np.stack([runtime.run(model, each).argmax(1) for each in shown])
    shares = [f"{share:.1%}" for share in (answers == labels).mean(1)]
    return " | ".join([*shares, *range_cells(answers[: len(TRAINED)], labels)])


def range_cells(answers: NDArray[np.int64], labels: NDArray[np.int64]) -> list[str]:
    """Range, its interval, range by chance, and unsure: of answers [resizers, n]."""
    right, numbers = answers == labels, np.random.default_rng(0)
    count = right.shape[1]
    drawn = [spread(right[:, numbers.integers(count, size=count)]) for _ in range(DRAWS)]
    dealt = [spread(numbers.permuted(right, axis=0)) for _ in range(DRAWS)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    unsure = (answers != answers[0]).any(0).mean()
    return [
        f"{spread(right):.1f}",
        f"{low:.1f} to {high:.1f}",
        f"{np.mean(dealt):.1f}",
        f"{unsure:.1%}",
    ]


def spread(right: Right) -> float:
    """The highest top-1 of several resizers less the lowest, in points."""
    shares = right.mean(1)
    return float(shares.max() - shares.min()) * 100


def _build(
    asked: argparse.Namespace, px: int, seed: int, arm: str, resizers: tuple[Resizer, ...]
) -> bytes:
    """The int8 file of one build."""
    names = ",".join(f'"{name}"' for name in resizers)
    out = asked.out / f"{px}-{seed}-{arm}"
    edgekd.build(
        data=asked.data,
        profile="pi4",
        teacher="none",
        student=asked.student,
        seed=seed,
        out=out,
        store=asked.out / "store",
        settings=[*asked.set, f"data.input_px={px}", f"views.resizers=[{names}]"],
    )
    return (out / "model.tflite").read_bytes()


if __name__ == "__main__":
    main()
