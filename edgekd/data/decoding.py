"""Decoding: two threads read each image of a source once, hash it, and bring it to one size."""

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

# Two decoders saturate the two cores of a small machine: decoding JPEG and PNG releases the GIL.
_THREADS = 2
# Images in flight at a time. Errors and interrupts are noticed within a second, and memory stays
# flat.
_BATCH = 128

# Largest array of pixels, in bytes, that is decoded into memory: half of what a small machine has.
# Training reads a memory map in any case.
_IN_MEMORY = 1 << 30


@dataclasses.dataclass(frozen=True)
class Decoded:
    """One decoded image.

    `pixels`: uint8 [px, px] when the image is grey (also when its file is RGB), else [px, px, 3].
    `sha256`: hash of the file, or of the pixels when there is no file. `shortest`: the shorter side
    in pixels before resizing.
    """

    pixels: Pixels
    sha256: str
    shortest: int


@dataclasses.dataclass(frozen=True)
class ReadImage:
    """One image on its way into the data set. Its pixels are row `row` of the canvas.

    `split`: the source's own split. Where the source has none it is "train", until the step that
    divides the images moves it. `grey`, `sha256` and `shortest` are as in `Decoded`.
    """

    item: Item
    row: int
    sha256: str
    grey: bool
    shortest: int
    split: str


@dataclasses.dataclass(frozen=True)
class Reading:
    """The images that could be read, the canvas with their pixels, and an error for each other."""

    images: list[ReadImage]
    canvas: Canvas
    failures: list[DataError]


def read_all(
    source: Source, items: Sequence[Item], px: int, fit: str, progress: Progress | None
) -> Reading:
    """Read every item onto one canvas; `px` and `fit` as in `images.fit`."""
    found: list[ReadImage] = []
    failures: list[DataError] = []
    canvas = Canvas(len(items), px)
    for item, image in decoded(source, items, px, fit, progress):
        if isinstance(image, DataError):
            failures.append(image)
            continue
        row = canvas.add(image.pixels)
        grey = image.pixels.ndim == 2
        found.append(
            ReadImage(item, row, image.sha256, grey, image.shortest, item.split or "train")
        )
    return Reading(found, canvas, failures)


def _read(source: Source, item: Item, px: int, fit: str) -> Decoded | DataError:
    """Load, hash, decode and fit one image. Returns a DataError, so that all can be listed."""
    try:
        loaded = source.load(item)
        if isinstance(loaded, bytes):
            digest, picture = sha256(loaded), images.decode(loaded, item.name)
        else:
            digest, picture = sha256(np.ascontiguousarray(loaded).tobytes()), loaded
    except DataError as error:
        return error
    fitted = images.fit(picture, px, fit)
    pixels = images.as_grey(fitted) if images.is_grey(fitted) else fitted
    return Decoded(pixels, digest, min(picture.shape[:2]))


def decoded(
    source: Source, items: Sequence[Item], px: int, fit: str, progress: Progress | None
) -> Iterator[tuple[Item, Decoded | DataError]]:
    """Each item, in order, with its image or its error; `px` and `fit` as in `images.fit`."""
    with ThreadPoolExecutor(_THREADS) as threads:
        for start in range(0, len(items), _BATCH):
            batch = items[start : start + _BATCH]
            found = threads.map(lambda item: _read(source, item, px, fit), batch)
            for offset, pair in enumerate(zip(batch, found, strict=True)):
                yield pair
                if progress:
                    progress(start + offset + 1, len(items))


def room(shape: tuple[int, ...]) -> Pixels:
    """An uninitialized uint8 array: in memory, or in an unlinked temporary file if it is large.

    The operating system removes the file, which lies below TMPDIR, when nothing uses the array.
    """
    if math.prod(shape) <= _IN_MEMORY:
        return np.empty(shape, np.uint8)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, np.uint8, "w+", shape=shape)


class Canvas:
    """Pixels of up to `count` images, uint8 [count, channels, px, px].

    It has one channel until the first coloured image comes; the grey images before it are then
    repeated to RGB.
    """

    def __init__(self, count: int, px: int) -> None:
        self._pixels = room((count, 1, px, px))
        self._used = 0

    @property
    def channels(self) -> int:
        """1 while every image is grey, else 3."""
        return int(self._pixels.shape[1])

    def add(self, image: Pixels) -> int:
        """Append an image, uint8 [px, px] or [px, px, 3]; returns its row."""
        if image.ndim == 3 and self.channels == 1:
            coloured = room((len(self._pixels), 3, *self._pixels.shape[2:]))
            coloured[: self._used] = self._pixels[: self._used]
            self._pixels = coloured
        self._pixels[self._used] = image.transpose(2, 0, 1) if image.ndim == 3 else image
        self._used += 1
        return self._used - 1

    def keep(self, rows: Sequence[int]) -> None:
        """Keep these rows, which must ascend, and close the gaps between them in place."""
        for to, row in enumerate(rows):
            if to != row:
                self._pixels[to] = self._pixels[row]
        self._used = len(rows)

    def blob(self) -> memoryview:
        """The rows in use as read-only bytes, without a copy."""
        used = self._pixels[: self._used]
        used.flags.writeable = False
        return memoryview(used.reshape(-1))
