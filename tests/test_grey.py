"""Students with one input channel: pretrained weights, refusals, and a whole build."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edgekd.app import cli
from edgekd.core.errors import DataError, UnknownName
from edgekd.data import dataset_builder, datasets, source_registry
from edgekd.networks import builders, timm_networks, weight_files
from edgekd.settings import model_specs, recipe
from edgekd.settings.recipe import DataConfig
from edgekd.tflite import model_metadata, runtime
from tests.small_build import STUDENT, STUDENT_OPTIONS, TEACHER

SPEC = model_specs.spec(
    "efficientnet_lite0" if "efficientnet_lite0" in model_specs.names() else "mobilenetv2_050"
)


def test_a_pretrained_student_of_one_channel_sees_what_its_three_saw(tmp_path: Path) -> None:
    torch.manual_seed(0)
    three = builders.create(SPEC.arch, {**SPEC.options, "num_classes": 4})
    (tmp_path / "w.safetensors").write_bytes(weight_files.to_bytes(three.state_dict()))
    spec = model_specs.of_channels(SPEC, 1)
    one, _ = timm_networks.pretrained(spec, str(tmp_path / "w.safetensors"), 4, spec.options)
    grey = torch.randn(2, 1, 64, 64)
    with torch.inference_mode():
        assert torch.allclose(one(grey), three(grey.expand(-1, 3, -1, -1)), atol=1e-4)
    mean, std = builders.normalisation(spec, one)
    assert len(mean) == len(std) == 1


def test_coloured_images_refuse_one_channel_and_auto_takes_what_they_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(16):
            Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(
                tmp_path / name / f"{number}.png"
            )
    coloured = dataset_builder.build_dataset(
        source_registry.open_source(str(tmp_path)), DataConfig()
    )
    with pytest.raises(DataError, match="holds coloured images"):
        datasets.student_channels(coloured, "1")
    assert (
        datasets.student_channels(coloured, "auto") == datasets.student_channels(coloured, "3") == 3
    )


def test_the_recipe_takes_numbers_and_auto() -> None:
    assert recipe.load(None, ["data.channels=1"]).data.channels == "1"
    assert recipe.load(None, ["data.channels=auto"]).data.channels == "auto"
    for wrong in ("data.channels=2", "data.channels=true", "data.channels=1.0"):
        with pytest.raises(UnknownName, match=r"data\.channels"):
            recipe.load(None, [wrong])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("grey") / "out"
    settings = (
        STUDENT_OPTIONS,
        "data.channels=auto",
        "data.input_px=32",
        "teacher.epochs=1",
        "distil.epochs=1",
        "qat.epochs=1",
        "views.per_image=1",
        "bench.runs=5",
        "bench.min_seconds=0.05",
        "data.golden=8",
        "data.calibration=32",
        "certify.max_drop=1",
        "certify.min_agreement=0",
    )
    assert (
        cli.main(
            [
                "build",
                "--profile",
                "pi4",
                "--data",
                "phantom:100@40",
                "--teacher",
                TEACHER,
                "--student",
                STUDENT,
                "--out",
                str(out),
                *(part for text in settings for part in ("--set", text)),
            ]
        )
        == 0
    )
    return out


def test_one_channel_all_the_way(built: Path) -> None:
    body = json.loads((built / "report.json").read_text())
    assert body["models"]["student"]["input"] == [32, 32, 1]
    assert body["models"]["teacher"]["input"][2] == 3
    assert body["artifact"]["input"]["shape"] == [1, 32, 32, 1]
    assert body["certificate"]["passed"] is True
    assert body["bench"][0]["golden"]["argmax_agreement"] == 1
    with np.load(built / "golden.npz", allow_pickle=False) as golden:
        assert golden["inputs"].shape == (8, 32, 32, 1)
        assert np.array_equal(
            runtime.run((built / "model.tflite").read_bytes(), golden["inputs"]),
            golden["logits_int8"],
        )
        assert golden["mean"].shape == (1,)
    assert (
        json.loads((built / "certificate.json").read_text())["bound"]["input"]["channels"] == "grey"
    )


def test_its_bundle_says_grey_and_is_verified(built: Path) -> None:
    contract = json.loads((built / "bundle" / "deployment.json").read_text())
    assert (contract["input"]["channels"], contract["input"]["order"]) == (1, "grey")
    body = model_metadata.metadata_of((built / "bundle" / "model.tflite").read_bytes())
    assert body is not None
    source = body["subgraph_metadata"][0]["input_tensor_metadata"][0]
    assert (
        source["content"]["content_properties"]["ImageProperties"]["color_space"]
        == model_metadata.GRAYSCALE
    )
    for path in (built, built / "bundle", built / "bundle.zip"):
        assert cli.main(["verify", str(path)]) == 0, path
