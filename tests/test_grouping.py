"""Which images belong together: columns and folders that name a patient, and what is warned of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekd.app import cli
from edgekd.core.errors import DataError, RecipeError, UnknownName
from edgekd.data import grouping
from edgekd.data.source_registry import open_source
from edgekd.settings import recipe
from edgekd.settings.recipe import DataConfig

NAMES = [f"img/{number:03}.png" for number in range(40)]
PATIENTS = [f"P{number // 4}" for number in range(40)]


def grouped(
    columns: dict[str, list[str]], names: list[str] = NAMES, **settings: str
) -> grouping.Grouping:
    return grouping.group(names, columns, DataConfig(**settings), "labels.csv", ["image", "label"])


def test_columns_that_hold_groups_are_used() -> None:
    for column in (
        *(
            "group",
            "Group",
            "GROUP_ID",
            "patientid",
            "PatientID",
            "patient_id",
            "PATIENT-ID",
            "MRN",
        ),
        *("Patient ID", "patient", "PatientKey", "patient_key", "patient_number", "Patient Name"),
        *("subject_id", "SubjectID", "subject", "participant_id", "person", "Person_No"),
        *("study_id", "StudyID", "study", "case_id", "donor", "animal"),
    ):
        cells = {"image": NAMES, column: PATIENTS}
        found = grouping.group(NAMES, cells, DataConfig(), "labels.csv")
        assert found.groups == PATIENTS
        assert found.by == f"column {column!r}"
        assert found.warnings == []


def test_a_patient_comes_before_a_study_and_a_group_before_both() -> None:
    studies = [f"S{number // 2}" for number in range(40)]
    columns = {"study_id": studies, "Patient ID": PATIENTS}
    assert grouped(columns).groups == PATIENTS
    assert grouped(columns).warnings == []  # a study lies inside a patient
    mixed = {"group": [str(number % 5) for number in range(40)], "patient_id": PATIENTS}
    found = grouped(mixed)
    assert found.by == "column 'group'"
    (said,) = found.warnings
    assert "'patient_id'" in said
    assert "data.group_column=patient_id" in said
    assert grouped(mixed, group_column="Patient-ID").groups == PATIENTS


def test_an_image_without_a_patient_is_told_and_stands_alone() -> None:
    found = grouped({"patient_id": ["", " ", *PATIENTS[2:]]})
    assert found.groups[:3] == [None, None, "P0"]
    (said,) = found.warnings
    assert "2 images (img/000.png, img/001.png)" in said
    assert grouped({"patient_id": [""] * 40}).by == ""


@pytest.mark.parametrize(
    ("column", "cells"),
    [
        ("site", ["north", "south"] * 20),
        ("camera_id", ["c1", "c2"] * 20),
        ("Hospital", ["a", "b"] * 20),
        ("patient_hash", [f"x{number // 4}f" for number in range(40)]),
        ("lesion_id", [f"{number // 2}" for number in range(40)]),
        ("code", [f"ab{number // 4}c" for number in range(40)]),
        ("ref", [f"{100000 + number // 4}" for number in range(40)]),
    ],
)
def test_what_looks_like_a_group_and_is_not_used_is_told_with_its_setting(
    column: str, cells: list[str]
) -> None:
    found = grouped({"image": NAMES, column: cells})
    assert found.groups == [None] * 40
    (said,) = found.warnings
    assert f"column {column!r} of labels.csv looks like a group ({len(set(cells))} values" in said
    assert f"--set 'data.group_column={column}'" in said
    assert grouped({column: cells}, group_column=column).groups == cells
    assert grouped({column: cells}, group_column="").warnings == []


@pytest.mark.parametrize(
    ("column", "cells"),
    [
        ("Patient Age", [str(20 + number // 2) for number in range(40)]),
        ("sex", ["F", "M"] * 20),
        ("View Position", ["PA", "AP"] * 20),
        ("Patient Weight", [f"{60 + number // 2}.5" for number in range(40)]),
        ("date", ["20240101", "20240102"] * 20),
        ("Follow-up #", [str(number % 4) for number in range(40)]),
        ("width", [str(2000 + number // 3) for number in range(40)]),
        ("image_id", [f"i{number}" for number in range(40)]),
        ("case", ["0", "1"] * 20),
        ("anatom_site_general", ["arm", "leg"] * 20),
    ],
)
def test_measurements_are_not_taken_for_groups(column: str, cells: list[str]) -> None:
    found = grouped({"image": NAMES, column: cells})
    assert found.groups == [None] * 40
    if column != "case":  # two values are too few to be used unasked, but the name is worth a word
        assert found.warnings == []


def test_folders_that_name_a_patient_are_used() -> None:
    paths = [f"train/patient{number // 3:05}/study{number % 3}/v.jpg" for number in range(30)]
    found = grouped({}, paths)
    assert found.groups == [f"patient{number // 3:05}" for number in range(30)]
    for folder in ("p10000032", "sub-01", "Subject_7", "participant 12"):
        assert grouped({}, [f"{folder}/a.png", "p10000099/b.png"]).groups[0] == folder
    assert grouped({}, [f"patient1/{number}.png" for number in range(9)]).groups == [None] * 9


@pytest.mark.parametrize(
    ("names", "first"),
    [
        ([f"person{n // 3}_bacteria_{n}.jpeg" for n in range(30)], "person0"),
        ([f"{n // 3:08}_{n % 3:03}.png" for n in range(60)], "00000000"),
        ([f"site{n % 3}/x{n}.png" for n in range(60)], "site0"),
    ],
)
def test_names_that_look_like_groups_are_told_with_a_pattern_that_works(
    names: list[str], first: str
) -> None:
    (said,) = grouped({}, names).warnings
    assert repr(first) in said
    pattern = said.partition("data.group_pattern=")[2].partition("'")[0]
    found = grouped({}, names, group_pattern=pattern)
    assert found.groups[0] == first
    assert len(set(found.groups)) == len({name.partition("_")[0][:8] for name in names}) or (
        len(set(found.groups)) == 3
    )


def test_a_pattern_that_fits_nothing_or_is_none() -> None:
    with pytest.raises(DataError, match="fits no image"):
        grouped({}, group_pattern=r"patient\d+")
    (said,) = grouped({}, ["a1.png", "b.png"], group_pattern=r"a(\d)").warnings
    assert "1 images (b.png)" in said
    for sets in (["data.group_pattern=("], ["data.group_pattern=a", "data.group_column=b"]):
        with pytest.raises(RecipeError, match=r"data\.group_pattern"):
            recipe.load(None, sets)
    with pytest.raises(UnknownName, match="'patient'"):
        grouped({"site": ["a"] * 40}, group_column="patient")


def pets(root: Path, nested: str = "") -> Path:
    for number in range(40):
        path = root / ("cat", "dog")[number % 2] / nested.format(number // 4) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(pixels).save(path)
    return root


def test_folders_below_a_class(tmp_path: Path) -> None:
    patients = open_source(str(pets(tmp_path / "a", "patient{}")))
    assert {item.group for item in patients.items()} == {f"patient{n}" for n in range(10)}
    visits = pets(tmp_path / "b", "visit {}x")
    (said,) = open_source(str(visits)).facts.warnings
    pattern = said.partition("data.group_pattern=")[2].partition("'")[0]
    found = open_source(str(visits), DataConfig(group_pattern=pattern)).items()
    assert {item.group for item in found} == {f"visit {n}x" for n in range(10)}


def test_classes_that_are_people_are_no_groups(tmp_path: Path) -> None:
    root = pets(tmp_path / "faces")
    (root / "cat").rename(root / "subject01")
    (root / "dog").rename(root / "subject02")
    source = open_source(str(root))
    assert {item.group for item in source.items()} == {None}
    rows = [f"{item.name},{item.label}" for item in source.items()]
    (root / "labels.csv").write_text("image,label\n" + "\n".join(rows) + "\n")
    assert {item.group for item in open_source(str(root / "labels.csv")).items()} == {None}


def test_the_console_and_the_report_say_what_is_not_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = pets(tmp_path / "pets")
    rows = [f"{('cat', 'dog')[number % 2]}/{number}.png,site{number // 4}" for number in range(40)]
    (root / "manifest.csv").write_text("File Name, Site \n" + "\n".join(rows) + "\n")
    out = tmp_path / "out"
    command = ["build", "--data", str(root), "--until", "data", "--out", str(out)]
    assert cli.main(command) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "warning column 'Site' of manifest.csv looks like a group (10 values for 40" in said
    report = json.loads((out / "report.json").read_text())
    assert any("data.group_column=Site" in each for each in report["data"]["warnings"])
    assert cli.main([*command, "--set", "data.group_column=site"]) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["data"]["groups_by"] == "column 'Site'"
    assert report["data"]["groups"]["train_and_test"] == 0
    assert report["data"]["warnings"] == []
