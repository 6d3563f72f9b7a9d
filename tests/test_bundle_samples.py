"""The samples of a small real bundle: they run, and refuse what they should."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from edgekd.bundle import (
    archive,
    bundle_files,
    golden_set,
    model_forms,
    samples,
)
from edgekd.bundle.deployment_record import Deployment, Golden
from edgekd.data import images
from edgekd.device import emulate
from edgekd.tflite import ports
from tests.conftest import SHARED
from tests.small_bundle import Files, body, changed_bundle


@pytest.fixture(scope="module")
def out(small_bundle: Path) -> Path:
    return small_bundle


@pytest.fixture(scope="module")
def files(out: Path) -> Files:
    return archive.read(out / "bundle")


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
        "{px: c.px, fit: c.mode});\n"
        "  if (found.data.some((v, i) => v !== c.expected[i]) || found.data.length "
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


TOLD = """
#include <cstdio>
#include "contract.h"
int main(int, char** argv) {
  const edgekd::Contract contract(argv[1]);
  const edgekd::Json golden = edgekd::ReadJson(std::string(argv[1]) + "/golden/golden.json");
  for (const edgekd::Json& row : golden["images"].items) {
    std::vector<uint8_t> codes;
    for (double code : row["codes_uint8"].Numbers()) codes.push_back(static_cast<uint8_t>(code));
    const edgekd::Answer answer = contract.Told(codes);
    std::printf("%s %d", contract.labels[answer.label].c_str(), answer.unsure());
    for (int k : answer.set) std::printf(" %s", contract.labels[k].c_str());
    std::printf("\\n");
  }
}
"""


def test_the_cpp_sample_compiles_and_decides_alike(out: Path, files: Files, tmp_path: Path) -> None:
    """Against the C API's declarations; its meaning of the golden codes is compared with the stored
    one.
    """
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler is installed")
    header = tmp_path / "tensorflow/lite/c/c_api.h"
    header.parent.mkdir(parents=True)
    header.write_text(C_API)
    sample = out / "bundle/samples/cpp"
    flags = [compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{tmp_path}", f"-I{sample}"]
    subprocess.run([*flags, "-fsyntax-only", str(sample / "classify.cc")], check=True)
    (tmp_path / "told.cc").write_text(TOLD)
    subprocess.run([*flags, str(tmp_path / "told.cc"), "-o", str(tmp_path / "told")], check=True)
    said = subprocess.run(
        [str(tmp_path / "told"), str(out / "bundle")], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert said == [
        " ".join([row["answer"], str(int(row["unsure"])), *row["set"]])
        for row in body(files, "golden/golden.json")["images"]
    ]


def test_identifiers() -> None:
    assert samples.identifier("MobileNet V2 (48 px)") == "mobilenet_v2_48_px"
    assert samples.identifier("3d") == "model_3d"
