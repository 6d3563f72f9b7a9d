"""What confidence figures are worth on a finished build: as built (fitted on val), and over random splits of held-out images.

    python tools/measure_confidence.py OUT [--store DIR] [--splits 20] [--seed 0]

Runs the build's .tflite on the validation images and reads its stored answers to the test images.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from edgekd import confidence, data
from edgekd.artifacts import Confidence
from edgekd.context import Context
from edgekd.int8 import Range
from edgekd.pipeline import PRODUCES
from edgekd.recipe import ConfidenceConfig
from edgekd.stages import confidence as stage
from edgekd.store import Store

NEEDED = ("data", "inputs", "distil", "convert", "evaluate")


def load(out: Path, shared: Path | None) -> dict[str, Any]:
    """The artifacts of a build by its lineage.json."""
    keys = {row["stage"]: row["key"] for row in json.loads((out / "lineage.json").read_text())["stages"]}
    store = Store(out, shared)
    found = {}
    for name in NEEDED:
        entry = store.find(name, keys[name])
        if entry is None:
            raise SystemExit(f"{out}: the store has no {name} stage; name the store with --store")
        found[name] = entry.load(PRODUCES[name])
    return found


def splits(codes: np.ndarray, labels: np.ndarray, body: dict[str, Any], count: int, seed: int) -> None:
    """Half to fit, half to judge, `count` times."""
    grid, rng, rows = Range(**body["output"]), np.random.default_rng(seed), []
    for _ in range(count):
        first, second = np.array_split(rng.permutation(len(labels)), 2)
        fitted = confidence.fit(codes[first], labels[first], grid, body["kind"], body["coverage"])
        told = confidence.judge(fitted, codes[second], labels[second], grid)
        rows.append([told["coverage"], told["ece"]["before"], told["ece"]["after"], told["unsure"], told["ece"]["floor"]])
    table = np.array(rows)
    print(f"  coverage {table[:, 0].mean():.3f} (least {table[:, 0].min():.3f}, most {table[:, 0].max():.3f}; between 0.88 and "
          f"0.94 in {int(((table[:, 0] >= 0.88) & (table[:, 0] <= 0.94)).sum())} of {count}), ECE {table[:, 1].mean():.3f} -> "
          f"{table[:, 2].mean():.3f} (floor {table[:, 4].mean():.3f}), unsure {table[:, 3].mean():.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    parts = load(given.out, given.store)
    made: Confidence = stage.run(*(parts[name] for name in NEEDED), config=ConfidenceConfig(), context=Context())
    body, told, evaluation = made.body, made.body["test"], parts["evaluate"]
    val = np.frombuffer(made.codes, np.int8).reshape(-1, evaluation.classes)
    test = np.frombuffer(evaluation.codes, np.int8).reshape(-1, evaluation.classes)
    val_labels, test_labels = data.labels(parts["data"], "val"), np.asarray(evaluation.labels)
    print(f"fitted on {len(val)} val images, judged on {len(test)} test images: temperature {body['temperature']:.3f}, "
          f"coverage {told['coverage']:.3f}, ECE {told['ece']['before']:.3f} -> {told['ece']['after']:.3f}, unsure "
          f"{told['unsure']:.3f}, top-1 {told['accuracy']:.3f}, when sure {told['accuracy_when_sure']:.3f}")
    print(f"{given.splits} random halves of the test images:")
    splits(test, test_labels, body, given.splits, given.seed)
    print(f"{given.splits} random halves of val and test together:")
    splits(np.concatenate([val, test]), np.concatenate([val_labels, test_labels]), body, given.splits, given.seed)


if __name__ == "__main__":
    main()
