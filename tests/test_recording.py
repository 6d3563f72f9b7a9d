"""The graph written down from one forward pass is the graph that torch.export captures, down to the
file's bytes.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgekd.core.errors import UnsupportedNetwork
from edgekd.export.onnx_export import from_network
from edgekd.export.tflite_convert import convert
from edgekd.networks import builders
from edgekd.quantization import capture as any_batch
from edgekd.quantization import exporting
from edgekd.quantization.graphs import module_of
from edgekd.quantization.qat_network import Capture, calibrate, prepare
from edgekd.quantization.recording import record
from edgekd.settings import model_specs
from edgekd.settings.device_profiles import load_profile
from edgekd.tflite.int8_rules import Int8Rules
from tests.small_networks import MEAN, PX, SMALL, STD, artifact


def tflite(
    model: nn.Module,
    px: int,
    mean: list[float],
    std: list[float],
    rules: Int8Rules,
    capture: Capture,
) -> bytes:
    network = prepare(model, px, mean, std, rules, capture)
    calibrate(
        network, [torch.rand(1, len(mean), px, px, generator=torch.Generator().manual_seed(1))]
    )
    return bytes(convert(from_network(artifact(network), network)).tflite)


@pytest.mark.parametrize("name", SMALL)
def test_small_networks_become_the_same_file(name: str) -> None:
    torch.manual_seed(0)
    model = SMALL[name]()
    files = [
        tflite(model, PX, MEAN, STD, Int8Rules(), capture) for capture in (exporting.export, record)
    ]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("student", "profile"),
    [
        ("mobilenetv3_small_050", "pi4"),
        ("mobilenetv3_small_050", "coral-usb"),
        ("tf_efficientnet_lite0", "android-cpu"),
        ("ghostnet_100", "pi4"),
        ("mobileone_s0", "pi4"),
        ("resnet18", "pi4"),
    ],
)
def test_students_become_the_same_file(student: str, profile: str) -> None:
    device = load_profile(profile)
    spec = model_specs.spec(student).edited(device.edits)
    torch.manual_seed(0)
    model = builders.create(spec.arch, {**spec.options, "num_classes": 10})
    mean, std = builders.normalisation(spec, model)
    rules = Int8Rules.from_dict(device.rules)
    files = [tflite(model, PX, mean, std, rules, capture) for capture in (exporting.export, record)]
    assert files[0] == files[1]


# The graph for any batch size: recorded where that is the same, otherwise captured by torch.export.


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The class names of the networks that torch.export captures during the test."""
    names: list[str] = []
    original = exporting.export

    def export(model: nn.Module, example: Tensor) -> torch.fx.GraphModule:
        names.append(type(model).__name__)
        return original(model, example)

    monkeypatch.setattr(exporting, "export", export)
    return names


@pytest.mark.parametrize("name", SMALL)
def test_the_graph_for_any_batch_is_that_of_torch_export(name: str, exported: list[str]) -> None:
    """Node for node and name for name; only one of them asks for the size of the batch."""
    torch.manual_seed(0)
    model, example = SMALL[name]().eval(), torch.zeros(2, 3, PX, PX)
    found = any_batch.capture(model, example)
    assert exported == (["Flattened"] if name == "Flattened" else [])
    expected = exporting.export(model, example)
    assert found.code == expected.code
    assert [module_of(node) for node in found.graph.nodes] == [
        module_of(node) for node in expected.graph.nodes
    ]
    assert list(found.state_dict()) == list(expected.state_dict())
    images = torch.rand(5, 3, PX, PX)
    assert torch.equal(found(images), expected(images))


class ByBatch(nn.Module):
    """Its shapes depend on the number of images."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(0, 1).flatten(1).mean(1, keepdim=True).T.expand(len(x), -1)


class Squeezed(nn.Module):
    """It drops the axis of the batch when there is one image."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((1, 2, 3), keepdim=True).squeeze()


class Constant(nn.Module):
    """It computes a constant from the images, outside torch."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) + torch.from_numpy(x.detach().numpy().mean((0, 2, 3)))


class Branching(nn.Module):
    """It looks at a value of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))


class Counting(nn.Module):
    """It turns a value of its input into a number."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) * x.sum().item()


@pytest.mark.parametrize("network", [ByBatch, Squeezed, Constant, Branching, Counting])
def test_what_holds_for_one_batch_alone_is_left_to_torch_export(
    network: type[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "export", lambda model, example: "left to torch.export")
    assert any_batch.capture(network(), torch.zeros(2, 3, PX, PX)) == "left to torch.export"


def test_a_network_that_branches_on_its_data_is_refused() -> None:
    with pytest.raises(UnsupportedNetwork, match="Branching cannot be captured as a graph"):
        any_batch.capture(Branching(), torch.zeros(2, 3, PX, PX))


class Broken(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(-1, 7)


class Twins(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (Broken, "Broken fails on an image of [3, 32, 32]"),
        (Twins, "Twins has more than one output"),
    ],
)
def test_what_cannot_be_looked_at_is_refused_in_one_line(
    network: type[nn.Module], words: str
) -> None:
    with pytest.raises(UnsupportedNetwork) as caught:
        record(network(), torch.zeros(2, 3, PX, PX))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value).split("next:")[0].strip()


def test_the_model_is_left_as_it_was() -> None:
    """Neither a hook nor a changed weight stays behind."""
    model = SMALL["Branches"]()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    record(model, torch.rand(2, 3, PX, PX))
    assert all(
        not module._forward_hooks and not module._forward_pre_hooks for module in model.modules()
    )
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_checking_a_student_does_not_import_the_exporter(tmp_path: Path) -> None:
    """It is what made the first look at a student slow."""
    code = (
        "import sys; from edgekd.assessment import student_check; "
        "student_check.check_named('mobilenetv2_035', 'pi4', ['data.input_px=32']); "
        "names = ('torch.export._trace', 'torchao', 'onnxruntime'); "
        "print([name for name in names if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={
            "PATH": "",
            "HOME": str(tmp_path),
            "EDGEKD_SKETCHES": str(tmp_path),
            "PYTHONPATH": ":".join(sys.path),
        },
    )
    assert done.stdout.strip().splitlines()[-1] == "[]"
