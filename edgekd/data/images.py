"""Image files as uint8 arrays, and the preprocessing that training, export and device share.

Every file is either decoded to uint8 [height, width] (grey) or [height, width, 3] (RGB), or refused
with a DataError that names it. In this package only this file imports Pillow.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageOps, UnidentifiedImageError

from edgekd.core.errors import DataError, UnknownName

Pixels = NDArray[np.uint8]

# Pillow's other readers are not used: some start programs (EPS starts Ghostscript), and none is for
# photographs. JPEG includes MPO, the two-picture JPEG of many phones; its first picture is taken.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")

# 64 megapixels are 192 MB as RGB, and two images are decoded at once. The largest detectors of
# radiographs have about 20 megapixels.
MAX_PIXELS = 64_000_000

FIT_MODES = ("squash", "crop", "pad")

# Detectors of radiographs write 10 to 12 bits into 16-bit files. Divided by 65535, such an image
# would be nearly black. No real 16-bit photograph has its brightest pixel below 1/16 of the scale,
# so that 4095 tells the two apart.
_TWELVE_BITS = 4095
_SIXTEEN_BITS = 65535


def decode(data: bytes, name: str) -> Pixels:
    """Decode an image file to uint8 [height, width] (a grey file) or [height, width, 3] (RGB).

    EXIF rotation is applied, and the first frame of an animation is taken. 16-bit grey is scaled by
    its range: 12 bits when no pixel is brighter than 4095. Transparent pixels are laid on black.
    Black is what `fit` pads with, it means "no signal" in a radiograph, and colours hidden under
    full transparency must not reach a network. CMYK becomes RGB without a colour profile.

    Raises DataError, with `name`, when the bytes are not an image, are truncated or damaged, or
    hold more than MAX_PIXELS pixels.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _check_size(image.size, name)
            image.load()
            return _to_array(image, name)
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(name, str(error)) from error
    except Exception as error:  # Pillow raises OSError, SyntaxError, struct.error, IndexError, ...
        raise DataError(
            f"{name}: {_why_unreadable(data, error)}",
            "replace or remove the file, or build with --set data.on_error=skip",
        ) from error


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
        with Image.open(path, formats=_FORMATS) as image:
            return image.size
    except Exception:  # as in `decode`, which later reports the file with its reason
        return (0, 0)


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


def fit(image: Pixels, px: int, mode: str = "squash") -> Pixels:
    """Bring an image to px x px. Apps must do the same on the device.

    `image`: uint8 [height, width], [height, width, 1] or [height, width, 3]; the result is
    [px, px], [px, px, 1] or [px, px, 3]. Modes:

    * "squash": the whole image becomes the square; its aspect ratio is not kept
    * "crop": the largest centred square becomes the square
    * "pad": the longer side becomes px; the image is centred between black bars

    Resampling is Pillow's bilinear filter, first along the width, then along the height, each
    rounded to 8 bits. When it shrinks an image it averages over all pixels that a result covers
    (antialiasing), unlike a bilinear filter over four neighbours.

    Raises UnknownName for another mode, and DataError for a px below 1.
    """
    if mode not in FIT_MODES:
        raise UnknownName("fit mode", mode, FIT_MODES, f"one of {', '.join(FIT_MODES)}")
    if px < 1:
        raise DataError(
            f"an image cannot be brought to {px} px", "give a size of at least 1, for example 96"
        )
    if image.ndim == 3 and image.shape[2] == 1:
        return fit(image[..., 0], px, mode)[..., None]
    height, width = image.shape[:2]
    if mode == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return _resize(image[top : top + side, left : left + side], px, px)
    if mode == "pad":
        longest = max(height, width)
        inner = _resize(
            image, max(1, round(width * px / longest)), max(1, round(height * px / longest))
        )
        square = np.zeros((px, px, *image.shape[2:]), np.uint8)
        top, left = (px - inner.shape[0]) // 2, (px - inner.shape[1]) // 2
        square[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
        return square
    return _resize(image, px, px)


def _resize(image: Pixels, width: int, height: int) -> Pixels:
    if image.shape[:2] == (height, width):
        return np.ascontiguousarray(image)
    picture = Image.fromarray(np.ascontiguousarray(image))
    # In two calls, width first: Pillow 13 chooses the order by cost and older versions do not,
    # which moves pixels by one level. Apps have to repeat one fixed order.
    wide = picture.resize((width, picture.height), Image.Resampling.BILINEAR)
    return np.asarray(wide.resize((width, height), Image.Resampling.BILINEAR))


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


def _why_unreadable(data: bytes, error: Exception) -> str:
    """A clause that says what the bytes are, as far as they show it."""
    if not data:
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        if data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypavif"):
            return "a HEIC or AVIF image, which is not supported; save it as JPEG or PNG"
        if data[128:132] == b"DICM":
            return "a DICOM file, which is not supported; export it as 16-bit PNG"
        return f"not an image (it starts with {data[:12]!r})"
    return f"damaged image ({error})"


def _to_array(image: Image.Image, name: str) -> Pixels:
    """A loaded Pillow image of any mode as uint8 [height, width] or [height, width, 3]."""
    if image.mode == "CMYK" and image.format in ("JPEG", "MPO") and "adobe" not in image.info:
        # Pillow treats every CMYK JPEG as inverted, as Adobe writes it. Without Adobe's marker it
        # is not inverted.
        image = ImageChops.invert(image)
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I") or upright.mode == "F":
        return _from_wide(np.asarray(upright), name)
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


def _from_wide(values: NDArray[np.generic], name: str) -> Pixels:
    """16-bit, 32-bit and float grey as uint8, scaled by the range that the values show.

    Raises DataError when black and white cannot be told from the values.
    """
    wide = values.astype(np.float64)
    low, high = float(wide.min()), float(wide.max())
    top: int | float | None = None
    if np.issubdtype(values.dtype, np.integer) and low >= 0 and high <= _SIXTEEN_BITS:
        top = _TWELVE_BITS if high <= _TWELVE_BITS else _SIXTEEN_BITS
    elif np.issubdtype(values.dtype, np.floating) and low >= 0 and high <= 255:
        top = 1.0 if high <= 1.0 else 255
    if top is None:
        raise DataError(
            f"{name}: {values.dtype} pixels from {low:g} to {high:g}; black and white cannot be "
            "told from them",
            "save it as 8-bit or 16-bit grey, or build with --set data.on_error=skip",
        )
    return np.rint(wide * (255 / top)).astype(np.uint8)
