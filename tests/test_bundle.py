"""The bundle of a small real build: its files, and damage that verify finds."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekd.app import cli
from edgekd.bundle import (
    archive,
    assemble,
    hash_chain,
    model_forms,
    samples,
    verify_bundle,
)
from edgekd.core.artifacts import sha256
from edgekd.core.errors import ModelFileError
from edgekd.core.records import to_json
from edgekd.core.store import facts_json
from edgekd.data import images
from edgekd.tflite import model_metadata, ports
from tests.mediapipe_tasks import ask_mediapipe
from tests.small_bundle import SMALL, Files, body, reversed_labels


@pytest.fixture(scope="module")
def out(small_bundle: Path) -> Path:
    return small_bundle


@pytest.fixture(scope="module")
def files(out: Path) -> Files:
    return archive.read(out / "bundle")


def failed(files: Files) -> list[str]:
    return [check.check for check in verify_bundle.verify_files(files) if not check.passed]


def repaired(files: Files, deep: bool = False) -> Files:
    """What a careful forger does: the manifest fits again, and with `deep` the lineage's last link,
    too.
    """
    files = dict(files)
    if deep:
        chain = body(files, "lineage.json")
        last = chain["links"][-1]
        chain["links"][-1] = to_json(
            hash_chain.link(last["name"], hash_chain.contents(files), last["parents"])
        )
        chain["head"] = chain["links"][-1]["hash"]
        files["lineage.json"] = facts_json(chain)
    return {**files, "manifest.json": facts_json(to_json(assemble.manifest("x", files)))}


def test_folder_and_zip_hold_the_same_and_verify(out: Path, files: Files) -> None:
    assert archive.read(out / "bundle.zip") == files
    assert failed(files) == []
    for path in ("bundle", "bundle.zip"):
        assert cli.main(["verify", str(out / path), "--json"]) == 0
    assert repaired(files, deep=True).keys() == files.keys()
    assert failed(repaired(files, deep=True)) == []


def test_what_lies_in_it(out: Path, files: Files) -> None:
    assert {
        "model.tflite",
        "model_float_io.tflite",
        "model_float32.tflite",
        "labels.txt",
        "deployment.json",
        "confidence.json",
        "golden.npz",
        "golden/golden.json",
        "golden/pattern.png",
        "certificate.json",
        "report.json",
        "report.html",
        "lineage.json",
        "licences.json",
        "sbom.cdx.json",
        "README.md",
        "manifest.json",
        "samples/pi/classify.py",
        "samples/web/page.html",
    } <= files.keys()
    assert len(body(files, "golden/golden.json")["images"]) == 8
    told = json.loads((out / "report.json").read_text())["bundle"]
    assert told["sha256"] == body(files, "lineage.json")["head"]
    assert told["sha256"] in (out / "report.html").read_text()
    assert not [name for name in files if name.startswith(samples.FOLDER) and b"@@" in files[name]]
    study = body(files, "report.json")["medical"]  # the phantom counts as medical
    points = [point["threshold"] for row in study["findings"] for point in row["points"]]
    assert points
    assert all(f"| {point:.3f} |" in files["README.md"].decode() for point in points)
    use = files["README.md"].decode().partition("## Use")[2]
    named = re.findall(r"`(?:python3 )?([A-Za-z_0-9]+(?:/[A-Za-z_0-9]+)*\.[a-zA-Z_0-9]+)[ `]", use)
    assert {
        "samples/pi/classify.py",
        "samples/web/README.md",
        "deployment.json",
        "golden/pattern.png",
    } <= set(named)
    assert set(named) <= files.keys()  # the card sends nobody to a file that is not there


def test_its_report_shows_example_images(files: Files) -> None:
    assert files["report.html"].count(b'alt="Test image ') >= 1


def test_the_certificate_holds_for_the_file_with_metadata(out: Path, files: Files) -> None:
    certificate = body(files, "certificate.json")
    bare = (out / "model.tflite").read_bytes()
    assert certificate["passed"] is True
    assert certificate["model_sha256"] == sha256(files["model.tflite"])
    assert certificate["certified_sha256"] == sha256(bare)
    for name in model_forms.PORTS:
        assert ports.core(model_metadata.detach(files[name])) == bare
        answers = certificate["forms"][name]["answers"]
        assert (
            answers["identical"] == answers["images"] == body(files, "report.json")["data"]["test"]
        )


def test_metadata_say_what_an_app_needs(files: Files) -> None:
    found = model_metadata.metadata_of(files["model.tflite"])
    assert found is not None
    contract = body(files, "deployment.json")
    (source,) = found["subgraph_metadata"][0]["input_tensor_metadata"]
    stated = source["process_units"][0]["options"]["NormalizationOptions"]
    assert stated["mean"][0] == pytest.approx(contract["input"]["zero_point"])
    assert stated["std"][0] == pytest.approx(1 / contract["input"]["scale"], rel=1e-6)
    assert found["author"] == "A. N. Author"
    assert "unsure" in found["description"].lower()
    assert (
        "not for diagnosis" in found["description"].lower()
    )  # phantom images are chest radiographs
    inside = model_metadata.files_of(files["model.tflite"])
    assert inside["labels.txt"].decode().split("\n") == files["labels.txt"].decode().splitlines()
    assert json.loads(inside["deployment.json"])["confidence"] == contract["confidence"]


def test_mediapipe_agrees_on_every_golden_image(files: Files, tmp_path: Path) -> None:
    """Show: ImageClassifier loads model.tflite from the bundle alone; uint8 and float form."""
    golden, labels = body(files, "golden/golden.json"), files["labels.txt"].decode().splitlines()
    pictures = np.stack(
        [images.as_rgb(images.decode(files[row["file"]], row["file"])) for row in golden["images"]]
    )
    expected = []
    for row in golden["images"]:
        codes = np.asarray(row["codes_int8"])
        if (codes == codes.max()).sum() > 1:
            pytest.skip(
                "two outputs have the same code: which comes first is the consumer's choice"
            )
        expected.append((int(codes.argmax()), labels[int(codes.argmax())]))
    found = ask_mediapipe(pictures, {name: files[name] for name in model_forms.PORTS}, tmp_path)
    assert found == dict.fromkeys(model_forms.PORTS, expected)


def test_bench_takes_a_bundle(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", str(out / "bundle"), "--runs", "5", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["golden"]["argmax_agreement"] == 1.0
    assert told["golden"]["max_abs_lsb"] == 0


def test_two_builds_give_the_same_bytes(out: Path, tmp_path: Path) -> None:
    """From the cached stages on: another out folder, the same store."""
    assert cli.main([*SMALL, "--out", str(tmp_path / "again"), "--store", str(out / "store")]) == 0
    assert (tmp_path / "again" / "bundle.zip").read_bytes() == (out / "bundle.zip").read_bytes()


def test_a_non_commercial_part_taints_the_bundle(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through the whole build: papers, card and the model's own metadata say so; where use is
    commercial there is no bundle.
    """
    again = [*SMALL, "--store", str(out / "store"), "--set", "card.data_licence=CC BY-NC 4.0"]
    assert cli.main([*again, "--out", str(tmp_path / "any")]) == 0
    tainted = archive.read(tmp_path / "any" / "bundle")
    assert failed(tainted) == []
    (named,) = body(tainted, "licences.json")["tainted_by"]
    assert "phantom" in named
    assert "CC BY-NC 4.0" in named
    assert f"Tainted by {named.partition(':')[0]}" in tainted["README.md"].decode()
    assert (model_metadata.metadata_of(tainted["model.tflite"]) or {})["license"].startswith(
        "non-commercial"
    )
    assert "Non-commercial:" in (tmp_path / "any" / "report.html").read_text()
    assert (
        cli.main([*again, "--set", "card.use=commercial", "--out", str(tmp_path / "commercial")])
        == 1
    )
    assert "card.use is commercial" in capsys.readouterr().err
    assert not (tmp_path / "commercial" / "bundle.zip").exists()


def test_a_build_that_stops_early_leaves_no_bundle(out: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(out, tmp_path / "out"))
    assert cli.main([*SMALL, "--out", str(folder), "--until", "distil"]) == 0
    assert not (folder / "bundle.zip").exists()
    assert not list((folder / "bundle").rglob("*"))


# Damage -------------------------------------------------------------------------------------------


def flipped(data: bytes, place: int) -> bytes:
    broken = bytearray(data)
    broken[place] ^= 1
    return bytes(broken)


def edited(files: Files, name: str, *path: Any, value: Any) -> Files:
    """A JSON file with one value replaced."""
    whole = body(files, name)
    part = whole
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    return {**files, name: facts_json(whole)}


def other_metadata(files: Files, **changes: Any) -> bytes:
    model = files["model.tflite"]
    return model_metadata.attach(
        model,
        {**(model_metadata.metadata_of(model) or {}), **changes},
        model_metadata.files_of(model),
    )


def weight_changed(files: Files) -> bytes:
    """One weight code of the model another one, everything else written as it was."""
    from edgekd.tflite import flatbuffer

    model = files["model.tflite"]
    graph = flatbuffer.read(model_metadata.detach(model))
    tensor = next(tensor for tensor in graph.tensors if tensor.name.endswith(".weight"))
    data = bytearray(
        bytes(graph.model.buffers[graph.model.subgraphs[0].tensors[tensor.index].buffer].data)
    )
    data[3] ^= 1
    graph.model.buffers[graph.model.subgraphs[0].tensors[tensor.index].buffer].data = bytes(data)
    return model_metadata.attach(
        flatbuffer.write(graph.model),
        model_metadata.metadata_of(model) or {},
        model_metadata.files_of(model),
    )


def without(files: Files, name: str) -> Files:
    return {key: value for key, value in files.items() if key != name}


# name: what is done, and how carefully the forger covers it: not at all, the manifest, or the
# lineage, too
TAMPERED: dict[str, tuple[Callable[[Files], Files], str]] = {
    **{
        f"one byte of {name}": ((lambda f, n=name: {**f, n: flipped(f[n], len(f[n]) // 2)}), "not")
        for name in (
            "model.tflite",
            "model_float_io.tflite",
            "model_float32.tflite",
            "labels.txt",
            "deployment.json",
            "golden/000.png",
            "golden.npz",
            "certificate.json",
            "lineage.json",
            "licences.json",
            "sbom.cdx.json",
            "README.md",
            "report.html",
            "samples/pi/classify.py",
            "manifest.json",
        )
    },
    "a file is gone": (lambda f: without(f, "golden/003.png"), "not"),
    "a file too many": (lambda f: {**f, "samples/pi/extra.py": b"print()"}, "not"),
    "two files swapped": (
        lambda f: {
            **f,
            "golden/000.png": f["golden/001.png"],
            "golden/001.png": f["golden/000.png"],
        },
        "manifest",
    ),
    "forms swapped": (
        lambda f: {
            **f,
            "model.tflite": f["model_float_io.tflite"],
            "model_float_io.tflite": f["model.tflite"],
        },
        "lineage",
    ),
    "another file under the old name": (
        lambda f: {**f, "model_float32.tflite": f["model.tflite"]},
        "lineage",
    ),
    "a weight": (lambda f: {**f, "model.tflite": weight_changed(f)}, "lineage"),
    "a weight, and the certificate's hash": (
        lambda f: edited(
            edited(
                f | {"model.tflite": weight_changed(f)},
                "certificate.json",
                "model_sha256",
                value=sha256(weight_changed(f)),
            ),
            "certificate.json",
            "forms",
            "model.tflite",
            "sha256",
            value=sha256(weight_changed(f)),
        ),
        "lineage",
    ),
    "metadata's licence": (
        lambda f: {**f, "model.tflite": other_metadata(f, license="MIT")},
        "lineage",
    ),
    "metadata gone": (
        lambda f: {**f, "model.tflite": model_metadata.detach(f["model.tflite"])},
        "lineage",
    ),
    "labels": (lambda f: {**f, "labels.txt": reversed_labels(f)}, "lineage"),
    "a label": (
        lambda f: {**f, "labels.txt": f["labels.txt"].replace(b"normal", b"healthy")},
        "lineage",
    ),
    "temperature": (
        lambda f: edited(f, "deployment.json", "confidence", "temperature", value=9.0),
        "lineage",
    ),
    "mean": (
        lambda f: edited(f, "deployment.json", "input", "mean", value=[0.4, 0.4, 0.4]),
        "lineage",
    ),
    "channel order": (
        lambda f: edited(f, "deployment.json", "input", "order", value="BGR"),
        "lineage",
    ),
    "a golden answer": (
        lambda f: edited(f, "golden/golden.json", "images", 0, "codes_int8", 0, value=99),
        "lineage",
    ),
    "a failure hidden": (
        lambda f: edited(f, "certificate.json", "op_local", "max_lsb", value=0.5),
        "lineage",
    ),
    "coverage": (lambda f: edited(f, "confidence.json", "test", "coverage", value=0.99), "lineage"),
    "a stage's digest": (
        lambda f: edited(f, "lineage.json", "links", 1, "digest", value="0" * 64),
        "lineage",
    ),
    "a sample": (
        lambda f: {
            **f,
            "samples/pi/classify.py": f["samples/pi/classify.py"].replace(
                b"raise Refused", b"print"
            ),
        },
        "lineage",
    ),
    "the bill of materials": (
        lambda f: edited(
            f, "sbom.cdx.json", "components", -1, "hashes", 0, "content", value="0" * 64
        ),
        "lineage",
    ),
}


@pytest.mark.parametrize("damage", TAMPERED)
def test_tampering_is_found(files: Files, damage: str) -> None:
    change, cover = TAMPERED[damage]
    changed = change(files)
    assert changed != files
    covered = changed if cover == "not" else repaired(changed, deep=cover == "lineage")
    assert failed(covered)


def test_a_bundle_with_the_old_name_alone_verifies(files: Files) -> None:
    """As version 0.1 wrote it: the certificate and the bill of materials name no other."""
    new, old = model_forms.FLOAT_IO, model_forms.OLD_FLOAT_IO
    certificate, bill = body(files, "certificate.json"), body(files, "sbom.cdx.json")
    certificate["forms"][old] = certificate["forms"].pop(new)
    sealed = facts_json(certificate)
    bill["components"] = [row for row in bill["components"] if row["name"] != new]
    for row in bill["components"]:
        if row["name"] == "certificate.json":
            row["hashes"][0]["content"] = sha256(sealed)
    before = {**without(files, new), "certificate.json": sealed, "sbom.cdx.json": facts_json(bill)}
    assert failed(repaired(before, deep=True)) == []


def test_there_are_thirty_of_them() -> None:
    assert len(TAMPERED) >= 30


def test_a_zip_cut_short_is_refused(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = (out / "bundle.zip").read_bytes()
    for share in (0.1, 0.5, 0.999):
        (tmp_path / "cut.zip").write_bytes(data[: int(len(data) * share)])
        assert cli.main(["verify", str(tmp_path / "cut.zip")]) == 2
        assert "next:" in capsys.readouterr().err


def test_random_bytes_of_the_zip(out: Path) -> None:
    """60 places in the zip changed by one bit: it is refused, or a check fails, or what it unpacks
    to is unharmed.
    """
    data, moments = (out / "bundle.zip").read_bytes(), random.Random(1)
    whole = archive.unpack(data, "x.zip")
    for _ in range(60):
        try:
            found = archive.unpack(flipped(data, moments.randrange(len(data))), "x.zip")
        except ModelFileError:
            continue
        assert found == whole or "manifest" in failed(found)
