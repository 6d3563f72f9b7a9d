"""The operators of today's mobile networks along the int8 route, up to the certificate."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from torch import nn

from edgekd.core.artifacts import LiteModel, QuantNetwork
from edgekd.core.errors import UnsupportedNetwork
from edgekd.export.onnx_export import export, from_network
from edgekd.export.tflite_convert import convert
from edgekd.proof.certificate import Published, certify
from edgekd.quantization import recording
from edgekd.quantization.fakequant import ActivationFakeQuant
from edgekd.quantization.integer_pass import exact
from edgekd.quantization.qat_network import calibrate, predict, prepare
from edgekd.tflite import runtime
from tests.attention_networks import NETWORKS, PX
from tests.small_networks import artifact, images, normalised

# A pixel of 128 is zero, so that nothing is left to fold into the first convolution.
MEAN, STD = [128 / 255] * 3, [0.5] * 3
PIXELS = images(8, PX)[0]
ROUNDED = 1e-3  # share of the largest logit: torch computes both in float32


def golden(qnet: QuantNetwork, lite: LiteModel, pixels: np.ndarray) -> bytes:
    codes, buffer = runtime.run(lite.tflite, pixels), io.BytesIO()
    facts = {"mean": np.float32(qnet.mean), "std": np.float32(qnet.std)}
    np.savez(buffer, inputs=pixels, logits_int8=codes, labels=codes.argmax(1), **facts)
    return buffer.getvalue()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_rewritten_exactly_and_certifies(name: str) -> None:
    torch.manual_seed(1)
    model = NETWORKS[name]().eval()
    network = prepare(model, PX, MEAN, STD)
    x = normalised(PIXELS, MEAN, STD)
    with torch.inference_mode():
        expected, found = model(x), network.graph(network.on_grid(x))
    assert (found - expected).abs().max() <= ROUNDED * expected.abs().max()
    calibrate(network, [x])
    qnet = artifact(network)
    exported = export(qnet, NETWORKS[name]().eval())  # restored from its artifact
    lite = convert(exported)
    answers = predict(exact(network), PIXELS[:2])
    published = Published(exported.qdq, ["a", "b", "c"], golden(qnet, lite, PIXELS[:2]))
    body = certify(qnet, lite, PIXELS[:2], answers, published=published)
    judged = [failure for failure in body.failures if failure.check != "end_to_end"]
    assert judged == []
    assert body.edges is not None
    assert body.edges.edges > 4
    # int8 keeps the differences between images
    spread = float((expected - expected.mean(0)).square().mean())
    error = float(np.square(runtime.logits(lite.tflite, PIXELS) - expected.numpy()).mean())
    assert error < spread / 4


@pytest.mark.parametrize(
    ("name", "operators"),
    [
        ("Attention", {"BATCH_MATMUL": 2, "SOFTMAX": 1, "L2_NORMALIZATION": 1, "TRANSPOSE": 4}),
        ("Norms", {"L2_NORMALIZATION": 2, "RSQRT": 2, "TRANSPOSE": 0, "RESHAPE": 3}),
        ("Resized", {"RESIZE_BILINEAR": 3, "RESIZE_NEAREST_NEIGHBOR": 1}),
        ("Transposed", {"TRANSPOSE_CONV": 3, "SLICE": 2, "RELU": 2, "DEPTHWISE_CONV_2D": 0}),
    ],
)
def test_operators_are_those_that_the_form_needs(name: str, operators: dict[str, int]) -> None:
    torch.manual_seed(1)
    network = prepare(NETWORKS[name]().eval(), PX, MEAN, STD, capture=recording.record)
    calibrate(network, [normalised(PIXELS[:1], MEAN, STD)])
    lite = convert(from_network(artifact(network), network))
    found = lite.facts["ops"]
    assert {op: found.get(op, 0) for op in operators} == operators


def test_the_norm_of_tokens_costs_no_gain_of_its_own() -> None:
    network = prepare(NETWORKS["Attention"]().eval(), PX, MEAN, STD)
    gains = [layer.name for layer in network.layers if "affine" in layer.name]
    assert gains == ["affine"]  # the product with 0.5 at the end; the norm's is in the linear layer


def test_a_second_operand_of_a_product_has_zero_point_zero() -> None:
    network = prepare(NETWORKS["Attention"]().eval(), PX, MEAN, STD)
    calibrate(network, [normalised(PIXELS, MEAN, STD)])
    zero = {name: network.edge(name).range.zero_point for name in network.edges}
    products = [name for name, op in network.writers.items() if op == "BATCH_MATMUL"]
    for name in products:
        node = next(node for node in network.graph.graph.nodes if node.meta.get("edge") == name)
        assert zero[node.args[0].args[1].meta["edge"]] == 0


def test_roots_of_values_that_int8_rounds_to_zero_leave_a_range() -> None:
    source, root = ActivationFakeQuant(), ActivationFakeQuant()
    root.keep_below_root(source)
    for phase, values in (("calibrate", [0.0, 2.55]), ("observe", [1e-9, 1e-8])):
        source.phase = root.phase = phase
        x = source(torch.tensor(values))
        root(torch.tensor(values).clamp_min(1e-12).rsqrt())
        assert x.isfinite().all()
    largest = (127 - root.range.zero_point) * root.range.scale
    assert largest == pytest.approx(float(source.scale) ** -0.5, rel=0.01)


def test_more_than_one_axis_in_a_layer_norm_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 2, 2), nn.LayerNorm([8, 8]), nn.Flatten())
    with pytest.raises(Exception, match="a layer norm in module '1' over 2 axes"):
        prepare(model.eval(), PX, MEAN, STD)


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (nn.ConvTranspose2d(3, 3, 2, 2, groups=3), "with 3 groups in module '0'"),
        (nn.ConvTranspose2d(3, 3, 3, dilation=2), "with dilation in module '0'"),
        (nn.ConvTranspose2d(3, 3, 2, 2, output_padding=1), "an output_padding above its padding"),
    ],
)
def test_a_transposed_convolution_that_tflite_has_not_is_refused(
    layer: nn.Module, said: str
) -> None:
    with pytest.raises(UnsupportedNetwork, match=said):
        prepare(nn.Sequential(layer, nn.Flatten()).eval(), PX, MEAN, STD)
