"""A whole small build with two teachers: each of them counts in the stages, the licences, the
papers and the report.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgekd.app import cli
from edgekd.bundle import archive, verify_bundle
from edgekd.core.artifacts import sha256
from edgekd.settings import model_specs
from tests.small_build import STUDENT, STUDENT_OPTIONS, TEACHER

SMALL = [
    "build",
    "--profile",
    "pi4",
    "--data",
    "phantom:100@40",
    "--teacher",
    "free_teacher",
    "--student",
    STUDENT,
    *(
        part
        for text in (
            STUDENT_OPTIONS,
            'teacher.others=["paid_teacher"]',
            "data.input_px=32",
            "teacher.epochs=1",
            "distil.epochs=1",
            "qat.epochs=0",
            "views.per_image=1",
            "bench.runs=5",
            "bench.min_seconds=0.05",
            "data.golden=8",
            "data.calibration=32",
            "certify.max_drop=1",
            "certify.min_agreement=0",
        )
        for part in ("--set", text)
    ),
]


def model_file(name: str, arch: str, role: str, licence: str, more: str = "") -> str:
    return f'title = "{name}"\narch = "{arch}"\nroles = ["{role}"]\nlicence = "{licence}"\n{more}'


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model files of a free teacher, one under non-commercial terms, one that may not teach, and
    the student.
    """
    folder = tmp_path_factory.mktemp("models")
    (folder / f"{STUDENT}.toml").write_text(model_file(STUDENT, STUDENT, "student", "Apache-2.0"))
    closed = 'output_terms = "no-training"\n'
    for name, licence, more in (
        ("free_teacher", "Apache-2.0", ""),
        ("paid_teacher", "CC-BY-NC-4.0", ""),
        ("closed_teacher", "proprietary", closed),
    ):
        (folder / f"{name}.toml").write_text(model_file(name, TEACHER, "teacher", licence, more))
    return folder


@pytest.fixture(scope="module")
def out(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_specs, "folder", lambda _kind: models)
        assert cli.main([*SMALL, "--out", str(folder)]) == 0
    return folder


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def test_every_teacher_is_a_stage(out: Path) -> None:
    report = read(out / "report.json")
    assert [row["stage"] for row in report["stages"]][:5] == [
        "data",
        "inputs",
        "teacher",
        "teacher2",
        "knowledge",
    ]
    assert list(report["models"]) == ["teacher", "teacher2", "student"]
    assert report["models"]["teacher2"]["name"] == "paid_teacher"
    assert {"teacher", "teacher2", "distil"} <= report["training"].keys()


def test_the_second_teachers_terms_taint_the_bundle(out: Path) -> None:
    bundle = archive.read(out / "bundle.zip")
    assert all(check.passed for check in verify_bundle.verify_files(bundle))
    licences = json.loads(bundle["licences.json"])
    tainted = "teacher2 network and weights paid_teacher: CC-BY-NC-4.0"
    assert licences["tainted_by"] == [tainted]
    assert licences["result"].startswith("non-commercial use only")
    assert "Tainted by teacher2 network and weights paid\\_teacher" in bundle["README.md"].decode()
    named = {row["name"]: row for row in json.loads(bundle["sbom.cdx.json"])["components"]}
    assert named["paid_teacher"]["type"] == "machine-learning-model"
    assert named["paid_teacher"]["licenses"] == [{"license": {"id": "CC-BY-NC-4.0"}}]
    assert read(out / "report.json")["licences"]["tainted_by"] == [tainted]
    assert "paid_teacher" in (out / "report.html").read_text()


def test_both_lineages_hold_both_teachers_and_have_schemas_of_their_own(out: Path) -> None:
    folder = read(out / "lineage.json")
    assert folder["schema"] == "edgekd.lineage/1"
    assert folder["sources"]["teacher2"] == {"name": "paid_teacher", "licence": "CC-BY-NC-4.0"}
    parents = {row["stage"]: set(row["parents"]) for row in folder["stages"]}
    assert parents["knowledge"] == {"data", "teacher", "teacher2"}
    chain = json.loads(archive.read(out / "bundle")["lineage.json"])
    assert chain["schema"] == "edgekd.bundle_lineage/1"
    links = {row["name"]: row for row in chain["links"]}
    assert links["knowledge"]["parents"]["teacher2"] == links["teacher2"]["hash"]
    assert links["teacher"]["digest"] != links["teacher2"]["digest"]


def test_the_old_schema_of_a_bundles_lineage_is_still_read(out: Path) -> None:
    """Version 0.1.0 wrote "edgekd.lineage/1" there. The bundle's link does not cover lineage.json
    itself.
    """
    bundle = archive.read(out / "bundle")
    bundle["lineage.json"] = bundle["lineage.json"].replace(
        b"edgekd.bundle_lineage/1", b"edgekd.lineage/1"
    )
    checks = {row.check: row for row in verify_bundle.verify_files(bundle)}
    assert checks["lineage"].passed
    bundle["lineage.json"] = bundle["lineage.json"].replace(b"edgekd.lineage/1", b"edgekd.other/1")
    checks = {row.check: row for row in verify_bundle.verify_files(bundle)}
    assert "expected edgekd.bundle_lineage/1 or edgekd.lineage/1" in checks["lineage"].found


def refused(
    arguments: list[str], models: Path, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> int:
    monkeypatch.setattr(model_specs, "folder", lambda _kind: models)
    code = cli.main([*SMALL, *arguments, "--out", str(folder)])
    assert not list(folder.rglob("store/*")), "a stage ran before the refusal"
    return code


def test_commercial_use_is_refused_before_training(
    models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert refused(["--set", "card.use=commercial"], models, monkeypatch, tmp_path / "out") == 1
    told = capsys.readouterr().err
    assert "teacher2 paid_teacher (CC-BY-NC-4.0)" in told
    assert "free_teacher" not in told


def test_a_second_teacher_that_may_not_teach_is_refused(
    models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    others = ["--set", 'teacher.others=["closed_teacher"]']
    assert refused(others, models, monkeypatch, tmp_path / "out") == 2
    assert "closed_teacher: its terms forbid training" in capsys.readouterr().err


def test_the_certified_file_is_that_of_the_report(out: Path) -> None:
    model = (out / "model.tflite").read_bytes()
    assert read(out / "report.json")["artifact"]["sha256"] == sha256(model)
