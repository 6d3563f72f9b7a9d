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
from edgekd.core.pages import Resident
from edgekd.data import images
from edgekd.data.bit_depth import Extremes, Grey16, Wide, decide, extremes, scaled, widened
from edgekd.data.decoded_ahead import DecodedAhead
from edgekd.data.depth_record import Depth
from edgekd.data.images import Pixels
from edgekd.data.pixel_rules import PixelRules
from edgekd.data.sources import Item, Source
from edgekd.settings.recipe import DataConfig

Progress = Callable[[int, int], None]  # (images done, images in all)

# Two decoders saturate the two cores of a small machine: decoding JPEG and PNG releases the GIL.
_THREADS = 2
# Images in flight at a time. Errors and interrupts are noticed within a second, and memory stays
# flat.
_BATCH = 128

# Largest array of pixels, in bytes, that is decoded into memory. A larger one lies in a file, so
# that memory does not grow with the images. Training reads a memory map in any case.
_IN_MEMORY = 128 << 20


@dataclasses.dataclass(frozen=True)
class Original:
    """One image at the size of its file.

    `pixels`: uint8 [h, w] or [h, w, 3], or uint16 [h, w] (0 to 65535) where it has more than 8
    bits. None as in `Decoded`, and so are the other fields.
    """

    pixels: Pixels | Grey16 | None
    sha256: str
    shortest: int
    extremes: Extremes | None = None
    clipped: bool = False


@dataclasses.dataclass(frozen=True)
class Decoded:
    """One decoded image.

    `pixels`: uint8 [px, px] when the image is grey (also when its file is RGB), uint16 [px, px] (0
    to 65535) when it has more than 8 bits, else uint8 [px, px, 3]. None for an image that does not
    say what is white, and for which the rules do not say it either; `extremes` then has what is
    needed to decide it. `sha256`: hash of the file, or of the pixels when there is no file.
    `shortest`: the shorter side in pixels before resizing. `clipped`: whether values above white
    were made white.
    """

    pixels: Pixels | Grey16 | None
    sha256: str
    shortest: int
    extremes: Extremes | None = None
    clipped: bool = False


AHEAD: DecodedAhead[Decoded] = DecodedAhead()


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
    """The images that could be read, the canvas with their pixels, and an error for each other.

    `depth`: how images of more than 8 bits became pixels, or None where there are none. `warnings`:
    sentences about these.
    """

    images: list[ReadImage]
    canvas: Canvas | NoCanvas
    failures: list[DataError]
    depth: Depth | None
    warnings: list[str]


def read_all(
    source: Source,
    items: Sequence[Item],
    rules: PixelRules,
    progress: Progress | None,
    canvas: Canvas | NoCanvas,
    ahead_px: int | None = None,
) -> Reading:
    """Read every item onto a canvas. `ahead_px`: a further size, as in `decoded`.

    Images that do not say what is white are read again when all others are there, because what is
    white is decided from all of them. Raises DataError when that cannot be decided.
    """
    found: list[ReadImage] = []
    failures: list[DataError] = []
    undecided: dict[int, tuple[Item, Extremes]] = {}
    wide = clipped = 0
    for item, image in decoded(source, items, rules, progress, ahead_px):
        if isinstance(image, DataError):
            failures.append(image)
            continue
        row = canvas.add(image.pixels)
        if image.extremes is not None:
            undecided[row] = (item, image.extremes)
        grey = image.pixels is None or image.pixels.ndim == 2
        wide += image.pixels is None or image.pixels.dtype == np.uint16
        clipped += image.clipped
        found.append(
            ReadImage(item, row, image.sha256, grey, image.shortest, item.split or "train")
        )
    whites, said = decide([extremes for _, extremes in undecided.values()])
    rules = dataclasses.replace(rules, whites=whites)
    again = [item for item, _ in undecided.values()]
    for row, (_, image) in zip(undecided, decoded(source, again, rules, None), strict=True):
        if isinstance(image, DataError):
            raise image  # it could be read a moment ago
        assert image.pixels is not None
        canvas.put(row, image.pixels)
        clipped += image.clipped
    if rules.bits and clipped:
        said.append(f"{clipped} images have values above data.bits = {rules.bits}, now white")
    depth = rules.depth(wide, clipped) if wide else None
    return Reading(found, canvas, failures, depth, said)


def read_one(
    source: Source, item: Item, rules: PixelRules, ahead_px: int | None = None
) -> Decoded | DataError:
    """Load, hash, decode and fit one image. Returns a DataError, so that all can be listed.

    `ahead_px`: a further size, at which the image is kept for a later call.
    """
    kept = AHEAD.get(source, (item.name, rules.key()))
    if kept is not None:
        return kept
    found = read_original(source, item, rules)
    if isinstance(found, DataError):
        return found
    if ahead_px is not None and found.pixels is not None and found.pixels.dtype == np.uint8:
        further = dataclasses.replace(rules, px=ahead_px)
        fitted = _fitted(found, further)
        size = 0 if fitted.pixels is None else fitted.pixels.nbytes
        AHEAD.keep(source, (item.name, further.key()), fitted, size)
    return _fitted(found, rules)


def _fitted(found: Original, rules: PixelRules) -> Decoded:
    """An image at the size of the rules."""
    picture = found.pixels
    if picture is None:
        return Decoded(None, found.sha256, found.shortest, found.extremes)
    if picture.dtype == np.uint16:
        wide = images.fit(np.asarray(picture, np.uint16), rules.px, rules.fit)
        return Decoded(wide, found.sha256, found.shortest, clipped=found.clipped)
    fitted = images.fit(np.asarray(picture, np.uint8), rules.px, rules.fit)
    pixels = images.as_grey(fitted) if images.is_grey(fitted) else fitted
    return Decoded(pixels, found.sha256, found.shortest)


def read_original(source: Source, item: Item, rules: PixelRules) -> Original | DataError:
    """Load, hash and decode one image. Returns a DataError, so that all can be listed."""
    try:
        loaded = source.load(item)
        if isinstance(loaded, bytes):
            digest, picture = sha256(loaded), images.read(loaded, item.name, rules.window)
        else:
            digest, picture = sha256(np.ascontiguousarray(loaded).tobytes()), loaded
    except DataError as error:
        return error
    if isinstance(picture, Wide):
        return _scaled(picture, digest, item, rules)
    return Original(picture, digest, min(picture.shape[:2]))


def _scaled(picture: Wide, digest: str, item: Item, rules: PixelRules) -> Original:
    """An image of more than 8 bits, scaled if the rules say its white."""
    shortest, white = min(picture.values.shape), rules.white(picture)
    if white is None:
        return Original(None, digest, shortest, extremes(picture, item.name))
    clipped = bool(picture.values.max() > white)
    return Original(scaled(picture, white), digest, shortest, clipped=clipped)


def decoded(
    source: Source,
    items: Sequence[Item],
    rules: PixelRules,
    progress: Progress | None,
    ahead_px: int | None = None,
) -> Iterator[tuple[Item, Decoded | DataError]]:
    """Each item, in order, with its image or its error.

    `ahead_px`: a size at which the same images will be asked for next (`decoded_ahead`).
    """
    with ThreadPoolExecutor(_THREADS) as threads:
        for start in range(0, len(items), _BATCH):
            batch = items[start : start + _BATCH]
            found = threads.map(lambda item: read_one(source, item, rules, ahead_px), batch)
            for offset, pair in enumerate(zip(batch, found, strict=True)):
                yield pair
                if progress:
                    progress(start + offset + 1, len(items))


def canvas(config: DataConfig, count: int, px: int) -> Canvas | NoCanvas:
    """A canvas for `count` images, as `data.cache` says."""
    return Canvas(count, px) if config.cache == "pixels" else NoCanvas()


def room(shape: tuple[int, ...], wide: bool = False) -> Pixels | Grey16:
    """An uninitialized array of uint8, or of uint16 if `wide`.

    It is in memory, or in an unlinked temporary file if it is large. The operating system removes
    the file, which lies below TMPDIR, when nothing uses the array.
    """
    kind = np.dtype(np.uint16 if wide else np.uint8)
    if math.prod(shape) * kind.itemsize <= _IN_MEMORY:
        return np.empty(shape, kind)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, kind, "w+", shape=shape)


class NoCanvas:
    """What a Canvas says of its images, without their pixels (`data.cache = "none"`)."""

    def __init__(self) -> None:
        self.channels, self.wide, self._used = 1, False, 0

    def add(self, image: Pixels | Grey16 | None) -> int:
        """Note the next image; returns its row. None: one of more than 8 bits."""
        self._used += 1
        if image is None:
            self.wide = True
        else:
            self.put(self._used - 1, image)
        return self._used - 1

    def put(self, row: int, image: Pixels | Grey16) -> None:
        """Note what an image is."""
        del row
        self.channels = 3 if image.ndim == 3 else self.channels
        self.wide = self.wide or image.dtype == np.uint16

    def keep(self, rows: Sequence[int]) -> None:
        """There are no rows to keep."""

    def blob(self) -> bytes:
        """No pixels."""
        return b""


class Canvas:
    """Pixels of up to `count` images, [count, channels, px, px].

    It has one channel until the first coloured image comes; the grey images before it are then
    repeated to RGB. It is uint8 until the first image of more than 8 bits comes; the images before
    it are then scaled to 16 bits.
    """

    def __init__(self, count: int, px: int) -> None:
        self._pixels = room((count, 1, px, px))
        self._resident = Resident(self._pixels)
        self._used = 0

    @property
    def channels(self) -> int:
        """1 while every image is grey, else 3."""
        return int(self._pixels.shape[1])

    @property
    def wide(self) -> bool:
        """Whether the pixels are uint16 (0 to 65535) and not uint8."""
        return self._pixels.dtype == np.uint16

    def add(self, image: Pixels | Grey16 | None) -> int:
        """Append an image as in `Decoded`; returns its row.

        None keeps the row free for an image of more than 8 bits, which `put` then brings.
        """
        self._used += 1
        if image is None:
            self._grow(self.channels, wide=True)
        else:
            self.put(self._used - 1, image)
        return self._used - 1

    def put(self, row: int, image: Pixels | Grey16) -> None:
        """Make an image the row `row`, which `add` has returned."""
        coloured = image.ndim == 3
        self._grow(3 if coloured else self.channels, self.wide or image.dtype == np.uint16)
        levels = image.transpose(2, 0, 1) if coloured else image
        self._pixels[row] = widened(levels) if self.wide else levels
        self._resident.used(1, self._pixels[row].nbytes)

    def _grow(self, channels: int, wide: bool) -> None:
        """Give the canvas more channels or 16 bits, and keep the rows."""
        if (channels, wide) == (self.channels, self.wide):
            return
        grown = room((len(self._pixels), channels, *self._pixels.shape[2:]), wide)
        of_grown = Resident(grown)
        for row in range(self._used):  # one by one: a copy of all would double the memory
            grown[row] = widened(self._pixels[row]) if wide else self._pixels[row]
            self._resident.used(1, grown[row].nbytes)
            of_grown.used(1, grown[row].nbytes)
        self._pixels, self._resident = grown, of_grown

    def keep(self, rows: Sequence[int]) -> None:
        """Keep these rows, which must ascend, and close the gaps between them in place."""
        for to, row in enumerate(rows):
            if to != row:
                self._pixels[to] = self._pixels[row]
                self._resident.used(2, self._pixels[row].nbytes)
        self._used = len(rows)

    def blob(self) -> memoryview:
        """The rows in use as read-only bytes, without a copy."""
        used = self._pixels[: self._used]
        used.flags.writeable = False
        return memoryview(used.reshape(-1).view(np.uint8))
