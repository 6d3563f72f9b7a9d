"""The input codes that the device runner computes for stored pixels."""

from __future__ import annotations

import numpy as np
import pytest

from edgekd.device.edgebench import pixel_codes


@pytest.mark.parametrize("zero_point", [0, -1])
def test_an_int8_code_is_the_pixel_less_128(zero_point):
    pixels = np.arange(256, dtype=np.uint8)[:, None]
    expected = pixels.astype(np.int64) - 128
    scale = float(np.float32(1 / 127.5))
    assert np.array_equal(pixel_codes(pixels, "int8", scale, zero_point, [0.5], [0.5]), expected)
    assert np.array_equal(pixel_codes(pixels, "int8", 0.0186, -14, None, None), expected)


@pytest.mark.parametrize("zero_point", [127, 128])
def test_a_uint8_code_is_the_pixel(zero_point):
    pixels = np.arange(256, dtype=np.uint8)[:, None]
    assert np.array_equal(
        pixel_codes(pixels, "uint8", float(np.float32(1 / 127.5)), zero_point, [0.5], [0.5]), pixels
    )
    assert np.array_equal(pixel_codes(pixels, "uint8", 0.0, 0, None, None), pixels)


def test_codes_follow_the_tensors_own_scale_and_each_channels_mean():
    pixels = np.array([[0, 128, 255]], np.uint8)
    mean, std, scale, zero_point = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], 0.0186584, -14
    real = (pixels / 255 - np.array(mean)) / np.array(std)
    expected = np.clip(np.floor(real / scale + zero_point + 0.5), -128, 127)
    assert np.array_equal(pixel_codes(pixels, "int8", scale, zero_point, mean, std), expected)
    assert np.allclose(pixel_codes(pixels, "float32", 0.0, 0, mean, std), real, atol=1e-6)
    with pytest.raises(ValueError, match="3 channels"):
        pixel_codes(pixels, "int8", scale, zero_point, [0.5, 0.5], [0.5])
    wide = pixel_codes(pixels, "int16", 1e-4, 0, mean, std)
    assert np.abs(wide * 1e-4 - real).max() < 1e-4
    assert wide.dtype == np.int16
    with pytest.raises(ValueError, match="int32"):
        pixel_codes(pixels, "int32", 1.0, 0, None, None)
