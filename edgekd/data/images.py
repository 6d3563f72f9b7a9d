"""Image files to uint8 arrays, and the one preprocessing that training, certification and the device share.

Everything that can arrive in a folder of images is either turned into uint8 HxW (grey) or HxWx3 (RGB), or refused with
a DataError that names the file. Only this file imports Pillow.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageOps, UnidentifiedImageError

from edgekd.core.errors import DataError, UnknownName

Pixels = NDArray[np.uint8]

# What a file must be called to be taken for an image; anything else in a folder is counted and left alone.
IMAGE_SUFFIXES = frozenset(
    {
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".bmp",
        ".gif",
        ".tif",
        ".tiff",
        ".webp",
        ".pgm",
        ".ppm",
        ".pnm",
    }
)

# Pillow's other readers stay shut: some start programs (EPS starts Ghostscript), and none holds photographs.
# JPEG includes MPO, the two-picture JPEG that many phones write: its first picture is taken.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")

# 64 megapixels are 192 MB as RGB, and two are decoded at once. The largest radiograph detectors have about 20.
MAX_PIXELS = 64_000_000

FIT_MODES = ("squash", "crop", "pad")

# Radiography detectors write 10 to 12 bits into 16-bit files. Scaled by 65535 such an image would be nearly black,
# and an image of 16 real bits whose brightest pixel is below 1/16 of the scale is not a photograph of anything.
_TWELVE_BITS = 4095
_SIXTEEN_BITS = 65535


def decode(data: bytes, name: str) -> Pixels:
    """Decode one image file to uint8 HxW (a grey file) or HxWx3 (RGB).

    EXIF rotation is applied; of an animation the first frame is taken. 16-bit grey is scaled by its range (12 bits
    where nothing is brighter than 4095). Transparent pixels are laid on black: that is what `fit` pads with, it means
    "no signal" in a radiograph, and the colours hidden under full transparency must not reach a network. CMYK becomes
    RGB without a colour profile.

    Raises DataError, naming `name`, when the bytes are not an image, are truncated or corrupt, or hold too many pixels.
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
    except Exception as error:  # Pillow's readers raise OSError, SyntaxError, struct.error, IndexError ... on bad bytes
        raise DataError(
            f"{name}: {_why_unreadable(data, error)}",
            "replace or remove the file, or build with --set data.on_error=skip",
        ) from error


def encode_png(picture: Pixels) -> bytes:
    """uint8 HxW, HxWx1 or HxWx3 as a PNG without colour profile or times; three equal channels become one."""
    grey = picture[..., 0] if picture.ndim == 3 and picture.shape[2] == 1 else picture
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(as_grey(grey) if is_grey(grey) else grey)).save(
        buffer, "PNG"
    )
    return buffer.getvalue()


def header_size(path: Path | io.BytesIO) -> tuple[int, int]:
    """Width and height that an image file's header claims, or (0, 0) when it cannot be read. Decodes nothing."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            return image.size
    except (
        Exception
    ):  # the same zoo as in `decode`, which reports the file properly when its turn comes
        return (0, 0)


def is_grey(image: Pixels) -> bool:
    """True when the image has one channel, or three equal ones (a grey photograph saved as RGB)."""
    if image.ndim == 2:
        return True
    red = image[..., 0]
    return bool(np.array_equal(red, image[..., 1]) and np.array_equal(red, image[..., 2]))


def as_grey(image: Pixels) -> Pixels:
    """HxW of an image for which `is_grey` holds."""
    return image if image.ndim == 2 else image[..., 0]


def as_rgb(image: Pixels) -> Pixels:
    """HxWx3; a grey image is repeated."""
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def fit(image: Pixels, px: int, mode: str = "squash") -> Pixels:
    """Bring an image to px x px: the deployed preprocessing, so the device must do the same.

    Takes uint8 HxW, HxWx1 or HxWx3 and returns the same kind, [px, px] or [px, px, c]. Resampling is Pillow's bilinear filter,
    which averages over the whole footprint when it shrinks (antialiased), unlike a four-neighbour bilinear; first along the
    width, then along the height, each rounded to 8 bits.

    "squash"  the whole image to the square: nothing is lost, the aspect ratio is not kept
    "crop"    the largest centred square to the square: shorter side to px
    "pad"     longer side to px, centred, black bars

    Raises UnknownName for another mode and DataError for a px below 1.
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
    # Width first, then height, in two calls: Pillow 13 picks the order by cost and older ones do not, which moves pixels by
    # one level. What apps must repeat has to be one thing.
    wide = picture.resize((width, picture.height), Image.Resampling.BILINEAR)
    return np.asarray(wide.resize((width, height), Image.Resampling.BILINEAR))


def _check_size(size: tuple[int, int], name: str) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise _too_large(name, f"{width} x {height} pixels")


def _too_large(name: str, found: str) -> DataError:
    return DataError(
        f"{name}: {found}; the limit is {MAX_PIXELS // 1_000_000} megapixels (for example 8000 x 8000), "
        "so that a damaged or hostile header cannot fill the memory",
        "scale the image down first, remove it, or build with --set data.on_error=skip",
    )


def _why_unreadable(data: bytes, error: Exception) -> str:
    """One clause that says what the bytes are, as far as that can be told."""
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
    """A loaded Pillow image of any mode to uint8 HxW or HxWx3."""
    if image.mode == "CMYK" and image.format in ("JPEG", "MPO") and "adobe" not in image.info:
        # Pillow takes every CMYK JPEG for an inverted one, as Adobe writes them; without Adobe's marker it is not.
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
    """Lay an image with transparency (alpha, or one transparent colour) on black."""
    layer = image.convert("RGBA")
    flat = np.asarray(Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer))[
        ..., :3
    ]
    return np.ascontiguousarray(flat[..., 0] if image.mode in ("1", "L", "LA", "La") else flat)


def _from_wide(values: NDArray[np.generic], name: str) -> Pixels:
    """16-bit, 32-bit and float grey to uint8 by the range the numbers claim; a range that is not clear is refused."""
    wide = values.astype(np.float64)
    low, high = float(wide.min()), float(wide.max())
    top: int | float | None = None
    if np.issubdtype(values.dtype, np.integer) and low >= 0 and high <= _SIXTEEN_BITS:
        top = _TWELVE_BITS if high <= _TWELVE_BITS else _SIXTEEN_BITS
    elif np.issubdtype(values.dtype, np.floating) and low >= 0 and high <= 255:
        top = 1.0 if high <= 1.0 else 255
    if top is None:
        raise DataError(
            f"{name}: {values.dtype} pixels from {low:g} to {high:g}; what is black and what is white "
            "cannot be told",
            "save it as 8-bit or 16-bit grey, or build with --set data.on_error=skip",
        )
    return np.rint(wide * (255 / top)).astype(np.uint8)
