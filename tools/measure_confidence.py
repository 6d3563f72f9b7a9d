"""Measures what the confidence figures of a finished build are worth.

    python tools/measure_confidence.py OUT [--store DIR] [--splits 20] [--seed 0]

Judges the figures as built (fitted on the validation images), and over random splits of held-out
images. Also judges two alternatives that EdgeKD does not use: one conformal threshold for all
classes, and a bias for each class beside the temperature.

Runs the build's .tflite on the validation images, and reads its stored answers to the test images.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgekd.core.artifacts import Confidence, Dataset, Evaluation, Inputs, LiteModel, Network
from edgekd.core.context import Context
from edgekd.core.store import Store
from edgekd.data import datasets
from edgekd.evaluation import conformal
from edgekd.evaluation.confidence_record import (
    ClassConfidence,
    ClassCoverage,
    ClassTest,
    LabelConfidence,
    read,
)
from edgekd.evaluation.metrics import probabilities
from edgekd.pipeline.stage_settings import ConfidenceSettings
from edgekd.pipeline.stages import confidence as stage
from edgekd.settings.recipe import ConfidenceConfig
from edgekd.tflite.int8_rules import Range

# The weight of the prior on the biases, in images. Without it, biases fitted on few images are even
# worse.
PRIOR = 10.0
EXPECTED = (0.88, 0.94)  # an acceptable coverage on a random split, where 0.90 is promised


@dataclasses.dataclass(frozen=True)
class Parts:
    """The artifacts of a build that this script reads."""

    data: Dataset
    inputs: Inputs
    student: Network
    model: LiteModel
    evaluation: Evaluation


@dataclasses.dataclass(frozen=True)
class Answers:
    """Output codes int8 [n, k] and labels int64 [n] of some images."""

    codes: np.ndarray
    labels: np.ndarray

    def of(self, rows: np.ndarray) -> Answers:
        """The answers of some of the images."""
        return Answers(self.codes[rows], self.labels[rows])


@dataclasses.dataclass(frozen=True)
class Alternatives:
    """Figures of the two alternatives.

    `ece`, `debiased`: calibration error with a bias for each class. `coverage`, `unsure`,
    `by_class`: with one threshold for all classes; `by_class` is the coverage of each class.
    """

    ece: float
    debiased: float
    coverage: float
    unsure: float
    by_class: np.ndarray


def load(out: Path, shared: Path | None) -> Parts:
    """The artifacts of a build, found by its lineage.json. Raises SystemExit if one is missing."""
    lineage = json.loads((out / "lineage.json").read_text())
    keys = {row["stage"]: row["key"] for row in lineage["stages"]}
    store = Store(out, shared)
    found = []
    for name in ("data", "inputs", "distil", "convert", "evaluate"):
        entry = store.find(name, keys[name])
        if entry is None:
            raise SystemExit(f"{out}: the store has no {name} stage; name the store with --store")
        found.append(entry.artifact())
    return Parts(*found)


def confidence(parts: Parts) -> tuple[Confidence, ClassConfidence]:
    """The artifact of the stage "confidence", and its record. Raises SystemExit."""
    made = stage.run(
        parts.data,
        parts.inputs,
        parts.student,
        parts.model,
        parts.evaluation,
        settings=ConfidenceSettings(ConfidenceConfig()),
        context=Context(),
    )
    record = read(made.body, "confidence")
    if isinstance(record, LabelConfidence):
        raise SystemExit("an image of this build may have several labels; one class is needed")
    return made, record


def by_class(rows: Sequence[ClassCoverage]) -> np.ndarray:
    """The coverage of each class, float64 [k]; NaN for a class without an image."""
    return np.array([row.coverage for row in rows], np.float64)


def numbers(values: np.ndarray) -> str:
    """Numbers with three decimals, separated by blanks."""
    return " ".join(f"{value:.3f}" for value in values)


def splits(answers: Answers, known: conformal.Fitted, grid: Range, count: int, seed: int) -> None:
    """Fit on one half and judge on the other, `count` times, and print the means.

    `known`: the fit of the build, whose kind of outputs and promised coverage are used.
    """
    rng = np.random.default_rng(seed)
    tests: list[ClassTest] = []
    others: list[Alternatives] = []
    for _ in range(count):
        halves = np.array_split(rng.permutation(len(answers.labels)), 2)
        first, second = (answers.of(rows) for rows in halves)
        fitted = conformal.fit(first.codes, first.labels, grid, known.kind, known.coverage)
        tests.append(conformal.judge(fitted, second.codes, second.labels, grid))
        others.append(alternatives(first, second, fitted, grid))
    coverage = np.array([test.coverage for test in tests])
    before, after = (
        np.array([getattr(test.ece, name) for test in tests]) for name in ("before", "after")
    )
    held = int(((coverage >= EXPECTED[0]) & (coverage <= EXPECTED[1])).sum())
    print(
        f"  coverage {coverage.mean():.3f} (least {coverage.min():.3f}, most {coverage.max():.3f}; "
        f"between {EXPECTED[0]} and {EXPECTED[1]} in {held} of {count}), "
        f"ECE {before.mean():.3f} -> {after.mean():.3f} "
        f"(least {after.min():.3f}, most {after.max():.3f}; "
        f"floor {np.mean([test.ece.floor for test in tests]):.3f}; "
        f"debiased {np.mean([test.ece.debiased_before for test in tests]):.3f} -> "
        f"{np.mean([test.ece.debiased_after for test in tests]):.3f}), "
        f"unsure {np.mean([test.unsure for test in tests]):.3f}, coverage by class "
        + numbers(np.mean([by_class(test.coverage_by_class) for test in tests], 0))
    )
    show(
        Alternatives(
            ece=float(np.mean([other.ece for other in others])),
            debiased=float(np.mean([other.debiased for other in others])),
            coverage=float(np.mean([other.coverage for other in others])),
            unsure=float(np.mean([other.unsure for other in others])),
            by_class=np.mean([other.by_class for other in others], 0),
        )
    )


def alternatives(
    first: Answers, judged: Answers, fitted: conformal.Fitted, grid: Range
) -> Alternatives:
    """Fit the two alternatives on the first answers, and judge them on the others."""
    scores = conformal.scores(first.codes, grid, fitted.kind)
    shared = conformal.conformal_threshold(
        probabilities(scores / fitted.temperature), first.labels, fitted.coverage
    )
    test = conformal.judge(
        dataclasses.replace(fitted, thresholds=[shared] * len(fitted.thresholds)),
        judged.codes,
        judged.labels,
        grid,
    )
    slope, bias = with_bias(scores, first.labels)
    p = probabilities(slope * conformal.scores(judged.codes, grid, fitted.kind) + bias)
    return Alternatives(
        ece=conformal.calibration_error(p, judged.labels),
        debiased=conformal.debiased_error(p, judged.labels),
        coverage=test.coverage,
        unsure=test.unsure,
        by_class=by_class(test.coverage_by_class),
    )


def show(found: Alternatives) -> None:
    """Print the figures of the alternatives."""
    print(
        f"  one threshold for all: coverage {found.coverage:.3f}, unsure {found.unsure:.3f}, "
        f"by class {numbers(found.by_class)}; "
        f"a bias per class: ECE {found.ece:.3f} (debiased {found.debiased:.3f})"
    )


def with_bias(logits: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Fit softmax(slope * logits + bias). Returns (slope, bias [k]).

    This is bias-corrected temperature scaling (Alexandari et al. 2020, arXiv 1901.06852), fitted by
    Newton's method with halved steps. A normal prior with the weight of PRIOR images keeps the
    biases small.
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
        # The small diagonal keeps the matrix invertible: the prior does not cover the slope.
        hessian = np.eye(k + 1) * 1e-6
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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="the out folder of a finished build")
    parser.add_argument("--store", type=Path, help="the store of the build, if it has its own")
    parser.add_argument("--splits", type=int, default=20, help="number of random splits")
    parser.add_argument("--seed", type=int, default=0, help="of the random splits")
    given = parser.parse_args()
    parts = load(given.out, given.store)
    made, record = confidence(parts)
    codes = np.frombuffer(made.codes, np.int8).reshape(-1, parts.evaluation.classes)
    val = Answers(codes, datasets.labels(parts.data, "val"))
    codes = np.frombuffer(parts.evaluation.codes, np.int8).reshape(-1, parts.evaluation.classes)
    test = Answers(codes, np.asarray(parts.evaluation.labels))
    fitted = conformal.Fitted(
        kind=record.kind,
        temperature=record.temperature,
        coverage=record.coverage,
        thresholds=record.thresholds,
        sigmoid=record.sigmoid,
        n=record.fitted_on.n,
    )
    grid = Range(record.output.scale, record.output.zero_point)
    judged, error = record.test, record.test.ece
    when_sure = judged.accuracy_when_sure
    print(
        f"fitted on {len(val.codes)} val images, judged on {len(test.codes)} test images: "
        f"temperature {record.temperature:.3f}, coverage {judged.coverage:.3f} "
        f"(by class {numbers(by_class(judged.coverage_by_class)).replace(' ', ', ')}), "
        f"ECE {error.before:.3f} -> {error.after:.3f} "
        f"(debiased {error.debiased_before:.3f} -> {error.debiased_after:.3f}), "
        f"unsure {judged.unsure:.3f}, top-1 {judged.accuracy:.3f}, "
        f"when sure {'-' if when_sure is None else f'{when_sure:.3f}'}"
    )
    show(alternatives(val, test, fitted, grid))
    print(f"{given.splits} random halves of the test images:")
    splits(test, fitted, grid, given.splits, given.seed)
    print(f"{given.splits} random halves of val and test together:")
    both = Answers(
        np.concatenate([val.codes, test.codes]), np.concatenate([val.labels, test.labels])
    )
    splits(both, fitted, grid, given.splits, given.seed)


if __name__ == "__main__":
    main()
