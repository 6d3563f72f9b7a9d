"""The Android sample, as far as a Kotlin compiler and a JVM go.

All sources compile against stubs of Android, CameraX and LiteRT, and what needs none of them runs.
Two tests need Java, and the folder of kotlin-compiler.jar in EDGEKD_KOTLIN (npm's kotlin-compiler
has one in its folder lib).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edgekd.bundle import archive
from edgekd.data import images
from tests.small_bundle import body, changed_bundle

STUBS = Path(__file__).with_name("stubs")
LIB = Path(os.environ.get("EDGEKD_KOTLIN", "nowhere"))
JAVA = shutil.which("java")
needs_kotlin = pytest.mark.skipif(
    JAVA is None or not (LIB / "kotlin-compiler.jar").is_file(),
    reason="EDGEKD_KOTLIN names no folder with kotlin-compiler.jar, or Java is not installed",
)


def compiled(jar: Path, sources: list[Path]) -> list[str]:
    """Compile Kotlin sources. Returns the start of a Java command line that runs the jar."""
    parts = [
        *(
            LIB / f"kotlin-{name}.jar"
            for name in ("compiler", "stdlib", "script-runtime", "reflect")
        ),
        LIB / "kotlinx-coroutines-core-jvm.jar",
        *LIB.glob("*trove4j*"),
        *LIB.glob("annotations*"),
    ]
    ran = subprocess.run(
        [
            str(JAVA),
            "-XX:TieredStopAtLevel=1",  # half the time, as the compiler runs once
            "-cp",
            ":".join(map(str, parts)),
            "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler",
            "-no-stdlib",
            "-no-reflect",
            "-Werror",
            "-cp",
            str(LIB / "kotlin-stdlib.jar"),
            "-d",
            str(jar),
            *map(str, sources),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return [str(JAVA), "-cp", f"{jar}:{LIB / 'kotlin-stdlib.jar'}"]


def sources(bundle: Path, *parts: str) -> list[Path]:
    """The Kotlin files of some source sets of the app."""
    app = bundle / "samples/android/app/src"
    return [path for part in parts for path in sorted((app / part).rglob("*.kt"))]


@needs_kotlin
def test_the_sample_compiles_and_its_self_test_runs(small_bundle: Path, tmp_path: Path) -> None:
    """On the CPU within one step, on an accelerator within its share; changed bundles are refused,
    and every vector passes.
    """
    bundle = small_bundle / "bundle"
    whole = [*sources(bundle, "main", "compiled", "androidTest"), *sorted(STUBS.glob("*.kt"))]
    java = compiled(tmp_path / "sample.jar", whole)
    files = archive.read(bundle)
    contract, golden = body(files, "deployment.json"), body(files, "golden/golden.json")
    rows = [*golden["images"], golden["pattern"]]
    lines = []
    for row in rows:
        pixels = images.as_rgb(images.decode(files[row["file"]], row["file"]))
        fitted = images.fit(pixels, contract["input"]["px"], contract["input"]["fit"])
        lines.append(f"{fitted.tobytes().hex()} {','.join(map(str, row['codes_uint8']))}")
    (tmp_path / "answers.txt").write_text("\n".join(lines))

    def said(folder: Path, kind: str = "exact", steps: int = 0) -> str:
        answers = str(tmp_path / "answers.txt")
        return subprocess.run(
            [*java, "edgekd.sample.SelfTestRunnerKt", str(folder), answers, kind, str(steps)],
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()

    vectors = len(body(files, "samples/preprocess_vectors.json")["vectors"])
    assert said(bundle) == said(bundle, steps=1) == f"passed {len(rows)} {vectors}"
    assert said(bundle, steps=2).startswith("refused golden/000.png: the output differs by 2 LSB")
    spreads = [max(row["codes_uint8"]) - min(row["codes_uint8"]) for row in rows]
    share = golden["accelerator_tolerance"]
    near = max(1, int(share * min(spreads)))
    assert said(bundle, "near", near) == f"passed {len(rows)} {vectors}"
    assert said(bundle, "near", int(share * max(spreads)) + 2).startswith("refused")
    for change in ("mean", "order", "labels", "fit"):
        (tmp_path / change).mkdir()
        folder = changed_bundle(small_bundle, tmp_path / change, change)
        assert said(folder).startswith("refused"), change


@needs_kotlin
def test_the_variant_of_litert_1_compiles(small_bundle: Path, tmp_path: Path) -> None:
    main = sources(small_bundle / "bundle", "main")
    needed = [path for path in main if path.name in ("Contract.kt", "Runner.kt")]
    stubs = [STUBS / name for name in ("android_content.kt", "android_rest.kt", "json.kt")]
    whole = [*needed, *sources(small_bundle / "bundle", "interpreter"), *stubs, STUBS / "litert.kt"]
    compiled(tmp_path / "interpreter.jar", whole)


def test_the_assets_are_what_the_app_reads(small_bundle: Path) -> None:
    """build.gradle.kts copies every file that the app opens by its name."""
    bundle = small_bundle / "bundle"
    gradle = (bundle / "samples/android/app/build.gradle.kts").read_text()
    copied = " ".join(re.findall(r"include\((.*)\)", gradle))
    opened = {
        name
        for path in sources(bundle, "main", "compiled", "interpreter", "androidTest")
        for name in re.findall(r'text\("([^"]+)"\)', path.read_text())
    }
    assert opened == {
        "deployment.json",
        "labels.txt",
        "golden/golden.json",
        "samples/preprocess_vectors.json",
    }
    missing = [name for name in opened if name not in copied and not name.startswith("golden/")]
    assert missing == []
    assert '"golden/**"' in copied
    assert '"model.tflite"' in copied


def test_the_wrapper_names_a_checksum_and_no_binary(small_bundle: Path) -> None:
    folder = small_bundle / "bundle/samples/android"
    properties = (folder / "gradle/wrapper/gradle-wrapper.properties").read_text()
    assert re.search(r"^distributionSha256Sum=[0-9a-f]{64}$", properties, re.MULTILINE)
    version = re.search(r"gradle-([0-9.]+)-bin\.zip", properties)
    assert version
    assert f"gradle wrapper --gradle-version {version[1]}" in (folder / "README.md").read_text()
    assert not list(folder.rglob("*.jar"))
