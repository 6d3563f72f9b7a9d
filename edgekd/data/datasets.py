"""From a source of images to a Dataset (decoded, checked, split) and to the Inputs that the device will see.

    open_source(text)                       "phantom", "elpv", "medmnist:NAME" or a folder
    build_dataset(source, config)           every image at one base size, with labels, splits and what was odd about it
    build_inputs(source, dataset, px, seed) val, test, calibration and golden images at the network's own input size

Nothing here is random beyond the seed: the same source, config and seed give the same bytes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekd.core.artifacts import Dataset, Inputs, Json
from edgekd.core.errors import DataError, UnknownName
from edgekd.data import data_checks, images, unlabelled
from edgekd.data.decoding import Canvas, Progress, decoded
from edgekd.data.folders import EXPECTED, FolderSource, shown
from edgekd.data.images import Pixels
from edgekd.data.label_csv import CsvSource
from edgekd.data.providers import ElpvSource, FashionMnistSource, MedmnistSource, PhantomSource
from edgekd.data.shards import ShardSource
from edgekd.data.sources import SPLITS, UNLABELLED, Item, Source
from edgekd.data.splits import FEWEST, draw, hold_out
from edgekd.settings.recipe import DataConfig

_BUILT_IN = ("phantom", "phantom-multi", "elpv", "fashion-mnist", "medmnist:pneumoniamnist")


def open_all(config: DataConfig) -> Source:
    """The source that a recipe names, with the images without labels beside it. Raises what `open_source` raises."""
    source = open_source(config.source, config.group_column, config.images, config.labels)
    return (
        unlabelled.WithUnlabelled(source, Path(config.unlabelled).expanduser())
        if config.unlabelled
        else source
    )


def open_source(
    text: str,
    group_column: str = FolderSource.DEFAULT_GROUP_COLUMN,
    images_folder: str = "",
    labels: Sequence[str] = (),
) -> Source:
    """The source that `--data` names. `images_folder` and `labels` are a CSV's (data.images, data.labels).

    "phantom[:COUNT][@PX]"   built-in synthetic radiographs; phantom-multi: each may show none or several diseases
    "FILE.csv"               images and their labels, one class or several labels an image (`label_csv`)
    "shards:TARS"            WebDataset shards: folders, files or patterns such as DIR/train-{000..015}.tar (`shards`)
    "elpv"                   2,624 photographs of solar cells (extra "elpv"; non-commercial licence)
    "fashion-mnist[:DIR]"    70,000 grey images of clothes (Debian's dataset-fashion-mnist, or a folder of its IDX files)
    "medmnist:NAME[@PX]"     a MedMNIST set (extra "medmnist"; downloads once)
    anything else            a folder; `./phantom` is a folder, too

    Raises UnknownName for something that is neither, MissingExtra without a package, DataError for a bad folder or CSV.
    """
    if text.lower().endswith(".csv"):
        return CsvSource(Path(text).expanduser(), group_column, images_folder, labels)
    if labels or images_folder:
        raise DataError(
            f"data.{'labels' if labels else 'images'} is about a CSV of labels, and --data is {text}",
            "leave it out, or give --data FILE.csv",
        )
    name, _, size = text.partition("@")
    kind, _, rest = name.partition(":")
    if kind in ("phantom", "phantom-multi"):
        options = {"count": _whole(rest, text)} if rest else {}
        options |= {"px": _whole(size, text)} if size else {}
        return PhantomSource(**options, several=kind == "phantom-multi")
    if text == "elpv":
        return ElpvSource()
    if kind == "fashion-mnist":
        folder = text.partition(":")[2]
        return FashionMnistSource(Path(folder).expanduser()) if folder else FashionMnistSource()
    if kind == "shards":
        return ShardSource(text.partition(":")[2], group_column)
    if kind == "medmnist":
        return MedmnistSource(rest, _whole(size, text)) if size else MedmnistSource(rest)
    path = Path(text).expanduser()
    if path.exists() or "/" in text or "\\" in text:
        return FolderSource(path, group_column)
    beside = [
        entry.name
        for entry in Path().iterdir()
        if entry.is_dir() and not entry.name.startswith(".")
    ]
    raise UnknownName(
        "data",
        text,
        [*_BUILT_IN, *beside],
        f"give one of {', '.join(_BUILT_IN)}, a CSV of labels, or a folder: {EXPECTED}",
    )


def _whole(text: str, whole: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise DataError(
            f"--data {whole}: {text!r} is not a whole number",
            "for example phantom:600, phantom:600@128 or medmnist:pneumoniamnist@64",
        )
    return int(text)


# --- building a dataset ----------------------------------------------------------------------------------------------


def build_dataset(
    source: Source, config: DataConfig, seed: int = 0, progress: Progress | None = None
) -> Dataset:
    """Read, decode, check and split a source. Two threads; each file is read once and hashed.

    Splits that the source brings are kept. A missing test is split off all images (`test_share`), a missing val off
    train (`val_share`): stratified by class, or by each of several labels, whole groups only, duplicates counted as one
    group.

    Refused with DataError and a list: unreadable images (unless on_error="skip"), one image in two splits or in two
    classes (unless duplicates="drop"), fewer than two classes, a class with fewer than FEWEST images in a split (of several
    labels, each needs as many images with it and without it).
    What is odd but usable goes into `facts["warnings"]`.
    """
    every = source.items()
    items = _limited([item for item in every if item.split != UNLABELLED], config.limit, seed)
    classes = (
        sorted({item.label for item in items}) if source.labels is None else list(source.labels)
    )
    items += [item for item in every if item.split == UNLABELLED]
    if len(classes) < 2:
        raise DataError(
            f"{source.name}: {len(classes)} classes; a classifier needs at least two", EXPECTED
        )
    native = source.native_px()
    px = min(config.cache_px, native) if native else config.cache_px
    canvas = Canvas(len(items), px)
    kept: list[Item] = []
    hashes: list[str] = []
    greys: list[bool] = []
    failures: list[DataError] = []
    tiny = 0
    for item, found in decoded(source, items, px, config.fit, progress):
        if isinstance(found, DataError):
            failures.append(found)
            continue
        canvas.add(found.pixels)
        kept.append(item)
        hashes.append(found.sha256)
        greys.append(found.pixels.ndim == 2)
        tiny += found.shortest < data_checks.TINY_PX
    if failures and config.on_error == "refuse":
        raise data_checks.unreadable(source.name, failures)

    labelled = sum(item.split != UNLABELLED for item in kept)  # they come first
    drop, duplicates = data_checks.duplicates(
        source.name, kept[:labelled], hashes[:labelled], config.duplicates
    )
    stay = [index for index in range(labelled) if index not in drop]
    kept, more = [kept[index] for index in stay], kept[labelled:]
    splits = _split(kept, [hashes[index] for index in stay], config, seed)
    data_checks.enough(source.name, kept, splits, classes)
    groups, counts = data_checks.group_facts(kept, splits), _counts(kept, splits)
    warnings = [
        *source.facts.get("warnings", []),
        *data_checks.warnings(kept, [greys[index] for index in stay], groups, duplicates, tiny),
    ]

    coloured = sum(not grey for grey in greys[labelled:])
    if coloured and all(greys[:labelled]):
        warnings.append(
            f"{coloured} images without a label are coloured, and those with one are grey: is that the same kind?"
        )
    stay += range(labelled, labelled + len(more))
    kept, splits = kept + more, splits + [UNLABELLED] * len(more)
    drop, beside = unlabelled.copies(
        source.name, kept, [hashes[index] for index in stay], splits, config.duplicates
    )
    chosen = [place for place in range(len(kept)) if place not in drop]
    kept, splits = [kept[place] for place in chosen], [splits[place] for place in chosen]
    canvas.keep([stay[place] for place in chosen])
    hashes = [hashes[stay[place]] for place in chosen]

    numbers = {name: index for index, name in enumerate(classes)}
    table = [
        {
            "name": item.name,
            "sha256": digest,
            "split": split,
            "group": item.group,
            "label": _label(item, numbers),
        }
        for item, digest, split in zip(kept, hashes, splits, strict=True)
    ]
    if failures:
        warnings.append(f"{len(failures)} unreadable images were skipped")
    facts = {
        **source.facts,
        "fit": config.fit,
        "seed": seed,
        "counts": counts,
        "groups": groups,
        "duplicates": duplicates,
        "skipped": [str(failure.what) for failure in failures],
        "ignored": source.facts.get("ignored", {}),
        "warnings": warnings,
    }
    if source.labels is not None:
        facts["labels"] = "many"
    if more:
        facts["unlabelled"] = beside
    return Dataset(source.name, classes, px, canvas.channels, table, facts, canvas.blob())


def _label(item: Item, numbers: Mapping[str, int]) -> Json:
    """The class by number, the list of labels by number, or None where nobody has said."""
    if item.split == UNLABELLED:
        return None
    return (
        numbers[item.label] if item.findings is None else [numbers[name] for name in item.findings]
    )


def _counts(items: list[Item], splits: list[str]) -> dict[str, dict[str, int]]:
    """How many images of each class, or with each label, a split holds."""
    return {
        split: dict(
            sorted(
                Counter(
                    label
                    for item, own in zip(items, splits, strict=True)
                    if own == split
                    for label in item.counted
                ).items()
            )
        )
        for split in SPLITS
    }


def _limited(items: list[Item], limit: int, seed: int) -> list[Item]:
    """At most `limit` images a class and split, drawn by the seed; the order stays."""
    if not limit:
        return items
    cells: dict[tuple[str | None, str], list[int]] = defaultdict(list)
    for index, item in enumerate(items):
        cells[item.split, item.label].append(index)
    rng = np.random.default_rng([seed, limit])
    chosen = {int(index) for cell in cells.values() for index in rng.permutation(cell)[:limit]}
    return [item for index, item in enumerate(items) if index in chosen]


def _split(items: list[Item], hashes: list[str], config: DataConfig, seed: int) -> list[str]:
    """The split of each item: the source's own, with test and val split off where it has none."""
    splits = [item.split or "train" for item in items]
    groups = _tied(items, hashes)
    for into, share, stream in (
        ("test", config.test_share, seed),
        ("val", config.val_share, seed + 1),
    ):
        if into in splits:
            continue
        pool = [index for index, split in enumerate(splits) if split == "train"]
        for chosen in hold_out(
            _strata([items[index] for index in pool]),
            [groups[index] for index in pool],
            share,
            stream,
            into,
        ):
            splits[pool[chosen]] = into
    return splits


def _strata(items: list[Item]) -> list[tuple[str, ...]]:
    """What each image counts for; having no label is left out where too few have none to divide them."""
    none = sum(not item.findings for item in items if item.findings is not None)
    return [
        item.counted if item.findings is None or none >= 2 * FEWEST else item.findings
        for item in items
    ]


def _tied(items: list[Item], hashes: list[str]) -> list[str]:
    """A group for each item: its own group or itself, joined where two groups hold the same image."""
    names = [f"g:{item.group}" if item.group is not None else f"i:{item.name}" for item in items]
    parent = {name: name for name in names}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    first: dict[str, str] = {}
    for name, digest in zip(names, hashes, strict=True):
        one, other = sorted((root(name), root(first.setdefault(digest, name))))
        parent[other] = one
    return [root(name) for name in names]


# --- what the device will see ----------------------------------------------------------------------------------------


def build_inputs(
    source: Source,
    dataset: Dataset,
    px: int,
    seed: int,
    fit: str = "squash",
    calibration: int = 256,
    golden: int = 32,
    progress: Progress | None = None,
) -> Inputs:
    """Decode val, test, calibration (drawn from train) and golden (drawn from test) straight to `px` by `fit`.

    The drawn sets are stratified by class and fixed by the seed; each holds all there is where fewer are asked for.
    Every image is read again from the source and its sha256 compared with the dataset's row.

    Raises DataError naming an image that is gone or has changed since the dataset was built.
    """
    if calibration < 1 or golden < 1:
        raise DataError(
            f"calibration = {calibration}, golden = {golden}: each needs at least one image",
            "usual values are 256 and 32",
        )
    parts = {
        "val": rows(dataset, "val"),
        "test": rows(dataset, "test"),
        "calibration": _drawn(dataset, "train", calibration, seed),
        "golden": _drawn(dataset, "test", golden, seed),
    }
    wanted = sorted({int(row) for part in ("val", "test", "calibration") for row in parts[part]})
    known = {item.name: item for item in source.items()}
    gone = [
        dataset.images[row]["name"] for row in wanted if dataset.images[row]["name"] not in known
    ]
    if gone:
        raise DataError(
            f"{source.name}: {len(gone)} images are gone since the dataset was built: {shown(gone)}",
            "put them back, or run the build again so that the data stage starts over",
        )
    items = [known[dataset.images[row]["name"]] for row in wanted]
    fitted = np.empty((len(wanted), px, px, dataset.channels), np.uint8)
    changed: list[str] = []
    for place, (item, found) in enumerate(decoded(source, items, px, fit, progress)):
        if isinstance(found, DataError) or found.sha256 != dataset.images[wanted[place]]["sha256"]:
            changed.append(item.name)
        elif dataset.channels == 1:
            fitted[place] = found.pixels[..., None]
        else:
            fitted[place] = images.as_rgb(found.pixels)
    if changed:
        raise DataError(
            f"{source.name}: {len(changed)} images changed since the dataset was built: {shown(changed)}",
            "put the old files back, or run the build again so that the data stage starts over",
        )
    where = {row: place for place, row in enumerate(wanted)}
    blobs = {
        name: fitted[[where[int(row)] for row in part]].tobytes() for name, part in parts.items()
    }
    return Inputs(
        px,
        dataset.channels,
        {name: [int(row) for row in part] for name, part in parts.items()},
        **blobs,
    )


def _drawn(dataset: Dataset, split: str, count: int, seed: int) -> NDArray[np.int64]:
    pool, own = rows(dataset, split), labels(dataset, split)
    combinations = own.reshape(len(own), -1)  # of labels, where an image may have several
    return pool[
        draw(
            np.unique(combinations, axis=0, return_inverse=True)[1].reshape(-1).tolist(),
            count,
            seed,
        )
    ]


# --- what training asks for ------------------------------------------------------------------------------------------


def rows(dataset: Dataset, split: str) -> NDArray[np.int64]:
    """Indices into `dataset.images` of one split, int64 [k]. Raises UnknownName for a split that does not exist."""
    if split not in (*SPLITS, UNLABELLED):
        raise UnknownName("split", split, SPLITS, f"one of {', '.join(SPLITS)}")
    return np.array(
        [index for index, row in enumerate(dataset.images) if row["split"] == split], np.int64
    )


def taught(dataset: Dataset) -> NDArray[np.int64]:
    """Indices of the images that distillation trains on, int64 [k]: train, and then those without a label."""
    return np.concatenate([rows(dataset, "train"), rows(dataset, UNLABELLED)])


def labels(dataset: Dataset, split: str | None = None) -> NDArray[np.int64]:
    """Class indices, int64 [k], in the order of `rows(dataset, split)`; of every image when `split` is None.

    Where an image may have several labels: 0 or 1 for each, int64 [k, classes]. -1 where nobody has said.
    """
    known = [row["label"] for row in dataset.images]
    classes = range(len(dataset.classes))
    every: NDArray[np.int64] = np.array(
        [-1 if label is None else label for label in known]
        if dataset.labels == "one"
        else [[-1 if label is None else int(k in label) for k in classes] for label in known],
        np.int64,
    )
    return every if split is None else every[rows(dataset, split)]


def pixels(dataset: Dataset) -> Pixels:
    """All images as a read-only view, uint8 [n, channels, px, px] (NCHW). No copy."""
    return np.frombuffer(dataset.pixels, np.uint8).reshape(
        -1, dataset.channels, dataset.px, dataset.px
    )


def student_channels(dataset: Dataset, wanted: str) -> int:
    """Channels of the student's input, 1 or 3, for `data.channels`. Raises DataError for 1 where images are coloured."""
    if wanted == "auto":
        return dataset.channels
    if wanted == "1" and dataset.channels != 1:
        raise DataError(
            f"data.channels = 1, and {dataset.name} holds coloured images",
            "make all of them grey, or leave data.channels at 3",
        )
    return int(wanted)


def input_images(inputs: Inputs, part: str, channels: int) -> Pixels:
    """One part of the inputs as a network takes them: uint8 [n, px, px, channels] (NHWC); grey is repeated.

    `part`: "val", "test", "calibration" or "golden".
    """
    images_of = np.frombuffer(getattr(inputs, part), np.uint8).reshape(
        -1, inputs.px, inputs.px, inputs.channels
    )
    # a copy either way: torch warns of memory that it must not write to
    return (
        images_of.copy() if inputs.channels == channels else np.repeat(images_of, channels, axis=3)
    )
