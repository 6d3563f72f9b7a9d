"""WebDataset shards: a build on them equals one on the folder, and unsafe tars are refused."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from edgekd.core.context import Context
from edgekd.core.errors import DataError
from edgekd.data import (
    dataset_builder,
    decoding,
    images,
    input_builder,
    shard_writer,
    shards,
    source_registry,
    tar_members,
)
from edgekd.data.phantom_source import PhantomSource
from edgekd.pipeline.stage_settings import DistilSettings
from edgekd.pipeline.stages import distil
from edgekd.settings import model_specs
from edgekd.settings.recipe import DataConfig, DistilConfig, ViewsConfig


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 phantoms as PNG files with patients, val split off train."""
    root, source = tmp_path_factory.mktemp("set"), PhantomSource(120, 40)
    rows = ["path,patient_key"]
    for item in source.items():
        path = root / str(item.split) / item.label / f"{item.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(images.encode_png(source.load(item)))
        rows.append(f"{path.relative_to(root).as_posix()},{item.group}")
    (root / "manifest.csv").write_text("\n".join(rows))
    return root


def tar(path: Path, **members: bytes) -> Path:
    with tarfile.open(path, "w") as out:
        for name, content in members.items():
            entry = tarfile.TarInfo(name.replace("_", "."))
            entry.size = len(content)
            out.addfile(entry, io.BytesIO(content))
    return path


def png(value: int) -> bytes:
    return images.encode_png(np.full((40, 40), value, np.uint8))


def test_a_student_trained_from_shards_equals_the_folders(folder: Path, tmp_path: Path) -> None:
    written = shard_writer.write(
        source_registry.open_source(str(folder)), tmp_path / "tars", per_shard=40
    )
    assert len(written) > 2
    sources = [str(folder), f"shards:{tmp_path / 'tars'}", "shards:" + "::".join(map(str, written))]
    sets = [
        dataset_builder.build_dataset(source_registry.open_source(text), DataConfig(), seed=2)
        for text in sources
    ]
    assert all(
        (made.images, made.classes, made.px, bytes(made.pixels))
        == (sets[0].images, sets[0].classes, sets[0].px, bytes(sets[0].pixels))
        for made in sets
    )
    inputs = [
        input_builder.build_inputs(
            source_registry.open_source(text), made, 32, 2, calibration=8, golden=4
        )
        for text, made in zip(sources, sets, strict=True)
    ]
    assert inputs[0] == inputs[1] == inputs[2]
    config = DistilConfig(student="mobilenetv2_035", weights="none", epochs=1, batch=16)
    first, second = (
        distil.run(
            made,
            None,
            None,
            settings=DistilSettings(
                config, model_specs.spec("mobilenetv2_035"), ViewsConfig(), px=32
            ),
            context=Context(seed=2),
        )
        for made in sets[:2]
    )
    assert bytes(first.state) == bytes(second.state)
    assert first.history == second.history


def test_pixels_beyond_memory_are_decoded_into_a_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_registry.open_source(str(folder))
    inside = dataset_builder.build_dataset(source, DataConfig())
    monkeypatch.setattr(decoding, "_IN_MEMORY", 1000)
    assert isinstance(decoding.room((2, 1, 40, 40)), np.memmap)
    assert dataset_builder.build_dataset(source, DataConfig()) == inside


def test_shards_as_webdatasets_own_writers_make_them(tmp_path: Path) -> None:
    """Class numbers or names in .cls, other files beside the image, patterns, splits by name."""
    for number in range(3):
        tar(
            tmp_path / f"all-{number:03d}.tar",
            **{
                "a/x_png": png(number),
                "a/x_cls": b"7\n",
                "a/x_seg_png": png(9),
                "a/y_jpg": png(number + 50),
                "a/y_json": b'{"label": "cat", "group": 4}',
                "z_txt": b"notes",
            },
        )
    with pytest.raises(DataError, match=r"all-001\.tar: a second sample is named 'a/x\.png'"):
        shards.ShardSource(str(tmp_path / "all-{000..002}.tar"))
    source = shards.ShardSource(str(tmp_path / "all-{000..000}.tar"))
    assert [(item.name, item.label, item.split, item.group) for item in source.items()] == [
        ("a/x.png", "7", None, None),
        ("a/y.jpg", "cat", None, "4"),
    ]
    assert source.load(source.items()[1]) == png(50)
    assert source.native_px() == 40
    assert source.facts.ignored == {"neither image nor label": 2}


def link(path: Path) -> None:
    with tarfile.open(path, "w") as out:
        entry = tarfile.TarInfo("a.jpg")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        out.addfile(entry)


def huge(path: Path) -> None:
    entry = tarfile.TarInfo("a.jpg")
    entry.size = 1 << 40
    path.write_bytes(entry.tobuf() + png(1))


def cut(path: Path) -> None:
    whole = tar(path, a_cls=b"1", a_png=png(1) * 20).read_bytes()
    path.write_bytes(whole[: len(whole) // 4])


def packed(path: Path) -> None:
    with tarfile.open(path, "w:gz") as out:
        out.addfile(tarfile.TarInfo("a.jpg"))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda path: tar(path, **{"/etc/a_jpg": b"x"}), "name that leads out"),
        (lambda path: tar(path, **{"b/../../a_jpg": b"x"}), "name that leads out"),
        (link, "a link, a device"),
        (huge, "1,099,511,627,776 bytes, more than"),
        (lambda path: tar(path, a_json=b"x" * (tar_members.MAX_LABEL + 1)), "more than 1,048,576"),
        (cut, "cut off|not a plain tar"),
        (packed, "it is compressed.*"),
        (lambda path: path.write_bytes(b"no tar" * 200), "not a plain tar"),
        (lambda path: tar(path, a_png=png(1)), "'a.png' has no label"),
        (lambda path: tar(path, a_png=png(1), a_json=b"[1]"), "not a JSON object"),
        (lambda path: tar(path, a_png=png(1), a_cls=b"\xff"), "not UTF-8"),
        (
            lambda path: tar(path, a_png=png(1), a_json=b'{"label": "x", "split": "dev"}'),
            "split 'dev'",
        ),
        (lambda path: tar(path), "no samples"),
    ],
)
def test_an_unsafe_tar_is_refused(make: object, match: str, tmp_path: Path) -> None:
    make(tmp_path / "train-0.tar")  # type: ignore[operator]
    with pytest.raises(DataError, match=match) as found:
        shards.ShardSource(str(tmp_path))
    assert "train-0.tar" in str(found.value)
    assert found.value.next_step


def test_missing_shards_are_counted(tmp_path: Path) -> None:
    tar(tmp_path / "train-00.tar", a_png=png(1), a_cls=b"1")
    with pytest.raises(DataError, match=r"2 of 3 shards do not exist: .*train-01\.tar"):
        source_registry.open_source(f"shards:{tmp_path}/train-{{00..02}}.tar")
    with pytest.raises(DataError, match="names 0 shards"):
        source_registry.open_source(f"shards:{tmp_path}/train-{{9..1}}.tar")
