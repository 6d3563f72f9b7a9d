"""Where `edgekd bench` writes: never into a bundle, never half, and refused before it measures.

The results are brought from a file, so nothing is measured here.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from bench_answers import answer
from tiny_tflite import tiny

from edgekd.app import cli, verify
from edgekd.bundle import archive, assemble, bundle_paths
from edgekd.core.errors import StoreError
from edgekd.core.records import from_json, to_json
from edgekd.core.store import facts_json
from edgekd.device import bench, bench_history
from edgekd.device.bench_record import Bench
from edgekd.settings.device_profiles import load_profile


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """The files of a bundle that `bench` reads, and the manifest that lists them."""
    made = tiny()
    listed = {"model.tflite": made.model, "golden.npz": made.golden(), "labels.txt": b"a\nb\n"}
    return {**listed, "manifest.json": facts_json(to_json(assemble.manifest("tiny", listed)))}


@pytest.fixture
def bundle(tmp_path: Path, files: dict[str, bytes]) -> Path:
    """An unpacked bundle, under a name with spaces."""
    folder = tmp_path / "my bundle"
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def result(tmp_path: Path, files: dict[str, bytes]) -> Path:
    """What a board brought back for the bundle's model."""
    path = tmp_path / "result.json"
    path.write_text(json.dumps(answer(files["model.tflite"])))
    return path


def measure(model: Path, result: Path, *words: str) -> int:
    return cli.main(["bench", str(model), "--profile", "pi4", "--brought", str(result), *words])


def manifest_passes(bundle: Path) -> bool:
    (row,) = (row for row in verify.verify(bundle) if row.check == "manifest")
    return row.passed


def test_a_measured_bundle_still_verifies(bundle: Path, result: Path, capsys):
    before = sorted(bundle.rglob("*"))
    assert measure(bundle, result) == 0
    assert sorted(bundle.rglob("*")) == before
    assert manifest_passes(bundle)
    (written,) = (bundle.parent / "my bundle_measured" / "bench").iterdir()
    assert str(written) in capsys.readouterr().err
    assert measure(bundle, result) == 0  # and the second is compared with the first
    assert "noise" in capsys.readouterr().out


def test_a_measurement_inside_a_bundle_is_named_as_one(bundle: Path):
    """As `edgekd bench` of version 0.1 left it."""
    (bundle / "bench").mkdir()
    (bundle / "bench" / "host-local.json").write_text("{}")
    (row,) = (row for row in verify.verify(bundle) if row.check == "manifest")
    assert not row.passed
    assert "bench/host-local.json is not in the list (a measurement: move" in row.found


def test_from_inside_the_bundle(bundle: Path, result: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(bundle)
    assert measure(Path(), result) == 0
    assert manifest_passes(bundle)
    assert list((bundle.parent / "my bundle_measured" / "bench").iterdir())


def test_a_bundle_as_a_zip(tmp_path: Path, files: dict[str, bytes], result: Path):
    zipped = tmp_path / "a bundle.zip"
    zipped.write_bytes(archive.pack(files))
    assert measure(zipped, result) == 0
    assert list((tmp_path / "a bundle_measured" / "bench").iterdir())


@pytest.mark.parametrize(
    ("packed", "words"),
    [({"other.txt": b""}, "holds no model.tflite"), ({"model.tflite": b"TFL3"}, "model.tflite")],
)
def test_a_zip_that_holds_no_model(tmp_path: Path, result: Path, capsys, packed, words):
    zipped = tmp_path / "a.zip"
    zipped.write_bytes(archive.pack(packed))
    assert measure(zipped, result) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--out", "--emit"])
def test_nothing_is_written_into_a_bundle_by_name(bundle: Path, result: Path, capsys, option):
    place = bundle / "new" / "folder"
    words = ["bench", str(bundle / "model.tflite"), "--profile", "pi4", option, str(place)]
    assert cli.main(words if option == "--emit" else [*words, "--brought", str(result)]) == 2
    told = capsys.readouterr().err
    assert option in told
    assert "my bundle_measured" in told
    assert manifest_passes(bundle)


def test_no_verb_writes_into_a_bundle(bundle: Path, capsys):
    inside = str(bundle / "new")
    for words in (
        ["build", "--data", "phantom:20", "--out", inside],
        ["profiles", "fit", "pi4", "a.json", "--out", inside],
    ):
        assert cli.main(words) == 2
        assert "--out" in capsys.readouterr().err
    assert manifest_passes(bundle)


def test_an_out_folder_keeps_its_results_itself(bundle: Path, result: Path):
    (bundle / "manifest.json").unlink()
    assert measure(bundle, result) == 0
    assert len(list((bundle / "bench").iterdir())) == 1


def test_out_is_taken_for_a_bundle_too(bundle: Path, result: Path, tmp_path: Path):
    assert measure(bundle, result, "--out", str(tmp_path / "kept here")) == 0
    assert len(list((tmp_path / "kept here" / "bench").iterdir())) == 1
    assert not (tmp_path / "my bundle_measured").exists()


def test_another_programs_manifest_is_no_bundle(tmp_path: Path):
    (tmp_path / "manifest.json").write_text('{"schema": "another/1"}')
    assert bundle_paths.bundle_around(tmp_path / "bench") is None


def test_a_place_that_cannot_be_written_is_refused_before_measuring(
    bundle: Path, tmp_path: Path, capsys
):
    (tmp_path / "my bundle_measured").touch()
    # nothing was brought, so a measurement would fail with another message
    assert measure(bundle, tmp_path / "none.json") == 2
    told = capsys.readouterr().err
    assert "cannot be written" in told
    assert "--out" in told


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused_before_measuring(tmp_path: Path):
    tmp_path.chmod(0o555)
    with pytest.raises(StoreError, match="--out"):
        bench_history.check_place(tmp_path)
    tmp_path.chmod(0o755)


def test_nothing_is_left_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    body = {**answer(b"m"), "profile": "pi4", "transport": "ssh", "emulated": False}
    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(StoreError, match="no space left"):
        bench_history.keep(tmp_path, from_json(Bench, body, "a bench"))
    assert list((tmp_path / "bench").iterdir()) == []


def test_an_emitted_folder_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    plain = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        if self.name == "COMMAND.txt":
            raise OSError(28, "No space left on device")
        return plain(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StoreError, match="no space left"):
        bench.emit(tmp_path / "card", tiny().model, load_profile("pi4"))
    assert list((tmp_path / "card").iterdir()) == []


def test_a_kit_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    plain = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        if self.name == "run.sh":
            raise OSError(28, "No space left on device")
        return plain(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StoreError, match="no space left"):
        bench.written(tmp_path / "kit", {"models/a.tflite": b"", "run.sh": b""})
    assert list((tmp_path / "kit").iterdir()) == []


def test_several_profiles_are_emitted_all_or_none(bundle: Path, tmp_path: Path, capsys):
    (tmp_path / "cards" / "pi5").mkdir(parents=True)
    (tmp_path / "cards" / "pi5" / "mine.txt").touch()
    words = ["--profile", "pi4,pi5", "--emit", str(tmp_path / "cards")]
    assert cli.main(["bench", str(bundle), *words]) == 2
    assert "pi5 is not empty" in capsys.readouterr().err
    assert not (tmp_path / "cards" / "pi4").exists()
