"""Images in WebDataset shards: plain .tar files, each sample's members side by side under one key (Aizman et al. 2020).

    train-000000.tar:  00000000.jpg 00000000.json  00000001.jpg 00000001.json ...

A sample is KEY.jpg (or another image suffix) with KEY.cls, the name or number of its class, or KEY.json, an object with
"label", or "labels" where an image may have several, and where they matter "name", "split", "group" or the group column.
Without "split" the shard's own name tells it: train-*, val-*, test-*; else the data stage splits.

Shards are read where they lie and never unpacked: an index of offsets is made once, then each image is read from its
place, front to back. They may lie on several disks. A compressed tar has no places to read from, and is refused.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgekd.core.artifacts import Json, canonical_json
from edgekd.core.errors import DataError
from edgekd.data.folders import SPLIT_NAMES, FolderSource, shown
from edgekd.data.images import IMAGE_SUFFIXES, encode_png, header_size
from edgekd.data.sources import SPLITS, Item, Source, SourceFacts, together

EXPECTED = (
    "expected shards:DIR or shards:DIR/train-{000000..000007}.tar, several with :: between them; "
    "each sample KEY.jpg with KEY.cls or KEY.json"
)
MAX_IMAGE = 256 << 20  # bytes: 64 megapixels, the most that are decoded, as 32-bit TIFF
MAX_LABEL = 1 << 20  # bytes of a .cls or .json
MAX_SHARDS = 100_000  # of one pattern: more is a slip of the keyboard
HEADER = (
    256 << 10
)  # bytes at an image's start in which its size stands, unless its metadata is very long
PER_SHARD = 1000  # images: at 100 KB each the 100 MB that WebDataset's authors advise


@dataclasses.dataclass(frozen=True)
class Place:
    """Where an image's bytes lie."""

    shard: Path
    offset: int
    size: int


class ShardSource:
    """The samples of WebDataset shards, in the order of the shards and of their members.

    `text`: folders, files or brace patterns with "::" between them. Raises DataError, naming the shard, for one that is
    missing, compressed, damaged or hostile (absolute or climbing names, links, devices, sparse or huge members), for a
    sample without a label, and for two samples of one name.
    """

    def __init__(self, text: str, group_column: str = FolderSource.DEFAULT_GROUP_COLUMN) -> None:
        found = [path for part in text.split("::") for path in _expand(part)]
        order = (*SPLITS, None)
        self.shards = sorted(
            found, key=lambda shard: order.index(_split_of(shard))
        )  # as folders are read; else as named
        first = self.shards[0]
        self.name = f"shards:{first.resolve().parent.name or 'data'}"
        self._places: dict[str, Place] = {}
        self._items: list[Item] = []
        ignored: Counter[str] = Counter()
        for shard in self.shards:
            for item, place in _samples(shard, group_column, ignored):
                if item.name in self._places:
                    raise DataError(
                        f"{shard}: a second sample is named {item.name!r} (the first is in "
                        f"{self._places[item.name].shard.name})",
                        "give every sample a key of its own",
                    )
                self._items.append(item)
                self._places[item.name] = place
        several = {item.findings is not None for item in self._items}
        if not self._items or len(several) > 1:
            what = (
                "no samples" if not self._items else 'some samples have "label" and some "labels"'
            )
            raise DataError(
                f"{first}{' and the other shards' if len(self.shards) > 1 else ''}: {what}",
                EXPECTED,
            )
        self.labels: Sequence[str] | None = (
            sorted({name for item in self._items for name in item.findings or ()})
            if several == {True}
            else None
        )
        self.facts = SourceFacts(
            licence="not stated: shards carry no licence; check before you ship",
            source=self.name,
            synthetic=False,
            ignored=dict(sorted(ignored.items())),
        )

    def items(self) -> list[Item]:
        """Every sample, in the order of the shards."""
        return list(self._items)

    def load(self, item: Item) -> bytes:
        """The image file's bytes. Raises DataError when the shard cannot be read (any more)."""
        place = self._places[item.name]
        return _read(place, place.size)

    def native_px(self) -> int:
        """The longest side that any image's header claims; starts of files only."""

        def longest(place: Place) -> int:
            start = header_size(io.BytesIO(_read(place, HEADER)))
            return max(start) or max(header_size(io.BytesIO(_read(place, place.size))))

        return max(map(longest, self._places.values()), default=0)

    def fingerprint(self) -> str:
        """sha256 over every shard's name, size and time of change, and what was read of the labels."""
        digest = hashlib.sha256()
        for shard in self.shards:
            state = shard.stat()
            digest.update(f"{shard.name}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
        for item in self._items:
            digest.update(f"{item}\n".encode())
        return digest.hexdigest()


def _read(place: Place, size: int) -> bytes:
    try:
        with place.shard.open("rb") as file:
            file.seek(place.offset)
            return file.read(min(size, place.size))
    except OSError as error:
        raise DataError(
            f"{place.shard}: cannot be read ({error.strerror})", "is its disk still there?"
        ) from error


def _expand(part: str) -> list[Path]:
    """The shards of a folder, of a file, or of a pattern with {000..123} in it."""
    names = [part.strip()]
    while any(re.search(r"\{\d+\.\.\d+\}", name) for name in names):
        names = [name for text in names for name in _ranges(text)]
    paths = []
    for name in names:
        path = Path(name).expanduser()
        found = sorted(path.glob("*.tar")) if path.is_dir() else [path]
        if not found:
            raise DataError(f"{path}: a folder without .tar files", EXPECTED)
        paths += found
    missing = [path.as_posix() for path in paths if not path.is_file()]
    if missing:
        raise DataError(
            f"shards:{part}: {len(missing)} of {len(paths)} shards do not exist: {shown(missing)}",
            EXPECTED,
        )
    return paths


def _ranges(text: str) -> list[str]:
    match = re.search(r"\{(\d+)\.\.(\d+)\}", text)
    if match is None:
        return [text]
    low, high, width = int(match[1]), int(match[2]), len(match[1])
    if not 0 <= high - low < MAX_SHARDS:
        raise DataError(
            f"shards:{text}: {match[0]} names {max(0, high - low + 1)} shards, expected 1 .. {MAX_SHARDS}",
            EXPECTED,
        )
    return [
        f"{text[: match.start()]}{number:0{width}}{text[match.end() :]}"
        for number in range(low, high + 1)
    ]


def _samples(shard: Path, group_column: str, ignored: Counter[str]) -> Iterator[tuple[Item, Place]]:
    """Each labelled image of one shard; what is neither image nor label is counted in `ignored`."""
    key: str = ""
    image: tuple[str, Place] | None = None
    told: dict[str, Json] = {}

    def sample() -> Iterator[tuple[Item, Place]]:
        if image is not None:
            yield _item(shard, image[0], told, group_column), image[1]
        elif told:
            ignored["label without an image"] += 1

    for name, place, label in _members(shard):
        folder, _, base = name.rpartition("/")
        stem, _, suffix = base.partition(".")
        if f"{folder}/{stem}" != key:
            yield from sample()
            key, image, told = f"{folder}/{stem}", None, {}
        suffix = suffix.lower()
        if label:
            told |= _told(shard, name, suffix, label)
        elif f".{suffix}" in IMAGE_SUFFIXES and image is None:
            image = (name, place)
        else:
            ignored["neither image nor label"] += 1
    yield from sample()


def _members(shard: Path) -> Iterator[tuple[str, Place, bytes]]:
    """(name, place, contents of a label file or b"") of each regular file in a tar. Raises DataError for a tar not to trust."""
    try:
        size = shard.stat().st_size
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                parts = member.name.split("/")
                if (
                    member.name.startswith("/")
                    or ".." in parts
                    or "\\" in member.name
                    or not member.name.isprintable()
                ):
                    raise _hostile(shard, member.name, "a name that would not stay inside a folder")
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse():
                    raise _hostile(shard, member.name, "a link, a device or a sparse file")
                text = member.name.lower().endswith((".cls", ".json"))
                limit = MAX_LABEL if text else MAX_IMAGE
                if member.size > limit:
                    raise _hostile(
                        shard, member.name, f"{member.size:,} bytes, more than {limit:,}"
                    )
                place = Place(shard, member.offset_data, member.size)
                if place.offset + place.size > size:
                    raise _hostile(shard, member.name, "cut off in the middle")
                yield member.name, place, _read(place, place.size) if text else b""
                tar.members = []  # type: ignore[attr-defined]  # the index that tarfile keeps would grow with the shard
    except tarfile.TarError as error:
        packed = " (it is compressed)" if _compressed(shard) else ""
        raise DataError(
            f"{shard}: not a plain tar{packed}: {error}",
            "unpack it with gunzip, unzstd or the like: images are read from their places",
        ) from error
    except OSError as error:
        raise DataError(
            f"{shard}: cannot be read ({error.strerror})", "is its disk still there?"
        ) from error


def _compressed(shard: Path) -> bool:
    with shard.open("rb") as file:
        return file.read(6).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"))


def _hostile(shard: Path, name: str, what: str) -> DataError:
    return DataError(
        f"{shard}: member {name[:200]!r}: {what}", "make the shard again from files you trust"
    )


def _told(shard: Path, name: str, suffix: str, data: bytes) -> dict[str, Json]:
    """What a .cls or .json says of its sample."""
    try:
        text = data.decode("utf-8").strip()
        if suffix == "cls":
            return {"label": text}
        found = json.loads(text)
    except ValueError as error:
        raise DataError(
            f"{shard}: {name} is not UTF-8 text or not JSON ({error})", EXPECTED
        ) from None
    if not isinstance(found, dict):
        raise DataError(f"{shard}: {name} is not a JSON object", EXPECTED)
    return found


def _item(shard: Path, name: str, told: dict[str, Json], group_column: str) -> Item:
    findings = told.get("labels")
    several = tuple(map(str, findings)) if isinstance(findings, list) else None
    label = _text(told.get("label")) if several is None else together(several)
    if label is None:
        raise DataError(f"{shard}: sample {name!r} has no label", EXPECTED)
    split = (
        _split_of(shard)
        if told.get("split") is None
        else SPLIT_NAMES.get(str(told["split"]).lower())
    )
    if split is None and told.get("split") is not None:
        raise DataError(
            f"{shard}: sample {name!r} is in split {told['split']!r}", "expected train, val or test"
        )
    return Item(
        _text(told.get("name")) or name,
        label,
        split,
        _text(told.get(group_column, told.get("group"))),
        several,
    )


def _split_of(shard: Path) -> str | None:
    """The split that the shard's name starts with."""
    return SPLIT_NAMES.get(re.split(r"[^a-z]", shard.name.lower())[0])


def _text(value: Json) -> str | None:
    """A name in a label file: text, or a whole number as text."""
    return (
        str(value)
        if isinstance(value, str | int) and not isinstance(value, bool) and value != ""
        else None
    )


def write(source: Source, folder: Path, per_shard: int = PER_SHARD) -> list[Path]:
    """Write a source as shards, SPLIT-000000.tar and on, in its own order; equal images give equal bytes.

    A build on them equals one on the source. Raises DataError when the folder holds .tar files already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if next(folder.glob("*.tar"), None) is not None:
        raise DataError(f"{folder}: holds .tar files already", "name an empty folder")
    items, paths = source.items(), []
    by_split: dict[str | None, list[Item]] = {}
    for item in items:
        by_split.setdefault(item.split, []).append(item)
    for split, own in by_split.items():
        for start in range(0, len(own), per_shard):
            paths.append(folder / f"{split or 'all'}-{start // per_shard:06d}.tar")
            with tarfile.open(paths[-1], "w", format=tarfile.PAX_FORMAT) as tar:
                for number, item in enumerate(own[start : start + per_shard], start):
                    loaded = source.load(item)
                    image, suffix = (
                        (loaded, Path(item.name).suffix.lower())
                        if isinstance(loaded, bytes)
                        else (encode_png(loaded), ".png")
                    )
                    labels: dict[str, Json] = (
                        {"label": item.label}
                        if item.findings is None
                        else {"labels": list(item.findings)}
                    )
                    told = {"name": item.name, "split": item.split, "group": item.group, **labels}
                    for name, data in (
                        (f"{number:08d}{suffix}", image),
                        (f"{number:08d}.json", canonical_json(told)),
                    ):
                        member = tarfile.TarInfo(name)
                        member.size = len(data)
                        tar.addfile(member, io.BytesIO(data))
    return paths
