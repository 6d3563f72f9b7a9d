"""Operating points, AUC by patient group and calibration: against counts made by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from edgekd.app import cli
from edgekd.app.terminal.medical import show_medical
from edgekd.bundle import medical_card
from edgekd.core.errors import UnknownName
from edgekd.core.intervals import wilson
from edgekd.data import patient_columns
from edgekd.evaluation import conformal, label_thresholds, medical, metrics, operating_points
from edgekd.evaluation.confidence_record import Confidence, OutputKind
from edgekd.evaluation.medical_record import Medical, PointRule
from edgekd.reporting.html_report import page
from edgekd.settings.recipe import MedicalConfig
from edgekd.tflite.int8_rules import Range
from tests.html_reader import Page
from tests.sample_report import report, whole

GRID = Range(0.05, -3)


def answers(n: int, seed: int, several: bool = False) -> medical.Split:
    """Codes of a decent network, int8 [n, 2 or 3], and the truth."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (n, 3)) if several else rng.integers(0, 2, n)
    codes = rng.normal(-3, 20, (n, 3 if several else 2))
    if several:
        codes += 40 * labels - 20
    else:
        codes[np.arange(n), labels] += 30
    return medical.Split(codes.round().clip(-128, 127).astype(np.int8), labels)


VAL, TEST = answers(300, 1), answers(400, 2)
MANY_VAL, MANY_TEST = answers(300, 3, several=True), answers(400, 4, several=True)
SEXES = ["female", "male", None, "male"] * 100
PATIENTS = medical.Patients({"sex": SEXES}, [f"patient {number // 2}" for number in range(400)])


def fitted() -> Confidence:
    """What the confidence stage fits to VAL."""
    found = conformal.fit(VAL.codes, VAL.labels, GRID, OutputKind.LOGITS, 0.9)
    return conformal.record(found, conformal.judge(found, TEST.codes, TEST.labels, GRID), GRID)


@pytest.fixture(scope="module")
def study() -> Medical:
    return medical.report(
        fitted(), ["NORMAL", "PNEUMONIA"], VAL, TEST, PATIENTS, MedicalConfig(specificity=0.9)
    )


@pytest.fixture(scope="module")
def many() -> Medical:
    found = label_thresholds.fit(MANY_VAL.codes, MANY_VAL.labels, ["Edema", "Mass", "Cyst"], GRID)
    test = label_thresholds.judge(found, MANY_TEST.codes, MANY_TEST.labels, GRID)
    confidence = label_thresholds.record(found, test, GRID)
    return medical.report(
        confidence, ["Edema", "Mass", "Cyst"], MANY_VAL, MANY_TEST, PATIENTS, MedicalConfig()
    )


def test_cuts_are_counted_as_by_hand():
    p = np.array([0.1, 0.2, 0.2, 0.6, 0.8])
    has = np.array([False, True, False, False, True])
    found = operating_points.cuts(p, has)
    assert found.thresholds.tolist() == pytest.approx([0.05, 0.15, 0.4, 0.7, 0.9])
    for threshold, sensitivity, specificity in zip(
        found.thresholds, found.sensitivity, found.specificity, strict=True
    ):
        said = p >= threshold
        assert sensitivity == pytest.approx(said[has].mean())
        assert specificity == pytest.approx((~said[~has]).mean())


@pytest.mark.parametrize(
    ("rule", "target", "threshold"),
    [
        (PointRule.SENSITIVITY, 1.0, 0.15),  # the highest that finds both
        (PointRule.SENSITIVITY, 0.5, 0.7),
        (PointRule.SENSITIVITY, 0.0, 0.9),
        (PointRule.SPECIFICITY, 0.3, 0.15),  # the lowest that leaves out a third
        (PointRule.SPECIFICITY, 1.0, 0.7),
        (PointRule.YOUDEN, None, 0.7),
    ],
)
def test_each_rule_chooses_its_threshold(rule, target, threshold):
    found = operating_points.cuts(
        np.array([0.1, 0.2, 0.2, 0.6, 0.8]), np.array([False, True, False, False, True])
    )
    chosen = operating_points.choose(found, rule, target)
    assert found.thresholds[chosen] == pytest.approx(threshold)


def test_points_are_chosen_on_validation_and_judged_on_test(study: Medical):
    (finding,) = study.findings
    assert finding.label == "PNEUMONIA"
    assert (finding.positives, finding.negatives) == (
        int(TEST.labels.sum()),
        int((1 - TEST.labels).sum()),
    )
    temperature = fitted().temperature
    p = metrics.probabilities(conformal.scores(TEST.codes, GRID, OutputKind.LOGITS) / temperature)
    has = TEST.labels == 1
    assert [point.rule for point in finding.points] == ["sensitivity", "specificity", "youden"]
    assert finding.points[0].validation_sensitivity >= 0.95
    assert finding.points[1].validation_specificity >= 0.9
    for point in finding.points:
        said = p[:, 1] >= point.threshold
        assert point.sensitivity.value == pytest.approx(said[has].mean())
        assert point.sensitivity.ci95 == wilson(float(said[has].mean()), int(has.sum()))
        assert point.specificity.value == pytest.approx((~said[~has]).mean())
        assert point.ppv.value == pytest.approx(has[said].mean())
        assert point.npv.value == pytest.approx((~has[~said]).mean())
    assert finding.auc == pytest.approx(metrics.binary_auc(p[:, 1], has))
    assert finding.auc_ci95 is not None
    assert finding.auc_ci95[0] < finding.auc < finding.auc_ci95[1]


def test_groups_have_their_own_auc(study: Medical):
    (column,) = study.groups
    assert [(group.group, group.n) for group in column.groups] == [
        ("male", 200),
        ("(no value)", 100),
        ("female", 100),
    ]
    rows = np.flatnonzero(np.array(SEXES) == "male")
    p = TEST.codes[rows].astype(int) @ [-1, 1]  # orders as the probability does
    assert column.groups[0].findings[0].auc == pytest.approx(
        metrics.binary_auc(p, TEST.labels[rows] == 1), abs=1e-3
    )
    assert study.patients == 200


def test_ages_come_in_their_order():
    ages = ["40 to 49", "5 to 9", "40 to 49", None, "10 to 19"] * 80
    patients = medical.Patients({"age": ages}, [None] * 400)
    found = medical.report(fitted(), ["no", "yes"], VAL, TEST, patients, MedicalConfig())
    names = [group.group for group in found.groups[0].groups]
    assert names == ["5 to 9", "10 to 19", "40 to 49", "(no value)"]


def test_the_interval_of_an_auc_covers_it_and_never_vanishes():
    """As wide as a bootstrap where that is sound, and wide where there are few images."""
    low, high = operating_points.auc_interval(1.0, 3, 3)
    assert (low < 0.6, high) == (True, pytest.approx(1.0))
    assert operating_points.auc_interval(0.0, 3, 3) == pytest.approx((1 - high, 1 - low))
    p = metrics.probabilities(TEST.codes.astype(float) * GRID.scale)
    area = metrics.auc(np.log(p), TEST.labels)
    drawn = metrics.auc_interval(np.log(p), TEST.labels)
    assert area is not None
    assert drawn is not None
    found = operating_points.auc_interval(
        area, int(TEST.labels.sum()), int((TEST.labels == 0).sum())
    )
    assert found == pytest.approx(drawn, abs=0.015)
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(400):  # two normal distributions, for which the AUC is known to be 0.8556
        has = np.arange(40) < 15
        drawn_area = metrics.binary_auc(rng.normal(1.5 * has, 1.0), has)
        bounds = operating_points.auc_interval(drawn_area, 15, 25)
        held += bounds[0] <= 0.8556 <= bounds[1]
    assert 0.92 <= held / 400 <= 0.98


def test_a_group_of_one_kind_has_no_auc(study: Medical):
    patients = medical.Patients({"truth": [str(label) for label in TEST.labels]}, [None] * 400)
    found = medical.report(fitted(), ["no", "yes"], VAL, TEST, patients, MedicalConfig())
    assert [group.findings[0].auc for group in found.groups[0].groups] == [None, None]
    assert found.patients is None


def test_each_label_has_its_points_and_keeps_its_youden_threshold(many: Medical):
    found = label_thresholds.fit(MANY_VAL.codes, MANY_VAL.labels, ["Edema", "Mass", "Cyst"], GRID)
    assert [finding.label for finding in many.findings] == ["Edema", "Mass", "Cyst"]
    for finding, row in zip(many.findings, found.per_label, strict=True):
        assert finding.points[-1].threshold == row.threshold
    assert [each.label for each in many.groups[0].groups[0].findings] == ["Edema", "Mass", "Cyst"]


def test_very_many_findings_are_cut(monkeypatch: pytest.MonkeyPatch, many: Medical):
    assert many.left_out == 0
    monkeypatch.setattr(medical, "MOST_FINDINGS", 2)
    found = label_thresholds.fit(MANY_VAL.codes, MANY_VAL.labels, ["Edema", "Mass", "Cyst"], GRID)
    test = label_thresholds.judge(found, MANY_TEST.codes, MANY_TEST.labels, GRID)
    confidence = label_thresholds.record(found, test, GRID)
    cut = medical.report(confidence, [], MANY_VAL, MANY_TEST, PATIENTS, MedicalConfig())
    assert (len(cut.findings), cut.left_out) == (2, 1)
    assert len(cut.groups[0].groups[0].findings) == 2


def test_validation_images_of_one_kind_give_no_threshold():
    val = dataclasses.replace(VAL, labels=np.zeros_like(VAL.labels))
    found = medical.report(fitted(), ["a", "b"], val, TEST, PATIENTS, MedicalConfig())
    assert found.findings[0].points == []
    read = Page(page(msgspec.structs.replace(report(whole()), medical=found)))
    assert "no threshold: the validation images are all positive, or none is" in read.text


@pytest.mark.parametrize(
    ("classes", "positive"),
    [
        (["NORMAL", "PNEUMONIA"], [1]),
        (["covid", "normal"], [0]),
        (["No_Finding", "mass"], [1]),
        (["abnormal", "normal"], [0]),
        (["cat", "dog"], [1]),
        (["normal", "bacteria", "virus"], [1, 2]),
        (["normal", "healthy", "control"], [0, 1, 2]),
        (["benign", "malignant"], [1]),
    ],
)
def test_the_positive_class_is_the_finding(classes: list[str], positive: list[int]):
    assert medical.positive_classes(classes) == positive


def test_calibration_is_counted_as_by_hand():
    p = np.array([0.05, 0.05, 0.25, 0.95, 1.0])
    has = np.array([False, True, False, True, True])
    found = operating_points.calibration(p, has)
    assert [(row.low, row.n) for row in found.bins] == [(0.0, 2), (0.2, 1), (0.9, 2)]
    assert found.bins[0].observed == 0.5
    assert found.ece == pytest.approx((2 * 0.45 + 0.25 + 2 * 0.025) / 5)
    assert found.brier == pytest.approx(np.square(p - has).mean())
    right = np.random.default_rng(7).random(20_000)
    honest = operating_points.calibration(right, np.random.default_rng(1).random(20_000) < right)
    assert honest.ece == pytest.approx(honest.floor, abs=0.005)


def test_report_and_card_show_all_of_it(study: Medical, many: Medical):
    for found in (study, many):
        read = Page(page(msgspec.structs.replace(report(whole()), medical=found)))
        card = "\n".join(medical_card.lines(found))
        for finding in found.findings:
            for point in finding.points:
                assert f"{point.threshold:.3f}" in read.text
                assert f"{point.threshold:.3f}" in card
            assert f"{finding.calibration.ece:.3f}" in read.text
        assert "sensitivity ≥ 95%" in read.text
        assert "Some patients have several test images" in read.text
        assert "female" in card
        assert "(no value)" in read.text


def test_the_terminal_shows_the_first_findings(study: Medical, many: Medical):
    said: list[str] = []
    show_medical(lambda text, *_, **__: said.append(str(text)), many)
    assert len(said) == 3 * 4
    assert "Edema" in said[0]
    assert "sensitivity of at least 95%" in said[1]
    four = msgspec.structs.replace(many, findings=[*many.findings, *study.findings])
    show_medical(lambda text, *_, **__: said.append(str(text)), four)
    assert "1 more finding in" in said[-1]


# Columns about patients ---------------------------------------------------------------------------


class Source:
    """A source with one column, under the name that its author gave it."""

    def __init__(self, name: str, cells: dict[str, str]) -> None:
        self.name, self.cells = name, cells

    def column(self, name: str) -> dict[str, str]:
        if name != self.name:
            raise UnknownName("column", name, [self.name])
        return self.cells


def test_columns_are_found_by_their_usual_names():
    source = Source("patientsex", {"a.png": "F"})
    assert patient_columns.values(source, "sex") == {"a.png": "F"}  # type: ignore[arg-type]
    assert patient_columns.known(source) == ["sex"]  # type: ignore[arg-type]
    assert patient_columns.known(Source("age", {})) == []  # type: ignore[arg-type]
    assert patient_columns.known(object()) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("column", "value", "group"),
    [
        ("age", "58", "50 to 59"),
        ("Patient Age", "058Y", "50 to 59"),
        ("age", "60.0", "60 to 69"),
        ("age", "0", "0 to 9"),
        ("age", "018M", "0 to 9"),
        ("age", "100", "100 to 109"),
        ("age", "414", None),  # as ChestX-ray14 has it
        ("age", "", None),
        ("age", "old", "old"),
        ("sex", "F", "female"),
        ("PatientSex", "Male", "male"),
        ("sex", "Unknown", None),
        ("sex", None, None),
        ("view", "pa", "PA"),
        ("hospital", "Bern", "Bern"),
    ],
)
def test_groups_of_values(column: str, value: str | None, group: str | None):
    assert patient_columns.group_of(column, value) == group


@pytest.mark.parametrize("setting", ["subgroups.column=nosuch", 'subgroups.columns=["nosuch"]'])
def test_a_column_that_is_not_there_fails_before_the_first_stage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], setting: str
):
    for name in ("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png"):
        path = tmp_path / "pics" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(path)
    (tmp_path / "pics" / "manifest.csv").write_text("path,sex\ncat/1.png,F\n")
    words = ["--teacher", "none", "--set", setting, "--out", str(tmp_path / "out")]
    assert cli.main(["build", "--data", str(tmp_path / "pics"), *words]) == 2
    told = capsys.readouterr().err
    assert setting.partition("=")[0] in told
    assert "'nosuch'" in told
    assert "sex" in told
    assert not (tmp_path / "out").exists()


def test_what_makes_data_medical():
    assert patient_columns.is_medical("scans", "a folder", ["age"])
    assert patient_columns.is_medical("chest-xray", "a folder", [])
    assert not patient_columns.is_medical("flowers", "a folder", [])
