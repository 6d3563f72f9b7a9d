"""Decoding: the images of a source, read once by two threads, hashed, brought to one size and packed side by side."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from edgekd.core.artifacts import sha256
from edgekd.core.errors import DataError
from edgekd.data import images
from edgekd.data.images import Pixels
from edgekd.data.sources import Item, Source

Progress = Callable[[int, int], None]  # (images done, images in all)

# Two decoders saturate the two cores of a small machine; JPEG and PNG decoding leave Python's lock.
_THREADS = 2
# Images in flight at a time: an error or an interrupt is then seen within a second, and memory stays flat.
_BATCH = 128

# Bytes of pixels that are decoded into memory: half of what a small machine has. Training reads a memory map in any case.
_IN_MEMORY = 1 << 30


@dataclasses.dataclass(frozen=True)
class Found:
    """One image read: its pixels at the size asked for (HxW if grey in fact), its hash, its shorter side before."""

    pixels: Pixels
    sha256: str
    shortest: int


def _read(source: Source, item: Item, px: int, fit: str) -> Found | DataError:
    """Load, hash, decode and fit one image; a DataError is handed back so that all of them can be listed."""
    try:
        loaded = source.load(item)
        if isinstance(loaded, bytes):
            digest, picture = sha256(loaded), images.decode(loaded, item.name)
        else:
            digest, picture = sha256(np.ascontiguousarray(loaded).tobytes()), loaded
    except DataError as error:
        return error
    fitted = images.fit(picture, px, fit)
    return Found(
        images.as_grey(fitted) if images.is_grey(fitted) else fitted, digest, min(picture.shape[:2])
    )


def decoded(
    source: Source, items: Sequence[Item], px: int, fit: str, progress: Progress | None
) -> Iterator[tuple[Item, Found | DataError]]:
    """Every item with what was read, in order, from two threads; px and fit as `images.fit` takes them."""
    with ThreadPoolExecutor(_THREADS) as threads:
        for start in range(0, len(items), _BATCH):
            batch = items[start : start + _BATCH]
            found = threads.map(lambda item: _read(source, item, px, fit), batch)
            for offset, pair in enumerate(zip(batch, found, strict=True)):
                yield pair
                if progress:
                    progress(start + offset + 1, len(items))


def room(shape: tuple[int, ...]) -> Pixels:
    """Pixels to fill, in memory, or where they are many in a file below TMPDIR that is gone when nobody looks at it."""
    if math.prod(shape) <= _IN_MEMORY:
        return np.empty(shape, np.uint8)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, np.uint8, "w+", shape=shape)


class Canvas:
    """Room for n images, grey until the first coloured one comes: then what is there is repeated to RGB."""

    def __init__(self, count: int, px: int) -> None:
        self._pixels = room((count, 1, px, px))
        self._used = 0

    @property
    def channels(self) -> int:
        return int(self._pixels.shape[1])

    def add(self, image: Pixels) -> None:
        if image.ndim == 3 and self.channels == 1:
            coloured = room((len(self._pixels), 3, *self._pixels.shape[2:]))
            coloured[: self._used] = self._pixels[: self._used]
            self._pixels = coloured
        self._pixels[self._used] = image.transpose(2, 0, 1) if image.ndim == 3 else image
        self._used += 1

    def keep(self, indices: list[int]) -> None:
        """Leave these rows, in place: each moves towards the front or stays."""
        for to, index in enumerate(indices):
            if to != index:
                self._pixels[to] = self._pixels[index]
        self._used = len(indices)

    def blob(self) -> memoryview:
        """The rows used, without a copy, read-only."""
        used = self._pixels[: self._used]
        used.flags.writeable = False
        return memoryview(used.reshape(-1))
