"""What is white in images of more than 8 bits is decided once, and their precision is kept."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from edgekd.core.artifacts import Dataset
from edgekd.core.errors import DataError
from edgekd.core.packing import pack, unpack
from edgekd.data import bit_depth, images
from edgekd.data.bit_depth import Wide
from edgekd.data.dataset_builder import build_dataset
from edgekd.data.datasets import identities, pixels
from edgekd.data.input_builder import build_inputs
from edgekd.data.source_registry import open_source
from edgekd.settings.recipe import DataConfig, ViewsConfig
from edgekd.training import views

Values = NDArray[np.uint16]


def encoded(values: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, kind)
    return file.getvalue()


def significant(values: Values, bits: int) -> bytes:
    """A 16-bit PNG that says how many bits are significant."""
    whole, body = encoded(values), b"sBIT" + bytes([bits])
    chunk = struct.pack(">I", 1) + body + struct.pack(">I", zlib.crc32(body))
    return whole[:33] + chunk + whole[33:]  # behind IHDR


def picture(seed: int, bits: int = 12, px: int = 32) -> Values:
    """Noise that reaches the white of so many bits."""
    found = np.random.default_rng(seed).integers(0, 2**bits, (px, px), dtype=np.uint16)
    found[0, -1] = 2**bits - 1
    return found


def folder(root: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def pets(root: Path, changed: Mapping[str, bytes], bits: int = 12) -> Path:
    """Two classes of 16 images; some of them are replaced or added."""
    files = {
        f"{name}/{number:02}.png": encoded(picture(100 * kind + number, bits))
        for kind, name in enumerate(("cat", "dog"))
        for number in range(16)
    }
    return folder(root, {**files, **changed})


def built(root: Path, **settings: object) -> Dataset:
    config = DataConfig(cache_px=32, **settings)  # type: ignore[arg-type]
    return build_dataset(open_source(str(root)), config)


def shown(dataset: Dataset, name: str) -> np.ndarray:
    """An image of a data set, [px, px], as a share of white."""
    row = [image["name"] for image in dataset.images].index(name)
    return pixels(dataset)[row, 0] / (2**dataset.bits - 1)


@pytest.mark.parametrize("stray", [4096, 65535])
def test_one_bright_pixel_darkens_no_image(tmp_path: Path, stray: int) -> None:
    values = picture(5)
    values[0, 0] = stray
    data = built(pets(tmp_path, {"cat/05.png": encoded(values)}))
    np.testing.assert_allclose(
        shown(data, "cat/05.png"), np.minimum(values, 4095) / 4095, atol=1 / 65535
    )
    np.testing.assert_allclose(shown(data, "cat/06.png"), picture(6) / 4095, atol=1 / 65535)
    (warning,) = data.facts["warnings"]
    assert "cat/05.png" in warning
    assert "data.bits" in warning
    assert data.facts["depth"] == {
        "stored": 16,
        "images": 32,
        "clipped": 1,
        "whites": {"integers": 4095.0},
    }


def test_two_depths_are_refused_until_the_setting_decides(tmp_path: Path) -> None:
    deep = {f"dog/{number:02}.png": encoded(picture(number, 16)) for number in range(8)}
    root = pets(tmp_path, deep)
    with pytest.raises(DataError, match=r"24 images have no value above 4095 \(cat/00") as error:
        built(root)
    assert "8 images have values up to 65535 (dog/00" in error.value.what
    assert "--set data.bits=16" in error.value.next_step
    np.testing.assert_allclose(
        shown(built(root, bits=16), "cat/03.png"), picture(3) / 65535, atol=1 / 65535
    )
    data = built(root, bits=12)
    assert "8 images have values above data.bits = 12" in data.facts["warnings"][0]
    np.testing.assert_allclose(shown(data, "cat/03.png"), picture(3) / 4095, atol=1 / 65535)


def test_a_dark_image_among_deep_ones_stays_dark(tmp_path: Path) -> None:
    data = built(pets(tmp_path, {"dog/03.png": encoded(picture(3, 11))}, bits=16))
    np.testing.assert_allclose(shown(data, "dog/03.png"), picture(3, 11) / 65535, atol=1e-4)
    assert "dog/03.png" in data.facts["warnings"][0]


def test_bytes_in_a_sixteen_bit_file(tmp_path: Path) -> None:
    data = built(pets(tmp_path, {}, bits=8))
    np.testing.assert_allclose(shown(data, "cat/03.png"), picture(3, 8) / 255, atol=1 / 65535)


@pytest.mark.parametrize("shift", [0, 4])
def test_significant_bits_as_values_and_scaled_up(tmp_path: Path, shift: int) -> None:
    """Of two 12-bit PNGs with sBIT, one holds 0..4095, and one 0..65520, as the standard asks."""
    files = {
        f"{name}/{number}.png": significant(picture(100 * kind + number, 11) << shift, 12)
        for kind, name in enumerate(("cat", "dog"))
        for number in range(16)
    }
    files["cat/0.png"] = significant(picture(900) << shift, 12)
    data = built(folder(tmp_path, files))
    np.testing.assert_allclose(shown(data, "cat/3.png"), picture(3, 11) / 4095, atol=3e-4)
    assert data.facts["warnings"] == []


def test_bytes_and_deep_images_in_one_set_are_each_scaled_by_their_own_white(
    tmp_path: Path,
) -> None:
    grey = np.random.default_rng(9).integers(0, 256, (32, 32), np.uint8)
    rgb = np.random.default_rng(8).integers(0, 256, (32, 32, 3), np.uint8)
    data = built(pets(tmp_path, {"cat/grey.png": encoded(grey), "cat/rgb.png": encoded(rgb)}))
    np.testing.assert_array_equal(shown(data, "cat/grey.png"), grey / 255)
    np.testing.assert_allclose(shown(data, "cat/03.png"), picture(3) / 4095, atol=1 / 65535)
    row = [image["name"] for image in data.images].index("cat/rgb.png")
    np.testing.assert_array_equal(pixels(data)[row], rgb.transpose(2, 0, 1).astype(int) * 257)
    np.testing.assert_array_equal(pixels(unpack(Dataset, pack(data))), pixels(data))
    assert (data.channels, data.bits, data.facts["depth"]["images"]) == (3, 16, 32)


def test_floats_share_one_white(tmp_path: Path) -> None:
    files = {
        f"{name}/{number}.tif": encoded(picture(20 * kind + number, 8).astype(np.float32), "TIFF")
        for kind, name in enumerate(("cat", "dog"))
        for number in range(16)
    }
    dark = np.full((32, 32), 0.5, np.float32)
    files["cat/0.tif"] = encoded(dark, "TIFF")
    np.testing.assert_allclose(
        shown(built(folder(tmp_path, files)), "cat/0.tif"), dark / 255, atol=1e-5
    )


def test_a_file_that_states_its_white_is_believed() -> None:
    values = picture(1, 10)
    pgm = b"P5\n# of a detector\n32 32\n1023\n" + values.astype(">u2").tobytes()
    found = images.read(pgm, "a.pgm")
    assert isinstance(found, Wide)
    np.testing.assert_allclose(
        bit_depth.scaled(found, found.white or 0) / 65535, values / 1023, atol=1 / 65535
    )


def test_precision_is_kept_until_the_networks_input(tmp_path: Path) -> None:
    """A low-contrast ramp over 64 of 4096 levels. In 8 bits it would have four steps."""
    level = np.tile(np.arange(2000, 2064, dtype=np.uint16), (64, 1))
    files = {f"cat/{n}.png": encoded(picture(n, px=64)) for n in range(16)}
    files |= {f"dog/{n}.png": encoded(level + np.uint16(n)) for n in range(16)}
    source = open_source(str(folder(tmp_path, files)))
    config = DataConfig(cache_px=64)
    data = build_dataset(source, config)
    rows = [index for index, row in enumerate(data.images) if row["name"] == "dog/3.png"]
    render = views.Renderer(pixels(data), 32, [0.0], [1.0])
    plain = render.plain(torch.tensor(rows))[0, 0].numpy()
    exact = (level + 3.0).reshape(32, 2, 32, 2).mean((1, 3)) / 4095
    inner = np.s_[2:-2, 2:-2]
    assert np.abs(plain - exact)[inner].max() < 0.2 / 255
    drawn = views.draw(ViewsConfig(), 0, 0, identities(data), torch.arange(len(data.images)))
    assert render.views(torch.tensor(rows), drawn).unique().numel() > 200
    inputs = build_inputs(source, data, 32, 0, calibration=8, golden=4)
    golden = np.frombuffer(inputs.golden, np.uint8).reshape(4, 32, 32)
    for row, device in zip(inputs.rows["golden"], golden, strict=True):
        file = images.read((tmp_path / data.images[row]["name"]).read_bytes(), "")
        assert isinstance(file, Wide)
        fitted = images.fit(bit_depth.scaled(file, 4095), 32)
        np.testing.assert_array_equal(device, np.rint(fitted / 257))
