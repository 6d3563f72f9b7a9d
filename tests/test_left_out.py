"""What is left out of a data set is counted, named and told; what cannot be read is refused."""

from __future__ import annotations

import codecs
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekd.core.errors import DataError, PathError
from edgekd.data.dataset_builder import build_dataset
from edgekd.data.left_out import NAMED
from edgekd.data.source_registry import open_source
from edgekd.data.unlabelled import WithUnlabelled
from edgekd.settings.recipe import DataConfig


def write(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (9, 9), np.uint8)
    Image.fromarray(pixels).save(path, "PNG")
    return path


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    for kind, name in enumerate(("cat", "dog")):
        for number in range(20):
            write(tmp_path / "pets" / name / f"{number:02}.png", 100 * kind + number)
    return tmp_path / "pets"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a.nii.gz", "b.NII", "c.cr2", "d.psd"], "4 files in a format that is not read"),
        (["scan.pdf"], "1 file in a format that is not read was left out: dog/scan.pdf"),
        (["more.zip", "more.tar.gz"], "2 archives"),
        ([".1.jpg"], "1 image with a hidden name"),
        (["photo.jpg_large"], "1 image without an image's suffix"),
        (["lost.png ->"], "1 link that leads nowhere"),
        (["circle/ ->"], "1 link to a folder"),
        (["queue.png |"], "1 pipe, socket or device"),
    ],
)
def test_what_a_user_would_miss_is_a_warning(pets: Path, names: list[str], said: str) -> None:
    for name in names:
        path = pets / "dog" / name.split()[0].rstrip("/")
        if name.endswith("|"):
            os.mkfifo(path)
        elif name.endswith("->"):
            path.symlink_to(pets if "/" in name else pets / "nowhere", target_is_directory=True)
        else:
            shutil.copy(pets / "cat" / "00.png", path)
    (warning,) = open_source(str(pets)).facts.warnings
    assert said in warning
    assert all(f"dog/{name.split()[0].rstrip('/')}" in warning for name in sorted(names)[:NAMED])
    assert ("and 1 more, in dog" in warning) == (len(names) > NAMED)


def test_what_nobody_would_miss_is_only_counted(pets: Path) -> None:
    for name in (".DS_Store", "._1.jpg", "Thumbs.db", "desktop.ini", "readme.txt", "DICOMDIR"):
        (pets / "dog" / name).write_bytes(b"junk")
    (pets / "dog" / "__MACOSX").mkdir()
    write(pets / "dog" / "__MACOSX" / "x.png", 7)
    (pets / "__MACOSX").mkdir()
    source = open_source(str(pets))
    assert source.facts.warnings == []
    assert source.facts.ignored == {"hidden": 6, "not an image": 2}
    assert len(source.items()) == 40


def test_images_beside_the_class_folders_and_among_unlabelled_ones(pets: Path) -> None:
    write(pets / "loose.png", 900)
    (write(pets.parent / "more" / "x.png", 901).parent / "y.dng").write_bytes(b"II*\0")
    source = WithUnlabelled(open_source(str(pets)), pets.parent / "more")
    assert ["loose.png" in source.facts.warnings[0], "y.dng" in source.facts.warnings[1]] == [
        True
    ] * 2
    config = DataConfig(input_px=32, cache_px=32)
    assert source.facts.warnings == build_dataset(source, config).facts["warnings"][:2]


def test_an_empty_file_is_an_image_that_cannot_be_read(pets: Path) -> None:
    (pets / "dog" / "empty.jpg").touch()
    with pytest.raises(DataError, match=r"dog/empty\.jpg: the file is empty"):
        build_dataset(open_source(str(pets)), DataConfig())


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's right to read everything."""
    if os.geteuid() != 0:
        yield
        return
    codecs.lookup("utf-8-sig")  # what Python loads later, this user may not read
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_pets(pets: Path) -> Iterator[Path]:
    """The pets in a folder that any user may read."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o777)
        yield Path(shutil.copytree(pets, root / "pets"))


@pytest.mark.parametrize("closed", [".", "dog", "dog/more", "manifest.csv", "csv"])
def test_what_may_not_be_read_is_refused_by_name(open_pets: Path, closed: str) -> None:
    (open_pets / "dog" / "more").mkdir()
    (open_pets / "dog" / "19.png").rename(open_pets / "dog" / "more" / "19.png")
    (open_pets / "manifest.csv").write_text("path,patient_key\ncat/01.png,anna\n")
    data, path = open_pets, open_pets / closed
    if closed == "csv":
        data, path = open_pets.parent / "labels.csv", open_pets
        data.write_text("image,label\npets/cat/01.png,cat\npets/dog/01.png,dog\n")
    path.chmod(0)
    with as_nobody(), pytest.raises((DataError, PathError)) as error:
        open_source(str(data))
    path.chmod(0o755)
    assert error.value.what.endswith(f"{path}: permission denied")
    assert "chmod u+rX" in error.value.next_step
