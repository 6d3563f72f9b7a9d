"""Members of plain .tar files, read at their offsets, never unpacked. Unsafe tars are refused."""

from __future__ import annotations

import dataclasses
import tarfile
from collections.abc import Iterator
from pathlib import Path

from edgekd.core.errors import DataError
from edgekd.core.files import reason

# Bytes: 64 megapixels, the most that are decoded, as 32-bit TIFF.
MAX_IMAGE = 256 << 20
# Bytes of a label file (.cls or .json).
MAX_LABEL = 1 << 20
LABEL_SUFFIXES = (".cls", ".json")


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a member's bytes lie in a shard; `offset` and `size` in bytes."""

    shard: Path
    offset: int
    size: int

    def read(self, most: int | None = None) -> bytes:
        """The member's bytes, or the first `most` of them. Raises DataError."""
        try:
            with self.shard.open("rb") as file:
                file.seek(self.offset)
                return file.read(self.size if most is None else min(most, self.size))
        except OSError as error:
            raise _unreadable(self.shard, error) from error


@dataclasses.dataclass(frozen=True)
class Member:
    """One regular file in a shard. `text`: the contents of a label file, b"" for any other."""

    name: str
    place: Place
    text: bytes


def members(shard: Path) -> Iterator[Member]:
    """The regular files of a tar, in order.

    Raises DataError when the tar is compressed, damaged or cut off, or holds something unsafe: an
    absolute or climbing name, a link, a device, a sparse file, a huge member.
    """
    try:
        size = shard.stat().st_size
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                _check_name(shard, member)
                if not member.isdir():
                    yield _member(shard, member, size)
                # tarfile keeps an index of all members, which would grow with the shard.
                tar.members = []  # type: ignore[attr-defined]
    except tarfile.TarError as error:
        packed = " (it is compressed)" if _compressed(shard) else ""
        raise DataError(
            f"{shard}: not a plain tar{packed}: {error}",
            "unpack it to a .tar with gunzip, unzstd or the like: single images are read from it",
        ) from error
    except OSError as error:
        raise _unreadable(shard, error) from error


def _member(shard: Path, member: tarfile.TarInfo, size: int) -> Member:
    """A member that passed the checks. `size`: of the whole shard in bytes."""
    if not member.isreg() or member.issparse():
        raise _unsafe(shard, member, "a link, a device or a sparse file")
    is_label = member.name.lower().endswith(LABEL_SUFFIXES)
    limit = MAX_LABEL if is_label else MAX_IMAGE
    if member.size > limit:
        raise _unsafe(shard, member, f"{member.size:,} bytes, more than {limit:,}")
    place = Place(shard, member.offset_data, member.size)
    if place.offset + place.size > size:
        raise _unsafe(shard, member, "cut off in the middle")
    return Member(member.name, place, place.read() if is_label else b"")


def _check_name(shard: Path, member: tarfile.TarInfo) -> None:
    name = member.name
    if name.startswith("/") or ".." in name.split("/") or "\\" in name or not name.isprintable():
        raise _unsafe(shard, member, "a name that leads out of a folder or cannot be printed")


def _unsafe(shard: Path, member: tarfile.TarInfo, what: str) -> DataError:
    return DataError(
        f"{shard}: member {member.name[:200]!r}: {what}",
        "make the shard again from files you trust",
    )


def _unreadable(shard: Path, error: OSError) -> DataError:
    return DataError(
        f"{shard}: cannot be read ({reason(error)})",
        "check that its disk is still there and that you may read it",
    )


def _compressed(shard: Path) -> bool:
    """Whether a file starts as gzip, bzip2, xz or zstd do."""
    with shard.open("rb") as file:
        return file.read(6).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"))
