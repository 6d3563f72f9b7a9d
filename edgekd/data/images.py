"""Image files as arrays, and the preprocessing that training, export and device share.

Every file is either read as uint8 [height, width] (grey), uint8 [height, width, 3] (RGB) or grey of
more than 8 bits (`bit_depth.Wide`), or refused with a DataError that names it. In this room only
this file imports Pillow.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageOps, UnidentifiedImageError, features

from edgekd.core.errors import DataError, UnknownName
from edgekd.data import bit_depth, dicom_file, wide_images
from edgekd.data.bit_depth import Wide
from edgekd.data.file_kinds import AVIF_BRANDS, DICOM_SUFFIXES, HEIF_BRANDS, brand, is_dicom
from edgekd.data.pixel_rules import FIRST_WINDOW, Window

Pixels = NDArray[np.uint8]

# Pillow's other readers are not used: some start programs (EPS starts Ghostscript), and none is for
# photographs. JPEG includes MPO, the two-picture JPEG of many phones; its first picture is taken.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000")

# 64 megapixels are 192 MB as RGB, and two images are decoded at once. The largest detectors of
# radiographs have about 20 megapixels.
MAX_PIXELS = 64_000_000

FIT_MODES = ("squash", "crop", "pad")


def decode(data: bytes, name: str) -> Pixels:
    """An image file as uint8 [height, width] (a grey file) or [height, width, 3] (RGB).

    As `read`, with grey of more than 8 bits scaled by what the image alone shows. Raises DataError
    as `read` does.
    """
    found = read(data, name)
    return bit_depth.narrowed_alone(found, name) if isinstance(found, Wide) else found


def read(data: bytes, name: str, window: Window = FIRST_WINDOW) -> Pixels | Wide:
    """An image file as uint8 [height, width] (grey), uint8 [height, width, 3] (RGB), or grey of
    more than 8 bits.

    EXIF rotation is applied, and the first frame of an animation is taken. Transparent pixels are
    laid on black. Black is what `fit` pads with, it means "no signal" in a radiograph, and colours
    hidden under full transparency must not reach a network. CMYK becomes RGB without a colour
    profile. `window`: how the values of a DICOM file become grey levels.

    Raises DataError, with `name`, when the bytes are not an image, are truncated or damaged, hold
    more than MAX_PIXELS pixels, or need a package that is not installed.
    """
    if is_dicom(data) or PurePath(name).suffix.lower() in DICOM_SUFFIXES:
        found = dicom_file.read(data, name, window, MAX_PIXELS)
        if found is not None:
            return found
    try:
        with Image.open(io.BytesIO(data), formats=_formats()) as image:
            _check_size(image.size, name)
            image.load()
            return _to_array(image, data, name)
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(name, str(error)) from error
    except Exception as error:  # Pillow raises OSError, SyntaxError, struct.error, IndexError, ...
        reason, step = _why_unreadable(data, error)
        raise DataError(f"{name}: {reason}", step) from error


@functools.cache
def _formats() -> tuple[str, ...]:
    """The formats that Pillow may open here, with those of plug-ins that are installed."""
    found: tuple[str, ...] = _FORMATS
    if features.check("avif"):
        found += ("AVIF",)
    try:
        import pillow_heif
    except ImportError:
        return found
    pillow_heif.register_heif_opener()
    return (*found, "HEIF")


def encode_png(picture: Pixels) -> bytes:
    """A PNG of uint8 [height, width], [height, width, 1] or [height, width, 3].

    Three equal channels become one. The file has no colour profile and no times, so that equal
    pixels give equal bytes.
    """
    grey = picture[..., 0] if picture.ndim == 3 and picture.shape[2] == 1 else picture
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(as_grey(grey) if is_grey(grey) else grey)).save(
        buffer, "PNG"
    )
    return buffer.getvalue()


def header_size(path: Path | io.BytesIO) -> tuple[int, int]:
    """Width and height in an image file's header, or (0, 0) when it cannot be read.

    Nothing is decoded.
    """
    try:
        with Image.open(path, formats=_formats()) as image:
            return image.size
    except Exception:  # as in `read`, which later reports the file with its reason
        return dicom_file.header_size(path)


def is_grey(image: Pixels) -> bool:
    """Whether an image has one channel, or three equal ones (a grey photograph saved as RGB)."""
    if image.ndim == 2:
        return True
    red = image[..., 0]
    return bool(np.array_equal(red, image[..., 1]) and np.array_equal(red, image[..., 2]))


def as_grey(image: Pixels) -> Pixels:
    """[height, width] of an image for which `is_grey` holds."""
    return image if image.ndim == 2 else image[..., 0]


def as_rgb(image: Pixels) -> Pixels:
    """[height, width, 3]; a grey image is repeated."""
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def fit[Level: (np.uint8, np.uint16)](
    image: NDArray[Level],
    px: int,
    mode: str = "squash",
    resize: Callable[[NDArray[Level], int, int], NDArray[Level]] | None = None,
) -> NDArray[Level]:
    """Bring an image to px x px. Apps must do the same on the device.

    `image`: uint8 [height, width], [height, width, 1] or [height, width, 3], or uint16
    [height, width]. The result has the same type and is [px, px], [px, px, 1] or [px, px, 3].
    Modes:

    * "squash": the whole image becomes the square; its aspect ratio is not kept
    * "crop": the largest centred square becomes the square
    * "pad": the longer side becomes px; the image is centred between black bars

    `resize(image, width, height)`: another resizer than `resized`.

    Raises UnknownName for another mode, and DataError for a px below 1.
    """
    if mode not in FIT_MODES:
        raise UnknownName("fit mode", mode, FIT_MODES, f"one of {', '.join(FIT_MODES)}")
    if px < 1:
        raise DataError(
            f"an image cannot be brought to {px} px", "give a size of at least 1, for example 96"
        )
    if image.ndim == 3 and image.shape[2] == 1:
        return fit(image[..., 0], px, mode, resize)[..., None]
    resize = resize or resized
    height, width = image.shape[:2]
    if mode == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return resize(image[top : top + side, left : left + side], px, px)
    if mode == "pad":
        longest = max(height, width)
        inner = resize(
            image, max(1, round(width * px / longest)), max(1, round(height * px / longest))
        )
        square = np.zeros((px, px, *image.shape[2:]), image.dtype)
        top, left = (px - inner.shape[0]) // 2, (px - inner.shape[1]) // 2
        square[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
        return square
    return resize(image, px, px)


def resized[Level: (np.uint8, np.uint16)](
    image: NDArray[Level], width: int, height: int
) -> NDArray[Level]:
    """An image, uint8 [h, w] or [h, w, 3] or uint16 [h, w], at another size.

    Resampling is Pillow's bilinear filter, first along the width, then along the height, each
    rounded to 8 bits; of 16-bit images only the end is rounded. When it shrinks an image it
    averages over all pixels that a result covers (antialiasing), unlike a bilinear filter over four
    neighbours.
    """
    if image.shape[:2] == (height, width):
        return np.ascontiguousarray(image)
    wide = image.dtype == np.uint16
    # Pillow resamples 16-bit images as floats only (its mode F).
    picture = Image.fromarray(np.ascontiguousarray(image, np.float32 if wide else None))
    # In two calls, width first: Pillow 13 chooses the order by cost and older versions do not,
    # which moves pixels by one level. Apps have to repeat one fixed order.
    across = picture.resize((width, picture.height), Image.Resampling.BILINEAR)
    resized = np.asarray(across.resize((width, height), Image.Resampling.BILINEAR))
    return np.rint(resized).astype(image.dtype) if wide else resized


def resized_bicubic(image: Pixels, width: int, height: int) -> Pixels:
    """uint8 [h, w] or [h, w, 3] at another size by Pillow's bicubic filter, antialiased."""
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def through_jpeg(image: Pixels, quality: int) -> Pixels:
    """uint8 [h, w] or [h, w, 3] after it was a JPEG of this quality, 1 to 95, with Pillow's usual
    subsampling of colours.
    """
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as written:
        return np.asarray(written)


def _check_size(size: tuple[int, int], name: str) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise _too_large(name, f"{width} x {height} pixels")


def _too_large(name: str, found: str) -> DataError:
    return DataError(
        f"{name}: {found}; the limit is {MAX_PIXELS // 1_000_000} megapixels (for example 8000 x "
        "8000), so that a damaged or hostile header cannot fill the memory",
        "scale the image down first, remove it, or build with --set data.on_error=skip",
    )


def _why_unreadable(data: bytes, error: Exception) -> tuple[str, str]:
    """A clause that says what the bytes are, as far as they show it, and the next step."""
    replace = "replace or remove the file, or build with --set data.on_error=skip"
    if not data:
        return "the file is empty", replace
    if not isinstance(error, UnidentifiedImageError):
        return f"damaged image ({error})", replace
    if brand(data) in AVIF_BRANDS and "AVIF" not in _formats():
        return "an AVIF image, which this Pillow cannot read", "pip install -U pillow"
    if brand(data) in HEIF_BRANDS:
        if "HEIF" not in _formats():
            needed = "a HEIC image, which needs the package 'pillow-heif'"
            return needed, "pip install 'edgekd[heif]'"
        return "a damaged HEIC image", replace
    return f"not an image (it starts with {data[:12]!r})", replace


def _to_array(image: Image.Image, data: bytes, name: str) -> Pixels | Wide:
    """A loaded Pillow image of any mode, as `read` returns it. `data`: its file."""
    if image.mode == "CMYK" and image.format in ("JPEG", "MPO") and "adobe" not in image.info:
        # Pillow treats every CMYK JPEG as inverted, as Adobe writes it. Without Adobe's marker it
        # is not inverted.
        image = ImageChops.invert(image)
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I") or upright.mode == "F":
        tags = dict(getattr(image, "tag_v2", {}))
        return wide_images.from_values(np.asarray(upright), str(image.format), data, tags, name)
    if upright.has_transparency_data:
        return _on_black(upright)
    if upright.mode in ("1", "L"):
        return np.asarray(upright.convert("L"))
    return np.asarray(upright.convert("RGB"))


def _on_black(image: Image.Image) -> Pixels:
    """An image with transparency (alpha, or one transparent colour) laid on black."""
    layer = image.convert("RGBA")
    flat = np.asarray(Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer))[
        ..., :3
    ]
    return np.ascontiguousarray(flat[..., 0] if image.mode in ("1", "L", "LA", "La") else flat)
