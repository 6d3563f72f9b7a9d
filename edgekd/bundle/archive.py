"""Bundles as one file: a zip whose bytes depend on its contents alone, and a careful reader.

The reader refuses absolute names, "..", backslashes, drive letters, control characters, links and
devices, two files with one name (or with names that differ in case only), encrypted entries and
unusual compression, more or larger files than a bundle has, and files that unpack to more than the
zip states (bombs).
"""

from __future__ import annotations

import io
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from edgekd.core.errors import ModelFileError
from edgekd.core.files import reason

EPOCH = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip can state
UNIX = 3  # create_system: modes are Unix's, on every host
FILE_MODE = stat.S_IFREG | 0o644
LEVEL = 6  # of deflate: level 9 takes twice as long and saves 1 %

MAX_FILES = 4096  # a bundle has about 60, and one for each golden image
MAX_BYTES = 512 << 20  # of all files, unpacked: the largest student has 20 MB
MAX_RATIO = 200  # unpacked to packed size of one file: text reaches 20, deflate at most 1032
RATIO_FREE = 1 << 20  # bytes; the ratio of smaller files does not matter
NEXT = "build the bundle again, or download it again"


def pack(files: Mapping[str, bytes]) -> bytes:
    """A zip of {name: bytes}, sorted by name and without times.

    Equal files give equal bytes with one version of zlib.
    """
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as archive:
        for name in check_names(sorted(files)):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.create_system = UNIX
            entry.external_attr = FILE_MODE << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, files[name])
    return whole.getvalue()


def check_names(names: Iterable[str]) -> list[str]:
    """The names as a list, when each is a relative path that stays inside its folder.

    Raises ModelFileError that names the first one that is not, or two names that are one file on
    some systems.
    """
    seen: dict[str, str] = {}
    kept = []
    for name in names:
        parts = name.split("/")
        if (
            not name
            or name.startswith("/")
            or "\\" in name
            or ":" in name
            or not name.isprintable()
            or any(part in ("", ".", "..") for part in parts)
        ):
            raise ModelFileError(
                f"the bundle holds a file named {name!r}, which would not stay inside its folder",
                NEXT,
            )
        folded = unicodedata.normalize("NFC", name).casefold()
        if folded in seen:
            raise ModelFileError(
                f"the bundle holds {name!r} and {seen[folded]!r}: on some systems one file", NEXT
            )
        seen[folded] = name
        kept.append(name)
    return kept


def unpack(data: bytes, origin: str) -> dict[str, bytes]:
    """{name: bytes} of a zip's files. `origin` names it in messages. Nothing is written to disk.

    Raises ModelFileError for everything that this module refuses, and for a damaged zip.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            _check_entries(archive.infolist(), origin)
            check_names([entry.orig_filename for entry in entries])
            return {entry.filename: _read(archive, entry, origin) for entry in entries}
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        OSError,
        ValueError,
    ) as error:
        raise ModelFileError(f"{origin} is not a whole zip: {error}", NEXT) from None


def _check_entries(entries: list[zipfile.ZipInfo], origin: str) -> None:
    if len(entries) > MAX_FILES:
        raise ModelFileError(
            f"{origin} holds {len(entries)} files; a bundle has at most {MAX_FILES}", NEXT
        )
    if sum(entry.file_size for entry in entries) > MAX_BYTES:
        raise ModelFileError(f"{origin} unpacks to more than {MAX_BYTES >> 20} MiB", NEXT)
    for entry in entries:
        mode = entry.external_attr >> 16 if entry.create_system == UNIX else 0
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ModelFileError(
                f"{origin}: {entry.filename!r} is a link or a device, not a file", NEXT
            )
        if entry.flag_bits & 1:
            raise ModelFileError(f"{origin}: {entry.filename!r} is encrypted", NEXT)
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ModelFileError(
                f"{origin}: {entry.filename!r} is packed by method {entry.compress_type}", NEXT
            )
        if entry.file_size > RATIO_FREE and entry.file_size > MAX_RATIO * max(
            entry.compress_size, 1
        ):
            raise ModelFileError(
                f"{origin}: {entry.filename!r} unpacks to {entry.file_size} bytes from "
                f"{entry.compress_size}: a zip bomb",
                NEXT,
            )


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, origin: str) -> bytes:
    # Reading an entry checks its CRC and stops at the size that the entry states.
    with archive.open(entry) as file:
        data = file.read(entry.file_size + 1)
    if len(data) != entry.file_size:
        raise ModelFileError(
            f"{origin}: {entry.filename!r} holds {len(data)} bytes and states {entry.file_size}",
            NEXT,
        )
    return data


def read_folder(folder: Path) -> dict[str, bytes]:
    """{name: bytes} of a folder's files, with the same limits as a zip.

    Raises ModelFileError for links, devices, and files that cannot be read.
    """
    found: dict[str, bytes] = {}
    total = 0
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise ModelFileError(f"{folder}: {name!r} is a link or a device, not a file", NEXT)
        if path.is_dir():
            continue
        total += path.stat().st_size
        if len(found) >= MAX_FILES or total > MAX_BYTES:
            raise ModelFileError(
                f"{folder} holds more than {MAX_FILES} files or {MAX_BYTES >> 20} MiB",
                "name a bundle folder that `edgekd build` wrote",
            )
        try:
            found[name] = path.read_bytes()
        except OSError as error:
            raise ModelFileError(f"{path} cannot be read: {reason(error)}", NEXT) from None
    check_names(found)
    return found


def read(path: Path) -> dict[str, bytes]:
    """The files of a bundle, a folder or a .zip. Raises ModelFileError."""
    if path.is_dir():
        return read_folder(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelFileError(f"{path} is larger than {MAX_BYTES >> 20} MiB", NEXT)
        return unpack(path.read_bytes(), str(path))
    except OSError as error:
        raise ModelFileError(
            f"{path} cannot be read: {reason(error)}", "name a bundle folder or its .zip"
        ) from None
