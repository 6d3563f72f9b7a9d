"""The sample for microcontrollers: its C array, its operators, and that it decides alike.

check_host.cpp is compiled and run. The other sources are compiled against declarations of the parts
of TensorFlow Lite Micro that they use: no firmware is built here.
"""

from __future__ import annotations

import ast
import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgekd.bundle import archive, firmware_check, micro_sample, samples
from edgekd.bundle.deployment_record import Deployment, FurtherOutput, Golden
from edgekd.bundle.micro_sample import MicroParts
from edgekd.core.errors import ModelFileError
from edgekd.settings.device_profiles import load_profile
from edgekd.tflite import micro_runtime
from tests.one_op_files import one_op_file

# What the sample uses of TensorFlow Lite Micro, by its public headers.
DECLARED = {
    "tensorflow/lite/schema/schema_generated.h": """
        #pragma once
        #define TFLITE_SCHEMA_VERSION 3
        namespace tflite {
        struct Model { unsigned version() const; };
        const Model* GetModel(const void* data);
        }""",
    "tensorflow/lite/micro/micro_mutable_op_resolver.h": """
        #pragma once
        enum TfLiteStatus { kTfLiteOk, kTfLiteError };
        namespace tflite {
        struct MicroOpResolver {};
        template <unsigned count> struct MicroMutableOpResolver : MicroOpResolver { @ };
        }""",
    "tensorflow/lite/micro/micro_interpreter.h": """
        #pragma once
        #include <cstddef>
        #include <cstdint>
        #include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
        #include "tensorflow/lite/schema/schema_generated.h"
        enum TfLiteType { kTfLiteInt8 };
        struct TfLiteTensor { TfLiteType type; size_t bytes; union { int8_t* int8; } data; };
        namespace tflite {
        struct MicroInterpreter {
          MicroInterpreter(const Model*, const MicroOpResolver&, uint8_t*, size_t);
          TfLiteStatus AllocateTensors();
          TfLiteStatus Invoke();
          TfLiteTensor* input(size_t);
          TfLiteTensor* output(size_t);
          size_t arena_used_bytes() const;
        };
        }""",
}


@pytest.fixture(scope="module")
def parts(small_bundle: Path) -> MicroParts:
    """What a build for an RP2350 would hand over, from a build for another device."""
    files = archive.read(small_bundle / "bundle")
    with np.load(small_bundle / "golden.npz") as golden:
        images = golden["inputs"]
    model = (small_bundle / "model.tflite").read_bytes()
    return MicroParts(
        contract=msgspec.json.decode(files["deployment.json"], type=Deployment),
        firmware=micro_sample.firmware(load_profile("rp2350"), model),
        labels=files["labels.txt"].decode().split(),
        model=model,
        images=images,
        golden=msgspec.json.decode(files["golden/golden.json"], type=Golden),
    )


@pytest.fixture(scope="module")
def sample(parts: MicroParts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(parts, tmp_path_factory.mktemp("micro"))


def written(parts: MicroParts, folder: Path) -> Path:
    for name, data in micro_sample.render(parts).items():
        path = folder / name.removeprefix(micro_sample.FOLDER)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def array(text: str, name: str) -> list[int]:
    """The numbers of a C array."""
    found = re.search(rf"{name}\[\] = {{([^}}]*)}}", text)
    assert found
    return list(ast.literal_eval(f"[{found[1]}]"))


def test_the_array_is_the_certified_file(parts: MicroParts, sample: Path) -> None:
    text = (sample / "src/model_data.cpp").read_text()
    assert bytes(array(text, "kModel")) == parts.model
    assert "alignas(16)" in text
    assert max(map(len, text.splitlines())) <= 100


def test_exactly_the_operators_of_the_model(parts: MicroParts, sample: Path) -> None:
    text = (sample / "src/op_resolver.h").read_text()
    named = micro_sample.operators(parts.model)
    assert f"MicroMutableOpResolver<{len(named)}>" in text
    assert re.findall(r"resolver\.(\w+)\(", text) == [micro_sample.ADDERS[op] for op in named]


def test_no_marker_is_left_and_every_template_is_used(sample: Path) -> None:
    made = {path.relative_to(sample).as_posix() for path in sample.rglob("*") if path.is_file()}
    for path in samples.templates(micro_sample.TEMPLATES):
        name = path.relative_to(micro_sample.TEMPLATES).as_posix().removesuffix(samples.SUFFIX)
        assert name in made
        assert "@@" not in (sample / name).read_text()
    assert {"arduino/classify/classify.ino", "pico/CMakeLists.txt", "esp-idf/main/main.cpp"} <= made


def test_an_operator_without_a_kernel_stops_the_sample(parts: MicroParts) -> None:
    gelu = dataclasses.replace(parts, model=one_op_file("GELU"))
    with pytest.raises(ModelFileError, match="no kernel for GELU"):
        micro_sample.render(gelu)


def compiler() -> str:
    found = shutil.which("g++") or shutil.which("clang++")
    if found is None:
        pytest.skip("no C++ compiler is installed")
    return found


def test_the_host_check_compiles_runs_and_finds_a_wrong_byte(
    parts: MicroParts, sample: Path, tmp_path: Path
) -> None:
    source = sample / "src"
    flags = [compiler(), "-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{source}"]
    program = tmp_path / "check_host"

    def said(model_data: Path) -> str:
        files = [sample / "generic/check_host.cpp", model_data, source / "golden_data.cpp"]
        subprocess.run([*flags, *files, "-o", program], check=True)
        return subprocess.run([program], capture_output=True, text=True).stdout

    assert said(source / "model_data.cpp") == "model and golden answers are those of the bundle\n"
    wrong = tmp_path / "model_data.cpp"
    text = (source / "model_data.cpp").read_text()
    at = text.rindex(",\n};")
    wrong.write_text(text[: text.rindex(",", 0, at)] + f",{parts.model[-1] ^ 1},\n}};\n\n}}\n")
    assert said(wrong) == "wrong: the model's bytes are not those of the bundle\n"


@pytest.mark.parametrize("further", [(), ("features", 'a "quoted" name')])
def test_the_firmware_is_valid_against_the_runtimes_declarations(
    parts: MicroParts, further: tuple[str, ...], tmp_path: Path
) -> None:
    outputs = [
        FurtherOutput(
            index=index,
            name=name,
            tensor=name,
            dtype="uint8",
            shape=[1, 4, index],
            axes=[0, 1, 2],
            scale=0.5,
            zero_point=131,
        )
        for index, name in enumerate(further, 1)
    ]
    contract = msgspec.structs.replace(parts.contract, further_outputs=outputs or msgspec.UNSET)
    sample = written(dataclasses.replace(parts, contract=contract), tmp_path / "sample")
    header = (sample / "src/contract.h").read_text()
    assert f"constexpr int kFurther = {len(further)};" in header
    assert ('{"features", 4, 0.5, 3}' in header) == bool(further)
    adders = " ".join(f"TfLiteStatus {name}();" for name in micro_sample.ADDERS.values())
    for name, text in DECLARED.items():
        header = tmp_path / name
        header.parent.mkdir(parents=True, exist_ok=True)
        header.write_text(text.replace("@", adders))
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{tmp_path}", f"-I{sample}/src"]
    sources = [sample / "src/classifier.cpp", sample / "src/self_test.cpp"]
    sources.append(sample / "generic/main.cpp")
    subprocess.run([compiler(), *flags, "-fsyntax-only", *sources], check=True)


def test_verify_renders_the_sample_again(parts: MicroParts, small_bundle: Path) -> None:
    """From deployment.json, the model and the golden images of the bundle alone."""
    files = archive.read(small_bundle / "bundle")
    for_it = msgspec.structs.replace(parts.contract, firmware=parts.firmware)
    again = firmware_check.sample(files, for_it, parts.labels, parts.golden, parts.images)
    assert again == micro_sample.render(parts)
    assert (
        firmware_check.sample(files, parts.contract, parts.labels, parts.golden, parts.images) == {}
    )


@pytest.mark.skipif(not micro_runtime.installed(), reason="tflite-micro is not installed")
def test_golden_answers_hold_in_the_real_runtime(parts: MicroParts, small_bundle: Path) -> None:
    files = archive.read(small_bundle / "bundle")
    for_it = msgspec.structs.replace(parts.contract, firmware=parts.firmware)
    assert firmware_check.answers(files, for_it, parts.golden, parts.images) == []
    assert firmware_check.answers(files, parts.contract, parts.golden, parts.images) == []
