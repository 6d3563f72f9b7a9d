"""What readers of a medical study ask for: operating points, AUC by patient group, calibration.

All of it is about the .tflite's answers to the test images. The thresholds were chosen on the
validation images, where the calibration was fitted, too.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edgekd.evaluation import conformal, label_thresholds, metrics, operating_points, subgroups
from edgekd.evaluation.confidence_record import ClassConfidence, Confidence, LabelConfidence
from edgekd.evaluation.medical_record import (
    Finding,
    FindingAuc,
    Medical,
    Methods,
    OperatingPoint,
    PatientGroup,
    PatientGroups,
    PointRule,
)
from edgekd.evaluation.operating_points import Bools, Floats
from edgekd.settings.recipe import MedicalConfig
from edgekd.tflite.int8_rules import Range

Ints = npt.NDArray[np.signedinteger]
Rows = npt.NDArray[np.int64]  # indices of images

# Names of classes that say that nothing was found. The other class of two is then the finding.
NOTHING_FOUND = re.compile(
    r"\b(normal|healthy|negatives?|benign|controls?|none|clear|no|not|without|absent)\b",
    re.IGNORECASE,
)


# Findings in the report, some 7 KB each. PadChest, which has the most of the known sets, has 174.
MOST_FINDINGS = 250


@dataclasses.dataclass(frozen=True)
class Split:
    """Answers of the .tflite and the truth of one split. `codes`: int8 [n, k]. `labels`: int64 [n],
    or 0 and 1 [n, k] where an image may have several labels.
    """

    codes: Ints
    labels: npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Patients:
    """What is known of the test images: {column: the group of each image}, and its patient."""

    columns: Mapping[str, Sequence[str | None]]
    ids: Sequence[str | None]


@dataclasses.dataclass(frozen=True)
class _Scored:
    """One finding: its probability for each image, and whether an image has it, in both splits."""

    label: str
    validation: tuple[Floats, Bools]
    test: tuple[Floats, Bools]
    youden: float | None  # the threshold that confidence.json holds, if it holds one


def report(
    confidence: Confidence,
    classes: Sequence[str],
    validation: Split,
    test: Split,
    patients: Patients,
    config: MedicalConfig,
    seed: int = 0,
) -> Medical:
    """The block "medical". `confidence`: what was fitted to the validation answers."""
    every = _scored(confidence, classes, validation, test)
    scored = every[:MOST_FINDINGS]
    ids = [each for each in patients.ids if each is not None]
    return Medical(
        n=len(test.labels),
        validation_n=len(validation.labels),
        patients=len(set(ids)) if len(ids) == len(test.labels) else None,
        findings=[_finding(each, config, seed) for each in scored],
        left_out=len(every) - len(scored),
        groups=[
            PatientGroups(
                column,
                [
                    PatientGroup(group, len(rows), _aucs(scored, rows))
                    for group, rows in _by_age(subgroups.rows_by_value(values)).items()
                ],
            )
            for column, values in patients.columns.items()
        ],
        methods=Methods(
            shares="Wilson score interval, 95 % (Wilson 1927), images taken as independent",
            auc="score interval, 95 % (Newcombe 2006, method 5), images taken as independent",
        ),
    )


def positive_classes(classes: Sequence[str]) -> list[int]:
    """The classes that are findings: of two, the one that does not say that nothing was found, or
    the second; of more, all that do not say so.
    """
    said = [k for k, name in enumerate(classes) if not NOTHING_FOUND.search(name.replace("_", " "))]
    if len(classes) == 2:
        return said if len(said) == 1 else [1]
    return said or list(range(len(classes)))


def _scored(
    confidence: Confidence, classes: Sequence[str], validation: Split, test: Split
) -> list[_Scored]:
    grid = Range(confidence.output.scale, confidence.output.zero_point)
    if isinstance(confidence, LabelConfidence):
        told = label_thresholds.rule(confidence.per_label)
        p = [label_thresholds.probabilities(each.codes, told, grid) for each in (validation, test)]
        return [
            _Scored(
                row.label,
                (p[0][:, k], validation.labels[:, k] == 1),
                (p[1][:, k], test.labels[:, k] == 1),
                row.threshold,
            )
            for k, row in enumerate(confidence.per_label)
        ]
    p = [_class_probabilities(each.codes, confidence, grid) for each in (validation, test)]
    return [
        _Scored(
            classes[k],
            (p[0][:, k], validation.labels == k),
            (p[1][:, k], test.labels == k),
            None,
        )
        for k in positive_classes(classes)
    ]


def _class_probabilities(codes: Ints, confidence: ClassConfidence, grid: Range) -> Floats:
    logits = conformal.scores(codes, grid, confidence.kind)
    return metrics.probabilities(logits / confidence.temperature)


def _finding(each: _Scored, config: MedicalConfig, seed: int) -> Finding:
    p, has = each.test
    (own,) = _aucs([each], np.arange(len(has)))
    return Finding(
        label=each.label,
        positives=int(has.sum()),
        negatives=int((~has).sum()),
        validation_positives=int(each.validation[1].sum()),
        validation_negatives=int((~each.validation[1]).sum()),
        auc=own.auc,
        auc_ci95=own.ci95,
        points=_points(each, config),
        calibration=operating_points.calibration(p, has, seed),
    )


def _by_age(groups: Mapping[str, Rows]) -> dict[str, Rows]:
    """The groups in their order, but decades of age from the youngest to the oldest."""
    decades = {name: re.fullmatch(r"(\d+) to \d+", name) for name in groups}
    if not any(decades.values()):
        return dict(groups)
    ages = {name: int(found[1]) if found else math.inf for name, found in decades.items()}
    return {name: groups[name] for name in sorted(groups, key=lambda name: ages[name])}


def _points(each: _Scored, config: MedicalConfig) -> list[OperatingPoint]:
    truth = each.validation[1]
    if truth.all() or not truth.any():
        return []
    found = operating_points.cuts(*each.validation)
    asked = (
        (PointRule.SENSITIVITY, config.sensitivity),
        (PointRule.SPECIFICITY, config.specificity),
        (PointRule.YOUDEN, None),
    )
    points = []
    for rule, target in asked:
        threshold = float(found.thresholds[operating_points.choose(found, rule, target)])
        if rule == PointRule.YOUDEN and each.youden is not None:
            threshold = each.youden
        points.append(operating_points.point(rule, target, threshold, each.validation, each.test))
    return points


def _aucs(scored: Sequence[_Scored], rows: Rows) -> list[FindingAuc]:
    """The AUC of each finding on these test images, with its interval."""
    found = []
    for each in scored:
        p, has = each.test[0][rows], each.test[1][rows]
        positives = int(has.sum())
        if positives in (0, len(has)):
            found.append(FindingAuc(each.label, positives, None, None))
            continue
        area = metrics.binary_auc(p, has)
        interval = operating_points.auc_interval(area, positives, len(has) - positives)
        found.append(FindingAuc(each.label, positives, area, interval))
    return found
