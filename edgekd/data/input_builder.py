"""From a Dataset to its Inputs: the images of some splits, decoded as the device will see them.

build_inputs(source, dataset, px, seed)    val, test, calibration and golden images at px x px
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgekd.core.artifacts import Blob, Dataset, Inputs
from edgekd.core.errors import DataError
from edgekd.core.frames import Frame
from edgekd.core.pages import Resident
from edgekd.core.resizer_names import Resizer
from edgekd.data import frames, images, pixel_rules
from edgekd.data.bit_depth import narrowed
from edgekd.data.datasets import labels, rows
from edgekd.data.decoding import Progress, decoded, read_original, room
from edgekd.data.pixel_rules import PixelRules
from edgekd.data.resizers.algorithms import fitted
from edgekd.data.shown_names import shown as named
from edgekd.data.sources import Item, Source
from edgekd.data.splits import draw


def build_inputs(
    source: Source,
    dataset: Dataset,
    px: int,
    seed: int,
    fit: str = "squash",
    calibration: int = 256,
    golden: int = 32,
    resizers: Sequence[Resizer] = (Resizer.PILLOW,),
    sides: Sequence[int] = (),
    progress: Progress | None = None,
) -> Inputs:
    """Decode val, test, calibration (drawn from train) and golden (drawn from test) images.

    Every file is read again and brought straight to `px` by `fit` (see `images.fit`). Images of
    more than 8 bits are rounded to 8 after that: the network's input has 256 levels. The drawn
    sets are stratified by class and fixed by the seed; a set is smaller than asked for when its
    split is. `resizers`: each calibration image is resized by one of them, which its hash draws;
    all other images by Pillow, as apps are told to do. `sides`: [height, width] of the frames that
    the file takes, where it takes larger ones than `px` (`edgekd.core.frames`).

    Raises DataError naming each image that is missing or has another sha256 than in the data set.
    """
    if calibration < 1 or golden < 1:
        raise DataError(
            f"calibration = {calibration}, golden = {golden}: each needs at least one image",
            "usual values are 256 and 32",
        )
    parts = {
        "val": rows(dataset, "val").tolist(),
        "test": rows(dataset, "test").tolist(),
        "calibration": _drawn(dataset, "train", calibration, seed).tolist(),
        "golden": _drawn(dataset, "test", golden, seed).tolist(),
    }
    frame = Frame.of(sides, px)
    rules = pixel_rules.from_facts(dataset.facts, px if frame is None else frame.side, fit)
    blobs = _decode(source, dataset, parts, rules, frame, progress)
    if tuple(resizers) != (Resizer.PILLOW,):
        varied = _of_resizers(source, dataset, parts["calibration"], rules, resizers)
        if frame is not None:
            varied = np.stack([frames.placed(image, frame) for image in varied])
        blobs["calibration"] = memoryview(varied.reshape(-1))
    return Inputs(px, dataset.channels, parts, **blobs, frame=list(sides))


def _of_resizers(
    source: Source,
    dataset: Dataset,
    wanted: Sequence[int],
    rules: PixelRules,
    resizers: Sequence[Resizer],
) -> NDArray[np.uint8]:
    """These images, each by the resizer that its hash draws: uint8 [n, px, px, channels]."""
    made = np.empty((len(wanted), rules.px, rules.px, dataset.channels), np.uint8)
    for place, (row, pixels) in enumerate(originals(source, dataset, wanted, rules)):
        drawn = int(dataset.images[row]["sha256"][-8:], 16) % len(resizers)
        made[place] = with_channels(
            fitted(pixels, rules.px, rules.fit, resizers[drawn]), dataset.channels
        )
    return made


def originals(
    source: Source, dataset: Dataset, wanted: Sequence[int], rules: PixelRules
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Rows of the data set, each with its image at the size of its file: uint8 [h, w] or [h, w, 3].

    More than 8 bits are rounded to 8. Raises DataError when a file is not the data set's.
    """
    for row, item in zip(wanted, _items(source, dataset, wanted), strict=True):
        found = read_original(source, item, rules)
        if isinstance(found, DataError) or found.sha256 != dataset.images[row]["sha256"]:
            raise _changed(source, [item.name])
        assert found.pixels is not None  # the data set has decided what is white
        yield row, narrowed(found.pixels)


def with_channels(pixels: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """[h, w] or [h, w, 3] as [h, w, channels]. A grey image is repeated for three channels."""
    return images.as_grey(pixels)[..., None] if channels == 1 else images.as_rgb(pixels)


def _changed(source: Source, names: Sequence[str]) -> DataError:
    return DataError(
        f"{source.name}: {len(names)} images changed since the dataset was built: {named(names)}",
        "put the old files back, or run the build again so that the data stage starts over",
    )


def _items(source: Source, dataset: Dataset, wanted: Sequence[int]) -> list[Item]:
    """The source's items for these rows of the data set. Raises DataError when some are missing."""
    known = {item.name: item for item in source.items()}
    names = [dataset.images[row]["name"] for row in wanted]
    gone = [name for name in names if name not in known]
    if gone:
        raise DataError(
            f"{source.name}: {len(gone)} images are gone since the dataset was built: "
            f"{named(gone)}",
            "put them back, or run the build again so that the data stage starts over",
        )
    return [known[name] for name in names]


def _decode(
    source: Source,
    dataset: Dataset,
    parts: Mapping[str, Sequence[int]],
    rules: PixelRules,
    frame: Frame | None,
    progress: Progress | None,
) -> dict[str, Blob]:
    """The images of each part, given by their rows: uint8 [n, px, px, channels], or frames.

    Each image is read once. Raises DataError when a file is not the data set's.
    """
    shape = (*(frame.sides if frame else (rules.px, rules.px)), dataset.channels)
    made = {name: room((len(part), *shape)) for name, part in parts.items()}
    resident = {name: Resident(array) for name, array in made.items()}
    places: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for name, part in parts.items():
        for place, row in enumerate(part):
            places[row].append((name, place))
    wanted = sorted(places)
    changed: list[str] = []
    found = decoded(source, _items(source, dataset, wanted), rules, progress)
    for row, (item, image) in zip(wanted, found, strict=True):
        if isinstance(image, DataError) or image.sha256 != dataset.images[row]["sha256"]:
            changed.append(item.name)
            continue
        assert image.pixels is not None  # the data set has decided what is white
        pixels = narrowed(image.pixels)
        for name, place in places[row]:
            shown = with_channels(pixels, dataset.channels)
            made[name][place] = frames.placed(shown, frame) if frame else shown
            resident[name].used(1, pixels.nbytes)
    if changed:
        raise _changed(source, changed)
    return {name: memoryview(array.reshape(-1)) for name, array in made.items()}


def _drawn(dataset: Dataset, split: str, count: int, seed: int) -> NDArray[np.int64]:
    """Rows drawn from a split in proportion to the classes, or to the combinations of labels."""
    pool, own = rows(dataset, split), labels(dataset, split)
    _, strata = np.unique(own.reshape(len(own), -1), axis=0, return_inverse=True)
    return pool[draw(strata.reshape(-1).tolist(), count, seed)]
