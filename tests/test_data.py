"""From folders of real files to data sets: layout, checks, splits, and what the device sees."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekd.core.artifacts import Dataset, canonical_json
from edgekd.core.errors import DataError, MissingExtra, UnknownName
from edgekd.core.packing import Packed, pack, unpack
from edgekd.data import images
from edgekd.data.dataset_builder import build_dataset
from edgekd.data.datasets import labels, pixels, rows
from edgekd.data.input_builder import build_inputs
from edgekd.data.source_registry import open_source
from edgekd.data.splits import FEWEST, draw, hold_out
from edgekd.settings.recipe import DataConfig

ROOT = Path(__file__).resolve().parents[1]
XRAYS = ROOT.parent / "shared" / "data" / "chest-xray"


def write(path: Path, seed: int, size: tuple[int, int] = (24, 20), coloured: bool = False) -> Path:
    """One real image file whose pixels are the seed's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(
        0, 256, (size[1], size[0], *([3] if coloured else [])), np.uint8
    )
    Image.fromarray(noise).save(path)
    return path


def folder(root: Path, counts: dict[str, int], coloured: bool = False) -> Path:
    """Image files: {"train/cat": 20} makes train/cat/0.png to 19.png, all different."""
    seed = 0
    for name, count in counts.items():
        for number in range(count):
            seed += 1
            write(root / name / f"{number}.png", seed, coloured=coloured)
    return root


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Two classes of twenty, not split."""
    return folder(tmp_path / "pets", {"cat": 20, "dog": 20})


@pytest.fixture
def divided(tmp_path: Path) -> Path:
    """Two classes, train and test."""
    return folder(
        tmp_path / "pets", {"train/cat": 20, "train/dog": 20, "test/cat": 6, "test/dog": 6}
    )


def built(root: Path, **settings: object) -> Dataset:
    """The dataset of a folder."""
    seed = settings.pop("seed", 0)
    config = DataConfig(**settings)  # type: ignore[arg-type]
    return build_dataset(open_source(str(root)), config, seed)  # type: ignore[arg-type]


def refused(root: Path, **settings: object) -> DataError:
    """The error that building raises; every one has a next step."""
    with pytest.raises(DataError) as error:
        built(root, **settings)
    assert error.value.next_step
    assert error.value.exit_code == 2
    return error.value


# --- layout ---------------------------------------------------------------------------------------


def test_a_folder_of_classes_is_split_and_every_row_is_true(plain: Path) -> None:
    data = built(plain)
    assert data.classes == ["cat", "dog"]
    assert (data.px, data.channels) == (24, 1)
    assert pixels(data).shape == (40, 1, 24, 24)
    assert not pixels(data).flags.writeable
    counts = Counter((row["split"], row["label"]) for row in data.images)
    assert set(counts) == {(split, label) for split in ("train", "val", "test") for label in (0, 1)}
    assert min(counts.values()) >= FEWEST
    for index in (0, 17, 39):
        row = data.images[index]
        file = (plain / row["name"]).read_bytes()
        assert row["name"].startswith(data.classes[row["label"]])
        np.testing.assert_array_equal(
            pixels(data)[index, 0], images.fit(images.decode(file, ""), 24)
        )
    assert sum(len(rows(data, split)) for split in ("train", "val", "test")) == 40
    np.testing.assert_array_equal(labels(data)[rows(data, "val")], labels(data, "val"))


def test_a_divided_folder_keeps_its_test_and_its_val(divided: Path) -> None:
    data = built(divided)
    assert {row["name"].split("/")[0] for row in data.images if row["split"] == "test"} == {"test"}
    assert {row["name"].split("/")[0] for row in data.images if row["split"] == "val"} == {"train"}
    folder(divided, {"valid/cat": 0, "valid/dog": 0})
    for number in range(6):
        for name in ("cat", "dog"):
            write(
                divided / "valid" / name / f"{number}.png",
                1000 + number + 100 * len(name) * (name == "cat"),
            )
    data = built(divided)
    assert {row["name"].split("/")[0] for row in data.images if row["split"] == "val"} == {"valid"}


def test_the_same_seed_gives_the_same_bytes_and_another_another_split(
    plain: Path, tmp_path: Path
) -> None:
    once = pack(built(plain, seed=3))
    assert pack(built(plain, seed=3)).digest == once.digest
    moved = tmp_path / "elsewhere" / "pets"
    shutil.copytree(plain, moved)
    assert pack(built(moved, seed=3)).digest == once.digest
    assert [row["split"] for row in built(plain, seed=4).images] != [
        row["split"] for row in built(plain).images
    ]


def test_the_artifact_survives_the_wire(plain: Path) -> None:
    data = built(plain)
    wire = pack(data)
    facts = json.loads(canonical_json(dict(wire.facts)))
    back = unpack(Dataset, Packed(wire.kind, facts, {"pixels": bytes(wire.blobs["pixels"])}))
    np.testing.assert_array_equal(pixels(back), pixels(data))
    assert pack(back).digest == wire.digest


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({}, "no class folders"),
        ({"cat": 9}, "one class only"),
        ({"train/cat": 9, "test/cat": 9}, "one class only"),
        ({"test/cat": 9, "test/dog": 9}, r"no train/"),
        (
            {"train/cat": 20, "train/dog": 20, "test/cat": 9, "test/dgo": 9},
            "different classes.*dgo.*dog",
        ),
        (
            {"train/cat": 20, "train/dog": 20, "train/cow": 20, "test/cat": 9, "test/dog": 9},
            "only in train/: cow",
        ),
        ({"train/cat": 20, "train/dog": 20, "test/cat": 9, "test/dog": 2}, "test/dog: 2"),
        ({"cat": 20, "dog": 6}, "class 'dog' has 6 images"),
    ],
)
def test_a_folder_in_the_wrong_layout_is_refused(
    tmp_path: Path, counts: dict[str, int], said: str
) -> None:
    root = folder(tmp_path / "pets", counts)
    root.mkdir(exist_ok=True)
    error = refused(root)
    assert re.search(said, error.what), error.what
    assert "pets" in error.what or "class" in error.what


def test_an_empty_class_is_named_with_what_was_ignored_in_it(plain: Path) -> None:
    (plain / "cow").mkdir()
    (plain / "cow" / "notes.txt").write_text("moo")
    error = refused(plain)
    assert "cow" in error.what
    assert "1 not an image" in error.what


def test_a_folder_that_an_archive_left_inside_itself_is_read(tmp_path: Path) -> None:
    """Kaggle's chest_xray/chest_xray/train, with what a Mac leaves beside it."""
    counts = {"train/a": 20, "train/b": 20, "test/a": 6, "test/b": 6}
    inner = folder(tmp_path / "xrays" / "xrays", counts)
    (tmp_path / "xrays" / "__MACOSX" / "xrays").mkdir(parents=True)
    (tmp_path / "xrays" / ".DS_Store").write_bytes(b"junk")
    doubled, plain = open_source(str(tmp_path / "xrays")), open_source(str(inner))
    assert doubled.items() == plain.items()
    assert len(doubled.load(doubled.items()[0])) > 50
    for name in ("train", "cat"):  # a split alone, and a class alone, are what they were
        one = folder(tmp_path / f"one {name}", {f"{name}/x" if name == "train" else name: 6})
        with pytest.raises(DataError, match=r"no class folders|one class only"):
            open_source(str(one))


def test_images_without_class_folders_are_counted(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / "flat" / f"{number}.png", number)
    assert "3 images but no class folders" in refused(tmp_path / "flat").what


def test_a_close_spelling_of_train_is_offered(tmp_path: Path) -> None:
    root = folder(tmp_path / "pets", {"trian/cat": 1, "trian/dog": 1, "test/cat": 1, "test/dog": 1})
    assert "'trian'" in refused(root).next_step


def test_junk_is_ignored_and_counted(plain: Path) -> None:
    for name in ("Thumbs.db", "readme.txt", ".DS_Store", "._0.png"):
        (plain / "cat" / name).write_bytes(b"junk")
    (plain / ".git").mkdir()
    (plain / "notes.txt").write_text("x")
    (plain / "cat" / "gone.png").symlink_to(plain / "nowhere.png")
    (plain / "cat" / "circle").symlink_to(plain, target_is_directory=True)
    (plain / "cat" / "linked.png").symlink_to(write(plain.parent / "apart.png", 999))
    (plain / "cat" / "deeper").mkdir()
    write(plain / "cat" / "deeper" / "more.png", 998)
    data = built(plain)
    assert len(data.images) == 42
    assert data.facts["ignored"] == {
        "broken link": 1,
        "hidden": 4,
        "link to a folder": 1,
        "not an image": 2,
    }


def test_odd_file_names_survive(plain: Path) -> None:
    odd = ["with space.png", "Zoë 猫.png", "new\nline.png", "semi;colon,comma.PNG"]
    for number, name in enumerate(odd):
        write(plain / "cat" / name, 500 + number)
    raw = os.fsencode(plain / "cat") + b"/\xff\xfe.png"
    try:
        shutil.copy(os.fsencode(write(plain.parent / "x.png", 700)), raw)
    except OSError:
        raw = b""  # a file system that only takes UTF-8
    data = built(plain)
    names = {row["name"] for row in data.images}
    assert {f"cat/{name}" for name in odd} <= names
    assert not raw or "cat/\\xff\\xfe.png" in names
    canonical_json(data.images)
    assert build_inputs(open_source(str(plain)), data, 8, 0).px == 8


def test_names_of_data(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(plain.parent)
    for text, near in (("phantum", "phantom"), ("pest", "pets"), ("elvp", "elpv")):
        with pytest.raises(UnknownName, match=text) as error:
            open_source(text)
        assert near in error.value.next_step
        assert "train/CLASS" in error.value.next_step
    for text, said in (("./nowhere", "no such folder"), ("/no/where", "no such folder")):
        with pytest.raises(DataError, match=said) as missing:
            open_source(text)
        assert "train/CLASS" in missing.value.next_step
    (plain.parent / "pets.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match="a file, not a folder") as zipped:
        open_source("pets.zip")
    assert "unpack" in zipped.value.next_step


# --- what is in the images ------------------------------------------------------------------------


def test_unreadable_images_are_all_listed_or_skipped(plain: Path) -> None:
    for number in range(12):
        (plain / "dog" / f"bad {number:02d}.jpg").write_text("this is text")
    error = refused(plain)
    assert "12 images cannot be read" in error.what
    assert "dog/bad 00.jpg" in error.what
    assert "dog/bad 09.jpg" in error.what
    assert "and 2 more" in error.what
    assert "on_error=skip" in error.next_step
    data = built(plain, on_error="skip")
    assert len(data.images) == 40
    assert len(data.facts["skipped"]) == 12
    assert any("12 images that cannot be read" in warning for warning in data.facts["warnings"])


def test_one_image_in_train_and_test_is_refused_or_dropped_from_train(divided: Path) -> None:
    shutil.copy(divided / "test/cat/0.png", divided / "train/cat/again.png")
    error = refused(divided)
    assert "'test/cat/0.png'" in error.what
    assert "'train/cat/again.png'" in error.what
    data = built(divided, duplicates="drop")
    names = {row["name"]: index for index, row in enumerate(data.images)}
    assert "train/cat/again.png" not in names
    assert data.facts["duplicates"]["dropped"] == 1
    for name in (
        "train/cat/5.png",
        "train/dog/7.png",
        "test/dog/3.png",
    ):  # rows still lie under their own pixels
        file = images.decode((divided / name).read_bytes(), name)
        np.testing.assert_array_equal(pixels(data)[names[name], 0], images.fit(file, 24))


def test_one_image_in_two_classes_is_refused_or_dropped_from_both(plain: Path) -> None:
    shutil.copy(plain / "cat/3.png", plain / "dog/same.png")
    assert "two classes" in refused(plain).what
    names = {row["name"] for row in built(plain, duplicates="drop").images}
    assert not names & {"cat/3.png", "dog/same.png"}


def test_copies_inside_train_are_a_warning_and_stay_together(plain: Path) -> None:
    for number in range(10):
        for copy in range(3):
            shutil.copy(plain / f"cat/{number}.png", plain / f"cat/{number}-{copy}.png")
    for seed in range(5):
        data = built(plain, seed=seed)
        assert data.facts["duplicates"]["images"] == 30
        assert any("copies" in warning for warning in data.facts["warnings"])
        where: dict[str, set[str]] = {}
        for row in data.images:
            where.setdefault(row["sha256"], set()).add(row["split"])
        assert all(len(splits) == 1 for splits in where.values())


def test_colour_decides_the_channels(tmp_path: Path) -> None:
    root = folder(tmp_path / "pets", {"cat": 20, "dog": 20}, coloured=True)
    data = built(root)
    assert data.channels == 3
    file = images.decode((root / data.images[5]["name"]).read_bytes(), "")
    np.testing.assert_array_equal(pixels(data)[5], images.fit(file, 24).transpose(2, 0, 1))


def test_grey_images_saved_as_rgb_are_grey(plain: Path) -> None:
    for path in plain.rglob("*.png"):
        Image.open(path).convert("RGB").save(path)
    assert built(plain).channels == 1


def test_grey_among_coloured_is_repeated_and_warned_of(plain: Path) -> None:
    write(plain / "dog" / "zz.png", 77, coloured=True)
    data = built(plain)
    assert data.channels == 3
    first = pixels(data)[0]
    np.testing.assert_array_equal(first[0], first[2])
    file = images.decode((plain / data.images[0]["name"]).read_bytes(), "")
    np.testing.assert_array_equal(first[1], images.fit(file, 24))
    assert any("colour alone" in warning for warning in data.facts["warnings"])


def test_images_are_never_stored_larger_than_they_are(plain: Path) -> None:
    assert built(plain, cache_px=224).px == 24
    assert built(plain, cache_px=16).px == 16


def test_tiny_images_are_used_and_counted(plain: Path) -> None:
    write(plain / "cat" / "dot.png", 5, size=(1, 1))
    assert any(
        "1 images have a side below 8 px" in warning for warning in built(plain).facts["warnings"]
    )


def test_limit_draws_by_class_and_split(divided: Path) -> None:
    data = built(divided, limit=12)
    assert sorted(sum(counts.values()) for counts in data.facts["counts"].values()) == [10, 12, 14]
    assert [row["name"] for row in built(divided, limit=12).images] == [
        row["name"] for row in data.images
    ]


def test_progress_counts_to_the_end(plain: Path) -> None:
    seen: list[tuple[int, int]] = []
    build_dataset(
        open_source(str(plain)),
        DataConfig(),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(number, 40) for number in range(1, 41)]


# --- groups ---------------------------------------------------------------------------------------


def manifest(root: Path, group_of: dict[str, str], column: str = "patient_key") -> None:
    """Write a manifest.csv."""
    with (root / "manifest.csv").open("w", encoding="utf-8-sig", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "split", "label", column])
        table.writerows(
            [path.replace("/", "\\"), "", "", group] for path, group in group_of.items()
        )


def test_groups_are_never_divided(plain: Path) -> None:
    manifest(
        plain,
        {
            f"{name}/{number}.png": f"{name}{number // 3}"
            for name in ("cat", "dog")
            for number in range(20)
        },
    )
    for seed in range(5):
        where: dict[str, set[str]] = {}
        for row in built(plain, seed=seed).images:
            where.setdefault(row["group"], set()).add(row["split"])
        assert len(where) == 14
        assert all(len(splits) == 1 for splits in where.values())


def test_groups_shared_by_the_sources_own_splits_are_warned_of(divided: Path) -> None:
    manifest(divided, {"train/cat/0.png": "anna", "test/cat/0.png": "anna"})
    data = built(divided)
    assert data.facts["groups"]["train_and_test"] + data.facts["groups"]["val"] >= 1
    assert any("no patient_key" in warning for warning in data.facts["warnings"])


def test_one_group_for_everything_is_refused(plain: Path) -> None:
    manifest(
        plain, {f"{name}/{number}.png": "all" for name in ("cat", "dog") for number in range(20)}
    )
    assert "1 groups" in refused(plain).what


def test_a_manifest_that_cannot_be_used(plain: Path) -> None:
    with pytest.raises(DataError, match=r"manifest\.csv: no such file"):
        open_source(str(plain), DataConfig(group_column="owner"))
    manifest(plain, {"cat/0.png": "a"}, column="owners")
    with pytest.raises(UnknownName, match="'owner'") as error:
        open_source(str(plain), DataConfig(group_column="owner"))
    assert "owners" in error.value.next_step
    (plain / "manifest.csv").write_text("picture,owner\ncat/0.png,a\n")
    with pytest.raises(DataError, match="no column 'path'"):
        open_source(str(plain))
    (plain / "manifest.csv").write_bytes(b"path,owner\n\xff\xfe,a\n")
    with pytest.raises(DataError, match="UTF-8"):
        open_source(str(plain))


def test_hold_out_on_random_problems() -> None:
    rng = np.random.default_rng(0)
    for trial in range(200):
        count = int(rng.integers(60, 300))
        groups = [str(group) for group in rng.integers(0, count, count)]
        of_group = {group: str(rng.integers(0, 3)) for group in groups}
        names = [
            of_group[group] if rng.random() < 0.9 else str(rng.integers(0, 3)) for group in groups
        ]
        share = float(rng.uniform(0.05, 0.4))
        chosen = hold_out([(name,) for name in names], groups, share, trial, "val")
        assert chosen == hold_out([(name,) for name in names], groups, share, trial, "val")
        assert not {groups[index] for index in chosen} & {
            groups[index] for index in set(range(count)) - chosen
        }
        taken, sizes = Counter(names[index] for index in chosen), Counter(names)
        biggest = max(Counter(groups).values())
        for name, size in sizes.items():
            wanted = max(FEWEST, round(share * size))
            assert taken[name] >= FEWEST
            assert size - taken[name] >= FEWEST
            assert taken[name] >= min(wanted, size - FEWEST) - biggest


def test_draw_is_stratified_exact_and_seeded() -> None:
    names = [0] * 900 + [1] * 90 + [2] * 10
    chosen = draw(names, 100, 7)
    assert Counter(names[index] for index in chosen) == {0: 90, 1: 9, 2: 1}
    assert chosen == draw(names, 100, 7) != draw(names, 100, 8)
    assert draw(names, 5000, 0) == list(range(1000))
    assert {names[index] for index in draw(names, 5, 0)} == {0, 1, 2}
    for count in range(1, 40):
        assert len(set(draw(names, count, 0))) == count


# --- what the device sees -------------------------------------------------------------------------


def test_inputs_are_decoded_from_the_files_at_the_networks_size(divided: Path) -> None:
    source = open_source(str(divided))
    data = build_dataset(source, DataConfig(cache_px=16))
    inputs = build_inputs(source, data, 12, seed=1, fit="pad", calibration=10, golden=4)
    assert inputs.rows["test"] == rows(data, "test").tolist()
    assert inputs.rows["val"] == rows(data, "val").tolist()
    assert {data.images[row]["split"] for row in inputs.rows["calibration"]} == {"train"}
    assert {data.images[row]["split"] for row in inputs.rows["golden"]} == {"test"}
    assert Counter(data.images[row]["label"] for row in inputs.rows["golden"]) == {0: 2, 1: 2}
    for part in ("val", "test", "calibration", "golden"):
        blob = np.frombuffer(getattr(inputs, part), np.uint8).reshape(-1, 12, 12, 1)
        assert len(blob) == len(inputs.rows[part])
        for picture, row in zip(blob, inputs.rows[part], strict=True):
            file = (divided / data.images[row]["name"]).read_bytes()
            np.testing.assert_array_equal(
                picture[..., 0], images.fit(images.decode(file, ""), 12, "pad")
            )
    assert pack(inputs).digest == pack(build_inputs(source, data, 12, 1, "pad", 10, 4)).digest


def test_inputs_refuse_files_that_changed_or_went(divided: Path) -> None:
    data = built(divided)
    write(divided / "test/cat/2.png", 12345)
    with pytest.raises(DataError, match=r"1 images changed.*test/cat/2\.png"):
        build_inputs(open_source(str(divided)), data, 12, 0)
    (divided / "test/cat/2.png").unlink()
    with pytest.raises(DataError, match=r"1 images are gone.*test/cat/2\.png") as error:
        build_inputs(open_source(str(divided)), data, 12, 0)
    assert error.value.next_step


def test_the_fingerprint_follows_the_files(plain: Path) -> None:
    before = open_source(str(plain)).fingerprint()
    assert open_source(str(plain)).fingerprint() == before
    write(plain / "cat/0.png", 4321, size=(25, 20))
    assert open_source(str(plain)).fingerprint() != before
    assert open_source("phantom:120").fingerprint() != open_source("phantom:121").fingerprint()


# --- sources that are not folders -----------------------------------------------------------------


@pytest.fixture(scope="module")
def small_phantom() -> Dataset:
    """A phantom set of 120."""
    return build_dataset(open_source("phantom:120"), DataConfig())


def test_phantom_becomes_a_dataset(small_phantom: Dataset) -> None:
    data = small_phantom
    assert data.name == "phantom:120"
    assert data.facts["synthetic"] is True
    assert (data.px, data.channels, len(data.images)) == (96, 1, 120)
    assert data.facts["groups"]["train_and_val"] == data.facts["groups"]["train_and_test"] == 0
    assert (
        min(count for counts in data.facts["counts"].values() for count in counts.values())
        >= FEWEST
    )


def test_elpv_is_read_from_its_package_or_the_extra_is_named() -> None:
    if not importlib.util.find_spec("elpv_dataset"):
        with pytest.raises(MissingExtra, match=r"edgekd\[elpv\]"):
            open_source("elpv")
        return
    source = open_source("elpv")
    data = build_dataset(source, DataConfig(limit=40, cache_px=64))
    assert data.classes == ["defective", "functional"]
    assert (data.px, data.channels) == (64, 1)
    assert "NON-COMMERCIAL" in data.facts["licence"]
    assert any("NON-COMMERCIAL" in warning for warning in data.facts["warnings"])


def test_medmnist_without_its_package_names_the_extra() -> None:
    if importlib.util.find_spec("medmnist"):
        pytest.skip("medmnist is installed; this test is about its absence")
    with pytest.raises(MissingExtra, match="medmnist") as error:
        open_source("medmnist:pneumoniamnist")
    assert "edgekd[medmnist]" in error.value.next_step


def test_importing_the_package_loads_neither_pillow_nor_numpy() -> None:
    code = (
        "import edgekd, sys; "
        "sys.exit(any(name in sys.modules for name in ('PIL', 'numpy', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
    code = "import edgekd.data.datasets, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.skipif(not XRAYS.is_dir(), reason="../shared/data/chest-xray is not here")
def test_real_radiographs() -> None:
    data = built(XRAYS, cache_px=64)
    assert len(data.images) == 5840
    assert data.classes == ["NORMAL", "PNEUMONIA"]
    assert data.channels == 1  # grey in fact, though every file is an RGB JPEG
    assert data.facts["counts"]["test"] == {"NORMAL": 234, "PNEUMONIA": 390}
    assert data.facts["groups"]["train_and_val"] == 0
    assert data.facts["duplicates"] == {
        "images": 32,
        "across_splits": 0,
        "across_classes": 0,
        "dropped": 0,
    }
    with (XRAYS / "manifest.csv").open(newline="") as file:
        recorded = {row["path"]: row["sha256"] for row in csv.DictReader(file)}
    assert {row["name"]: row["sha256"] for row in data.images} == recorded
