"""Bundles as zips: the same bytes each time, and nothing unsafe gets in."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from pathlib import Path

import pytest

from edgekd.bundle import archive
from edgekd.core.errors import ModelFileError

FILES = {"b.txt": b"two", "a/c.bin": bytes(range(256)) * 40, "a/empty": b""}


def zipped(*entries: tuple[zipfile.ZipInfo | str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for entry, data in entries:
            file.writestr(entry, data)
    return buffer.getvalue()


def test_round_trip_and_equal_bytes() -> None:
    data = archive.pack(FILES)
    assert archive.unpack(data, "x.zip") == FILES
    assert archive.pack(dict(reversed(FILES.items()))) == data
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        assert file.testzip() is None
        assert all(entry.date_time == archive.EPOCH for entry in file.infolist())


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../up", "a/../../up", "a//b", "./a", "C:/x", "a\\b", "a/.."]
)
def test_names_that_leave_the_folder(name: str) -> None:
    entry = zipfile.ZipInfo("x")
    entry.filename = name
    data = zipped((entry, b"x"))
    with pytest.raises(ModelFileError, match="would not stay inside"):
        archive.unpack(data, "x.zip")
    with pytest.raises(ModelFileError):
        archive.pack({name: b""})


def test_a_name_with_a_nul() -> None:
    """zipfile cuts the name at the NUL; the name as it stands in the file is what is judged."""
    data = zipped(("a.txtQ../b", b"x")).replace(b"a.txtQ../b", b"a.txt\0../b")
    with pytest.raises(ModelFileError):
        archive.unpack(data, "x.zip")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices(kind: int) -> None:
    entry = zipfile.ZipInfo("link")
    entry.create_system, entry.external_attr = 3, (kind | 0o777) << 16
    with pytest.raises(ModelFileError, match="link or a device"):
        archive.unpack(zipped((entry, b"/etc/passwd")), "x.zip")


def test_a_bomb_by_its_ratio() -> None:
    with pytest.raises(ModelFileError, match="bomb"):
        archive.unpack(zipped(("zeros", bytes(30 << 20))), "x.zip")


def test_a_bomb_that_lies_about_its_size() -> None:
    """The header says 10 bytes, the data unpack to a megabyte."""
    data = bytearray(zipped(("zeros", os.urandom(1 << 20))))
    real, small = (1 << 20).to_bytes(4, "little"), (10).to_bytes(4, "little")
    assert data.count(real) == 2
    with pytest.raises(ModelFileError):
        archive.unpack(bytes(data).replace(real, small), "x.zip")


def test_too_many_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_FILES", 3)
    with pytest.raises(ModelFileError, match="at most 3"):
        archive.unpack(zipped(*((f"{number}", b"") for number in range(4))), "x.zip")


def test_too_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_BYTES", 1 << 20)
    with pytest.raises(ModelFileError, match="more than 1 MiB"):
        archive.unpack(zipped(("a", os.urandom(1 << 20)), ("b", b"x")), "x.zip")


def test_two_files_of_one_name() -> None:
    with pytest.raises(ModelFileError, match="one file"):
        archive.unpack(zipped(("Model.tflite", b"1"), ("model.tflite", b"2")), "x.zip")


def test_an_encrypted_entry() -> None:
    data = bytearray(zipped(("a", b"x")))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + place] |= 1
    with pytest.raises(ModelFileError, match="encrypted"):
        archive.unpack(bytes(data), "x.zip")


def test_cut_short_anywhere() -> None:
    data = archive.pack(FILES)
    for length in range(0, len(data), 7):
        with pytest.raises(ModelFileError):
            archive.unpack(data[:length], "x.zip")


def test_links_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("x")
    assert archive.read(tmp_path) == {"real": b"x"}
    (tmp_path / "link").symlink_to("/etc/hostname")
    with pytest.raises(ModelFileError, match="link"):
        archive.read(tmp_path)
