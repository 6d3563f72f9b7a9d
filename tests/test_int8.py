"""The int8 rules and their arithmetic: properties over many random values, and the kernels against
plain loops.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from edgekd.core.errors import RecipeError, UnsupportedNetwork
from edgekd.proof.exact_kernels import KERNELS
from edgekd.proof.operands import Operand
from edgekd.quantization.fakequant import ActivationFakeQuant, PerChannelWeightFakeQuant
from edgekd.tflite.flatbuffer import LiteOp, LiteTensor
from edgekd.tflite.int8_rules import (
    BIAS_LIMIT,
    INT8_MAX,
    INT8_MIN,
    Int8Rules,
    Range,
    bias_codes,
    input_fold,
    input_range,
    range_from_minmax,
    weight_codes,
    weight_scale_ceiling,
    weight_scale_floor,
    weight_scales,
    windows,
)

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("seed", range(200))
def test_range_holds_zero_and_both_ends(seed: int) -> None:
    rng = np.random.default_rng(seed)
    low, high = np.sort(rng.normal(0, 10.0 ** rng.uniform(-4, 4), 2))
    found = range_from_minmax(low, high)
    assert found.scale == float(np.float32(found.scale)), "a scale is a float32 value"
    assert INT8_MIN <= found.zero_point <= INT8_MAX
    assert found.dequantize(found.quantize(np.zeros(1)))[0] == 0
    for end in (min(low, 0), max(high, 0)):
        assert (
            abs(float(found.dequantize(found.quantize(np.array([end])))[0]) - end)
            <= 1.01 * found.scale
        )


def test_range_of_relu_uses_every_code() -> None:
    found = range_from_minmax(0.0, 6.0)
    assert found == Range(float(np.float32(6 / 255)), -128)
    assert found.quantize(np.array([0.0, 6.0])).tolist() == [-128, 127]


@pytest.mark.parametrize("bounds", [(math.nan, 1), (0, math.inf), (2, 1)])
def test_range_refuses_what_is_no_interval(bounds: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="finite low <= high"):
        range_from_minmax(*bounds)


def test_codes_survive_the_round_trip() -> None:
    for _ in range(50):
        found = range_from_minmax(-abs(RNG.normal(0, 5)), abs(RNG.normal(0, 5)))
        codes = np.arange(INT8_MIN, INT8_MAX + 1)
        assert (found.quantize(found.dequantize(codes)) == codes).all()


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ([0.5] * 3, [0.5] * 3),
        ([0.0], [1.0]),
        ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ([0.5], [0.25]),
    ],
)
def test_every_pixel_is_its_code_plus_128(mean: list[float], std: list[float]) -> None:
    """q = pixel - 128 exactly, and gain * x' + offset gives back what the float network was trained
    on.
    """
    grid = input_range(mean, std)
    pixels = np.arange(256)
    real = grid.dequantize(pixels - 128)
    assert (grid.quantize(real) == pixels - 128).all()
    gain, offset = input_fold(mean, std)
    for channel in range(len(mean)):
        trained = (pixels / 255 - mean[channel]) / std[channel]
        assert np.allclose(gain[channel] * real + offset[channel], trained, atol=1e-5)


def test_input_range_refuses_a_mean_outside_the_pixels() -> None:
    with pytest.raises(UnsupportedNetwork, match="mean"):
        input_range([2.0], [1.0])


def test_weight_codes_are_those_of_the_fake_quantiser() -> None:
    """numpy in the converter and torch in training give the same scales and codes, bit for bit."""
    for seed in range(20):
        torch.manual_seed(seed)
        weight = torch.randn(24, 8, 3, 3) * torch.logspace(-6, 2, 24).reshape(-1, 1, 1, 1)
        quantizer = PerChannelWeightFakeQuant()
        scale = quantizer.scales(weight)
        assert weight_scales(weight.numpy(), 0).tobytes() == scale.numpy().tobytes()
        quantizer.phase = "frozen"
        codes = weight_codes(weight.numpy(), scale.numpy(), 0)
        assert np.abs(codes).max() == 127
        grid = codes.astype(np.float32) * scale.numpy().reshape(-1, 1, 1, 1)
        assert np.array_equal(grid, quantizer(weight).numpy())


def test_weight_codes_along_another_axis() -> None:
    weight = RNG.normal(0, 1, (1, 3, 3, 5)).astype(np.float32)
    scale = weight_scales(weight, 3)
    moved = weight_codes(np.moveaxis(weight, 3, 0), scale, 0)
    assert (np.moveaxis(weight_codes(weight, scale, 3), 3, 0) == moved).all()


def test_one_scale_for_the_whole_weight() -> None:
    weight = RNG.normal(0, 1, (5, 7)).astype(np.float32)
    scale = weight_scales(weight, None)
    assert scale.shape == (1,)
    assert np.abs(weight_codes(weight, scale, 0)).max() == 127


@pytest.mark.parametrize("seed", range(50))
def test_floor_keeps_bias_and_multiplier_representable(seed: int) -> None:
    """Dead channels: weights near zero beside an ordinary bias."""
    rng = np.random.default_rng(seed)
    weight = (rng.normal(0, 1, (16, 4)) * 10.0 ** rng.uniform(-14, 0, (16, 1))).astype(np.float32)
    bias = rng.normal(0, 3, 16).astype(np.float32)
    source, target = (float(np.float32(10.0 ** rng.uniform(-4, 1))) for _ in range(2))
    scale = weight_scales(weight, 0, weight_scale_floor(bias, source, target))
    assert np.abs(bias_codes(bias, source, scale)).max() <= BIAS_LIMIT * 1.0001
    assert (source * scale.astype(np.float64) / target).min() > 2.0**-32


def test_bias_outside_int32_is_refused() -> None:
    with pytest.raises(OverflowError, match="channel 1"):
        bias_codes(np.array([0.0, 1.0], np.float32), 1e-6, np.array([1.0, 1e-9], np.float32))


def test_training_applies_the_same_bounds() -> None:
    """The fake-quantizer that knows its layer's edges gives the scales that int8.weight_scales
    gives within bounds.
    """
    source, target, layer = (
        ActivationFakeQuant(Range(0.02, 0)),
        ActivationFakeQuant(Range(0.05, 3)),
        torch.nn.Linear(6, 4),
    )
    with torch.no_grad():
        layer.weight.mul_(torch.tensor([1.0, 1e6, 1e-9, 1e-13]).reshape(-1, 1))
    quantizer = PerChannelWeightFakeQuant()
    quantizer.attach(source, target, layer)
    floor = weight_scale_floor(
        layer.bias.detach().numpy(), float(source.scale), float(target.scale)
    )
    ceiling = weight_scale_ceiling(float(source.scale), float(target.scale))
    expected = weight_scales(layer.weight.detach().numpy(), 0, floor, ceiling)
    assert (expected * float(source.scale) / float(target.scale)).max() < 256
    assert quantizer.scales(layer.weight).numpy().tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    "bad", [{"io_dtype": "float32"}, {"classifer": "per_tensor"}, {"softmax": True}]
)
def test_rules_refuse_what_they_do_not_know(bad: dict[str, Any]) -> None:
    with pytest.raises(RecipeError) as caught:
        Int8Rules.from_dict(bad)
    assert next(iter(bad)) in caught.value.what


def test_rules_survive_the_round_trip() -> None:
    rules = Int8Rules(classifier="per_tensor", pooling="average_pool")
    assert Int8Rules.from_dict(rules.to_dict()) == rules


# The reference kernels, against arithmetic written out as loops.


def tensor(
    shape: tuple[int, ...], scale: Any = 0.05, zero: int = 3, dtype: str = "INT8"
) -> LiteTensor:
    scales = np.atleast_1d(np.asarray(scale, np.float32))
    zeros = np.full(scales.shape, zero, np.int64)
    return LiteTensor(0, "t", shape, dtype, scales, zeros, 0, None)


def operand(shape: tuple[int, ...], **facts: Any) -> Operand:
    return Operand(tensor(shape, **facts), RNG.integers(-128, 128, shape))


def call(name: str, inputs: list[Operand], output: LiteTensor, **options: Any) -> np.ndarray:
    return KERNELS[name](LiteOp(0, name, 1, (), (0,), options), inputs, output)


@pytest.mark.parametrize(
    ("padding", "stride", "dilation"), [(0, 1, 1), (0, 2, 1), (1, 2, 1), (0, 1, 2), (1, 1, 2)]
)
@pytest.mark.parametrize("name", ["CONV_2D", "DEPTHWISE_CONV_2D"])
def test_convolutions_against_loops(name: str, padding: int, stride: int, dilation: int) -> None:
    source = operand((1, 7, 6, 4), scale=0.02, zero=-5)
    outputs = 8
    weight = Operand(
        tensor((outputs, 3, 3, 4), RNG.uniform(0.001, 0.01, outputs), 0),
        RNG.integers(-127, 128, (outputs, 3, 3, 4) if name == "CONV_2D" else (1, 3, 3, outputs)),
    )
    bias = Operand(tensor((outputs,), 1.0, 0, "INT32"), RNG.integers(-5000, 5000, outputs))
    (rows, top, _), (columns, left, _) = (
        windows(size, 3, stride, dilation, padding) for size in (7, 6)
    )
    target = tensor((1, rows, columns, outputs), 0.06, -3)
    found = call(
        name,
        [source, weight, bias],
        target,
        padding=padding,
        strideH=stride,
        strideW=stride,
        dilationHFactor=dilation,
        dilationWFactor=dilation,
        fusedActivationFunction=3,
    )
    assert found.shape == target.shape
    for row, column, channel in np.ndindex(rows, columns, outputs):
        total = int(bias.codes[channel])
        for i, j in np.ndindex(3, 3):
            y, x = row * stride + i * dilation - top, column * stride + j * dilation - left
            if 0 <= y < 7 and 0 <= x < 6:
                pixel = source.codes[0, y, x] + 5
                total += (
                    int(pixel @ weight.codes[channel, i, j])
                    if name == "CONV_2D"
                    else int(pixel[channel // 2] * weight.codes[0, i, j, channel])
                )
        real = min(max(total * 0.02 * float(weight.tensor.scale[channel]), 0.0), 6.0)
        assert abs(found[0, row, column, channel] - min(real / 0.06 - 3, 127)) <= 0.5001


def test_fully_connected() -> None:
    source, target = operand((1, 10)), tensor((1, 3), 0.4, 7)
    weight, bias = (
        operand((3, 10), scale=[0.01, 0.02, 0.03], zero=0),
        operand((3,), scale=1.0, zero=0, dtype="INT32"),
    )
    found = call("FULLY_CONNECTED", [source, weight, bias], target, fusedActivationFunction=0)
    real = ((source.codes - 3) @ weight.codes.T + bias.codes) * 0.05 * weight.tensor.scale
    assert np.abs(found - np.clip(real / 0.4 + 7, -128, 127)).max() <= 0.5001


def test_add_and_mul_broadcast() -> None:
    one, two, target = (
        operand((1, 4, 4, 3)),
        operand((1, 1, 1, 3), scale=0.1, zero=-9),
        tensor((1, 4, 4, 3), 0.2, 5),
    )
    reals = [(one.codes - 3) * 0.05, (two.codes + 9) * 0.1]
    for name, real in (("ADD", reals[0] + reals[1]), ("MUL", reals[0] * reals[1])):
        found = call(name, [one, two], target, fusedActivationFunction=1)
        assert np.abs(found - np.clip(np.maximum(real, 0) / 0.2 + 5, -128, 127)).max() <= 0.5001


def test_average_pool_counts_only_pixels_inside_and_rounds_away() -> None:
    shape = (1, 3, 3, 1)
    source = Operand(tensor(shape), np.array([1, 2, 0, 0, 0, 0, 0, 0, -5]).reshape(shape))
    found = call(
        "AVERAGE_POOL_2D",
        [source],
        tensor((1, 2, 2, 1)),
        padding=0,
        strideH=2,
        strideW=2,
        filterHeight=2,
        filterWidth=2,
        fusedActivationFunction=0,
    )
    assert found.reshape(-1).tolist() == [1, 0, 0, -5]  # 3/4 -> 1; the corner has one pixel


def test_max_pool_never_takes_the_border() -> None:
    source = Operand(tensor((1, 3, 3, 1)), np.full((1, 3, 3, 1), -100))
    found = call(
        "MAX_POOL_2D",
        [source],
        tensor((1, 3, 3, 1)),
        padding=0,
        strideH=1,
        strideW=1,
        filterHeight=3,
        filterWidth=3,
        fusedActivationFunction=0,
    )
    assert (found == -100).all()


def test_pad_fills_with_zero_point() -> None:
    source = operand((1, 2, 2, 1))
    amounts = Operand(tensor((4, 2), dtype="INT32"), np.array([[0, 0], [1, 0], [0, 1], [0, 0]]))
    found = call("PAD", [source, amounts], tensor((1, 3, 3, 1)))
    assert (found[0, 0] == 3).all()
    assert (found[0, :, 2] == 3).all()
    assert (found[0, 1:, :2] == source.codes[0]).all()


def test_mean_softmax_logistic() -> None:
    source = operand((1, 5, 5, 2))
    axes = Operand(tensor((2,), dtype="INT32"), np.array([1, 2]))
    found = call("MEAN", [source, axes], tensor((1, 1, 1, 2), 0.01, 0))
    assert np.abs(found.reshape(-1) - (source.codes - 3).mean((0, 1, 2)) * 5).max() <= 0.5001
    logits = operand((1, 6))
    powers = np.exp((logits.codes - 3) * 0.05)
    found = call("SOFTMAX", [logits], tensor((1, 6), 1 / 256, -128), beta=1.0)
    assert np.abs((found + 128) / 256 - powers / powers.sum()).max() <= 0.5001 / 256 + 1e-9
    found = call("LOGISTIC", [logits], tensor((1, 6), 1 / 256, -128))
    assert np.abs((found + 128) / 256 - 1 / (1 + 1 / powers)).max() <= 1 / 256
