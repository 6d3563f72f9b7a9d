"""Writes the images of a source as WebDataset shards, which edgekd.data.shards reads."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

from edgekd.core.artifacts import canonical_json
from edgekd.core.errors import DataError
from edgekd.data.images import encode_png
from edgekd.data.sources import Item, Source

# Images in one shard: at 100 KB each, the 100 MB that WebDataset's authors advise.
PER_SHARD = 1000


def write(source: Source, folder: Path, per_shard: int = PER_SHARD) -> list[Path]:
    """Write SPLIT-000000.tar and so on, in the source's order; returns the paths.

    Equal images give equal bytes, and a build on the shards equals one on the source. Images
    without a split go to all-000000.tar. Raises DataError when the folder already holds .tar files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if next(folder.glob("*.tar"), None) is not None:
        raise DataError(f"{folder}: holds .tar files already", "name an empty folder")
    by_split: dict[str | None, list[Item]] = {}
    for item in source.items():
        by_split.setdefault(item.split, []).append(item)
    paths = []
    for split, items in by_split.items():
        for start in range(0, len(items), per_shard):
            paths.append(folder / f"{split or 'all'}-{start // per_shard:06d}.tar")
            _write_shard(paths[-1], source, items[start : start + per_shard], start)
    return paths


def _write_shard(path: Path, source: Source, items: Sequence[Item], first: int) -> None:
    """One shard. `first`: the number of its first image, which names the members."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for number, item in enumerate(items, first):
            loaded = source.load(item)
            if isinstance(loaded, bytes):
                image, suffix = loaded, Path(item.name).suffix.lower()
            else:
                image, suffix = encode_png(loaded), ".png"
            for name, data in (
                (f"{number:08d}{suffix}", image),
                (f"{number:08d}.json", _label_file(item)),
            ):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def _label_file(item: Item) -> bytes:
    told = {"name": item.name, "split": item.split, "group": item.group}
    if item.findings is None:
        return canonical_json({**told, "label": item.label})
    unsure = {"uncertain": list(item.uncertain)} if item.uncertain else {}
    return canonical_json({**told, **unsure, "labels": list(item.findings)})
