"""Every kind of image file is decoded correctly, or refused with a reason. Real files, no mocks."""

from __future__ import annotations

import io
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from edgekd.core.errors import DataError, UnknownName
from edgekd.data import images
from edgekd.data.bit_depth import Wide


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """An image file's bytes."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def ramp(height: int = 20, width: int = 30) -> images.Pixels:
    """A grey image in which every corner differs."""
    return (np.arange(height)[:, None] * 5 + np.arange(width) * 3).astype(np.uint8)


def colours(height: int = 20, width: int = 30) -> images.Pixels:
    """An RGB image whose channels differ."""
    return np.stack(
        [ramp(height, width), 255 - ramp(height, width), ramp(height, width) // 2], axis=2
    )


def test_grey_and_rgb_png_come_out_bit_for_bit() -> None:
    for picture in (ramp(), colours()):
        found = images.decode(encoded(Image.fromarray(picture), "PNG"), "a.png")
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, picture)


def test_jpeg_is_within_its_loss() -> None:
    found = images.decode(
        encoded(Image.fromarray(colours()), "JPEG", quality=95, subsampling=0), "a.jpg"
    )
    assert np.abs(found.astype(int) - colours()).mean() < 3


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_rotation_is_undone(turn: int) -> None:
    upright = Image.fromarray(ramp())
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[turn]) if turn in undo else upright
    exif = Image.Exif()
    exif[0x0112] = turn
    found = images.decode(encoded(stored, "PNG", exif=exif), "turned.png")
    np.testing.assert_array_equal(found, ramp())


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    wide = np.linspace(0, 65535, 600).reshape(20, 30).astype(np.uint16)
    for kind in ("PNG", "TIFF"):
        found = images.decode(encoded(Image.fromarray(wide), kind), "wide")
        np.testing.assert_array_equal(found, np.rint(wide / 257.0).astype(np.uint8))


def test_twelve_bits_in_a_sixteen_bit_file_use_the_whole_range() -> None:
    wide = np.linspace(0, 4095, 600).reshape(20, 30).astype(np.uint16)
    found = images.decode(encoded(Image.fromarray(wide), "PNG"), "detector.png")
    np.testing.assert_array_equal(found, np.rint(wide * (255 / 4095)).astype(np.uint8))


def test_float_tiff_in_a_known_range_is_scaled_and_another_is_refused() -> None:
    unit = np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30)
    np.testing.assert_array_equal(
        images.decode(encoded(Image.fromarray(unit), "TIFF"), "unit.tif"),
        np.rint(unit.astype(float) * 255).astype(np.uint8),
    )
    for odd in (unit * 3000 - 1000, np.where(unit > 0.5, np.nan, unit).astype(np.float32)):
        with pytest.raises(DataError, match=r"hounsfield\.tif.*black") as error:
            images.decode(encoded(Image.fromarray(odd), "TIFF"), "hounsfield.tif")
        assert error.value.next_step


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_on_black(mode: str) -> None:
    picture = np.full((4, 6, len(mode) if mode == "LA" else 4), 200, np.uint8)
    picture[..., -1] = 0
    picture[:, 3:, -1] = 255
    picture[:, 5, -1] = 128
    found = images.decode(encoded(Image.fromarray(picture, mode), "PNG"), "alpha.png")
    assert found.ndim == (2 if mode == "LA" else 3)
    assert (found[:, :3] == 0).all()
    assert (found[:, 3:5] == 200).all()
    assert np.abs(found[:, 5].astype(int) - 100).max() <= 1


def test_one_transparent_colour_is_laid_on_black() -> None:
    found = images.decode(
        encoded(Image.fromarray(np.full((4, 4), 77, np.uint8)), "PNG", transparency=77), "key.png"
    )
    assert (found == 0).all()


def test_palette_with_and_without_transparency() -> None:
    picture = Image.new("P", (4, 2))
    picture.putpalette([255, 0, 0, 0, 255, 0])
    picture.putpixel((1, 0), 1)
    found = images.decode(encoded(picture, "PNG"), "palette.png")
    assert found[0, 0].tolist() == [255, 0, 0]
    assert found[0, 1].tolist() == [0, 255, 0]
    keyed = images.decode(encoded(picture, "PNG", transparency=0), "palette.png")
    assert keyed[0, 0].tolist() == [0, 0, 0]


def test_one_bit_becomes_black_and_white() -> None:
    bits = np.arange(24).reshape(4, 6) % 3 == 0
    found = images.decode(encoded(Image.fromarray(bits), "PNG"), "bits.png")
    np.testing.assert_array_equal(found, bits * np.uint8(255))


def test_cmyk_jpeg_with_and_without_adobes_inversion_and_cmyk_tiff() -> None:
    # Cyan ink only: red is gone, green and blue stay.
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    adobe = encoded(cyan, "JPEG", quality=95)
    at = adobe.index(b"\xff\xee")
    assert adobe[at + 4 : at + 9] == b"Adobe"
    length = int.from_bytes(adobe[at + 2 : at + 4], "big")
    # Without Adobe's marker the same bytes are not inverted, so that cyan's file reads as its
    # opposite.
    plain = adobe[:at] + adobe[at + 2 + length :]
    flat = encoded(cyan, "TIFF")
    for data, expected in ((adobe, (0, 255, 255)), (flat, (0, 255, 255)), (plain, (0, 0, 0))):
        found = images.decode(data, "ink")
        assert np.abs(found.astype(int) - expected).max() <= 3


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("L", (8, 8), level) for level in (10, 100, 200)]
    for kind in ("GIF", "PNG", "TIFF", "WEBP", "MPO"):
        found = images.decode(
            encoded(frames[0], kind, save_all=True, append_images=frames[1:]), "moving"
        )
        assert np.abs(images.as_grey(found).astype(int) - 10).max() <= 1, (
            kind
        )  # WEBP and MPO are lossy


def test_one_pixel_image() -> None:
    found = images.decode(encoded(Image.new("RGB", (1, 1), (9, 8, 7)), "PNG"), "dot.png")
    for mode in images.FIT_MODES:
        assert images.fit(found, 4, mode).shape == (4, 4, 3)


def test_truncated_jpeg_and_png_are_refused_by_name() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for kind in ("JPEG", "PNG"):
        whole = encoded(Image.fromarray(noise), kind)
        for share in (0.3, 0.6, 0.95):
            with pytest.raises(DataError, match=r"cut\.x.*damaged") as error:
                images.decode(whole[: int(len(whole) * share)], "cut.x")
            assert "on_error=skip" in error.value.next_step


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"This is a text file named .jpg\n", "not an image"),
        (b"\0\0\0\x18ftypheic" + b"\0" * 40, "HEIC"),
        (b"\0" * 128 + b"DICM" + b"\0" * 40, "DICOM"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    ],
)
def test_what_is_no_image_is_named_for_what_it_is(data: bytes, said: str) -> None:
    with pytest.raises(DataError, match=rf"photo\.jpg: .*{said}") as error:
        images.decode(data, "photo.jpg")
    assert error.value.next_step


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds almost nothing, like a decompression bomb."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [30_000, 12_000, 9_000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_decompression_bomb_is_refused_by_its_header(side: int) -> None:
    with pytest.raises(DataError, match=r"bomb\.png.*64 megapixels") as error:
        images.decode(png_header(side, side), "bomb.png")
    assert error.value.next_step


def test_grey_in_fact() -> None:
    grey = np.repeat(ramp()[..., None], 3, axis=2)
    assert images.is_grey(ramp())
    assert images.is_grey(grey)
    assert not images.is_grey(colours())
    np.testing.assert_array_equal(images.as_grey(grey), ramp())
    np.testing.assert_array_equal(images.as_rgb(ramp()), grey)


def test_fit_modes() -> None:
    wide = np.zeros((10, 30), np.uint8)
    wide[:, 10:20] = 255  # the centred square
    assert (images.fit(wide, 5, "crop") == 255).all()
    squashed = images.fit(wide, 30, "squash")
    assert squashed.shape == (30, 30)
    assert (squashed[:, 15] == 255).all()
    padded = images.fit(np.full((10, 30), 255, np.uint8), 30, "pad")
    assert (padded[10:20] == 255).all()
    assert (padded[:10] == 0).all()
    assert (padded[20:] == 0).all()


def test_fit_keeps_a_square_of_the_right_size_and_averages_when_it_shrinks() -> None:
    square = colours(24, 24)
    np.testing.assert_array_equal(images.fit(square, 24), square)
    checks = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    assert (
        np.abs(images.fit(checks, 8).astype(int) - 127).max() <= 4
    )  # a four-neighbour bilinear would alias


def test_fit_of_a_hair_thin_image() -> None:
    for mode in images.FIT_MODES:
        assert images.fit(np.full((1, 4000), 9, np.uint8), 16, mode).shape == (16, 16)


def test_fit_refuses_unknown_modes_and_sizes() -> None:
    with pytest.raises(UnknownName, match="fit mode") as error:
        images.fit(ramp(), 8, "squish")
    assert "squash" in error.value.next_step
    with pytest.raises(DataError, match="0 px"):
        images.fit(ramp(), 0)


def test_jpeg_2000_avif_and_heic_are_read() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    lossless = images.decode(encoded(Image.fromarray(colours()), "JPEG2000"), "a.jp2")
    np.testing.assert_array_equal(lossless, colours())
    smooth = Image.fromarray(colours(64, 64))
    found = [images.decode(encoded(smooth, "AVIF", quality=95), "a.avif")]
    heic = pillow_heif.from_pillow(smooth)
    file = io.BytesIO()
    heic.save(file, quality=95)
    found.append(images.decode(file.getvalue(), "a.heic"))
    for picture in found:
        assert np.abs(picture.astype(int) - colours(64, 64)).mean() < 6


def test_twelve_bits_of_jpeg_2000_are_not_shifted() -> None:
    encoder = pytest.importorskip("openjpeg.utils")
    wide = np.linspace(0, 4095, 64 * 64).reshape(64, 64).astype(np.uint16)
    data = encoder.encode_array(wide, bits_stored=12, photometric_interpretation=2)
    found = images.read(data, "a.j2k")
    assert isinstance(found, Wide)
    assert found.white == 4095
    np.testing.assert_array_equal(found.values, wide)


def test_without_its_package_a_heic_file_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    images._formats.cache_clear()
    try:
        with pytest.raises(DataError, match=r"photo\.heic: .*pillow-heif") as error:
            images.read(b"\0\0\0\x18ftypheic" + b"\0" * 40, "photo.heic")
    finally:
        images._formats.cache_clear()
    assert error.value.next_step == "pip install 'edgekd[heif]'"
