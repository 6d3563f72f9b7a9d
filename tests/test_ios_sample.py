"""The iOS sample, as far as a Swift compiler on Linux goes: the core runs, the app is type-checked
against stubs of its frameworks, and the other files are parsed.

They need `swiftc`. EDGEKD_SWIFT may name a program that runs its arguments where Swift is
installed and the temporary folder is seen: a container, or a chroot with Debian 13's packages
swiftlang and libc6-dev.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from edgekd.bundle import archive
from edgekd.data import images
from tests.small_bundle import body, changed_bundle

STUBS = Path(__file__).with_name("stubs") / "ios"
# In an order in which each needs only those before it.
FRAMEWORKS = (
    "CoreGraphics",
    "ImageIO",
    "CoreVideo",
    "AVFoundation",
    "SwiftUI",
    "TensorFlowLite",
)
LANGUAGE = ("-swift-version", "5")
SWIFT = [os.environ["EDGEKD_SWIFT"]] if "EDGEKD_SWIFT" in os.environ else []
needs_swift = pytest.mark.skipif(
    not SWIFT and shutil.which("swiftc") is None,
    reason="no Swift compiler is installed, and EDGEKD_SWIFT names no program that has one",
)


def ran(*command: str | Path) -> str:
    """What a command prints where Swift is. Fails the test when the command fails."""
    done = subprocess.run([*SWIFT, *map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def sample(small_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle's iOS sample, copied to where EDGEKD_SWIFT sees it."""
    folder = tmp_path_factory.mktemp("ios")
    return Path(shutil.copytree(small_bundle / "bundle/samples/ios", folder / "ios"))


def decoded(bundle: Path) -> Path:
    """The bundle with its golden PNG files as PPM, which the runner of the tests can read."""
    for path in bundle.glob("golden/*.png"):
        pixels = images.as_rgb(images.decode(path.read_bytes(), path.name))
        height, width, _ = pixels.shape
        path.write_bytes(b"P6\n%d %d\n255\n" % (width, height) + pixels.tobytes())
    return bundle


def with_float_file(bundle: Path, rows: list[dict[str, list[int]]]) -> None:
    """Let the bundle state a float16 file whose answers are those of the int8 file."""
    name = "formats/model_float16.tflite"
    contract = json.loads((bundle / "deployment.json").read_text())
    side = {"dtype": "float32"}
    sides = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "layout": "NHWC"}
    row = {"format": "float16", "file": name, "input": side, "output": side, **sides}
    (bundle / "deployment.json").write_text(json.dumps({**contract, "formats": [row]}))
    output = contract["output"]
    reals = [
        [output["scale"] * (code - output["zero_point"]) for code in row["codes_uint8"]]
        for row in rows
    ]
    answers = {"images": len(rows), "tolerance": 0.05, "answers": {name: reals}}
    (bundle / "golden/formats.json").write_text(json.dumps(answers))


@needs_swift
def test_the_core_runs_its_self_test(small_bundle: Path, sample: Path, tmp_path: Path) -> None:
    """On the CPU within one step, on an accelerator within its share; changed bundles are refused
    and every vector passes.
    """
    core = sorted((sample / "Sources/Core").glob("*.swift"))
    program = sample / "self_test"
    ran(
        "swiftc",
        "-warnings-as-errors",
        "-parse-as-library",
        *core,
        shutil.copy(STUBS / "SelfTestRunner.swift", sample),
        "-o",
        program,
    )
    files = archive.read(small_bundle / "bundle")
    contract, golden = body(files, "deployment.json"), body(files, "golden/golden.json")
    rows = [*golden["images"], golden["pattern"]]
    lines = []
    for row in rows:
        pixels = images.as_rgb(images.decode(files[row["file"]], row["file"]))
        fitted = images.fit(pixels, contract["input"]["px"], contract["input"]["fit"])
        codes = ",".join(map(str, row["codes_uint8"]))
        lines.append(f"{base64.b64encode(fitted.tobytes()).decode()} {codes}")
    answers = tmp_path / "answers.txt"
    answers.write_text("\n".join(lines))

    def said(bundle: Path, accelerator: str = "CPU", steps: int = 0) -> str:
        return ran(program, bundle, answers, accelerator, str(steps)).strip()

    right = decoded(Path(shutil.copytree(small_bundle / "bundle", tmp_path / "right")))
    passed = f"passed {len(rows)} {len(body(files, 'samples/preprocess_vectors.json')['vectors'])}"
    assert said(right) == said(right, "Metal") == said(right, steps=1) == passed
    assert said(right, steps=2).startswith("refused golden/000.png: an output is off by")
    spreads = [max(row["codes_uint8"]) - min(row["codes_uint8"]) for row in rows]
    share = golden["accelerator_tolerance"]
    assert said(right, "Metal", max(1, int(share * min(spreads)))) == passed
    assert said(right, "Metal", int(share * max(spreads)) + 2).startswith("refused")
    with_float_file(right, golden["images"])
    assert said(right, "Core ML") == passed.replace(f" {len(rows)} ", f" {len(rows) - 1} ")
    assert said(right, "Core ML", int(share * max(spreads)) + 2).startswith("refused")
    for change in ("mean", "order", "labels", "fit"):
        (tmp_path / change).mkdir()
        wrong = decoded(changed_bundle(small_bundle, tmp_path / change, change))
        assert said(wrong).startswith("refused"), change


@needs_swift
def test_the_app_fits_the_types_of_its_frameworks(sample: Path, tmp_path: Path) -> None:
    """Against signatures of Apple's frameworks and of TensorFlowLiteSwift, which cannot be had on
    Linux.
    """
    for module in FRAMEWORKS:
        stub = shutil.copy(STUBS / f"{module}.swift", tmp_path)
        target = tmp_path / f"{module}.swiftmodule"
        flags = ["-emit-module", "-module-name", module, "-I", tmp_path, "-o", target]
        ran("swiftc", *flags, *LANGUAGE, stub)
    app = [*sorted((sample / "Sources/Core").glob("*.swift")), *(sample / "App").glob("*.swift")]
    flags = ["-typecheck", "-parse-as-library", "-warnings-as-errors", "-I", tmp_path]
    ran("swiftc", *flags, *LANGUAGE, *app)


@needs_swift
def test_every_swift_file_parses(sample: Path) -> None:
    files = sorted(sample.rglob("*.swift"))
    assert len(files) >= 10
    ran("swiftc", "-frontend", "-parse", *(path for path in files if path.name != "main.swift"))
    ran("swiftc", "-frontend", "-parse", sample / "Sources/CheckVectors/main.swift")


def test_the_project_copies_what_the_app_reads(small_bundle: Path, sample: Path) -> None:
    """copy_bundle.sh: every file that Classifier opens lies in the app's folder `bundle`."""
    shutil.copytree(small_bundle / "bundle", sample.parent / "whole", dirs_exist_ok=True)
    script = sample.parent / "whole/samples/ios/copy_bundle.sh"
    subprocess.run(["sh", str(script)], check=True)
    made = script.parent / "bundle"
    contract = json.loads((made / "deployment.json").read_text())
    golden = json.loads((made / "golden/golden.json").read_text())
    wanted = [contract["model"], contract["labels"], "samples/preprocess_vectors.json"]
    wanted += [row["file"] for row in [*golden["images"], golden["pattern"]]]
    assert [name for name in wanted if not (made / name).is_file()] == []
