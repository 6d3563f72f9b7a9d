"""What confidence figures are worth on a finished build: as built (fitted on val), and over random splits of held-out images.
Beside it what was tried and left out: one conformal threshold for all classes, and a bias a class beside the temperature.

    python tools/measure_confidence.py OUT [--store DIR] [--splits 20] [--seed 0]

Runs the build's .tflite on the validation images and reads its stored answers to the test images.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.core.artifacts import Confidence
from edgekd.core.context import Context
from edgekd.core.store import Store
from edgekd.data import datasets
from edgekd.evaluation import conformal
from edgekd.evaluation.confidence_record import OutputKind
from edgekd.evaluation.metrics import probabilities
from edgekd.pipeline.stage_settings import ConfidenceSettings
from edgekd.pipeline.stages import confidence as stage
from edgekd.settings.recipe import ConfidenceConfig
from edgekd.tflite.int8_rules import Range

PRIOR = 10.0  # images; without it a bias fitted on few images is worse still
NEEDED = ("data", "inputs", "distil", "convert", "evaluate")


def load(out: Path, shared: Path | None) -> dict[str, Any]:
    """The artifacts of a build by its lineage.json."""
    keys = {
        row["stage"]: row["key"] for row in json.loads((out / "lineage.json").read_text())["stages"]
    }
    store = Store(out, shared)
    found = {}
    for name in NEEDED:
        entry = store.find(name, keys[name])
        if entry is None:
            raise SystemExit(f"{out}: the store has no {name} stage; name the store with --store")
        found[name] = entry.artifact()
    return found


def splits(
    codes: np.ndarray, labels: np.ndarray, body: dict[str, Any], count: int, seed: int
) -> None:
    """Half to fit, half to judge, `count` times: as built, then what was tried beside it."""
    grid, rng, rows, others = Range(**body["output"]), np.random.default_rng(seed), [], []
    for _ in range(count):
        first, second = np.array_split(rng.permutation(len(labels)), 2)
        fitted = conformal.fit(
            codes[first], labels[first], grid, OutputKind(body["kind"]), body["coverage"]
        )
        told = conformal.judge(fitted, codes[second], labels[second], grid)
        rows.append(
            [
                told.coverage,
                told.ece.before,
                told.ece.after,
                told.unsure,
                told.ece.floor,
                told.ece.debiased_before,
                told.ece.debiased_after,
                *(row.coverage for row in told.coverage_by_class),
            ]
        )
        others.append(
            beside(codes[first], labels[first], codes[second], labels[second], fitted, grid)
        )
    table = np.array(rows)
    print(
        f"  coverage {table[:, 0].mean():.3f} (least {table[:, 0].min():.3f}, most {table[:, 0].max():.3f}; between 0.88 and "
        f"0.94 in {int(((table[:, 0] >= 0.88) & (table[:, 0] <= 0.94)).sum())} of {count}), ECE {table[:, 1].mean():.3f} -> "
        f"{table[:, 2].mean():.3f} (least {table[:, 2].min():.3f}, most {table[:, 2].max():.3f}; "
        f"floor {table[:, 4].mean():.3f}; debiased {table[:, 5].mean():.3f} -> "
        f"{table[:, 6].mean():.3f}), unsure {table[:, 3].mean():.3f}, coverage by class "
        + " ".join(f"{value:.3f}" for value in table[:, 7:].mean(0))
    )
    tell_beside(np.mean(others, 0))


def beside(
    codes: np.ndarray,
    labels: np.ndarray,
    judged: np.ndarray,
    truth: np.ndarray,
    fitted: conformal.Fitted,
    grid: Range,
) -> list[float]:
    """What was tried and left out, fitted on the first two and judged on the next: coverage, unsure and coverage by class
    with one threshold for all; calibration error, as it is and debiased, with a bias a class.
    """
    shared = conformal.conformal_threshold(
        probabilities(conformal.scores(codes, grid, fitted.kind) / fitted.temperature),
        labels,
        fitted.coverage,
    )
    told = conformal.judge(
        dataclasses.replace(fitted, thresholds=[shared] * len(fitted.thresholds)),
        judged,
        truth,
        grid,
    )
    slope, bias = with_bias(conformal.scores(codes, grid, fitted.kind), labels)
    p = probabilities(slope * conformal.scores(judged, grid, fitted.kind) + bias)
    return [
        conformal.calibration_error(p, truth),
        conformal.debiased_error(p, truth),
        told.coverage,
        told.unsure,
        *(row.coverage for row in told.coverage_by_class),
    ]


def tell_beside(row: Any) -> None:
    print(
        f"  one threshold for all: coverage {row[2]:.3f}, unsure {row[3]:.3f}, by class "
        f"{' '.join(f'{value:.3f}' for value in row[4:])}; a bias a class: ECE {row[0]:.3f} (debiased {row[1]:.3f})"
    )


def with_bias(logits: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """(slope, bias [k]) of softmax(slope * logits + bias), bias-corrected temperature scaling (Alexandari et al. 2020, arXiv
    1901.06852). Newton's method with halved steps; the bias is held by a normal prior worth PRIOR images.
    """
    n, k = logits.shape
    truth, weights = np.eye(k)[labels], np.array([1.0, *[0.0] * k])

    def loss(at: np.ndarray) -> float:
        return (
            conformal.negative_log_likelihood(at[0] * logits + at[1:], labels)
            + PRIOR / n * float((at[1:] ** 2).sum()) / 2
        )

    for _ in range(100):
        p = probabilities(weights[0] * logits + weights[1:])
        centred = logits - (p * logits).sum(1, keepdims=True)
        gradient = np.array(
            [((p - truth) * logits).sum() / n, *((p - truth).mean(0) + PRIOR / n * weights[1:])]
        )
        hessian = np.eye(k + 1) * 1e-6  # the slope alone has no prior
        hessian[0, 0] += (p * logits * centred).sum() / n
        hessian[0, 1:] = hessian[1:, 0] = (p * centred).mean(0)
        hessian[1:, 1:] += np.diag(p.mean(0)) - p.T @ p / n + np.eye(k) * PRIOR / n
        step = np.linalg.solve(hessian, gradient)
        while loss(weights - step) > loss(weights) and np.abs(step).max() > 1e-9:
            step /= 2
        weights = weights - step
        if np.abs(step).max() < 1e-9:
            break
    return float(weights[0]), weights[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    parts = load(given.out, given.store)
    made: Confidence = stage.run(
        *(parts[name] for name in NEEDED),
        settings=ConfidenceSettings(ConfidenceConfig()),
        context=Context(),
    )
    body, told, evaluation = made.body, made.body["test"], parts["evaluate"]
    val = np.frombuffer(made.codes, np.int8).reshape(-1, evaluation.classes)
    test = np.frombuffer(evaluation.codes, np.int8).reshape(-1, evaluation.classes)
    val_labels, test_labels = datasets.labels(parts["data"], "val"), np.asarray(evaluation.labels)
    error, by_class = (
        told["ece"],
        ", ".join(f"{row['coverage']:.3f}" for row in told["coverage_by_class"]),
    )
    print(
        f"fitted on {len(val)} val images, judged on {len(test)} test images: temperature {body['temperature']:.3f}, "
        f"coverage {told['coverage']:.3f} (by class {by_class}), ECE {error['before']:.3f} -> {error['after']:.3f} "
        f"(debiased {error['debiased_before']:.3f} -> {error['debiased_after']:.3f}), unsure {told['unsure']:.3f}, "
        f"top-1 {told['accuracy']:.3f}, when sure {told['accuracy_when_sure']:.3f}"
    )
    tell_beside(beside(val, val_labels, test, test_labels, body, Range(**body["output"])))
    print(f"{given.splits} random halves of the test images:")
    splits(test, test_labels, body, given.splits, given.seed)
    print(f"{given.splits} random halves of val and test together:")
    splits(
        np.concatenate([val, test]),
        np.concatenate([val_labels, test_labels]),
        body,
        given.splits,
        given.seed,
    )


if __name__ == "__main__":
    main()
