"""Train a model on your own photos, and get a certified int8 .tflite for a Raspberry Pi 4.

    python examples/own_photos.py photos/ out/

photos/ holds one folder of images for each class: photos/cat/*.jpg, photos/dog/*.jpg. EdgeKD splits
them into training, validation and test images. Further arguments change settings of the recipe:

    python examples/own_photos.py photos/ out/ distil.epochs=40 data.input_px=128
"""

from __future__ import annotations

import sys

import edgekd


def main(photos: str, out: str, *settings: str) -> int:
    """Build, print what each stage cost, and return the exit code."""
    result = edgekd.build(
        data=photos,
        teacher="resnet18",  # is trained on your photos first, and then teaches the student
        student="mobilenetv2_050",
        profile="pi4",
        out=out,
        settings=settings,
        progress=print,
    )
    for row in result.accuracy:
        low, high = row.top1_ci95
        print(f"{row.stage:10} top-1 {row.top1:6.1%}, 95 % interval {low:.1%} to {high:.1%}")
    if not result.passed:
        print("the build failed a gate:", *result.failed, sep="\n  ")
        return 1
    print(f"{result.path} is certified: {result.certificate.passed}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
