"""Measures what 16 bits until the network's input are worth, on a made-up low-contrast set.

    python -m tools.measure_bit_depth [--seeds 5] [--images 200]

Each image is a smooth background of about 100 of 4096 levels with fine noise, and faint stripes of
a few levels: upright in one class, lying in the other. Four ways to the network's input of 48 px
are compared, with the same images, split and seeds:

    16 bits kept          the 12-bit values are resized, then rounded to 8 bits
    8 bits first          they are rounded to 8 bits, then resized
    window, 16 bits kept  400 of the 4096 levels are stretched to the whole range first (a DICOM
                          window), and the rest is as in the first way
    window, 8 bits first  the same, on values that were rounded to 8 bits of the 4096 before, as an
                          export to PNG does

Prints a Markdown table: the error against exact resizing, in 1/255 of the range, and how often the
direction of the stripes can still be told. No network is trained: a detector compares the energy of
the stripes' band in the mean row and in the mean column, so that the figures show what is left in
the pixels, and not how well something learns. Both are taken of the stored pixels, which training
sees, and of a device's input, which has 8 bits in every way.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from edgekd.data import datasets
from edgekd.data.dataset_builder import build_dataset
from edgekd.data.input_builder import build_inputs
from edgekd.data.source_registry import open_source
from edgekd.settings.recipe import DataConfig
from edgekd.training import views

Values = NDArray[np.float64]

SIDE, PX, TOP = 96, 48, 4095
WINDOW = 400  # levels
CLASSES = ("lying", "upright")


def picture(rng: np.random.Generator, label: int, contrast: float) -> Values:
    """One image in levels of 12 bits, float64 [SIDE, SIDE]; its whole numbers are stored."""
    x = np.arange(SIDE)
    stripes = np.sin(2 * np.pi * (x / rng.uniform(10, 16) + rng.uniform()))[None, :]
    stripes = np.repeat(stripes, SIDE, axis=0)
    slope, height = rng.uniform(-0.5, 0.5, 2)
    field = 2048 + 60 * rng.uniform(-1, 1) + slope * x[None, :] + height * x[:, None]
    return np.rint(
        field + contrast * (stripes if label else stripes.T) + rng.normal(0, 2, (SIDE, SIDE))
    )


def deep(values: Values) -> NDArray[np.generic]:
    return values.astype(np.uint16)


def bytes_first(values: Values) -> NDArray[np.generic]:
    return np.rint(values * (255 / TOP)).astype(np.uint8)


def windowed(values: Values) -> NDArray[np.generic]:
    share = np.clip((values - (2048 - WINDOW / 2)) / WINDOW, 0, 1)
    return np.rint(share * TOP).astype(np.uint16)


def windowed_bytes(values: Values) -> NDArray[np.generic]:
    return np.rint(windowed(np.rint(values * (255 / TOP)) * (TOP / 255)) / TOP * 255).astype(
        np.uint8
    )


# How values are stored, and what they stand for in 0..1.
WAYS: dict[str, tuple[Callable[[Values], NDArray[np.generic]], Callable[[Values], Values]]] = {
    "16 bits kept": (deep, lambda values: values / TOP),
    "8 bits first": (bytes_first, lambda values: values / TOP),
    "window, 16 bits kept": (windowed, lambda values: windowed(values) / TOP),
    "window, 8 bits first": (windowed_bytes, lambda values: windowed(values) / TOP),
}


@dataclasses.dataclass(frozen=True)
class Result:
    """`error`: root mean square, in 1/255 of the range. `told`: share of images whose class the
    detector tells. Each: of the stored pixels, and of a device's input.
    """

    error: tuple[float, float]
    told: tuple[float, float]


def told(images: Values, labels: NDArray[np.int64]) -> float:
    """The share of images [n, PX, PX] whose stripes have the direction that their label says."""
    across = np.array([_energy(image.mean(0)) for image in images])
    down = np.array([_energy(image.mean(1)) for image in images])
    return float(((across > down) == (labels == 1)).mean())


def _energy(profile: Values) -> float:
    """The energy of waves of 4 to 9 px, which the stripes have at PX."""
    x = np.arange(PX)
    smooth = profile - np.polyval(np.polyfit(x, profile, 2), x)
    return float((np.abs(np.fft.rfft(smooth * np.hanning(PX)))[PX // 9 : PX // 4 + 1] ** 2).sum())


def measure(way: str, seed: int, images: int, contrast: float) -> Result:
    """One way with one seed. The pictures depend on the seed alone."""
    store, shown = WAYS[way]
    exact: dict[str, Values] = {}
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(seed)
        for number in range(images):
            label = number % 2
            values = picture(rng, label, contrast)
            # Every file reaches white once, so that the depth is known to be 12 bits.
            stored = store(values)
            stored[0, 0] = TOP if stored.dtype == np.uint16 else 255
            values[0, 0] = TOP
            name = f"{CLASSES[label]}/{number:04}.png"
            path = Path(folder, name)
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(stored).save(path)
            exact[name] = shown(values)
        source = open_source(folder)
        data = build_dataset(source, DataConfig(cache_px=SIDE, test_share=0.5), seed)
        inputs = build_inputs(source, data, PX, seed, calibration=8, golden=4)
    rows = inputs.rows["test"]
    device = np.frombuffer(inputs.test, np.uint8).reshape(len(rows), PX, PX) / 255
    render = views.Renderer(datasets.pixels(data), PX, [0.0], [1.0])
    stored = render.plain(torch.tensor(rows))[:, 0].double().numpy()
    truth = np.stack([exactly(exact[data.images[row]["name"]]) for row in rows])
    labels = datasets.labels(data)[rows]
    ways = (stored, device)
    errors = [255 * np.sqrt(np.mean((found - truth)[:, 2:, 2:] ** 2)) for found in ways]
    return Result(
        (float(errors[0]), float(errors[1])), (told(stored, labels), told(device, labels))
    )


def exactly(values: Values) -> Values:
    """The picture at PX in floats, by the filter that EdgeKD uses."""
    image = Image.fromarray(values.astype(np.float32))
    across = image.resize((PX, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(across.resize((PX, PX), Image.Resampling.BILINEAR), np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--contrasts", type=float, nargs="+", default=[0.125, 0.25, 0.5, 1.0])
    asked = parser.parse_args()
    print("| stripes, of 4096 levels | way | error: stored, input | told: stored | told: input |")
    print("|---|---|---|---|---|")
    for contrast in asked.contrasts:
        for way in WAYS:
            found = [measure(way, seed, asked.images, contrast) for seed in range(asked.seeds)]
            stored, device = np.mean([each.error for each in found], 0)
            shares = [[100 * each.told[k] for each in found] for k in range(2)]
            cells = [f"{np.mean(own):.1f} % ({min(own):.0f} to {max(own):.0f})" for own in shares]
            print(f"| {contrast:g} | {way} | {stored:.2f}, {device:.2f} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
