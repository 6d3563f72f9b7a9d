"""Test vectors for the preprocessing of apps (schema edgekd.preprocess_vectors/1).

A vector is a small picture with the bytes of the input tensor that it becomes, made here by the
code that prepared the training images. Every sample of the bundle reads the file and must make the
same bytes. The pictures come from a formula in integers, so that every machine makes the same file.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from msgspec import structs

from edgekd.bundle import deployment, golden_set, plain_pictures
from edgekd.bundle.deployment_record import Deployment, ImageInput
from edgekd.bundle.plain_pictures import JPEG_BLOCK
from edgekd.bundle.vector_record import PixelFormat, Plane, PreprocessVector, PreprocessVectors
from edgekd.core.records import UNSET, to_json
from edgekd.core.store import facts_json
from edgekd.data import images

FILE = "samples/preprocess_vectors.json"
TOLERANCE = 0
# Another normalisation than the bundle's, whose codes equal the pixels: ImageNet's, on a grid that
# cuts off at both ends.
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
COARSE_GRID = {"scale": 0.0173, "zero_point": 117}
# BT.601 with full range, as JFIF has it, times 2 ** 16: red of V, green of U and V, blue of U.
YUV_BITS = 16
RED_V, GREEN_U, GREEN_V, BLUE_U = 91881, 22554, 46802, 116130

Pixels = npt.NDArray[np.uint8]


def file(contract: Deployment) -> bytes:
    """The JSON for a bundle with this contract."""
    vectors = [
        *_fits(contract.input),
        *_formats(contract.input),
        *_inputs(contract.input),
        *_in_frames(contract.input),
        *_orientations(contract.input),
        *_camera_frames(contract.input),
    ]
    return facts_json(to_json(PreprocessVectors(tolerance=TOLERANCE, vectors=vectors)))


def _picture(width: int, height: int, channels: int, seed: int) -> Pixels:
    """A rough picture, uint8 [height, width, channels]."""
    y, x, c = np.mgrid[0:height, 0:width, 0:channels]
    steep = x * (31 + 12 * c) + y * (17 + 26 * c) + (x * y * (seed + 7) >> 2) + 57 * c + 41 * seed
    return (steep + 40 * ((x >> 3) + (y >> 3)) % 256).astype(np.uint8)


def _fits(source: ImageInput) -> Iterator[PreprocessVector]:
    """Each way of fitting, for sizes that are odd, tiny, long, or need no resizing."""
    for mode, width, height, px in (
        ("squash", 61, 47, 17),
        ("squash", 5, 9, 19),
        ("squash", 257, 5, 8),
        ("squash", 1, 1, 7),
        ("squash", 17, 17, 17),
        ("crop", 64, 33, 16),
        ("crop", 31, 50, 15),
        ("crop", 40, 1, 6),
        ("pad", 50, 31, 24),
        ("pad", 21, 60, 30),  # 10.5 columns, which become 10
        ("pad", 60, 23, 30),  # 11.5 rows, which become 12
        ("pad", 90, 1, 12),
    ):
        name = f"{mode} {width} x {height} to {px}"
        picture = _picture(width, height, 3, len(name))
        yield _vector(name, PixelFormat.RGB, picture, _sized(source, px, mode))
    yield _vector("the bundle's own input", PixelFormat.RGB, _picture(61, 47, 3, 1), source)


def _formats(source: ImageInput) -> Iterator[PreprocessVector]:
    """Grey and transparent images, also as PNG."""
    small = _sized(source, 13, "squash")
    grey = _picture(33, 21, 1, 2)
    yield _vector("grey", PixelFormat.GREY, grey, small, plain_pictures.png(grey))
    clear = _picture(29, 34, 4, 3)
    clear[:4, :, 3], clear[4:8, :, 3] = 0, 255
    yield _vector("transparent on black", PixelFormat.RGBA, clear, small, plain_pictures.png(clear))
    colour = _picture(19, 23, 3, 4)
    yield _vector("colour as PNG", PixelFormat.RGB, colour, small, plain_pictures.png(colour))


def _inputs(source: ImageInput) -> Iterator[PreprocessVector]:
    """Other orders, channels and normalisations than the bundle's."""
    small = structs.replace(_sized(source, 14, "squash"), channels=3, **IMAGENET, **COARSE_GRID)
    for order in ("RGB", "BGR"):
        one = structs.replace(small, order=order)
        yield _vector(f"ImageNet's, {order}", PixelFormat.RGB, _picture(27, 35, 3, 5), one)
    single = structs.replace(small, channels=1, order="grey", mean=[0.449], std=[0.226])
    yield _vector("one channel", PixelFormat.GREY, _picture(26, 15, 1, 6), single)


def _in_frames(source: ImageInput) -> Iterator[PreprocessVector]:
    """Inputs that are no square: a picture of their size, and two of other sizes."""
    for frame, fit in (([20, 27], "crop"), ([27, 20], "squash")):
        one = structs.replace(_sized(source, 15, fit), frame=frame)
        for width, height in ((27, 20), (33, 40)):
            name = f"{fit} {width} x {height} into a frame of {frame[1]} x {frame[0]}"
            yield _vector(name, PixelFormat.RGB, _picture(width, height, 3, len(name)), one)


def _orientations(source: ImageInput) -> Iterator[PreprocessVector]:
    """A JPEG in each orientation of EXIF."""
    blocks = _picture(3, 2, 1, 7)[..., 0]
    grey = np.kron(blocks, np.ones((JPEG_BLOCK, JPEG_BLOCK), np.uint8))
    # The right and lower blocks are cut, so that neither side is a number of whole blocks.
    grey = grey[: 2 * JPEG_BLOCK - 3, : 3 * JPEG_BLOCK - 2]
    for orientation in range(1, 9):
        name = f"EXIF orientation {orientation}"
        data = plain_pictures.flat_jpeg(blocks, grey.shape[0], grey.shape[1], orientation)
        small = _sized(source, 11, images.FIT_MODES[orientation % len(images.FIT_MODES)])
        yield _vector(name, PixelFormat.GREY, grey[..., None], small, data, orientation)


def _camera_frames(source: ImageInput) -> Iterator[PreprocessVector]:
    """Frames with padded rows, in each rotation of a camera."""
    small = _sized(source, 16, "crop")
    bgrx = _picture(22, 13, 4, 8)
    for orientation in (1, 6):
        plane = _plane(bgrx.reshape(13, -1), 22 * 4 + 8, 4)
        name = f"BGRX frame, orientation {orientation}"
        yield _frame(name, PixelFormat.BGRX, bgrx[..., 2::-1], [plane], small, orientation)
    for layout, width, height, orientation in (
        ("planar", 24, 18, 1),
        ("planar", 23, 17, 6),
        ("NV12", 24, 18, 3),
        ("NV21", 24, 18, 8),
        ("NV21", 25, 15, 1),
    ):
        y, u, v = (
            _picture(columns, rows, 1, seed)[..., 0]
            for columns, rows, seed in (
                (width, height, 9),
                ((width + 1) // 2, (height + 1) // 2, 10),
                ((width + 1) // 2, (height + 1) // 2, 11),
            )
        )
        planes = [_plane(y, width + 9, 1), *_chroma(u, v, layout)]
        name = f"YUV 4:2:0 {layout} {width} x {height}, orientation {orientation}"
        rgb = rgb_of_yuv(y, u, v)
        yield _frame(name, PixelFormat.YUV_420, rgb, planes, small, orientation)


def rgb_of_yuv(y: Pixels, u: Pixels, v: Pixels) -> Pixels:
    """RGB, uint8 [height, width, 3], of full-range BT.601 (JFIF; ITU-T T.871, section 7).

    `y`: uint8 [height, width]. `u`, `v`: uint8 [(height + 1) // 2, (width + 1) // 2]; each sample
    is repeated for its 2 x 2 pixels. In integers, rounded to the nearest level.
    """
    height, width = y.shape
    luma = (y.astype(np.int64) << YUV_BITS) + (1 << YUV_BITS - 1)
    blue, red = (
        np.repeat(np.repeat(part, 2, axis=0), 2, axis=1)[:height, :width].astype(np.int64) - 128
        for part in (u, v)
    )
    rgb = np.stack(
        [luma + RED_V * red, luma - GREEN_U * blue - GREEN_V * red, luma + BLUE_U * blue], -1
    )
    return np.clip(rgb >> YUV_BITS, 0, 255).astype(np.uint8)


def _chroma(u: Pixels, v: Pixels, layout: str) -> list[Plane]:
    """The planes U and V: apart, or of one buffer in which their samples alternate."""
    if layout == "planar":
        return [_plane(u, u.shape[1] + 3, 1), _plane(v, v.shape[1] + 3, 1)]
    first, second = (u, v) if layout == "NV12" else (v, u)
    pairs = np.stack([first, second], -1).reshape(u.shape[0], -1)
    whole = base64.b64decode(_plane(pairs, pairs.shape[1] + 6, 1).data)
    stride = pairs.shape[1] + 6
    leading, trailing = (Plane(_text(part), stride, 2) for part in (whole[:-1], whole[1:]))
    return [leading, trailing] if layout == "NV12" else [trailing, leading]


def _plane(rows: Pixels, row_stride: int, pixel_stride: int) -> Plane:
    """A plane with padded rows, except for the last one. The padding is 170, which no picture may
    show.
    """
    padded = np.full((rows.shape[0], row_stride), 170, np.uint8)
    padded[:, : rows.shape[1]] = rows
    data = padded.tobytes()[: (rows.shape[0] - 1) * row_stride + rows.shape[1]]
    return Plane(_text(data), row_stride, pixel_stride)


def _vector(
    name: str,
    pixels: PixelFormat,
    picture: Pixels,
    source: ImageInput,
    data: bytes | None = None,
    orientation: int = 1,
) -> PreprocessVector:
    """A vector of packed pixels. `picture`: uint8 [height, width, samples of a pixel]."""
    height, width, samples = picture.shape
    plane = _plane(picture.reshape(height, -1), width * samples, samples)
    rgb = images.as_rgb(picture[..., 0]) if samples == 1 else picture
    if pixels is PixelFormat.RGBA:
        rgb = images.decode(plain_pictures.png(picture), name)
    made = _frame(name, pixels, rgb, [plane], source, orientation)
    file_text = UNSET if data is None else _text(data)
    return structs.replace(made, file=file_text)


def _frame(
    name: str,
    pixels: PixelFormat,
    rgb: Pixels,
    planes: list[Plane],
    source: ImageInput,
    orientation: int,
) -> PreprocessVector:
    """A vector. `rgb`: the stored pixels as uint8 [height, width, 3], before they are turned."""
    fitted = deployment.fitted(_upright(rgb, orientation), source)
    codes = golden_set.input_codes(source, fitted)
    return PreprocessVector(
        name=name,
        format=pixels,
        width=rgb.shape[1],
        height=rgb.shape[0],
        orientation=orientation,
        planes=planes,
        input=source,
        expected=_text(codes.tobytes()),
    )


def _upright(rgb: Pixels, orientation: int) -> Pixels:
    """A picture as it has to be shown, by its EXIF orientation (Exif 2.32, 4.6.4)."""
    turned = rgb.swapaxes(0, 1) if orientation >= 5 else rgb
    if orientation in (3, 4, 7, 8):
        turned = turned[::-1]
    if orientation in (2, 3, 6, 7):
        turned = turned[:, ::-1]
    return np.ascontiguousarray(turned)


def _sized(source: ImageInput, px: int, fit: str) -> ImageInput:
    return structs.replace(source, px=px, fit=fit, frame=UNSET)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
