"""The preprocessing vectors of a bundle, and the samples that must pass them."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs
from PIL import Image
from tiny_tflite import tiny

from edgekd.bundle import golden_set, plain_pictures, preprocess_vectors, samples
from edgekd.bundle.deployment_record import AnswerRule, Deployment, ImageInput, ModelOutput
from edgekd.bundle.vector_record import PreprocessVector, PreprocessVectors
from edgekd.core.records import from_json, present
from edgekd.data import images
from edgekd.evaluation.confidence_record import OutputKind

CONTRACT = Deployment(
    name="Vectors",
    model="model.tflite",
    labels="labels.txt",
    input=ImageInput(
        px=32,
        channels=3,
        order="RGB",
        fit="pad",
        resample="",
        dtype="uint8",
        scale=1 / 127.5,
        zero_point=128,
        mean=[128 / 255] * 3,
        std=[0.5] * 3,
    ),
    output=ModelOutput("uint8", 0.1, 100, OutputKind.LOGITS),
    confidence=AnswerRule(temperature=1.0, thresholds=[0.5, 0.5], rule=""),
    limits="",
)
NODE = shutil.which("node")
COMPILER = shutil.which("g++") or shutil.which("clang++")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the samples of a made-up model."""
    folder = tmp_path_factory.mktemp("vectors")
    for name, data in samples.render(CONTRACT, ["a", "b"], tiny().model).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def vectors() -> list[PreprocessVector]:
    body = json.loads(preprocess_vectors.file(CONTRACT))
    return from_json(PreprocessVectors, body, preprocess_vectors.FILE).vectors


def test_the_files_of_the_vectors_decode_to_what_is_expected(
    vectors: list[PreprocessVector],
) -> None:
    """Pillow reads the PNG and JPEG files that are written byte by byte, and turns them."""
    with_files = [vector for vector in vectors if present(vector.file)]
    assert len(with_files) >= 11
    for vector in with_files:
        data = base64.b64decode(str(vector.file))
        source = vector.input
        fitted = images.fit(images.as_rgb(images.decode(data, vector.name)), source.px, source.fit)
        codes = golden_set.input_codes(source, fitted)
        assert codes.tobytes() == base64.b64decode(vector.expected), vector.name


def test_a_model_that_takes_a_frame_has_a_vector_of_it() -> None:
    source = structs.replace(CONTRACT.input, frame=[40, 64])
    data = preprocess_vectors.file(structs.replace(CONTRACT, input=source))
    rows = from_json(PreprocessVectors, json.loads(data), preprocess_vectors.FILE).vectors
    own = next(row for row in rows if row.input == source)
    codes = np.frombuffer(base64.b64decode(own.expected), np.uint8).reshape(40, 64, 3)
    assert not codes[:, :16].any()  # black beside the square of 32 x 32
    assert codes[4:36, 16:48].any()


def test_yuv_is_that_of_jfif() -> None:
    """Against Pillow's YCbCr, which rounds each term, on every 16th level of Y, U and V."""
    y, u, v = (part.astype(np.uint8) for part in np.mgrid[0:256:15, 0:256:15, 0:256:15])
    levels = [part.reshape(-1, 1) for part in (y, u, v)]
    found = np.concatenate(
        [
            preprocess_vectors.rgb_of_yuv(*(one[None] for one in row))
            for row in zip(*levels, strict=True)
        ]
    )
    ycc = np.concatenate(levels, 1)[:, None]
    expected = np.asarray(Image.fromarray(ycc, "YCbCr").convert("RGB"))
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_a_flat_jpeg_keeps_each_level() -> None:
    blocks = np.arange(256, dtype=np.uint8).reshape(16, 16)
    data = plain_pictures.flat_jpeg(blocks[:, ::-1], 128, 128, 1)
    found = images.decode(data, "levels")
    assert (found == np.kron(blocks[:, ::-1], np.ones((8, 8), np.uint8))).all()


def ran(*command: str | Path) -> str:
    """What a command prints. Fails the test when the command fails."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_pi_sample_passes(bundle: Path) -> None:
    said = ran(sys.executable, bundle / "samples/pi/check_vectors.py")
    assert said.startswith("31 vectors passed")


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_the_web_sample_passes(bundle: Path) -> None:
    assert ran(str(NODE), bundle / "samples/web/check_vectors.mjs").startswith("24 vectors passed")


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler is installed")
def test_the_cpp_sample_passes(bundle: Path, tmp_path: Path) -> None:
    source = bundle / "samples/cpp/check_vectors.cc"
    ran(str(COMPILER), "-std=c++17", "-ffp-contract=off", source, "-o", tmp_path / "check")
    assert ran(tmp_path / "check", bundle) == "38 vectors passed\n"


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_a_wrong_byte_fails(bundle: Path, tmp_path: Path) -> None:
    """A runner that compares nothing would pass everything."""
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    script = copy / "samples/web/edgekd.js"
    script.write_text(script.read_text().replace("Math.max(scale, 1)", "1"))
    done = subprocess.run(
        [str(NODE), str(copy / "samples/web/check_vectors.mjs")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "levels off" in done.stderr
