"""A folder of small grey images of noise in two classes, which a data set reads in no time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def noise_folder(root: Path, each: int = 24, px: int = 48) -> Path:
    """`each` PNG files of px x px in each of two class folders below `root`."""
    rng = np.random.default_rng(0)
    for label in ("a", "b"):
        (root / label).mkdir(parents=True)
        for number in range(each):
            pixels = rng.integers(0, 256, (px, px), dtype=np.uint8)
            Image.fromarray(pixels).save(root / label / f"{number}.png")
    return root
