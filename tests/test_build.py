"""A small real build on phantom images: its files, its cache, and what a killed build leaves."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from edgekd.app import cli
from edgekd.core.artifacts import Exported, LiteModel, sha256
from edgekd.pipeline.stages import convert as convert_stage
from edgekd.tflite import runtime
from tests.conftest import REPOSITORY
from tests.forking import Forking
from tests.small_build import SMALL


def run(*arguments: str) -> int:
    return cli.main([*SMALL, *arguments])


def report(out: Path) -> dict[str, Any]:
    return json.loads((out / "report.json").read_text())


def cached(out: Path) -> dict[str, bool]:
    return {row["stage"]: row["cached"] for row in report(out)["stages"]}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("small") / "out"
    assert run("--out", str(out)) == 0
    return out


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "out"))


def test_every_file_of_the_contract(built: Path) -> None:
    for name in (
        "model.tflite",
        "model.onnx",
        "labels.txt",
        "golden.npz",
        "report.json",
        "report.html",
        "certificate.json",
        "lineage.json",
        "bench/local.json",
        "recipe.toml",
    ):
        assert (built / name).stat().st_size > 0, name
    assert not list(built.rglob(".tmp-*"))


@pytest.mark.parametrize(
    ("file", "schema"),
    [
        ("bench/local.json", "bench"),
        ("bundle/certificate.json", "bundle_certificate"),
        ("bundle/deployment.json", "deployment"),
        ("bundle/golden/golden.json", "golden"),
        ("bundle/lineage.json", "bundle_lineage"),
        ("bundle/manifest.json", "bundle_manifest"),
        ("certificate.json", "certificate"),
        ("check.json", "check"),
        ("lineage.json", "lineage"),
        ("report.json", "report"),
    ],
)
def test_published_files_follow_their_schemas(built: Path, file: str, schema: str) -> None:
    path = REPOSITORY / "docs" / "schemas" / f"{schema}.json"
    jsonschema.validate(json.loads((built / file).read_text()), json.loads(path.read_text()))


def test_a_verification_follows_its_schema(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", str(built), "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    path = REPOSITORY / "docs" / "schemas" / "verify.json"
    jsonschema.validate(body, json.loads(path.read_text()))


def test_report_follows_its_schema(built: Path) -> None:
    body = report(built)
    assert body["schema"] == "edgekd.report/1"
    assert {
        "edgekd",
        "profile",
        "seed",
        "data",
        "stages",
        "models",
        "accuracy",
        "artifact",
        "certificate",
        "device",
        "bench",
    } <= body.keys()
    assert {"name", "digest", "classes", "train", "val", "test"} <= body["data"].keys()
    assert body["data"]["synthetic"] is True
    assert all(
        {"stage", "key", "digest", "seconds", "cached"} <= row.keys() for row in body["stages"]
    )
    for model in ("teacher", "student"):
        assert {"arch", "params", "macs", "input"} <= body["models"][model].keys()
    rows = body["accuracy"]["waterfall"]
    assert [row["stage"] for row in rows] == ["teacher", "student", "qat", "onnx", "tflite"]
    assert all(
        {"top1", "top1_ci95", "auc", "agree_with_previous", "flips_bad", "flips_good"} <= row.keys()
        for row in rows
    )
    artifact = body["artifact"]
    model = (built / "model.tflite").read_bytes()
    assert (artifact["sha256"], artifact["bytes"]) == (sha256(model), len(model))
    assert artifact["full_integer"] is True
    assert artifact["input"]["dtype"] == artifact["output"]["dtype"] == "int8"
    assert not {"QUANTIZE", "DEQUANTIZE", "TRANSPOSE"} & artifact["ops"].keys()


def test_the_certificate_is_whole(built: Path) -> None:
    body = json.loads((built / "certificate.json").read_text())
    assert body["schema"] == "edgekd.certificate/1"
    assert body["passed"] is True
    assert body["ranges"]["identical"] == body["ranges"]["tensors"] > 0
    assert body["weights"]["identical_codes"] == body["weights"]["total_codes"] > 0
    assert body["op_local"]["max_lsb"] <= 1
    assert body["model_sha256"] == sha256((built / "model.tflite").read_bytes())


def test_golden_answers_are_the_models(built: Path) -> None:
    with np.load(built / "golden.npz", allow_pickle=False) as golden:
        answers = runtime.run((built / "model.tflite").read_bytes(), golden["inputs"])
        assert np.array_equal(answers, golden["logits_int8"])
        assert golden["inputs"].shape == (8, 32, 32, 3)


def test_labels_are_in_the_order_of_the_outputs(built: Path) -> None:
    assert (built / "labels.txt").read_text().splitlines() == report(built)["data"]["classes"]


def test_adapters_leave_no_trace(built: Path, tmp_path: Path) -> None:
    """A distilled student and one that never saw a teacher export the same list of ops."""
    assert (
        run("--teacher", "none", "--out", str(tmp_path / "alone"), "--store", str(built / "store"))
        == 0
    )
    alone = report(tmp_path / "alone")
    assert alone["artifact"]["ops"] == report(built)["artifact"]["ops"]
    assert alone["models"]["student"]["params"] == report(built)["models"]["student"]["params"]
    assert [row["stage"] for row in alone["accuracy"]["waterfall"]] == [
        "student",
        "qat",
        "onnx",
        "tflite",
    ]


def test_a_second_run_does_nothing(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {
        path: path.stat().st_mtime_ns for path in (copy / "store").rglob("*") if path.is_file()
    }
    start = time.perf_counter()
    assert run("--out", str(copy), "--json") == 0
    assert time.perf_counter() - start < 60  # not a benchmark: a rebuild would also train
    assert all(cached(copy).values())
    assert json.loads(capsys.readouterr().out)["schema"] == "edgekd.report/1"
    assert {
        path: path.stat().st_mtime_ns for path in (copy / "store").rglob("*") if path.is_file()
    } == before


def test_a_late_setting_reruns_only_what_follows(copy: Path) -> None:
    assert run("--out", str(copy), "--set", "qat.lr=1e-4") == 0
    ran = [name for name, was in cached(copy).items() if not was]
    assert ran == [
        "qat",
        "export",
        "convert",
        "evaluate",
        "certify",
        "confidence",
        "app_inputs",
        "saliency",
        "bench",
    ]


def test_a_broken_entry_is_found_by_its_digest_and_rebuilt(copy: Path) -> None:
    key = next(
        row["key"] for row in report(copy)["stages"] if row["stage"] == "convert"
    )  # the store may hold others
    blob = next((copy / "store").glob(f"convert-{key[:16]}*")) / "tflite.bin"
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.write_bytes(data)
    digests = {row["stage"]: row["digest"] for row in report(copy)["stages"]}
    assert run("--out", str(copy)) == 0
    assert cached(copy)["convert"] is False
    # what follows is cached again: converting anew gives the same bytes
    assert {row["stage"]: row["digest"] for row in report(copy)["stages"]} == digests
    assert cached(copy)["certify"] is True


def test_until_stops_and_withdraws_what_is_no_longer_true(copy: Path) -> None:
    assert run("--out", str(copy), "--until", "distil", "--seed", "5") == 0
    assert list(cached(copy)) == ["data", "inputs", "teacher", "knowledge", "distil"]
    assert not (copy / "model.tflite").exists()
    assert not (copy / "certificate.json").exists()


def test_verify_and_report(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", str(built), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["passed"] is True
    assert cli.main(["report", str(built)]) == 0
    text = capsys.readouterr().out
    assert "certificate" in text
    assert "passed" in text
    assert "synthetic" in text
    assert cli.main(["report", str(built), str(built)]) == 0


@pytest.mark.parametrize("damage", ["byte", "labels", "certificate", "golden"])
def test_verify_finds_tampering(
    copy: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    match damage:
        case "byte":
            data = bytearray((copy / "model.tflite").read_bytes())
            data[-40_000] ^= 4  # inside the weights
            (copy / "model.tflite").write_bytes(data)
        case "labels":
            (copy / "labels.txt").write_text("b\na\n")
        case "certificate":
            body = json.loads((copy / "certificate.json").read_text())
            (copy / "certificate.json").write_text(json.dumps(body | {"passed": False}))
        case "golden":
            with np.load(copy / "golden.npz") as golden:
                arrays = dict(golden)
            arrays["logits_int8"] = arrays["logits_int8"][::-1]
            np.savez(copy / "golden.npz", **arrays)
    assert cli.main(["verify", str(copy)]) == 1
    assert "FAILED" in capsys.readouterr().out


def test_the_waterfall_is_judged(built: Path) -> None:
    accuracy = report(built)["accuracy"]
    assert next(row["state"] for row in accuracy["waterfall"]) == "first"
    assert all(
        {"state", "verdict", "budget", "change", "flipped"} <= row.keys()
        for row in accuracy["waterfall"][1:]
    )
    names = {
        image["name"]
        for row in accuracy["waterfall"][1:]
        for way in ("bad", "good")
        for image in row["flipped"][way]
    }
    assert sum(row["flips_bad"] + row["flips_good"] for row in accuracy["waterfall"]) == 0 or names
    assert accuracy["verdict"]["state"] in ("good", "unclear", "bad")
    assert "histogram" in report(built)["certificate"]["end_to_end"]


def test_why_is_written_into_the_report_and_kept(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert cli.main(["report", "--why", str(copy), "--json"]) == 0
    why = json.loads(capsys.readouterr().out)["why"]
    assert why["schema"] == "edgekd.why/1"
    assert why == report(copy)["why"]
    assert len(why["ops"]) > 20
    assert all(row["alone"]["kl"] >= 0 for row in why["ops"])
    assert {"calibrate again", "more calibration", "another op", "more QAT"} <= {
        row["kind"] for row in why["candidates"]
    }
    assert len(why["remedies"]) <= 3
    assert 'id="why"' in (copy / "report.html").read_text()
    assert not list((copy / "store").glob("why-*.part"))
    assert (
        cli.main(["report", "--why", str(copy)]) == 0
    )  # from the store: the same figures, the time it took among them
    assert report(copy)["why"] == why
    assert "why" in capsys.readouterr().out
    assert run("--out", str(copy)) == 0  # a build that does nothing keeps it
    assert report(copy)["why"] == why
    capsys.readouterr()
    for entry in (copy / "store").glob("qat-*"):
        shutil.rmtree(entry)
    assert cli.main(["report", "--why", str(copy)]) == 2
    assert "the stage qat of this build is not in" in capsys.readouterr().err
    assert cli.main(["report", "--why", str(copy), str(copy)]) == 2
    assert "one folder" in capsys.readouterr().err


def test_a_result_carried_back_reaches_the_verdict(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_ = json.loads((copy / "bench" / "local.json").read_text())
    run_ |= {
        "profile": "pi4",
        "warnings": [],
        "golden": {"images": 8, "argmax_agreement": 0.25, "max_abs_lsb": 99, "top1": 0.25},
    }
    (copy / "bench" / "pi4.json").write_text(json.dumps(run_))
    (copy / "bench" / "other.json").write_text(json.dumps(run_ | {"model_sha256": "0" * 64}))
    (copy / "bench" / "torn.json").write_text("{")
    capsys.readouterr()
    assert cli.main(["report", str(copy), "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert len(body["bench"]) == 2
    assert body["accuracy"]["device"]["state"] == "beyond"
    assert cli.main(["report", str(copy)]) == 0
    assert "8 images" in capsys.readouterr().out
    assert run("--out", str(copy)) == 0  # the next build counts it in
    assert report(copy)["accuracy"]["device"]["n"] == 8
    page = " ".join((copy / "report.html").read_text().split())
    assert "On the device, 8 stored images" in page


def test_pinned_ranges_are_trained_with(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--out", str(copy), "--until", "qat", "--set", "qat.pin=output=99") == 0
    assert [name for name, was in cached(copy).items() if not was] == ["qat"]
    assert run("--out", str(copy), "--until", "qat", "--set", "qat.pin=outputt=99") == 2
    assert "did you mean 'output'" in capsys.readouterr().err


def test_bench_of_a_build(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", str(built), "--local", "--runs", "5", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["golden"]["argmax_agreement"] == 1.0
    assert body["model_sha256"] == sha256((built / "model.tflite").read_bytes())


def test_a_failed_certificate_is_exit_1(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file with one wrong weight does not get the model's name."""
    convert = convert_stage.convert

    def damaged(exported: Exported) -> LiteModel:
        made = convert(exported)
        data = bytearray(made.tflite)
        data[-40_000] ^= 4  # inside the weights
        return dataclasses.replace(made, tflite=bytes(data))

    monkeypatch.setattr(convert_stage, "convert", damaged)
    for entry in (copy / "store").glob("convert-*"):
        shutil.rmtree(entry)
    assert run("--out", str(copy)) == 1
    assert "certificate" in capsys.readouterr().err
    assert {row["check"] for row in report(copy)["certificate"]["failures"]} >= {"weights"}
    assert not (copy / "model.tflite").exists()
    assert (copy / "uncertified.tflite").exists()


def test_twenty_kills(tmp_path: Path) -> None:
    """After SIGKILL at a random moment, the next run resumes, and no finished stage changes."""
    out = tmp_path / "out"
    command = [*SMALL, "--out", str(out)]
    seen: dict[str, str] = {}
    moments = random.Random(0)
    kills = 0
    with Forking() as process:
        while kills < 20:
            if (out / "report.json").exists():
                shutil.rmtree(out)  # the build got through: start over from nothing
                seen.clear()
            ended = process.run(command, kill_after=moments.uniform(0.1, 1.2))
            kills += ended.returncode == -signal.SIGKILL
            entries = {
                path.name: json.loads((path / "entry.json").read_text())["digest"]
                for path in (out / "store").glob("[a-z]*-*")
                # A teacher's answers are shards, and no entry.
                if path.is_dir() and not path.name.startswith("answers-")
            }
            for name, digest in seen.items():
                assert entries.get(name) == digest, f"{name} changed after a kill"
            seen.update(entries)
        assert process.run(command).returncode == 0
    # An unfinished shard stays for an hour, because another machine may be writing it.
    left = [path for path in out.rglob(".tmp-*") if not path.parent.name.startswith("answers-")]
    assert left == []
    assert not list(out.rglob(".broken-*"))
    final = {row["stage"]: row["digest"] for row in report(out)["stages"]}
    for name, digest in seen.items():
        assert final[name.split("-")[0]] == digest
