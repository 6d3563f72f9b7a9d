"""Lets LightlyTrain teach a student a ViT's features, as a peer of `distil.pretrain = "features"`.

    uv venv peer && uv pip install --python peer/bin/python lightly-train==0.18.0
    python -m tools.peer_lightly_train --python peer/bin/python --data chest-xray \
        --teacher vit_small_patch14_dinov2@VIT.safetensors --epochs 20 --out builds/peer
    python -m tools.compare_methods --data chest-xray --student \
        mobilenetv2_050@builds/peer/student.safetensors --rows none ...

LightlyTrain is under the AGPL, so it runs in an environment of its own, and no part of EdgeKD needs
it. Its method `distillation` (version 3 since 0.15) gets the same ViT, and the same training images
as a build, with and without labels, as PNG files of the size that a build keeps. A ViT file with
another grid of positions is resampled to the one that LightlyTrain has for DINOv2 (37 x 37).
Student and teacher see crops of one size there, a multiple of the ViT's patch.

Written is the student as `student.safetensors`, to train on the labels from there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from edgekd.core.artifacts import Dataset
from edgekd.core.store import Store
from edgekd.data import image_sets, on_demand
from edgekd.data.sources import Source
from edgekd.networks import weight_files
from edgekd.networks.weight_files import State
from edgekd.pipeline.jobs import load
from edgekd.pipeline.runner import run
from tools.measure_modes import opened

GRID = 37  # of positions in DINOv2's published ViTs: 518 px in patches of 14
TEACHER = "dinov2/vits14-noreg"  # LightlyTrain's name of the ViT
# Run by the peer's own Python. The wrapper is LightlyTrain's way to bring one's own model: with
# its own wrapper of timm, version 0.18.0 takes 160 features of mobilenetv2_050 for 1280, and fails.
SCRIPT = """
import json, sys
import lightly_train, timm, torch

asked = json.loads(sys.argv[1])

class Student(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = timm.create_model(asked["model"], num_classes=0)

    def feature_dim(self):
        return self.net.num_features

    def forward_features(self, images):
        return {"features": self.net.forward_features(images)}

    def forward_pool(self, found):
        return {"pooled_features": found["features"].mean((2, 3), keepdim=True)}

    def get_model(self):
        return self.net

torch.manual_seed(asked["seed"])
student = Student()
lightly_train.pretrain(
    out=asked["out"], data=asked["images"], model=student, method="distillation",
    method_args={"teacher": asked["teacher"], "teacher_weights": asked["weights"]},
    epochs=asked["epochs"], batch_size=asked["batch"], num_workers=0, accelerator="cpu", devices=1,
    precision="32-true", seed=asked["seed"], overwrite=True,
    transform_args={"image_size": (asked["px"], asked["px"])},
)
torch.save(student.net.state_dict(), asked["student"])
"""


def write_images(images: Dataset, source: Source, folder: Path) -> int:
    """Write all training images, with and without labels, as PNG files. Returns how many."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = on_demand.pixels(images, source)
    rows = image_sets.rows(images, image_sets.TRAINING)
    for row in rows:
        levels = pixels[[row]][0]  # [channels, height, width]
        shown = levels[0] if len(levels) == 1 else np.moveaxis(levels, 0, -1)
        Image.fromarray(shown).save(folder / f"{row}.png")
    return len(rows)


def positions(weights: State) -> State:
    """The ViT's weights with positions on DINOv2's own grid, and a mask token, which nobody reads.

    `pos_embed`: float32 [1, 1 + side * side, width], the class token's first.
    """
    weights = {name: value.float() for name, value in weights.items()}
    whole: Tensor = weights["pos_embed"]
    width, side = whole.shape[-1], round((whole.shape[1] - 1) ** 0.5)
    grid = whole[:, 1:].reshape(1, side, side, width).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(GRID, GRID), mode="bicubic", antialias=True)
    grid = grid.permute(0, 2, 3, 1).reshape(1, GRID * GRID, width)
    made = torch.cat([whole[:, :1], grid], 1)
    return {**weights, "pos_embed": made, "mask_token": torch.zeros(1, width)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--python", required=True, help="of the environment with lightly-train")
    parser.add_argument("--data", required=True)
    parser.add_argument("--teacher", required=True, help="NAME@FILE of a DINOv2 ViT-S/14")
    parser.add_argument("--student", default="mobilenetv2_050")
    parser.add_argument("--px", type=int, default=98, help="a multiple of 14")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--out", type=Path, required=True)
    parser.set_defaults(profile="pi4")
    asked = parser.parse_args()
    job = opened(asked)
    images: Dataset = load(run(job, Store(asked.out / "store"), "data"), "data")
    count = write_images(images, job.source, asked.out / "images")
    weights = asked.out / "teacher.pt"
    torch.save(positions(weight_files.read_weights(Path(job.recipe.teacher.weights))), weights)
    student = asked.out / "student.pt"
    start = time.monotonic()
    words = {
        "out": str(asked.out / "peer"),
        "images": str(asked.out / "images"),
        "model": job.student.arch,
        "teacher": TEACHER,
        "weights": str(weights),
        "epochs": asked.epochs,
        "batch": asked.batch,
        "seed": asked.seed,
        "px": asked.px,
        "student": str(student),
    }
    # Without reports to the makers of the peer.
    quiet = {**os.environ, "LIGHTLY_TRAIN_EVENTS_DISABLED": "1"}
    subprocess.run([asked.python, "-c", SCRIPT, json.dumps(words)], check=True, env=quiet)
    kept = torch.load(student, weights_only=True)
    about = f"{asked.student}, {asked.teacher.partition('@')[0]}'s features by LightlyTrain"
    (asked.out / "student.safetensors").write_bytes(weight_files.to_bytes(kept, about))
    print(f"{count} images, {asked.epochs} epochs, {(time.monotonic() - start) / 60:.1f} min")


if __name__ == "__main__":
    main()
