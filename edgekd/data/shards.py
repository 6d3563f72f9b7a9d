"""Images in WebDataset shards: plain .tar files with the files of each sample side by side.

    train-000000.tar:  00000000.jpg 00000000.json  00000001.jpg 00000001.json ...
    00000000.json:     {"label": "cat", "name": "cats/7.jpg", "group": "anna"}

A sample is KEY.jpg (or another image suffix) beside one of these (Aizman et al. 2020):

* KEY.cls, a text with the name or the number of its class
* KEY.json, an object with "label", or with "labels" (a list) where an image may have several. It
  may also have "uncertain" (a list of labels that are neither present nor absent), "name", "split"
  (train, val or test) and "group" or another name of a group, such as "patient_id" (`grouping`).

Without "split" the shard's name decides (train-*, val-*, test-*); with another name the data stage
splits. Shards are not unpacked: offsets are indexed once, and each image is then read from its
place in the file. Shards may lie on several disks. A compressed tar has no such places and is
refused.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgekd.core import files
from edgekd.core.artifacts import Json
from edgekd.core.errors import DataError
from edgekd.core.files import resolved
from edgekd.core.records import UNSET
from edgekd.data import grouping
from edgekd.data.file_kinds import IMAGE_SUFFIXES, FileKind, kind_of_name
from edgekd.data.folder_walk import printable
from edgekd.data.images import header_size
from edgekd.data.left_out import LeftOut, Why
from edgekd.data.shown_names import shown
from edgekd.data.sources import SPLIT_NAMES, SPLITS, Item, SourceFacts, together
from edgekd.data.tar_members import Member, Place, members
from edgekd.settings.recipe import DataConfig

EXPECTED = (
    "expected shards:DIR or shards:DIR/train-{000000..000007}.tar, several with :: between them; "
    "each sample KEY.jpg with KEY.cls or KEY.json"
)
# Shards of one pattern; more is a typing mistake.
MAX_SHARDS = 100_000
# Bytes at the start of an image that hold its size, unless its metadata is very long.
HEADER = 256 << 10

# Fields of the JSON that hold something else than a group.
_NO_GROUPS = frozenset({"label", "labels", "name", "split", "uncertain"})

# The JSON object beside an image, as its author wrote it; a .cls file counts as {"label": text}.
LabelFile = dict[str, Json]


class ShardSource:
    """The samples of WebDataset shards, in the order of the shards and of their members.

    `text`: folders, files or patterns such as DIR/train-{000..015}.tar, with "::" between them.

    Raises DataError, naming the shard, when it is missing, compressed, damaged or unsafe (see
    `tar_members`), for a sample without a label, and for two samples of one name.
    """

    def __init__(self, text: str, config: DataConfig | None = None) -> None:
        found = [path for part in text.split("::") for path in _expand(part)]
        # Splits in the order in which folders are read; inside a split, the order of `text`.
        order = (*SPLITS, None)
        self.shards = sorted(found, key=lambda shard: order.index(_split_of(shard)))
        self.name = f"shards:{printable(resolved(self.shards[0]).parent.name) or 'data'}"
        self._places: dict[str, Place] = {}
        self._items: list[Item] = []
        left_out = LeftOut()
        said: list[LabelFile] = []
        for shard in self.shards:
            for item, place, told in _samples(shard, left_out):
                said.append(told)
                if item.name in self._places:
                    raise DataError(
                        f"{shard}: a second sample is named {item.name!r} (the first is in "
                        f"{self._places[item.name].shard.name})",
                        "give every sample a key of its own",
                    )
                self._items.append(item)
                self._places[item.name] = place
        self.labels = self._labels()
        grouped = self._grouped(said, config or DataConfig())
        self._items = [
            dataclasses.replace(item, group=tied)
            for item, tied in zip(self._items, grouped.groups, strict=True)
        ]
        self.facts = SourceFacts(
            licence="not stated: shards carry no licence; check before you ship",
            source=self.name,
            synthetic=False,
            groups_by=grouped.by or UNSET,
            ignored=left_out.counts,
            warnings=left_out.warnings() + grouped.warnings,
        )

    def _grouped(self, said: Sequence[LabelFile], config: DataConfig) -> grouping.Grouping:
        """The groups, by a field of the samples' JSON or by their names."""
        fields = dict.fromkeys(name for told in said for name in told if name not in _NO_GROUPS)
        columns = {name: [_text(told.get(name)) or "" for told in said] for name in fields}
        names = [item.name for item in self._items]
        return grouping.group(names, columns, config, "the samples' JSON")

    def _labels(self) -> Sequence[str] | None:
        """Every label in order, or None when each sample has one class. Raises DataError."""
        several = {item.findings is not None for item in self._items}
        if len(several) != 1:
            what = 'some samples have "label" and some "labels"' if several else "no samples"
            others = " and the other shards" if len(self.shards) > 1 else ""
            raise DataError(f"{self.shards[0]}{others}: {what}", EXPECTED)
        if several == {False}:
            return None
        return sorted(
            {name for item in self._items for name in (*(item.findings or ()), *item.uncertain)}
        )

    def items(self) -> list[Item]:
        """Every sample, in the order of the shards."""
        return list(self._items)

    def load(self, item: Item) -> bytes:
        """The image file's bytes. Raises DataError when the shard cannot be read."""
        return self._places[item.name].read()

    def native_px(self) -> int:
        """The longest side in any image's header, in pixels; only the starts of files are read."""

        def longest(place: Place) -> int:
            start = header_size(io.BytesIO(place.read(HEADER)))
            return max(start) or max(header_size(io.BytesIO(place.read())))

        return max(map(longest, self._places.values()), default=0)

    def fingerprint(self) -> str:
        """sha256 over each shard's name, size and modification time, and over all labels."""
        digest = hashlib.sha256()
        for shard in self.shards:
            state = shard.stat()
            digest.update(f"{shard.name}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
        for item in self._items:
            digest.update(f"{item}\n".encode())
        return digest.hexdigest()


def _expand(part: str) -> list[Path]:
    """The shards of a folder, of a file, or of a pattern with {000..123} in it."""
    names = [part.strip()]
    while any(re.search(r"\{\d+\.\.\d+\}", name) for name in names):
        names = [name for text in names for name in _ranges(text)]
    paths = []
    for name in names:
        path = files.expanded(name, "--data")
        found = sorted(path.glob("*.tar")) if files.is_folder(path, "--data") else [path]
        if not found:
            raise DataError(f"{path}: a folder without .tar files", EXPECTED)
        paths += found
    missing = [path.as_posix() for path in paths if not files.is_file(path)]
    if missing:
        raise DataError(
            f"shards:{part}: {len(missing)} of {len(paths)} shards do not exist: {shown(missing)}",
            EXPECTED,
        )
    return paths


def _ranges(text: str) -> list[str]:
    """The names that the first {000..123} of a pattern stands for."""
    match = re.search(r"\{(\d+)\.\.(\d+)\}", text)
    if match is None:
        return [text]
    low, high, width = int(match[1]), int(match[2]), len(match[1])
    if not 0 <= high - low < MAX_SHARDS:
        raise DataError(
            f"shards:{text}: {match[0]} names {max(0, high - low + 1)} shards, "
            f"expected 1 .. {MAX_SHARDS}",
            EXPECTED,
        )
    return [
        f"{text[: match.start()]}{number:0{width}}{text[match.end() :]}"
        for number in range(low, high + 1)
    ]


def _samples(shard: Path, left_out: LeftOut) -> Iterator[tuple[Item, Place, LabelFile]]:
    """Each labelled image of one shard, its place, and what its label file says.

    Files that are neither image nor label are counted.
    """
    key: str = ""
    image: Member | None = None
    told: LabelFile = {}

    def sample() -> Iterator[tuple[Item, Place, LabelFile]]:
        if image is not None:
            yield _item(shard, image.name, told), image.place, told
        elif told:
            left_out.add(Why.NO_IMAGE, f"{shard.name}{key}")

    for member in members(shard):
        folder, _, base = member.name.rpartition("/")
        stem, _, suffix = base.partition(".")
        if f"{folder}/{stem}" != key:
            yield from sample()
            key, image, told = f"{folder}/{stem}", None, {}
        suffix = suffix.lower()
        if member.text:
            told |= _label_file(shard, member, suffix)
        elif f".{suffix}" in IMAGE_SUFFIXES and image is None:
            image = member
        else:
            kind = kind_of_name(base)
            name = f"{shard.name}/{member.name}"
            if kind is FileKind.OTHER_IMAGE:
                left_out.add_kind(kind, name)
            else:
                left_out.add(Why.NO_LABEL, name)
    yield from sample()


def _label_file(shard: Path, member: Member, suffix: str) -> LabelFile:
    """What a .cls or .json file says. Raises DataError for other contents."""
    try:
        text = member.text.decode("utf-8").strip()
        if suffix == "cls":
            return {"label": text}
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{shard}: {member.name} is not UTF-8 text or not JSON ({error})", EXPECTED
        ) from None
    if not isinstance(found, dict):
        raise DataError(f"{shard}: {member.name} is not a JSON object", EXPECTED)
    return found


def _item(shard: Path, name: str, told: LabelFile) -> Item:
    findings = told.get("labels")
    several = tuple(map(str, findings)) if isinstance(findings, list) else None
    label = _text(told.get("label")) if several is None else together(several)
    if label is None:
        raise DataError(f"{shard}: sample {name!r} has no label", EXPECTED)
    split = _split_of(shard)
    if told.get("split") is not None:
        split = SPLIT_NAMES.get(str(told["split"]).lower())
        if split is None:
            raise DataError(
                f"{shard}: sample {name!r} is in split {told['split']!r}",
                "expected train, val or test",
            )
    unsure = told.get("uncertain")
    uncertain = tuple(map(str, unsure)) if isinstance(unsure, list) else ()
    return Item(_text(told.get("name")) or name, label, split, None, several, uncertain)


def _split_of(shard: Path) -> str | None:
    """The split that the shard's name starts with."""
    return SPLIT_NAMES.get(re.split(r"[^a-z]", shard.name.lower())[0])


def _text(value: Json) -> str | None:
    """A name in a label file: a text, or a whole number as text; None for anything else."""
    if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
        return str(value)
    return None
