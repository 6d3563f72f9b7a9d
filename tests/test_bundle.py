"""The bundle of a small real build: verify finds damage, equal builds give equal bytes, and the Pi
and web samples run.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from edgekd.app import cli
from edgekd.bundle import (
    archive,
    assemble,
    bundle_files,
    golden_set,
    hash_chain,
    model_forms,
    samples,
    verify_bundle,
)
from edgekd.bundle.deployment_record import Deployment, Golden
from edgekd.core.artifacts import sha256
from edgekd.core.errors import ModelFileError
from edgekd.core.records import to_json
from edgekd.core.store import facts_json
from edgekd.data import images
from edgekd.device import emulate
from edgekd.tflite import model_metadata, ports
from tests.conftest import SHARED
from tests.mediapipe_tasks import ask_mediapipe

Files = dict[str, bytes]
SMALL = [
    "build",
    "--profile",
    "pi4",
    "--data",
    "phantom:120@40",
    "--teacher",
    "none",
    "--student",
    "mobilenetv2_035",
    *(
        part
        for text in (
            "data.input_px=32",
            "distil.epochs=2",
            "qat.epochs=1",
            "views.per_image=2",
            "bench.runs=5",
            "bench.min_seconds=0.05",
            "data.golden=8",
            "data.calibration=32",
            "certify.max_drop=1",
            "certify.min_agreement=0",
            "card.author=A. N. Author",
        )
        for part in ("--set", text)
    ),
]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "out"
    assert cli.main([*SMALL, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def files(out: Path) -> Files:
    return archive.read(out / "bundle")


def failed(files: Files) -> list[str]:
    return [check.check for check in verify_bundle.verify_files(files) if not check.passed]


def body(files: Files, name: str) -> dict[str, Any]:
    return json.loads(files[name])


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


def reversed_labels(files: Files) -> bytes:
    return b"".join(reversed(files["labels.txt"].splitlines(keepends=True)))


def without(files: Files, name: str) -> Files:
    return {key: value for key, value in files.items() if key != name}


# name: what is done, and how carefully the forger covers it: not at all, the manifest, or the
# lineage, too
TAMPERED: dict[str, tuple[Callable[[Files], Files], str]] = {
    **{
        f"one byte of {name}": ((lambda f, n=name: {**f, n: flipped(f[n], len(f[n]) // 2)}), "not")
        for name in (
            "model.tflite",
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
            "model.tflite": f["model_float32.tflite"],
            "model_float32.tflite": f["model.tflite"],
        },
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


# Samples ------------------------------------------------------------------------------------------


def changed_bundle(out: Path, folder: Path, change: str) -> Path:
    """A copy of the bundle with one thing changed, as a user's mistake would."""
    copy = Path(shutil.copytree(out / "bundle", folder / "copy"))
    contract = json.loads((copy / "deployment.json").read_text())
    if change == "mean":
        contract["input"]["mean"] = [0.485, 0.456, 0.406]
    elif change == "order":
        contract["input"]["order"] = "BGR"
    elif change == "labels":
        (copy / "labels.txt").write_bytes(reversed_labels(archive.read(copy)))
    elif change == "fit":
        contract["input"]["fit"] = "crop"
    (copy / "deployment.json").write_text(json.dumps(contract))
    return copy


def pi(
    bundle_folder: Path, *arguments: str, python: str = sys.executable
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, str(bundle_folder / "samples/pi/classify.py"), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_pi_sample_runs_on_the_emulated_pi(out: Path, tmp_path: Path) -> None:
    """Show: Arm's Python, runtime, numpy and Pillow under qemu; it passes its self-test there, and
    refuses as here.
    """
    emulated = emulate.default_folder() / "python"
    if not emulated.is_file():
        pytest.skip(
            f"{emulated} does not exist: python tools/pi_emulator.py sets the emulated Pi up"
        )
    if subprocess.run(
        [str(emulated), "-c", "import PIL"], capture_output=True, check=False
    ).returncode:
        pytest.skip(
            f"{emulated} has no Pillow, which an older set-up left out: run python "
            "tools/pi_emulator.py again"
        )
    picture = out / "bundle" / "golden" / "000.png"
    there, here = (
        pi(out / "bundle", str(picture), python=python)
        for python in (str(emulated), sys.executable)
    )
    assert there.returncode == 0, there.stderr
    assert "self-test passed on 9 images" in there.stderr
    told = [
        {key: value for key, value in json.loads(ran.stdout).items() if key != "ms"}
        for ran in (there, here)
    ]
    assert told[0] == told[1]
    assert (
        pi(changed_bundle(out, tmp_path, "mean"), "--self-test", python=str(emulated)).returncode
        == 3
    )


def test_the_pi_sample_answers_as_the_host(out: Path, files: Files) -> None:
    rows = body(files, "golden/golden.json")["images"]
    ran = pi(out / "bundle", *(str(out / "bundle" / row["file"]) for row in rows))
    assert ran.returncode == 0, ran.stderr
    told = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [(row["answer"], row["unsure"], row["set"]) for row in told] == [
        (row["answer"], row["unsure"], row["set"]) for row in rows
    ]
    assert all(sum(row["scores"].values()) == pytest.approx(1, abs=1e-4) for row in told)


@pytest.mark.parametrize("change", ["mean", "order", "labels", "fit"])
def test_the_pi_sample_refuses(out: Path, tmp_path: Path, change: str) -> None:
    ran = pi(changed_bundle(out, tmp_path, change), "--self-test")
    assert ran.returncode == 3
    assert "refused: self-test" in ran.stderr


def test_the_pi_sample_takes_bad_files(out: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff not a jpeg")
    ran = pi(out / "bundle", str(tmp_path / "bad.jpg"), str(tmp_path / "missing.png"))
    assert ran.returncode == 0
    assert all("error" in json.loads(line) for line in ran.stdout.splitlines())


def test_the_host_self_test_refuses_too(files: Files) -> None:
    contract = bundle_files.read_record(files, "deployment.json", Deployment)
    golden = bundle_files.read_record(files, "golden/golden.json", Golden)
    labels = files["labels.txt"].decode().splitlines()
    assert golden_set.self_test(contract, golden, labels, files["model.tflite"], files) == []
    turned = structs.replace(contract, input=structs.replace(contract.input, order="BGR"))
    assert golden_set.self_test(turned, golden, labels, files["model.tflite"], files)


NODE = shutil.which("node")
CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_the_web_sample_resizes_as_pillow(tmp_path: Path) -> None:
    """edgekd.js against images.fit: every mode, shrinking and growing, bit for bit."""
    source = Path(samples.__file__).with_name("templates") / "samples/web/edgekd.js"
    shutil.copy(source, tmp_path / "edgekd.mjs")
    rng = np.random.default_rng(0)
    cases = []
    for _ in range(60):
        height, width, px = (int(v) for v in rng.integers(5, 150, 3))
        mode = images.FIT_MODES[int(rng.integers(3))]
        picture = rng.integers(0, 256, (height, width, 3), np.uint8)
        cases.append(
            {
                "width": width,
                "height": height,
                "px": px,
                "mode": mode,
                "data": picture.ravel().tolist(),
                "expected": images.fit(picture, px, mode).ravel().tolist(),
            }
        )
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    (tmp_path / "run.mjs").write_text(
        "import {fit} from './edgekd.mjs'; import {readFileSync} from 'node:fs';\n"
        "let wrong = 0;\n"
        "for (const c of JSON.parse(readFileSync('cases.json'))) {\n"
        "  const found = fit({width: c.width, height: c.height, data: Uint8Array.from(c.data)}, "
        "c.px, c.mode);\n  if (found.data.some((v, i) => v !== c.expected[i]) || found.data.length "
        "!== c.expected.length) {\n    wrong++; console.error(c.mode, c.width, c.height, c.px); }\n"
        "}\nconsole.log(wrong);"
    )
    ran = subprocess.run(
        [NODE or "", "run.mjs"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "0", ran.stderr


def packed_page(bundle_folder: Path, folder: Path) -> Path:
    """The web sample packed with LiteRT.js from EDGEKD_NODE_MODULES (what `npm install` in
    samples/web makes).
    """
    modules = os.environ.get("EDGEKD_NODE_MODULES")
    if not (NODE and modules and Path(modules, "@litertjs/core").is_dir()):
        pytest.skip(
            "EDGEKD_NODE_MODULES names no folder with @litertjs/core: `npm install` in samples/web "
            "makes one"
        )
    work = Path(shutil.copytree(bundle_folder / "samples/web", folder / "web"))
    (work / "node_modules").symlink_to(modules)
    subprocess.run(
        [NODE, "pack.mjs", str(folder / "page.html"), str(bundle_folder)],
        cwd=work,
        check=True,
        capture_output=True,
    )
    return folder / "page.html"


def in_chromium(page: Path, *pictures: Path) -> tuple[str, list[list[int]]]:
    """(what the page says of itself, the codes it gives for each picture), offline, from a
    folder.
    """
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_context(offline=True).new_page()
        wrong: list[str] = []
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.goto(page.as_uri())
        tab.wait_for_selector("#state:not([data-state=loading])", timeout=120_000)
        codes = []
        for picture in pictures:
            tab.set_input_files("#file", str(picture))
            tab.wait_for_selector(f"#name:text-is('{picture.name}')", timeout=30_000)
            codes.append(json.loads(tab.get_attribute("#result", "data-codes")))
        said = tab.get_attribute("#state", "data-state")
        browser.close()
        assert wrong == []
        return said, codes


def test_the_web_page_gives_the_hosts_scores(out: Path, files: Files, tmp_path: Path) -> None:
    """Golden self-test, then X-rays (where they are) and golden images dropped: within 1 LSB of the
    host.
    """
    page = packed_page(out / "bundle", tmp_path)
    folder = SHARED / "data" / "chest-xray" / "test" / "PNEUMONIA"
    pictures = sorted(folder.glob("*.jpeg"))[:5] if folder.is_dir() else []
    pictures += [
        out / "bundle" / row["file"] for row in body(files, "golden/golden.json")["images"][:3]
    ]
    state, codes = in_chromium(page, *pictures)
    assert state == "ready"
    source = body(files, "deployment.json")["input"]
    for picture, found in zip(pictures, codes, strict=True):
        pixels = images.fit(
            images.as_rgb(images.decode(picture.read_bytes(), picture.name)),
            source["px"],
            source["fit"],
        )
        contract = bundle_files.read_record(files, "deployment.json", Deployment)
        expected = model_forms.answers(files["model.tflite"], pixels[None], contract)[0]
        assert np.abs(np.asarray(found) - ports.SHIFT - expected).max() <= 1


@pytest.mark.parametrize("change", ["mean", "order", "labels"])
def test_the_web_page_refuses(out: Path, tmp_path: Path, change: str) -> None:
    state, _ = in_chromium(packed_page(changed_bundle(out, tmp_path, change), tmp_path))
    assert state == "refused"


STUBS = Path(__file__).with_name("stubs")


def kotlin(folder: Path, sources: list[Path]) -> tuple[list[str], Path]:
    """Compile with the compiler that EDGEKD_KOTLIN names (its lib folder). Returns (java command
    line, the jar).
    """
    lib = Path(os.environ.get("EDGEKD_KOTLIN", "nowhere"))
    java = shutil.which("java")
    if java is None or not (lib / "kotlin-compiler.jar").is_file():
        pytest.skip(
            "EDGEKD_KOTLIN names no folder with kotlin-compiler.jar (npm's kotlin-compiler has "
            "one), or no Java here"
        )
    parts = [
        "kotlin-compiler.jar",
        "kotlin-stdlib.jar",
        "kotlin-script-runtime.jar",
        "kotlin-reflect.jar",
        "kotlinx-coroutines-core-jvm.jar",
        *(path.name for path in lib.glob("*trove4j*")),
        *(path.name for path in lib.glob("annotations*")),
    ]
    jar = folder / "sample.jar"
    ran = subprocess.run(
        [
            java,
            "-cp",
            ":".join(str(lib / part) for part in parts),
            "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler",
            "-no-stdlib",
            "-no-reflect",
            "-Werror",
            "-cp",
            str(lib / "kotlin-stdlib.jar"),
            "-d",
            str(jar),
            *map(str, sources),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return [java, "-cp", f"{jar}:{lib / 'kotlin-stdlib.jar'}"], jar


def test_the_android_sample_compiles_and_its_self_test_runs(
    out: Path, files: Files, tmp_path: Path
) -> None:
    """All of it against stubs of Android and LiteRT; what needs neither runs on the JVM and refuses
    what it should.
    """
    java, _ = kotlin(
        tmp_path,
        [*sorted((out / "bundle/samples/android").rglob("*.kt")), *sorted(STUBS.glob("*.kt"))],
    )
    contract, golden = body(files, "deployment.json"), body(files, "golden/golden.json")
    lines = []
    for row in [*golden["images"], golden["pattern"]]:
        pixels = images.fit(
            images.as_rgb(images.decode(files[row["file"]], row["file"])),
            contract["input"]["px"],
            contract["input"]["fit"],
        )
        lines.append(f"{pixels.tobytes().hex()} {','.join(map(str, row['codes_uint8']))}")
    (tmp_path / "answers.txt").write_text("\n".join(lines))

    def said(folder: Path) -> str:
        return subprocess.run(
            [*java, "edgekd.sample.SelfTestRunnerKt", str(folder), str(tmp_path / "answers.txt")],
            capture_output=True,
            text=True,
            check=False,
        ).stdout

    assert said(out / "bundle") == f"passed {len(lines)}\n"
    for change in ("mean", "order", "labels", "fit"):
        (tmp_path / change).mkdir()
        assert said(changed_bundle(out, tmp_path / change, change)).startswith("refused"), change


C_API = """
#include <cstddef>
#include <cstdint>
extern "C" {
typedef struct TfLiteModel TfLiteModel; typedef struct TfLiteInterpreter TfLiteInterpreter;
typedef struct TfLiteTensor TfLiteTensor;
typedef struct TfLiteInterpreterOptions TfLiteInterpreterOptions;
typedef enum { kTfLiteOk = 0 } TfLiteStatus; typedef enum { kTfLiteUInt8 = 3 } TfLiteType;
typedef struct { float scale; int32_t zero_point; } TfLiteQuantizationParams;
TfLiteModel* TfLiteModelCreateFromFile(const char*); void TfLiteModelDelete(TfLiteModel*);
TfLiteInterpreter* TfLiteInterpreterCreate(const TfLiteModel*, const TfLiteInterpreterOptions*);
void TfLiteInterpreterDelete(TfLiteInterpreter*);
TfLiteStatus TfLiteInterpreterAllocateTensors(TfLiteInterpreter*);
TfLiteTensor* TfLiteInterpreterGetInputTensor(const TfLiteInterpreter*, int32_t);
const TfLiteTensor* TfLiteInterpreterGetOutputTensor(const TfLiteInterpreter*, int32_t);
TfLiteStatus TfLiteInterpreterInvoke(TfLiteInterpreter*);
TfLiteType TfLiteTensorType(const TfLiteTensor*);
size_t TfLiteTensorByteSize(const TfLiteTensor*);
TfLiteStatus TfLiteTensorCopyFromBuffer(TfLiteTensor*, const void*, size_t);
TfLiteStatus TfLiteTensorCopyToBuffer(const TfLiteTensor*, void*, size_t);
TfLiteQuantizationParams TfLiteTensorQuantizationParams(const TfLiteTensor*);
}
"""


def test_the_cpp_snippet_compiles_and_decides_alike(files: Files, tmp_path: Path) -> None:
    """Against the C API's declarations; its meaning of the golden codes is compared with the stored
    one.
    """
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler is installed")
    header = tmp_path / "tensorflow/lite/c/c_api.h"
    header.parent.mkdir(parents=True)
    header.write_text(C_API)
    source = files["samples/cpp/classify.cc"].decode()
    (tmp_path / "classify.cc").write_text(source)
    flags = [compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{tmp_path}"]
    subprocess.run(
        [*flags, "-c", str(tmp_path / "classify.cc"), "-o", str(tmp_path / "whole.o")], check=True
    )
    rows, output = (
        body(files, "golden/golden.json")["images"],
        body(files, "deployment.json")["output"],
    )
    calls = "".join(
        f"  show(Told({{{','.join(map(str, row['codes_uint8']))}}}, {output['scale']!r}, "
        f"{output['zero_point']}));\n"
        for row in rows
    )
    told = source.split("class Classifier")[0] + (
        'void show(const Answer& a) { std::printf("%d %d", a.label, a.unsure()); '
        "for (int k : a.set) "
        'std::printf(" %d", k); std::printf("\\n"); }\n}\n'
        f"int main() {{ using namespace edgekd;\n{calls}}}\n"
    )
    (tmp_path / "told.cc").write_text(told)
    subprocess.run([*flags, str(tmp_path / "told.cc"), "-o", str(tmp_path / "told")], check=True)
    said = subprocess.run(
        [str(tmp_path / "told")], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    labels = files["labels.txt"].decode().splitlines()
    assert said == [
        " ".join(
            map(
                str,
                [labels.index(row["answer"]), int(row["unsure"]), *map(labels.index, row["set"])],
            )
        )
        for row in rows
    ]


def test_identifiers() -> None:
    assert samples.identifier("MobileNet V2 (48 px)") == "mobilenet_v2_48_px"
    assert samples.identifier("3d") == "model_3d"
