"""Records of samples/preprocess_vectors.json: small images with the input bytes that every app must
make of them.
"""

from __future__ import annotations

import enum

from edgekd.bundle.deployment_record import ImageInput
from edgekd.core.records import UNSET, Record, UnsetType

VECTORS_SCHEMA = "edgekd.preprocess_vectors/1"


class PixelFormat(enum.StrEnum):
    """How the pixels of a vector lie in memory.

    GREY, RGB and RGBA are those of image files; alpha is not premultiplied, and transparent pixels
    lie on black. BGRX is a frame of an iPhone's camera, whose fourth byte is ignored. YUV_420 is a
    frame of an Android camera: full-range BT.601 (JFIF) with planes Y, U and V, of which U and V
    have one sample for each 2 x 2 pixels.
    """

    GREY = "grey"
    RGB = "rgb"
    RGBA = "rgba"
    BGRX = "bgrx"
    YUV_420 = "yuv_420"


class Plane(Record, frozen=True):
    """Bytes of a picture. `data` is base64. The sample of column x and row y starts at
    y * row_stride + x * pixel_stride. The last row may end with its last sample, as on Android.
    """

    data: str
    row_stride: int
    pixel_stride: int


class PreprocessVector(Record, frozen=True, kw_only=True):
    """A picture and the input bytes that it becomes.

    `width`, `height`: in pixels, as stored. `orientation`: how the picture has to be turned, by the
    numbers of EXIF (1 to 8): 3, 6 and 8 turn it clockwise by 180, 90 and 270 degrees, as a camera's
    rotation does. `planes`: one, or three of YUV_420. `file`: base64 of a PNG or JPEG file that
    holds the same pixels and the same orientation. `input`: what the picture becomes, which differs
    from vector to vector. `expected`: base64 of the input tensor's codes, uint8 [height, width,
    channels] of the input.
    """

    name: str
    format: PixelFormat
    width: int
    height: int
    orientation: int
    planes: list[Plane]
    file: str | UnsetType = UNSET
    input: ImageInput
    expected: str


class PreprocessVectors(Record, frozen=True, kw_only=True):
    """samples/preprocess_vectors.json. `tolerance`: how far a byte may be off; the samples of a
    bundle are exact.
    """

    schema: str = VECTORS_SCHEMA
    tolerance: int
    vectors: list[PreprocessVector]
