"""Rules of the MobileNet class: every code of HARD_SWISH, real timm students, uint8 ports, edits by
profile.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgekd.core.artifacts import LiteModel, QuantNetwork
from edgekd.core.errors import ModelFileError, ProfileError, RecipeError
from edgekd.core.records import to_json
from edgekd.export.model_builder import ModelBuilder
from edgekd.export.onnx_export import export
from edgekd.export.tflite_convert import convert
from edgekd.networks import builders, student_edits, timm_networks, weight_files
from edgekd.pipeline.jobs import Job
from edgekd.proof import exact_kernels
from edgekd.proof.certificate import certify
from edgekd.proof.failures import Failures
from edgekd.proof.form_checks import check_form
from edgekd.quantization import qat_network
from edgekd.quantization.restoring import restore
from edgekd.settings import model_specs
from edgekd.settings.device_profiles import load_profile
from edgekd.settings.recipe import DistilConfig, Recipe
from edgekd.tflite import flatbuffer, integer_graph, runtime
from edgekd.tflite.int8_rules import HARD_SWISH_RATIO, Int8Rules, range_from_minmax
from tests.small_networks import MEAN, PX, SMALL, STD, artifact, calibrated, images, normalised
from tests.trained import calibrated as calibrated_timm

IMAGES = np.random.default_rng(3).integers(0, 256, (3, 32, 32, 3), np.uint8)
INT8_CODES = np.arange(-128, 128).astype(np.int8)


# HARD_SWISH: one input, so all 256 codes can be tried.


def hard_swish_file(source: tuple[float, float], target: tuple[float, float]) -> bytes:
    builder = ModelBuilder()
    ports = []
    for name, bounds in (("in", source), ("out", target)):
        found = range_from_minmax(*bounds)
        ports.append(
            builder.tensor(
                name, (1, 256), "INT8", scale=[found.scale], zero_point=[found.zero_point]
            )
        )
    builder.op("HARD_SWISH", [ports[0]], [ports[1]], None)
    return builder.finish("in", "out", "test")


@pytest.mark.parametrize("kernels", ["builtin", "reference"])
def test_hard_swish_is_within_one_lsb_for_every_code(kernels: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        low, high = -(10 ** rng.uniform(-1.5, 1.5)), 10 ** rng.uniform(-1.5, 1.5)
        x = np.linspace(low, high, 1000)
        y = x * np.clip(x + 3, 0, 6) / 6
        runner = runtime.LiteRunner(
            hard_swish_file((low, high), (y.min(), y.max())), kernels=kernels
        )
        op, (source, target) = runner.graph.ops[0], runner.graph.tensors
        expected = exact_kernels.hard_swish(
            op, [exact_kernels.Operand(source, INT8_CODES[None])], target
        )
        assert np.abs(runner.invoke(INT8_CODES[None]) - expected).max() <= 1, (low, high)


def test_hard_swish_keeps_the_scales_that_its_kernel_asks_for() -> None:
    """An input far below -3 nearly everywhere: the output's own range would be too narrow for the
    int16 arithmetic.
    """
    torch.manual_seed(0)
    model = SMALL["HardExcite"]().eval()
    with torch.no_grad():
        model.stem[1].bias.fill_(-80.0)
    network = qat_network.prepare(model, PX, MEAN, STD)
    pixels, _ = images(8, PX)
    qat_network.calibrate(network, [normalised(pixels, MEAN, STD)])
    source, target = network.edge("stem.0").range, network.edge("stem.2").range
    assert network.writers["stem.2"] == "HARD_SWISH"
    assert target.scale == pytest.approx(source.scale / HARD_SWISH_RATIO, rel=1e-6)
    runtime.run(
        convert(export(artifact(network), SMALL["HardExcite"]())).tflite, pixels[:1]
    )  # the runtime takes it
    with pytest.raises(ModelFileError, match="refuses"):  # and does not take what lies beyond
        runtime.LiteRunner(hard_swish_file((-200.0, 0.0), (-1e-3, 0.0)), kernels="builtin")


# The hard-sigmoid of squeeze-excite is int8 saturation.


def test_the_hard_sigmoid_is_saturation() -> None:
    network, _, pixels = calibrated("HardExcite")
    found = network.edge("gate").range
    assert found.zero_point == -128
    assert 0.9 < found.scale * 255 <= 1.0 + 1e-6
    assert network.writers["gate"] == "CONV_2D"
    model = convert(export(artifact(network), SMALL["HardExcite"]()))
    runner = runtime.LiteRunner(model.tflite, kernels="builtin", keep="everything")
    gates = []
    for image in pixels:
        runner.invoke(runtime.quantize_pixels(image[None], runner.input))
        gates.append(runner.value(runner.graph.by_name()["gate"].index))
    assert {-128, 127} <= set(np.unique(gates)), "both ends of the clamp are reached"
    (conv,) = [op for op in runner.graph.ops if runner.graph.tensors[op.outputs[0]].name == "gate"]
    assert conv.options["fusedActivationFunction"] == 0


# Real students, with random weights and calibrated ranges.


def certified(
    arch: str, rules: Int8Rules | None = None, change: dict[str, str] | None = None
) -> tuple[QuantNetwork, LiteModel, dict]:
    qnet = calibrated_timm(arch, 32, rules=rules, edits=change)
    model = convert(export(qnet, builders.create(arch, qnet.options)))
    answers = qat_network.predict(restore(qnet, builders.create(arch, qnet.options)), IMAGES)
    return qnet, model, to_json(certify(qnet, model, IMAGES, answers))


@pytest.mark.parametrize(
    ("arch", "ops"),
    [
        ("mobilenetv3_small_050", {"HARD_SWISH": 19, "MUL": 9, "MEAN": 10}),
        ("mnasnet_small", {"LOGISTIC": 10, "MUL": 10}),
        ("ghostnet_100", {"CONCATENATION": 32, "MUL": 7}),
        ("mobileone_s0", {"CONV_2D": 22, "DEPTHWISE_CONV_2D": 21}),
        ("mobilenetv4_conv_small_050", {"ADD": 10}),
        ("tf_mobilenetv3_small_minimal_100", {"CONV_2D": 24}),
    ],
)
def test_students_are_exact(arch: str, ops: dict[str, int]) -> None:
    """tools/certify_students.py does this, and more, for every student of models/."""
    _, model, body = certified(arch)
    assert [
        row for row in body["failures"] if row["check"] != "end_to_end"
    ] == []  # random weights: argmax means nothing
    assert body["ranges"]["identical"] == body["ranges"]["tensors"] > 20
    for part in ("weights", "biases"):
        assert body[part]["identical_codes"] == body[part]["total_codes"] > 0
    assert body["op_local"]["max_lsb"] <= 1
    assert model.facts["full_integer"] is True
    assert ops.items() <= model.facts["ops"].items()
    assert not {"QUANTIZE", "DEQUANTIZE", "TRANSPOSE"} & model.facts["ops"].keys()


def test_every_student_of_the_list_has_a_file() -> None:
    students = [name for name in model_specs.names() if "student" in model_specs.spec(name).roles]
    assert len(students) == 23
    for name in students:
        spec = model_specs.spec(name)
        assert spec.taps
        assert spec.licence
        assert spec.source
        assert spec.mean == spec.std == (0.5, 0.5, 0.5)


def test_branches_are_merged_exactly() -> None:
    """MobileOne's branches, with batch norms that do something, against the one convolution that
    takes their place.
    """
    torch.manual_seed(0)
    model = builders.create("mobileone_s0", {"num_classes": 3})
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    merged = builders.reparameterised(model)
    count = [
        sum(isinstance(module, nn.Conv2d) for module in each.modules()) for each in (model, merged)
    ]
    assert count == [191, 43]
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        before, after = model(x), merged(x)
    assert (before - after).abs().max() <= 1e-4 * before.abs().max()


# Rules by profile.


@pytest.mark.parametrize("kernels", runtime.KERNELS)
def test_uint8_ports_change_no_answer(kernels: str) -> None:
    """The same network with int8 and with uint8 ports: every code of the output is 128 higher, in
    every kernel family.
    """
    files = {}
    for dtype in ("int8", "uint8"):
        network, _, pixels = calibrated("HardExcite", io_dtype=dtype)
        files[dtype] = convert(export(artifact(network), SMALL["HardExcite"]())).tflite
    outside = runtime.describe(files["uint8"])
    assert (outside["input"]["dtype"], outside["output"]["dtype"], outside["full_integer"]) == (
        "uint8",
        "uint8",
        True,
    )
    assert (
        runtime.run(files["uint8"], pixels, kernels=kernels)
        == runtime.run(files["int8"], pixels, kernels=kernels)
    ).all()
    runners = {dtype: runtime.LiteRunner(data, kernels=kernels) for dtype, data in files.items()}
    raw = {
        dtype: runner.invoke(runtime.quantize_pixels(pixels[:1], runner.input))
        for dtype, runner in runners.items()
    }
    assert (raw["uint8"].astype(int) - 128 == raw["int8"]).all()
    graph = runners["uint8"].graph
    changes = [op for op in graph.ops if op.name == "QUANTIZE"]
    assert [op.index for op in changes] == [0, len(graph.ops) - 1]
    assert (
        runtime.logits(files["uint8"], pixels).tobytes()
        == runtime.logits(files["int8"], pixels).tobytes()
    )


def test_a_quantize_inside_is_not_full_integer() -> None:
    builder = ModelBuilder()
    tensors = [
        builder.tensor(name, (1, 4), dtype, scale=[0.1], zero_point=[0])
        for name, dtype in (("a", "INT8"), ("b", "INT8"), ("c", "INT8"), ("d", "INT8"))
    ]
    builder.op("RELU", tensors[:1], tensors[1:2], None)
    builder.op("QUANTIZE", tensors[1:2], tensors[2:3], None)
    builder.op("RELU", tensors[2:3], tensors[3:], None)
    data = builder.finish("a", "d", "test")
    graph, failures = flatbuffer.read(data), Failures()
    assert integer_graph.is_full_integer(graph) is False
    check_form(data, graph, failures)
    assert [(row.check, row.op) for row in failures.rows] == [("full_integer", "QUANTIZE #1 -> c")]


def test_every_rule_at_once_is_exact() -> None:
    """uint8 ports, a per-tensor classifier, AVERAGE_POOL_2D, a SOFTMAX, ReLU6 for hard-swish, no
    squeeze-excite.
    """
    qnet, model, body = certified(
        "mobilenetv3_small_050",
        Int8Rules("uint8", "per_tensor", "average_pool", "append"),
        {"hard_swish": "relu6", "squeeze_excite": "remove"},
    )
    assert [row for row in body["failures"] if row["check"] != "end_to_end"] == []
    assert body["op_local"]["max_lsb"] <= 1
    assert model.facts["ops"] == {
        "ADD": 7,
        "AVERAGE_POOL_2D": 1,
        "CONV_2D": 24,
        "DEPTHWISE_CONV_2D": 11,
        "PAD": 5,
        "FULLY_CONNECTED": 1,
        "QUANTIZE": 2,
        "RESHAPE": 1,
        "SOFTMAX": 1,
    }
    graph = flatbuffer.read(model.tflite)
    assert graph.by_name()["classifier.weight"].scale.shape == (1,)
    assert qnet.options["edits"] == {"hard_swish": "relu6", "squeeze_excite": "remove"}


def test_training_reads_the_logits_and_not_the_softmax() -> None:
    plain, _, pixels = calibrated("Branches")
    ended, _, _ = calibrated("Branches", softmax="append")
    x = normalised(pixels, MEAN, STD)
    for network in (plain, ended):
        qat_network.set_phase(network, "frozen")
    with torch.no_grad():
        assert torch.equal(ended(x), plain(x))
    ended(x).sum().backward()
    assert all(parameter.grad is not None for parameter in ended.parameters()), (
        "one set of parameters, not two"
    )
    chances = qat_network.predict(ended, pixels)
    assert np.abs(chances.sum(1) - 1).max() < 3 / 256
    assert (chances * 256 == np.rint(chances * 256)).all(), "on SOFTMAX's fixed grid"


@pytest.mark.parametrize(
    ("arch", "change", "gone"),
    [
        ("mobilenetv3_small_050", {"hard_swish": "relu6"}, student_edits.HARD_SWISHES),
        ("mobilenetv3_small_050", {"squeeze_excite": "remove"}, student_edits.SQUEEZE_EXCITES),
        ("mnasnet_small", {"squeeze_excite": "hard_gate"}, student_edits.SIGMOIDS),
        ("ghostnet_100", {"squeeze_excite": "remove"}, student_edits.SQUEEZE_EXCITES),
    ],
)
def test_edits_are_made_in_the_float_student(
    arch: str, change: dict[str, str], gone: frozenset[str]
) -> None:
    def kinds(model: nn.Module) -> set[str]:
        return {type(module).__name__ for module in model.modules()}

    assert kinds(builders.create(arch, {})) & gone
    model = builders.create(arch, {"edits": change})
    assert not kinds(model) & gone
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)


def test_an_unknown_edit_is_refused() -> None:
    with pytest.raises(RecipeError, match="hard_swish = 'relu'"):
        builders.create("mobilenetv3_small_050", {"edits": {"hard_swish": "relu"}})


PROFILE = """
extends = "pi4"
name = "strict"
title = "A compiler that takes little"
measured_on_hardware = false
io_dtype = {{ value = "uint8", source = "test" }}
classifier_weights = {{ value = "per-tensor", source = "test" }}
pooling = {{ value = "average_pool", source = "test" }}
softmax = {{ value = "append", source = "test" }}
hard_swish = {{ value = "{hard_swish}", source = "test" }}
squeeze_excite = {{ value = "remove", source = "test" }}
"""


def test_a_profile_decides_before_training(tmp_path: Path) -> None:
    path = tmp_path / "strict.toml"
    path.write_text(PROFILE.format(hard_swish="relu6"))
    profile = load_profile(str(path))
    assert Int8Rules.from_dict(profile.rules) == Int8Rules(
        "uint8", "per_tensor", "average_pool", "append"
    )
    recipe = Recipe(distil=DistilConfig(student="mobilenetv3_small_050"))
    assert Job(recipe, profile, None).student.options == {
        "edits": {"hard_swish": "relu6", "squeeze_excite": "remove"}
    }
    assert Job(recipe, load_profile("pi4"), None).student.options == {}
    path.write_text(PROFILE.format(hard_swish="relu"))
    with pytest.raises(ProfileError, match="hard_swish"):
        load_profile(str(path))


def test_the_pretrained_student_is_edited_after_its_weights_are_read(tmp_path: Path) -> None:
    """Weights of the unedited network fit: the edit drops what it drops afterwards."""
    torch.manual_seed(0)
    path = tmp_path / "weights.safetensors"
    path.write_bytes(
        weight_files.to_bytes(builders.create("mobilenetv3_small_050", {}).state_dict())
    )
    spec = model_specs.spec("mobilenetv3_small_050")
    found, _ = timm_networks.pretrained(spec, str(path), 3, {"edits": {"squeeze_excite": "remove"}})
    plain, _ = timm_networks.pretrained(spec, str(path), 3, {})
    assert torch.equal(
        found.state_dict()["blocks.1.0.conv_pw.weight"],
        plain.state_dict()["blocks.1.0.conv_pw.weight"],
    )
    assert not any(".se." in key for key in found.state_dict())
