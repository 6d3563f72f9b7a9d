"""Logged answers: both layouts, missing probability, old answers, and faults named by line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekd.core.artifact_rows import ImageRow
from edgekd.core.errors import DataError, EdgeKDError
from edgekd.data import answer_logs, tables

CLASSES = ["bird", "cat", "dog", "eel"]
IMAGES: list[ImageRow] = [
    {
        "name": name,
        "sha256": letter * 64,
        "split": name.partition("/")[0],
        "group": None,
        "label": 0,
    }
    for name, letter in (
        ("train/cat/1.jpg", "a"),
        ("train/dog/2.jpg", "b"),
        ("train/dog/3.jpg", "c"),
        ("test/dog/4.jpg", "d"),
    )
]
TOP = "image,sha256,time,model,class_1,p_1,class_2,p_2\n"


def log(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "my log.csv"
    file.write_text(text)
    return file


def read(tmp_path: Path, text: str, max_days: float = 0.0) -> answer_logs.Logged:
    return answer_logs.read(log(tmp_path, text), IMAGES, CLASSES, max_days)


def test_top_k_spreads_what_is_missing_over_the_classes_not_named(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        TOP + f"train/cat/1.jpg,{'A' * 64},2026-01-01,v1,cat,0.7,dog,0.1\n3.jpg,,,,dog,1.0,cat,0\n",
    )
    assert found.rows == [0, 2]
    assert np.allclose(found.probabilities[0], [0.1, 0.7, 0.1, 0.1])
    assert np.allclose(found.probabilities[1], [0, 0, 1, 0], atol=1e-5)
    assert bool((found.probabilities > 0).all())
    assert np.allclose(found.probabilities.sum(1), 1)
    facts = found.facts
    assert facts.missing_mass.mean == pytest.approx(0.1)
    assert facts.missing_mass.most == pytest.approx(0.2)
    assert (facts.answers, facts.images, facts.hashes_checked) == (2, 3, 1)
    assert facts.model == "v1"


def test_full_answers_come_in_any_order_of_columns(tmp_path: Path) -> None:
    found = read(tmp_path, "p:dog,image,p:cat,p:eel,p:bird\n0.5,1.jpg,0.2,0.2,0.1\n")
    assert np.allclose(found.probabilities, [[0.1, 0.2, 0.5, 0.2]])


def test_the_newest_answer_counts_and_old_ones_can_be_left_out(tmp_path: Path) -> None:
    text = TOP + (
        "1.jpg,,2026-03-02T00:00:00+00:00,,cat,0.9,dog,0.1\n1.jpg,,2026-03-01,,cat,0.2,dog,0.8\n"
        "2.jpg,,2026-01-01,,dog,0.9,cat,0.1\n3.jpg,,,,dog,0.6,cat,0.4\n4.jpg,,,,dog,0.6,cat,0.4\n"
    )
    found = read(tmp_path, text)
    assert found.probabilities[0, 1] == pytest.approx(0.9, abs=1e-4)
    assert found.facts.skipped == {"repeated": 1, "not a training image": 1}
    assert found.facts.oldest.startswith("2026-01-01")
    late = read(tmp_path, text, max_days=30)
    assert late.rows == [0]
    assert late.facts.too_old == 2


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (TOP + f"1.jpg,{'f' * 64},,,cat,0.9,dog,0.1\n", "line 2: 1.jpg has sha256 aaaaaaaaaaaa"),
        (TOP + "1.jpg,,,,cat,0.9,dgo,0.1\n", "dog"),
        (TOP + "1.jpg,,,,cat,0.9,dog,0.3\n", "sum to 1.2"),
        (TOP + "1.jpg,,,,cat,0.3,dog,0.1\n", "sum to 0.40 only"),
        (TOP + "1.jpg,,,,cat,high,dog,0.1\n", "'high'"),
        (TOP + "1.jpg,,,,cat,nan,dog,0.1\n", "'nan'"),
        (TOP + "1.jpg,,,,cat,0.9,cat,0.1\n", "twice"),
        (TOP + "1.jpg,,yesterday,,cat,0.9,dog,0.1\n", "ISO 8601"),
        (TOP + "1.jpg,,,v1,cat,0.9,dog,0.1\n2.jpg,,,v2,cat,0.9,dog,0.1\n", "2 models"),
        (TOP + "4.jpg,,,,cat,0.9,dog,0.1\n", "no row names a training image"),
        (TOP + "1.jpg,,,\n", "line 2: 4 cells, and the header names 8 columns"),
        (TOP, "no rows"),
        ("", "no column 'image'"),
        ("imag,p:cat\nx,1\n", "there is 'imag'"),
        ("image,time\n1.jpg,\n", "neither or both"),
        ("image,p:cat,p:dog,p:bird\n1.jpg,1,0,0\n", "p:eel"),
        ("image,p:cat,p:dog,p:bird,p:ell\n1.jpg,1,0,0,0\n", "eel"),
    ],
)
def test_faults_are_named(tmp_path: Path, text: str, part: str) -> None:
    with pytest.raises(EdgeKDError) as found:
        read(tmp_path, text)
    assert part in str(found.value)
    assert found.value.exit_code == 2


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.csv", tmp_path):
        with pytest.raises(DataError, match="log"):
            tables.rows(path, ("image",), "log")
    file = tmp_path / "binary.csv"
    file.write_bytes(b"\xff\xfe\x00image")
    with pytest.raises(DataError, match="UTF-8"):
        tables.rows(file, ("image",), "log")


def test_groups_need_every_image(tmp_path: Path) -> None:
    file = log(
        tmp_path,
        "image,group\n" + "".join(f"{row['name']},{'xy'[n % 2]}\n" for n, row in enumerate(IMAGES)),
    )
    assert tables.groups(file, [image["name"] for image in IMAGES]) == (["x", "y"], [0, 1, 0, 1])
    with pytest.raises(DataError, match=r"1 images have no row, 'new\.jpg' first"):
        tables.groups(file, [*(image["name"] for image in IMAGES), "new.jpg"])
