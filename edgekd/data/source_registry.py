"""From the text of `--data` to a source of images.

open_source(text)    "phantom", "elpv", "medmnist:NAME", "shards:DIR", FILE.csv or a folder
open_all(config)     the same, with the images without labels of `data.unlabelled` beside it
"""

from __future__ import annotations

from pathlib import Path

from edgekd.core import files, plugins
from edgekd.core.errors import DataError, UnknownName
from edgekd.data import class_names, dicom_source, label_csv, unlabelled
from edgekd.data.chest_xrays import formats
from edgekd.data.folders import EXPECTED, FolderSource
from edgekd.data.label_source import LabelSource
from edgekd.data.phantom_source import Kind, PhantomSource
from edgekd.data.plugin_source import GROUP, PluginSource
from edgekd.data.providers import ElpvSource, FashionMnistSource, MedmnistSource
from edgekd.data.shards import ShardSource
from edgekd.data.sources import Source
from edgekd.settings.recipe import DataConfig

# What stands before the ":" or "@" of a built-in source.
_KINDS = frozenset({*Kind, "elpv", "fashion-mnist", "shards", "medmnist"})
_BUILT_IN = (*Kind, "elpv", "fashion-mnist", "medmnist:pneumoniamnist")


def open_all(config: DataConfig) -> Source:
    """The source that a recipe names, with the images without labels beside it.

    Raises what `open_source` raises, and DataError for names of classes that cannot be published.
    """
    source = open_source(config.source, config)
    class_names.checked(source.items(), source.labels, source.name)
    if config.unlabelled:
        folder = files.expanded(config.unlabelled, "data.unlabelled")
        source = unlabelled.WithUnlabelled(source, folder)
    return dicom_source.wrapped(source, patients=config.group_column != "")


def open_source(text: str, config: DataConfig | None = None) -> Source:
    """The source that `--data` names.

    `text` is one of:

    * "phantom", "phantom:600", "phantom:600@128": built-in synthetic radiographs, how many, and
      their size in pixels; with "phantom-multi" an image may show none or several diseases, and
      with "phantom-advanced" no disease is mild
    * "labels.csv", "labels.csv.gz": images and their labels, one class or several labels an image
      (`label_csv`)
    * "shards:DIR", "shards:DIR/train-{000..015}.tar": WebDataset shards (`shards`)
    * "elpv": 2,624 photographs of solar cells (extra "elpv"; its licence is non-commercial)
    * "fashion-mnist", "fashion-mnist:DIR": 70,000 grey images of clothes, from Debian's package
      dataset-fashion-mnist or from a folder of IDX files
    * "medmnist:pneumoniamnist", "medmnist:pneumoniamnist@128": a set of MedMNIST and its size in
      pixels (extra "medmnist"; downloads once)
    * "NAME", "NAME:ARGUMENT": a source that an installed package adds (`plugin_source`)
    * anything else: a folder (`folders`), or the folder of a published data set with its label file
      (`chest_xrays`); "./phantom" is a folder, too

    `config`: how the source is read; its `source` is not looked at. The settings images, labels and
    uncertain belong to a CSV.

    Raises UnknownName for a text that is none of these, MissingExtra when a package is missing,
    PluginError when an installed package does not work, and DataError for images in the wrong
    layout.
    """
    config = config or DataConfig()
    if text.lower().endswith((".csv", ".csv.gz")):
        return _labelled(files.expanded(text, "--data"), config)
    name, _, size = text.partition("@")
    kind, _, rest = name.partition(":")
    published = None if kind in _KINDS else formats.find_in(files.expanded(text, "--data"))
    if published is not None:
        return _labelled(published, config)
    if config.labels or config.images:
        raise DataError(
            f"data.{'labels' if config.labels else 'images'} belongs to a CSV of labels, but "
            f"--data is {text}",
            "leave it out, or give --data FILE.csv",
        )
    if kind in set(Kind):
        return _phantom(Kind(kind), rest, size, text)
    if text == "elpv":
        return ElpvSource()
    if kind == "fashion-mnist":
        return _fashion_mnist(text.partition(":")[2])
    if kind == "shards":
        return ShardSource(text.partition(":")[2], config)
    if kind == "medmnist":
        return MedmnistSource(rest, _whole(size, text)) if size else MedmnistSource(rest)
    own, _, argument = text.partition(":")
    plugin = plugins.find(GROUP, own)
    if plugin is not None:
        return PluginSource(plugin, argument)
    path = files.expanded(text, "--data")
    if files.exists(path, "--data") or "/" in text or "\\" in text:
        return FolderSource(path, config)
    raise _unknown(text)


def _phantom(kind: Kind, count: str, px: str, whole: str) -> PhantomSource:
    """The synthetic radiographs of "KIND:COUNT@PX", where COUNT and PX may be empty."""
    options = {"count": _whole(count, whole)} if count else {}
    options |= {"px": _whole(px, whole)} if px else {}
    return PhantomSource(**options, kind=kind)


def _fashion_mnist(folder: str) -> FashionMnistSource:
    """The set in a folder of IDX files; "" means that of Debian's package."""
    return FashionMnistSource(files.expanded(folder, "--data")) if folder else FashionMnistSource()


def _labelled(path: Path, config: DataConfig) -> LabelSource:
    """The images that a CSV of labels names."""
    root = files.expanded(config.images, "data.images") if config.images else None
    if root is not None and not files.is_folder(root, "data.images"):
        raise DataError(
            f"data.images: {root} is not a folder",
            "name the folder that the CSV's names are relative to",
        )
    table = formats.read(path, config) or label_csv.read(path, config)
    return LabelSource(table, root or table.root or path.parent, config.on_error)


def _unknown(text: str) -> UnknownName:
    beside = [
        entry.name
        for entry in files.listed(Path())
        if entry.is_dir() and not entry.name.startswith(".")
    ]
    known = [*_BUILT_IN, *plugins.installed(GROUP)]
    return UnknownName(
        "data",
        text,
        [*known, *beside],
        f"give one of {', '.join(known)}, a CSV of labels, or a folder: {EXPECTED}",
    )


def _whole(text: str, whole: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise DataError(
            f"--data {whole}: {text!r} is not a whole number",
            "for example phantom:600, phantom:600@128 or medmnist:pneumoniamnist@64",
        )
    return int(text)
