"""Faults put in on purpose: `certify` or `verify` finds each and names the tensor, op or file."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgekd.app.verify import verify
from edgekd.core.artifacts import Evaluation, sha256
from edgekd.core.records import present
from tests.faulty import FILE_FAULTS, FORM_FAULTS, LABELS, Built, build, npz, tampered


@pytest.fixture(scope="module")
def built() -> Built:
    return build()


@pytest.fixture(scope="module")
def published(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built.write(tmp_path_factory.mktemp("published"))


@pytest.fixture
def copy(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "out"))


def named(row: dict[str, Any]) -> str:
    return next(str(row[where]) for where in ("tensor", "op", "file") if where in row)


def found(folder: Path) -> dict[str, list[str]]:
    """{failed check of `edgekd verify`: the places that its failures name}."""
    return {
        check.check: [row.place for row in present(check.failures) or []]
        for check in verify(folder)
        if not check.passed
    }


def edit(folder: Path, name: str, change: Callable[[dict[str, Any]], Any]) -> None:
    body = json.loads((folder / name).read_text())
    change(body)
    (folder / name).write_text(json.dumps(body))


def test_without_a_fault_everything_passes(built: Built, published: Path) -> None:
    body = built.certificate()
    assert body["failures"] == []
    assert body["passed"] is True
    assert found(published) == {}
    assert (body["edges"]["edges"], body["structure"]["ops"]) == (
        8,
        8,
    )  # every op but the PAD, which is part of Conv there
    assert body["edges"]["max_lsb"] <= 1


def test_writing_the_file_again_is_no_fault(built: Built) -> None:
    again = tampered(built.lite, lambda model, tensors: None)
    assert again.tflite == built.lite.tflite
    assert built.certificate(lite=again)["failures"] == []


@pytest.mark.parametrize("fault", FILE_FAULTS, ids=lambda fault: fault.__name__)
def test_certify_names_a_fault_of_the_file(built: Built, fault: Callable[..., None]) -> None:
    check, place = FILE_FAULTS[fault]
    body = built.certificate(lite=tampered(built.lite, fault))
    assert body["passed"] is False
    rows = [row for row in body["failures"] if row["check"] == check]
    assert rows, [(row["check"], named(row)) for row in body["failures"]]
    assert place in [named(row) for row in rows]
    assert all(row["expected"] != row["found"] and row["next_step"] for row in rows)
    # nothing else of this kind is blamed: a layer's weight and its bias, or an op and its two
    # sides, at most
    assert {named(row).rpartition(".")[0] for row in rows} == {
        place.rpartition(".")[0]
    } or check in ("ranges", "canonical")


@pytest.mark.parametrize("fault", FILE_FAULTS, ids=lambda fault: fault.__name__)
def test_verify_names_a_fault_of_the_file(
    built: Built, copy: Path, fault: Callable[..., None]
) -> None:
    """The hashes in the certificate and the report are those of the faulty file.

    So only a check that computes everything again finds the fault.
    """
    data = bytes(tampered(built.lite, fault).tflite)
    (copy / "model.tflite").write_bytes(data)
    edit(copy, "certificate.json", lambda body: body.update(model_sha256=sha256(data)))
    edit(copy, "report.json", lambda body: body["artifact"].update(sha256=sha256(data)))
    _, place = FILE_FAULTS[fault]
    names = [name for names in found(copy).values() for name in names]
    assert place in names


built_of = functools.cache(lambda name, rules: build(name, **dict(rules)))


@pytest.mark.parametrize("fault", FORM_FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_of_an_op_or_form_is_named(fault: Callable[..., str], tmp_path: Path) -> None:
    """Certify and verify find it, in networks with hard-swish, hard-sigmoid, slices and groups."""
    network, rules, check = FORM_FAULTS[fault]
    built = built_of(network, tuple(rules.items()))
    places: list[str] = []
    faulty = tampered(built.lite, lambda model, tensors: places.append(fault(model, tensors)))
    rows = [
        named(row) for row in built.certificate(lite=faulty)["failures"] if row["check"] == check
    ]
    assert any(row in places or row.endswith(f" -> {places[0]}") for row in rows), rows
    folder = built.write(tmp_path)
    assert found(folder) == {}
    (folder / "model.tflite").write_bytes(bytes(faulty.tflite))
    edit(folder, "certificate.json", lambda body: body.update(model_sha256=sha256(faulty.tflite)))
    edit(folder, "report.json", lambda body: body["artifact"].update(sha256=sha256(faulty.tflite)))
    names = [name for names in found(folder).values() for name in names]
    assert any(name in places or name.endswith(f" -> {places[0]}") for name in names), names


def test_ports_of_another_profile() -> None:
    int8, uint8 = (built_of("HardExcite", rules) for rules in ((), (("io_dtype", "uint8"),)))
    for built, other in ((int8, uint8), (uint8, int8)):
        rows = [
            row
            for row in built.certificate(lite=other.lite)["failures"]
            if row["check"] == "full_integer"
        ]
        assert {named(row) for row in rows} == {"input", "output"}


def test_red_and_blue_exchanged_in_the_golden_images(built: Built, copy: Path) -> None:
    """BGR in the place of RGB, with the answers that the model gives to such images."""
    from edgekd.tflite import runtime

    inputs = np.ascontiguousarray(built.golden["inputs"][..., ::-1])
    arrays = built.golden | {
        "inputs": inputs,
        "logits_int8": runtime.run(built.lite.tflite, inputs),
    }
    (copy / "golden.npz").write_bytes(npz(arrays))
    checks = found(copy)
    assert "golden.npz: inputs" in checks["labels and golden set"]
    assert any("BGR for RGB" in check.found for check in verify(copy))


def test_a_wrong_mean_beside_the_file(built: Built, copy: Path) -> None:
    (copy / "golden.npz").write_bytes(npz(built.golden | {"mean": np.full(3, 0.5, np.float32)}))
    assert found(copy) == {"labels and golden set": ["golden.npz: mean"]}


def test_a_wrong_mean_in_the_trained_network(built: Built) -> None:
    """The artifact states another normalization than the one that the input's range stands for."""
    body = built.certificate(qnet=dataclasses.replace(built.qnet, mean=[0.5, 0.5, 0.5]))
    assert [named(row) for row in body["failures"] if row["check"] == "normalisation"] == ["input"]


def test_a_wrong_mean_in_the_certificate(copy: Path) -> None:
    edit(copy, "certificate.json", lambda body: body["bound"]["input"].update(std=[0.5, 0.5, 0.5]))
    checks = found(copy)
    assert checks["normalisation"] == ["input"]
    assert checks["labels and golden set"] == ["golden.npz: std"]


def test_a_wrong_label_order(copy: Path) -> None:
    (copy / "labels.txt").write_text("cat\nhen\ndog\n")
    assert found(copy) == {"labels and golden set": ["labels.txt"]}
    said = next(check.found for check in verify(copy) if not check.passed)
    assert "another order from line 2 on" in said


def test_a_wrong_label_order_in_the_report(copy: Path) -> None:
    edit(copy, "report.json", lambda body: body["data"].update(classes=LABELS[::-1]))
    assert found(copy) == {"labels and golden set": ["report.json: data.classes"]}


def test_an_old_golden_set(built: Built, copy: Path) -> None:
    """A golden set of an earlier build of the same network: other images and answers."""
    from edgekd.tflite import runtime
    from tests.small_networks import PX, images

    inputs, labels = images(6, PX, seed=77)
    arrays = built.golden | {
        "inputs": inputs,
        "labels": labels,
        "logits_int8": runtime.run(built.lite.tflite, inputs),
    }
    (copy / "golden.npz").write_bytes(npz(arrays))
    assert "golden.npz: inputs" in found(copy)["labels and golden set"]
    assert any("a golden set of another build" in check.found for check in verify(copy))


def test_golden_labels_in_another_order(built: Built, copy: Path) -> None:
    (copy / "golden.npz").write_bytes(
        npz(built.golden | {"labels": (built.golden["labels"] + 1) % 3})
    )
    assert found(copy) == {"labels and golden set": ["golden.npz: labels"]}


def test_golden_answers_of_another_model(built: Built, copy: Path) -> None:
    (copy / "golden.npz").write_bytes(
        npz(built.golden | {"logits_int8": built.golden["logits_int8"][::-1]})
    )
    checks = found(copy)
    assert checks["golden answers"] == ["golden.npz: logits_int8"]
    assert checks["labels and golden set"] == ["golden.npz: logits_int8"]


def test_an_onnx_with_another_weight(built: Built, copy: Path) -> None:
    model = onnx.load_model_from_string(bytes(built.exported.qdq))
    weight = next(item for item in model.graph.initializer if item.name == "left.0.weight_int8")
    codes = onnx.numpy_helper.to_array(weight).copy()
    codes[1, 2, 0, 0] ^= 1
    weight.CopyFrom(onnx.numpy_helper.from_array(codes, weight.name))
    (copy / "model.onnx").write_bytes(model.SerializeToString())
    checks = found(copy)
    assert checks["hashes"] == ["model.onnx"]
    assert "left.0.weight" in checks["codes"]


def test_a_certificate_with_better_figures(copy: Path) -> None:
    edit(copy, "certificate.json", lambda body: body["ranges"].update(identical=999))
    assert found(copy) == {"ranges": ["certificate.json: ranges"]}


def test_a_certificate_of_another_model(built: Built, copy: Path) -> None:
    edit(copy, "certificate.json", lambda body: body.update(model_sha256="0" * 64))
    assert found(copy) == {"hashes": ["model.tflite"]}


@pytest.mark.parametrize("stage", ["student", "qat", "tflite"])
def test_a_stage_trained_badly(stage: str) -> None:
    """The first stage whose loss exceeds its budget is named, and not the stages after it."""
    from edgekd.evaluation import waterfall
    from edgekd.settings.recipe import BudgetConfig

    rng = np.random.default_rng(0)
    stages, labels = ["student", "qat", "onnx", "tflite"], rng.integers(0, 3, 400)
    if stage == "student":
        stages = ["teacher", *stages]
    good = np.eye(3, dtype=np.float32)[labels] * 4
    bad = good.copy()
    bad[rng.choice(400, 120, replace=False)] *= -1
    logits = np.stack(
        [good if number < stages.index(stage) else bad for number in range(len(stages))]
    )
    evaluation = Evaluation(
        stages=stages,
        classes=3,
        labels=labels.tolist(),
        logits=logits.astype(np.float32).tobytes(),
        codes=b"",
    )
    names = [f"{number}.png" for number in range(400)]
    images = waterfall.Images(names, LABELS, output_scale=0.05)
    assert waterfall.accuracy(evaluation, images, BudgetConfig()).verdict.stage == stage
