"""IDX, the format of MNIST's files (LeCun 1998), often gzipped.

    bytes 0 to 3    0, 0, type of the entries (8: uint8), number of dimensions
    then            the size of each dimension, big-endian uint32
    then            the entries, last dimension fastest

For example, train-images-idx3-ubyte.gz starts with 0 0 8 3, then 60000, 28, 28.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekd.core.errors import DataError

# The format's code for unsigned bytes, the only type that sets of images use.
UINT8 = 0x08
# Most bytes that a header may claim. A larger number comes from a broken header, or from a file
# that was made to exhaust memory.
MOST = 2**31


def read(path: Path, ndim: int) -> NDArray[np.uint8]:
    """The file's array, uint8 with `ndim` dimensions, read-only. Raises DataError."""
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
                    f"{path}: its header claims {math.prod(sizes)} bytes",
                    "download or install it again",
                )
            body = file.read(math.prod(sizes) + 1)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise DataError(f"{path}: {error}", "download or install it again") from None
    if len(body) != math.prod(sizes):
        raise DataError(
            f"{path}: expected {math.prod(sizes)} bytes after the header, found {len(body)} or "
            "more",
            "download or install it again",
        )
    return np.frombuffer(body, np.uint8).reshape(sizes)
