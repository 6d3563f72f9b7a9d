"""IDX files and the Fashion-MNIST provider: what is written is read, and broken files are named."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from edgekd.core.errors import DataError
from edgekd.data import idx, source_registry


def pack(array: np.ndarray) -> bytes:
    return (
        bytes([0, 0, 8, array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.tobytes()
    )


def fashion(folder: Path, train: int = 40, test: int = 20) -> dict[str, np.ndarray]:
    rng, made = np.random.default_rng(0), {}
    for stem, count, suffix in (("train", train, ".gz"), ("t10k", test, "")):
        made[stem] = rng.integers(0, 256, (count, 28, 28), np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for kind, array in (("images-idx3", made[stem]), ("labels-idx1", labels)):
            body = pack(array)
            (folder / f"{stem}-{kind}-ubyte{suffix}").write_bytes(
                gzip.compress(body) if suffix else body
            )
    return made


def test_a_folder_of_idx_files_is_a_source(tmp_path: Path) -> None:
    made = fashion(tmp_path)
    source = source_registry.open_source(f"fashion-mnist:{tmp_path}")
    items = source.items()
    assert (len(items), len({item.label for item in items})) == (60, 10)
    assert [item.split for item in items].count("test") == 20
    assert np.array_equal(source.load(items[3]), made["train"][3])
    assert np.array_equal(source.load(items[41]), made["t10k"][1])
    assert source.native_px() == 28
    assert (
        source.fingerprint()
        == source_registry.open_source(f"fashion-mnist:{tmp_path}").fingerprint()
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x1f\x8bjunk",
        b"\0\0\x0d\3" + bytes(12),
        pack(np.zeros((2, 3), np.uint8)),
        pack(np.zeros((2, 3, 3), np.uint8))[:-1],
        pack(np.zeros((2, 3, 3), np.uint8)) + b"x",
        bytes([0, 0, 8, 3]) + b"\xff" * 12,
        bytes([0, 0, 8, 3, 0]),
    ],
)
def test_broken_files_are_named(tmp_path: Path, body: bytes) -> None:
    for name, content in (
        ("plain", body),
        ("packed.gz", gzip.compress(body)),
        ("torn.gz", gzip.compress(body)[:-6]),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=name):
            idx.read(tmp_path / name, 3)


def test_a_missing_set_says_where_it_comes_from(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="dataset-fashion-mnist"):
        source_registry.open_source(f"fashion-mnist:{tmp_path / 'none'}")
    fashion(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(pack(np.zeros(3, np.uint8)))
    with pytest.raises(DataError, match="do not belong together"):
        source_registry.open_source(f"fashion-mnist:{tmp_path}")
