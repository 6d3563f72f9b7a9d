"""IDX, the format of MNIST's files (LeCun 1998): a magic number, big-endian sizes, then the bytes; often gzipped."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekd.core.errors import DataError

UINT8 = 0x08  # the format's code for unsigned bytes, the only type that image sets use
MOST = (
    2**31
)  # bytes that a header may promise: more is a broken header, or a file made to exhaust memory


def read(path: Path, ndim: int) -> NDArray[np.uint8]:
    """An array uint8 of `ndim` dimensions, read-only. Raises DataError for anything that is not such a file."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(4)
            if len(head) < 4 or head[:2] != b"\0\0" or head[2] != UINT8 or head[3] != ndim:
                raise DataError(
                    f"{path}: not an IDX file of bytes in {ndim} dimensions",
                    "download or install it again",
                )
            sizes = struct.unpack(f">{ndim}I", file.read(4 * ndim))
            if math.prod(sizes) > MOST:
                raise DataError(
                    f"{path}: its header promises {math.prod(sizes)} bytes",
                    "download or install it again",
                )
            body = file.read(math.prod(sizes) + 1)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise DataError(f"{path}: {error}", "download or install it again") from None
    if len(body) != math.prod(sizes):
        raise DataError(
            f"{path}: {math.prod(sizes)} bytes expected after the header, found {len(body)} or more",
            "download or install it again",
        )
    return np.frombuffer(body, np.uint8).reshape(sizes)
