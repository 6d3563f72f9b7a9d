"""PNG and JPEG files written byte by byte: equal pixels give equal bytes under every version of
Pillow and of its libraries. For small test pictures: nothing is compressed.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

PNG_MARK = b"\x89PNG\r\n\x1a\n"
PNG_COLOURS = {1: 0, 3: 2, 4: 6}  # samples of a pixel -> colour type: grey, RGB, RGBA
STORED_MOST = 65_535  # bytes that one stored block of deflate can hold
ORIENTATION_TAG = 0x0112  # of EXIF
JPEG_BLOCK = 8
# The DC coefficient of a flat block is 8 * (level - 128), and its difference to the last one has at
# most 11 bits. Twelve codes of 4 bits, one for each number of bits, need no statistics.
DC_SYMBOLS = bytes(range(12))
DC_CODE_BITS = 4


def png(picture: Pixels) -> bytes:
    """A PNG of uint8 [height, width, 1, 3 or 4]. Raises ValueError for more than 64 kB."""
    height, width, samples = picture.shape
    rows = b"".join(b"\0" + row.tobytes() for row in np.ascontiguousarray(picture))
    if len(rows) > STORED_MOST:
        raise ValueError(f"{len(rows)} bytes do not fit one stored block")
    header = struct.pack(">IIBBBBB", width, height, 8, PNG_COLOURS[samples], 0, 0, 0)
    stored = struct.pack("<BHH", 1, len(rows), len(rows) ^ 0xFFFF) + rows
    packed = b"\x78\x01" + stored + struct.pack(">I", zlib.adler32(rows))
    parts = [_chunk(b"IHDR", header), _chunk(b"IDAT", packed), _chunk(b"IEND", b"")]
    return PNG_MARK + b"".join(parts)


def _chunk(name: bytes, data: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(name + data))
    return struct.pack(">I", len(data)) + name + data + check


def flat_jpeg(blocks: Pixels, height: int, width: int, orientation: int) -> bytes:
    """A grey JPEG of flat blocks of 8 x 8 pixels, with an orientation in its EXIF data.

    `blocks`: the level of each block, uint8 [rows, columns]. `height`, `width`: of the picture,
    which may cut the last blocks. Every quantization step is 1 and there are no AC coefficients, so
    each decoder gives back the same levels.
    """
    tag = struct.pack(">HHIHH", ORIENTATION_TAG, 3, 1, orientation, 0)  # one SHORT
    exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 1) + tag + struct.pack(">I", 0)
    frame = struct.pack(">BHHBBBB", 8, height, width, 1, 1, 0x11, 0)
    dc = bytes([0, *([0] * (DC_CODE_BITS - 1)), len(DC_SYMBOLS), *([0] * (16 - DC_CODE_BITS))])
    ac = bytes([0x10, 1, *([0] * 15), 0])  # one code of one bit: the end of the block
    parts = [
        _segment(0xE1, exif),
        _segment(0xDB, b"\0" + b"\1" * 64),
        _segment(0xC0, frame),
        _segment(0xC4, dc + DC_SYMBOLS),
        _segment(0xC4, ac),
        _segment(0xDA, b"\1\1\0\0\x3f\0"),
    ]
    return b"\xff\xd8" + b"".join(parts) + _scan(blocks) + b"\xff\xd9"


def _segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def _scan(blocks: Pixels) -> bytes:
    """The entropy-coded blocks (ITU-T T.81, F.1.2.1), padded with ones, 0xFF followed by 0."""
    bits, last = [], 0
    for level in blocks.ravel().tolist():
        coefficient = 8 * (level - 128)
        step, last = coefficient - last, coefficient
        size = abs(step).bit_length()
        bits.append(f"{size:0{DC_CODE_BITS}b}")
        if size:
            bits.append(f"{step if step > 0 else step + (1 << size) - 1:0{size}b}")
        bits.append("0")
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    data = bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8))
    return data.replace(b"\xff", b"\xff\0")
