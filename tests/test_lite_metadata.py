"""TFLite Metadata and ports: written and read back, undone byte for byte, and read by MediaPipe
where it is installed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekd.core.errors import ModelFileError
from edgekd.export.onnx_export import export
from edgekd.export.tflite_convert import convert
from edgekd.networks import builders
from edgekd.tflite import (
    flatbuffer,
    metadata_codec,
    metadata_schema,
    model_metadata,
    ports,
    runtime,
)
from tests.mediapipe_tasks import ask_mediapipe, mediapipe_python
from tests.trained import calibrated

PX = 64
IMAGES = np.random.default_rng(4).integers(0, 256, (16, PX, PX, 3), np.uint8)
LABELS = ["bird", "cat", "dog"]


@pytest.fixture(scope="module")
def bare() -> bytes:
    qnet = calibrated("mobilenetv2_035", PX)
    return bytes(convert(export(qnet, builders.create(qnet.arch, qnet.options))).tflite)


def described(model: bytes) -> dict[str, Any]:
    tensor = flatbuffer.read(ports.core(model))
    source = tensor.tensors[tensor.inputs[0]]
    normal = {"mean": [float(128 + source.zero_point[0])], "std": [1.0 / float(source.scale[0])]}
    return {
        "name": "three animals",
        "description": "für Prüfungen",
        "version": "1",
        "author": "a",
        "license": "MIT",
        "subgraph_metadata": [
            {
                "name": "main",
                "input_tensor_metadata": [
                    {
                        "name": "image",
                        "content": {
                            "content_properties": {
                                "ImageProperties": {
                                    "color_space": model_metadata.RGB,
                                    "default_size": {"width": PX, "height": PX},
                                }
                            }
                        },
                        "process_units": [{"options": {"NormalizationOptions": normal}}],
                    }
                ],
                "output_tensor_metadata": [
                    {
                        "name": "scores",
                        "content": {"content_properties": {"FeatureProperties": {}}},
                        "associated_files": [
                            {"name": "labels.txt", "type": model_metadata.AXIS_LABELS}
                        ],
                    }
                ],
            }
        ],
    }


FILES = {"labels.txt": "\n".join(LABELS).encode()}


def test_reads_back_what_was_written(bare: bytes) -> None:
    model = model_metadata.attach(bare, described(bare), FILES)
    found = model_metadata.metadata_of(model)
    assert found is not None
    assert found.pop("min_parser_version") == model_metadata.PARSER
    assert json.loads(json.dumps(found), parse_float=lambda x: round(float(x), 3)) == json.loads(
        json.dumps(described(bare)), parse_float=lambda x: round(float(x), 3)
    )
    assert model_metadata.files_of(model) == FILES
    assert model_metadata.metadata_of(bare) is None
    assert model_metadata.files_of(bare) == {}


def test_the_bare_file_comes_back_byte_for_byte(bare: bytes) -> None:
    model = model_metadata.attach(bare, described(bare), FILES)
    assert model_metadata.detach(model) == bare
    assert model_metadata.attach(model, described(bare), FILES) == model  # replaced, not stacked
    assert np.array_equal(runtime.run(model, IMAGES), runtime.run(bare, IMAGES))


def test_our_reader_agrees_with_the_schemas_other_fields(bare: bytes) -> None:
    """min_runtime_version and every other entry stay."""
    model = model_metadata.attach(bare, described(bare), FILES)
    names = [entry.name.decode() for entry in flatbuffer.read(model).model.metadata]
    assert names == ["min_runtime_version", model_metadata.ENTRY]


def test_a_field_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(KeyError, match="licence"):
        metadata_codec.pack({"licence": "MIT"})


def test_damaged_metadata_are_refused_or_harmless(bare: bytes) -> None:
    """Each byte of the metadata changed: it reads as something, or raises ModelFileError."""
    packed = metadata_codec.pack(described(bare))
    outcomes = set()
    for place in range(len(packed)):
        broken = bytearray(packed)
        broken[place] ^= 0xFF
        try:
            metadata_codec.unpack(bytes(broken))
            outcomes.add("read")
        except ModelFileError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}
    for length in range(len(packed)):
        try:
            metadata_codec.unpack(packed[:length])
        except ModelFileError:
            outcomes.add("cut")
    assert "cut" in outcomes


def test_generated_code_is_that_of_the_schema(tmp_path: Path) -> None:
    """The Python files beside model_metadata.fbs are what flatc makes of it, where flatc is
    installed.
    """
    if shutil.which("flatc") is None:
        pytest.skip("flatc is not installed here (Debian: flatbuffers-compiler)")
    folder = Path(metadata_schema.__file__).parent
    source = folder / "model_metadata.fbs"
    command = ["flatc", "--python", "--gen-object-api", "-o", str(tmp_path), str(source)]
    subprocess.run(command, check=True)
    made = {path.name: path.read_text() for path in tmp_path.rglob("[A-Z]*.py")}
    assert made == {path.name: path.read_text() for path in folder.glob("[A-Z]*.py")}


@pytest.mark.parametrize("form", ports.FORMS)
def test_ports_come_off_again(bare: bytes, form: str) -> None:
    wrapped = ports.with_ports(bare, form)
    assert ports.core(wrapped) == bare
    assert ports.core(bare) == bare
    assert ports.with_ports(wrapped, form) == wrapped
    other = next(name for name in ports.FORMS if name != form)
    assert ports.with_ports(ports.with_ports(bare, other), form) == wrapped


def test_ports_change_no_answer(bare: bytes) -> None:
    """uint8: the int8 codes + 128. float32: the dequantised codes, exactly."""
    expected = runtime.run(bare, IMAGES)
    runner = runtime.LiteRunner(ports.with_ports(bare, "uint8"))
    found = np.concatenate([runner.invoke(image[None]) for image in IMAGES])
    assert found.dtype == np.uint8
    assert np.array_equal(found.astype(int) - 128, expected)
    floating = runtime.LiteRunner(ports.with_ports(bare, "float32"))
    inner = flatbuffer.read(bare).tensors[0]
    scale, zero = inner.scale[0], int(inner.zero_point[0])
    real = np.concatenate(
        [
            floating.invoke((image[None].astype(np.float32) - (128 + zero)) * scale)
            for image in IMAGES
        ]
    )
    assert np.array_equal(real, runtime.logits(bare, IMAGES))


def test_no_int8_network_no_ports(bare: bytes) -> None:
    graph = flatbuffer.read(bare)
    parts = flatbuffer.schema()
    for tensor in graph.model.subgraphs[0].tensors:
        if tensor.type == parts.TensorType.INT8:
            tensor.type = parts.TensorType.INT16
            if graph.model.buffers[tensor.buffer].data is not None:
                graph.model.buffers[tensor.buffer].data = None
    with pytest.raises(ModelFileError, match="not an int8 network"):
        ports.with_ports(flatbuffer.write(graph.model), "uint8")


def test_mediapipe_reads_it_and_agrees(bare: bytes, tmp_path: Path) -> None:
    """MediaPipe Tasks' ImageClassifier, uint8 and float input: the same answer on every image."""
    python = mediapipe_python()
    assert python
    models = {
        f"{form}.tflite": model_metadata.attach(
            ports.with_ports(bare, form), described(bare), FILES
        )
        for form in ports.FORMS
    }
    expected = [(int(k), LABELS[int(k)]) for k in runtime.run(bare, IMAGES).argmax(1)]
    assert ask_mediapipe(IMAGES, models, tmp_path) == dict.fromkeys(models, expected)
