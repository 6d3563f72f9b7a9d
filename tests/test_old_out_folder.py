"""An out folder that version 0.1.0 wrote (tests/data/out_folder_0_1_0.tar.xz) is read, verified and
measured.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import jsonschema
import pytest

from edgekd.app import cli
from edgekd.bundle import archive
from edgekd.core.artifacts import sha256
from edgekd.core.records import from_json, to_json
from edgekd.core.store import facts_json
from edgekd.reporting.report_record import Report
from tests.conftest import REPOSITORY

STORED = REPOSITORY / "tests" / "data" / "out_folder_0_1_0.tar.xz"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder, without its store. bundle.zip is packed again from bundle/, which gives the same
    file.
    """
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(STORED) as stored:
        stored.extractall(folder, filter="data")
    (found,) = folder.iterdir()
    (found / "bundle.zip").write_bytes(archive.pack(archive.read_folder(found / "bundle")))
    assert json.loads((found / "report.json").read_text())["edgekd"] == "0.1.0"
    return found


def test_it_verifies(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["passed"] is True


@pytest.mark.parametrize("form", ["bundle", "bundle.zip"])
def test_its_bundle_verifies(out: Path, capsys: pytest.CaptureFixture[str], form: str) -> None:
    """Its lineage.json has the id that both lineages had then."""
    schema = json.loads((out / "bundle" / "lineage.json").read_text())["schema"]
    assert schema == "edgekd.lineage/1"
    assert cli.main(["verify", str(out / form), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["passed"] is True


def test_a_change_in_its_bundle_is_found(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = archive.read(out / "bundle")
    files["labels.txt"] = files["labels.txt"].upper()
    path = out.parent / "changed.zip"
    path.write_bytes(archive.pack(files))
    assert cli.main(["verify", str(path)]) == 1
    assert "FAILED" in capsys.readouterr().out


def test_its_report_is_shown(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(out), "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["accuracy"]["waterfall"][-1]["stage"] == "tflite"
    assert cli.main(["report", str(out)]) == 0
    assert "passed" in capsys.readouterr().out
    assert cli.main(["report", str(out), str(out)]) == 0


def test_its_model_is_measured(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", str(out), "--local", "--runs", "5", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["model_sha256"] == sha256((out / "model.tflite").read_bytes())
    assert body["golden"]["argmax_agreement"] == 1.0
    assert cli.main(["bench", str(out / "bundle"), "--local", "--runs", "5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["golden"]["argmax_agreement"] == 1.0


@pytest.mark.parametrize(
    ("file", "schema"),
    [
        ("report.json", "report"),
        ("certificate.json", "certificate"),
        ("lineage.json", "lineage"),
        ("check.json", "check"),
        ("bench/local.json", "bench"),
        ("bundle/manifest.json", "bundle_manifest"),
        ("bundle/certificate.json", "bundle_certificate"),
        ("bundle/deployment.json", "deployment"),
        ("bundle/golden/golden.json", "golden"),
        ("bundle/licences.json", "licences"),
        ("bundle/confidence.json", "confidence_logits"),
        ("bundle/report.json", "report"),
    ],
)
def test_its_files_follow_the_schemas_of_today(out: Path, file: str, schema: str) -> None:
    """What reads today's files reads those of version 0.1.0, too: fields were added, none went."""
    described = json.loads((REPOSITORY / "docs" / "schemas" / f"{schema}.json").read_text())
    jsonschema.validate(json.loads((out / file).read_text()), described)


def test_its_report_is_read_without_loss(out: Path) -> None:
    path = out / "report.json"
    body = json.loads(path.read_text())
    again = json.loads(facts_json(to_json(from_json(Report, body, str(path)))))
    assert again == body
