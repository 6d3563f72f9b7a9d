"""Data sets that come as packages: ELPV, MedMNIST and Fashion-MNIST.

elpv                          the Python package elpv-dataset
medmnist:pneumoniamnist@64    the Python package medmnist, which downloads the set once
fashion-mnist                 Debian's package dataset-fashion-mnist
fashion-mnist:DIR             a folder with its four IDX files, as they are or gzipped:
train-images-idx3-ubyte   train-labels-idx1-ubyte
t10k-images-idx3-ubyte    t10k-labels-idx1-ubyte
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from edgekd.core import files
from edgekd.core.artifacts import sha256
from edgekd.core.errors import DataError, MissingExtra, UnknownName
from edgekd.data import idx
from edgekd.data.sources import SPLITS, Item, SourceFacts

# The probability of a defect from which a solar cell counts as defective. Cells were graded 0, 1/3,
# 2/3 or 1; the authors of the data set use the same two classes.
_ELPV_DEFECTIVE = 0.5


class ElpvSource:
    """The 2,624 photographs of solar cells in elpv-dataset, 300 x 300, grey, in two classes.

    Raises MissingExtra when the package is not installed.
    """

    name = "elpv"
    labels = None

    def __init__(self) -> None:
        spec = importlib.util.find_spec("elpv_dataset")
        if spec is None or spec.origin is None:
            raise MissingExtra("elpv-dataset", "elpv", "--data elpv")
        self._folder = Path(spec.origin).parent / "data"
        licence = (
            "CC BY-NC-SA 4.0: NON-COMMERCIAL, share alike; what is trained on it must not be sold"
        )
        version = importlib.metadata.version("elpv-dataset")
        self.facts = SourceFacts(
            licence=licence,
            synthetic=False,
            warnings=[f"elpv's licence is {licence}"],
            source=f"elpv-dataset {version}, Buerhop-Lutz et al. 2018, "
            "electroluminescence images of solar cells",
        )

    def items(self) -> list[Item]:
        """Every cell, in the package's order.

        The package does not say which cells come from one module, so that they have no groups.
        """
        found = []
        for line in (self._folder / "labels.csv").read_text(encoding="utf-8").splitlines():
            path, probability, _ = line.split()
            defective = float(probability) >= _ELPV_DEFECTIVE
            found.append(Item(path, "defective" if defective else "functional"))
        return found

    def load(self, item: Item) -> bytes:
        """The PNG's bytes."""
        return (self._folder / item.name).read_bytes()

    def native_px(self) -> int:
        """All are 300 x 300."""
        return 300

    def fingerprint(self) -> str:
        """Hash of the package's name and version."""
        return sha256(self.facts.source.encode())


# Sizes in pixels that MedMNIST offers. 64 is the default: a MobileNet divides the side of its input
# by 32, so that 28 px would leave one pixel.
MEDMNIST_PX = (28, 64, 128, 224)
_MEDMNIST_DEFAULT_PX = 64


class MedmnistSource:
    """One of MedMNIST's 2-D data sets with one label for each image, read by the package medmnist.

    `px` is one of MEDMNIST_PX. Train, val and test are MedMNIST's own.

    Raises MissingExtra without the package, UnknownName for another name, and DataError for a set
    with several labels an image, for another size, and when the download fails (offline).
    """

    labels: list[str] | None = None

    def __init__(self, name: str, px: int = _MEDMNIST_DEFAULT_PX) -> None:
        package = _import_medmnist(name)
        known = {key: info for key, info in package.INFO.items() if not key.endswith("3d")}
        if name not in known:
            raise UnknownName("MedMNIST data set", name, known, f"one of {', '.join(known)}")
        if px not in MEDMNIST_PX:
            raise DataError(
                f"medmnist:{name}@{px}: MedMNIST has no {px} px",
                f"use one of {', '.join(f'@{size}' for size in MEDMNIST_PX)}",
            )
        info = known[name]
        if info["task"].startswith("multi-label"):
            raise DataError(
                f"medmnist:{name} has several labels an image",
                "choose a set with one label for each image",
            )
        reader = getattr(package, info["python_class"], None)
        if reader is None:  # medmnist hides the failed import of a library that it needs
            raise MissingExtra(
                "medmnist", "medmnist", f"--data medmnist:{name} (with all that medmnist needs)"
            )
        self.name, self.px = f"medmnist:{name}@{px}", px
        self._pixels: dict[str, NDArray[np.uint8]] = {}
        self._items: list[Item] = []
        for split in SPLITS:
            try:
                # medmnist prints its progress, but stdout is for results.
                with contextlib.redirect_stdout(sys.stderr):
                    part = reader(split=split, download=True, size=px)
            except Exception as error:  # RuntimeError of medmnist, others of torchvision and urllib
                address = info["url" if px == MEDMNIST_PX[0] else f"url_{px}"]
                raise DataError(
                    f"{self.name}: could not be downloaded from {address} ({_first_line(error)})",
                    "connect to the internet for the first run, put the .npz file into "
                    "~/.medmnist, or work offline with --data phantom",
                ) from error
            self._pixels[split] = part.imgs
            self._items += [
                Item(f"{split}/{row:06d}", info["label"][str(int(label))], split)
                for row, label in enumerate(np.asarray(part.labels).reshape(-1))
            ]
        self.facts = SourceFacts(
            licence=info["license"],
            synthetic=False,
            source=f"MedMNIST v2, {info['python_class']}, {package.HOMEPAGE}",
        )

    def items(self) -> list[Item]:
        """Every image: train, val, test."""
        return list(self._items)

    def load(self, item: Item) -> NDArray[np.uint8]:
        """One image's pixels, uint8 [px, px] or [px, px, 3]."""
        split, row = item.name.split("/")
        return np.asarray(self._pixels[split][int(row)])

    def native_px(self) -> int:
        """The size that was asked for."""
        return self.px

    def fingerprint(self) -> str:
        """Hash of the name, the size, and the first and last image of each split.

        That is enough: medmnist compares the file with its MD5.
        """
        digest = hashlib.sha256(self.name.encode())
        for pixels in self._pixels.values():
            digest.update(np.ascontiguousarray(pixels[[0, -1]]).tobytes())
        return digest.hexdigest()


def _import_medmnist(name: str) -> ModuleType:
    """The package medmnist. Raises MissingExtra, with the name of the set that needs it."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return importlib.import_module("medmnist")
    except ImportError as error:
        raise MissingExtra("medmnist", "medmnist", f"--data medmnist:{name}") from error


# Where Debian's package puts the files.
FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")
# Classes in the order of their numbers in the files.
_FASHION_CLASSES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


class FashionMnistSource:
    """Fashion-MNIST: 60,000 and 10,000 grey images of clothes, 28 x 28, in 10 classes.

    `folder`: its IDX files. Raises DataError when the folder or a file is missing or broken.
    """

    name = "fashion-mnist"
    labels = None

    def __init__(self, folder: Path = FASHION_FOLDER) -> None:
        if not files.is_folder(folder, "fashion-mnist:"):
            raise DataError(
                f"fashion-mnist: {folder} does not exist",
                "apt-get install dataset-fashion-mnist, or name a folder of its files, "
                "fashion-mnist:DIR",
            )
        self._pixels: dict[str, NDArray[np.uint8]] = {}
        self._items: list[Item] = []
        for split, stem in (("train", "train"), ("test", "t10k")):
            self._pixels[split] = idx.read(
                _plain_or_packed(folder / f"{stem}-images-idx3-ubyte"), 3
            )
            labels = idx.read(_plain_or_packed(folder / f"{stem}-labels-idx1-ubyte"), 1)
            if len(labels) != len(self._pixels[split]) or (
                len(labels) and labels.max() >= len(_FASHION_CLASSES)
            ):
                raise DataError(
                    f"fashion-mnist: images and labels of {split} in {folder} do not belong "
                    "together",
                    "download or install it again",
                )
            self._items += [
                Item(f"{split}/{row:05d}", _FASHION_CLASSES[label], split)
                for row, label in enumerate(labels)
            ]
        self.facts = SourceFacts(
            licence="MIT",
            synthetic=False,
            source="Fashion-MNIST, Xiao et al. 2017, arXiv 1708.07747, Zalando SE",
        )

    def items(self) -> list[Item]:
        """Every image: train, then test. The data stage takes val from train."""
        return list(self._items)

    def load(self, item: Item) -> NDArray[np.uint8]:
        """One image's pixels, uint8 [28, 28]."""
        split, row = item.name.split("/")
        return self._pixels[split][int(row)]

    def native_px(self) -> int:
        """All are square and of one size."""
        return int(self._pixels["train"].shape[1])

    def fingerprint(self) -> str:
        """Hash of all pixels and labels; for 55 MB that takes a quarter of a second."""
        digest = hashlib.sha256("".join(item.label for item in self._items).encode())
        for pixels in self._pixels.values():
            digest.update(pixels.tobytes())
        return digest.hexdigest()


def _plain_or_packed(path: Path) -> Path:
    """The gzipped form of a file if there is one, else the file."""
    packed = path.with_name(f"{path.name}.gz")
    return packed if files.exists(packed) else path


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
