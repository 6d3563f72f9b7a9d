"""`edgekd bench --kit`: a folder that a person with a board runs, and the file it gives back."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from bench_answers import QUICK, answer
from tiny_tflite import tiny

from edgekd.app import cli, measured_models
from edgekd.assessment.refit import refit
from edgekd.bundle import archive, assemble
from edgekd.core.artifacts import sha256
from edgekd.core.errors import ModelFileError, ProfileError
from edgekd.core.number_formats import NumberFormat
from edgekd.core.records import to_json
from edgekd.core.store import facts_json
from edgekd.device import bench, emulate
from edgekd.device.kit import folder, wheels
from edgekd.device.kit import run as on_board
from edgekd.settings.device_profiles import load_profile
from tests.lite_graphs import separable

PI4 = load_profile("pi4")
SIZES = [(32, 8), (64, 40), (128, 16)]


def made(place: Path, *models: folder.Model) -> Path:
    """A kit in a folder, whose models are measured quickly."""
    bench.written(place, folder.files(models, PI4, QUICK, {}))
    return place


def run(kit: Path, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    """What a person types, from another folder."""
    return subprocess.run(
        ["sh", str(kit / "run.sh")],
        env={"PATH": "/usr/bin:/bin", "PYTHON": python},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def returned(kit: Path) -> Path:
    (path,) = kit.glob("result-*.edgekd-bench.json")
    return path


def file_of(place: Path, models: dict[str, bytes], *, emulated: bool = False, **more: Any) -> Path:
    """A result with made-up figures for {name: .tflite}, as a board writes it."""
    rows = [
        {"name": name, "model_sha256": sha256(data), "result": {**answer(data), **more}}
        for name, data in models.items()
    ]
    place.write_text(
        json.dumps(on_board.whole({"edgekd": "0.2.0", "profile": "pi4"}, rows, emulated))
    )
    return place


def model_file(place: Path, data: bytes) -> Path:
    place.parent.mkdir(exist_ok=True, parents=True)
    place.write_bytes(data)
    return place


def test_a_kit_is_run_and_brought_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = tiny(), tiny("uint8")
    kit = made(
        tmp_path / "a kit",
        folder.Model("model.tflite", one.model, one.golden()),
        folder.Model("model.tflite", other.model),
    )
    assert "2 models on your board: Raspberry Pi 4" in (kit / "README.txt").read_text()
    ran = run(kit)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    result = returned(kit)
    assert ran.stdout.rstrip().endswith(str(result))
    assert not (kit / on_board.ONE).exists()

    model = model_file(tmp_path / "out" / "model.tflite", one.model)
    assert cli.main(["bench", str(model.parent), "--brought", str(result), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["profile"], told["transport"], told["emulated"]) == ("pi4", "kit", False)
    assert told["golden"]["argmax_agreement"] == 1.0
    assert len(list((tmp_path / "out" / "bench").iterdir())) == 1


def test_a_model_that_cannot_be_measured_does_not_stop_the_others(tmp_path: Path) -> None:
    good, bad = tiny(), tiny("uint8")
    kit = made(
        tmp_path / "kit",
        folder.Model("bad", bad.model, b"no golden set"),
        folder.Model("good", good.model),
    )
    ran = run(kit)
    assert ran.returncode == on_board.EXIT_BOARD
    assert "1 of 2 models could not be measured" in ran.stdout
    rows = json.loads(returned(kit).read_text())["measured"]
    assert [row["result"]["schema"] for row in rows] == ["edgekd.bench-error/1", "edgekd.bench/1"]
    model = model_file(tmp_path / "bad.tflite", bad.model)
    assert cli.main(["bench", str(model), "--brought", str(returned(kit))]) == 2


def test_what_the_person_at_the_board_is_told(tmp_path: Path) -> None:
    kit = made(tmp_path / "kit", folder.Model("m", tiny().model))
    ran = run(kit, python="no-such-python")
    assert ran.returncode == 3
    assert "sudo apt install python3" in ran.stdout
    (kit / "models" / "m.tflite").write_bytes(b"cut")
    ran = run(kit)
    assert ran.returncode == 3
    assert "models/m.tflite is damaged or missing" in ran.stdout
    (kit / "kit.json").unlink()
    said = run(kit).stdout
    assert "kit.json" in said
    assert "copy the whole folder" in said.replace("\n", " ")


def test_missing_packages_are_named_with_the_lines_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_board, "PROBE", "import no_such_runtime")
    monkeypatch.setattr(on_board, "WHEELS", tmp_path)
    with pytest.raises(on_board.Stop, match=r"no_such_runtime[\s\S]*pip install ai-edge-litert"):
        on_board.with_packages()


def test_wheels_that_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_board.platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(on_board, "c_library", lambda: 31)
    own = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert on_board.fits(
        f"numpy-2.2.6-{own}-{own}-manylinux_2_17_aarch64.manylinux2014_aarch64.whl"
    )
    assert on_board.fits("six-1.0-py2.py3-none-any.whl")
    assert not on_board.fits(f"numpy-2.2.6-{own}-{own}-manylinux_2_17_x86_64.whl")
    assert not on_board.fits(f"numpy-2.2.6-{own}-{own}-manylinux_2_34_aarch64.whl")
    assert not on_board.fits("numpy-2.2.6-cp27-cp27-manylinux_2_17_aarch64.whl")
    monkeypatch.setattr(on_board, "PACKAGES", tmp_path / "packages")
    with zipfile.ZipFile(tmp_path / "a-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("../outside.py", "")
        wheel.writestr("a.py", "x = 1")
    on_board.unpack([tmp_path / "a-1-py3-none-any.whl"])
    assert (tmp_path / "packages" / "a.py").is_file()
    assert not (tmp_path / "outside.py").exists()


def test_an_earlier_result_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_board, "HERE", tmp_path)
    monkeypatch.setattr(on_board.platform, "node", lambda: "a/b ü")
    assert on_board.result_path().name == "result-a-b.edgekd-bench.json"
    on_board.result_path().touch()
    assert on_board.result_path().name == "result-a-b-2.edgekd-bench.json"


def test_emulation_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert on_board.family("armv7l") == on_board.family("aarch64") != on_board.family("i686")
    assert not on_board.emulated()
    if Path("/proc/sys/kernel/arch").is_file():
        monkeypatch.setattr(on_board.platform, "machine", lambda: "riscv64")
        assert on_board.emulated()


@pytest.mark.parametrize("how", ["flag", "board"])
def test_times_of_an_emulated_board_are_void(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    data = tiny().model
    host = answer(data)["host"]
    more = {"host": {**host, "cpu": f"{host['cpu']} (emulated)"}} if how == "board" else {}
    file = file_of(tmp_path / "r.json", {"m": data}, emulated=how == "flag", **more)
    model = model_file(tmp_path / "m.tflite", data)
    assert cli.main(["bench", str(model), "--brought", str(file)]) == 0
    assert "times are void" in capsys.readouterr().out.replace(" \n", " ")
    with pytest.raises(ProfileError, match="void"):
        refit("pi4", [file], [], tmp_path / "fit")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda body: body["measured"][0]["result"]["latency_ms"].update(p50=0.1), "was changed"),
        (lambda body: body.update(measured=[], sha256=sha256(b"[]")), "holds no measurement"),
        (lambda body: body.pop("emulated"), "emulated"),
        (lambda body: body.update(profile="./none.toml"), "--profile ./my_board.toml"),
    ],
)
def test_a_changed_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Any, words: str
) -> None:
    data = tiny().model
    file = file_of(tmp_path / "r.json", {"m": data})
    body = json.loads(file.read_text())
    change(body)
    file.write_text(json.dumps(body))
    model = model_file(tmp_path / "m.tflite", data)
    assert cli.main(["bench", str(model), "--brought", str(file)]) == 2
    assert words in capsys.readouterr().err


def test_a_result_of_other_models_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = file_of(tmp_path / "r.json", {"a name": tiny().model})
    model = model_file(tmp_path / "m.tflite", tiny("uint8").model)
    assert cli.main(["bench", str(model), "--brought", str(file)]) == 2
    told = capsys.readouterr().err
    assert "results of other models (a name)" in told
    assert told.count("edgekd: error:") == 1


def test_a_profile_is_fitted_on_one_result(tmp_path: Path) -> None:
    """Three models in the kit's own folder; a fourth in another format is left out, and named."""
    models = {f"m{side}": separable(side=side, width=width).bytes() for side, width in SIZES}
    file = file_of(tmp_path / "r.json", models)
    for name, data in models.items():
        model_file(tmp_path / "models" / f"{name}.tflite", data)
    found = refit("pi4", [file], [], tmp_path / "out")
    assert len(found.models["int8"].factors[0].ratios) == 3
    (tmp_path / "elsewhere").mkdir()
    moved = Path(shutil.move(file, tmp_path / "elsewhere" / "r.json"))
    shutil.move(tmp_path / "models", tmp_path / "kit" / "models")
    with pytest.raises(ModelFileError, match="--models"):
        refit("pi4", [moved], [], tmp_path / "again")
    assert refit("pi4", [moved], [tmp_path / "kit" / "models"], tmp_path / "again").models


def test_the_command_line_makes_one_zip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, place = tmp_path / "out", tmp_path / "for the board.zip"
    model_file(out / "model.tflite", tiny().model)
    (out / "golden.npz").write_bytes(tiny().golden())
    model_file(out / "formats" / "model_float16.tflite", tiny("uint8").model)
    also = model_file(tmp_path / "x.tflite", separable(side=32, width=8).bytes())
    words = ["bench", str(out), "--profile", "pi4", "--kit", str(place), "--also", str(also)]
    assert cli.main([*words, "--also", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(place)
    with zipfile.ZipFile(place) as kit:
        names = {name.partition("/")[2] for name in kit.namelist()}
    assert names == {
        *("README.txt", "run.sh", "run.py", "edgebench.py", "kit.json"),
        *("models/model.tflite", "models/model.npz", "models/x.tflite"),
        *("models/model_float16.tflite", "models/model_float16.npz"),
    }
    assert cli.main(words) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--also", "x"], "--also belongs to --kit"),
        (["--wheels"], "--wheels belongs to --kit"),
        (["--kit", "k", "--wheels"], "profile host names no processor"),
        (["--kit", "k", "--profile", "pi4,pi5"], "for one board"),
        (["--kit", "k", "--profile", "android-cpu"], "--adb"),
        (["--kit", "k", "--also", "mobilenetv2_35"], "did you mean"),
        (["--kit", "k", "--also", "mobilenetv2_035@big"], "no number of pixels"),
        (["--format", "float"], "unknown number format"),
        (["--format", "float16"], "is one file"),
    ],
)
def test_bad_words_make_nothing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    model_file(tmp_path / "m.tflite", tiny().model)
    assert cli.main(["bench", "m.tflite", *words]) == 2
    assert said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["m.tflite"]


def test_formats_of_a_folder_and_of_a_zip_alike(tmp_path: Path) -> None:
    files = {
        "model.tflite": tiny().model,
        "golden.npz": tiny().golden(),
        "formats/model_float16.tflite": tiny("uint8").model,
    }
    listed = {**files, "manifest.json": facts_json(to_json(assemble.manifest("x", files)))}
    (tmp_path / "b.zip").write_bytes(archive.pack(listed))
    for name, data in listed.items():
        model_file(tmp_path / "b" / name, data)
    wanted = NumberFormat.FLOAT16
    for place in (tmp_path / "b", tmp_path / "b.zip"):
        assert measured_models.one(place, wanted) == folder.Model(
            "model_float16.tflite", files["formats/model_float16.tflite"], files["golden.npz"]
        )
        assert [model.name for model in measured_models.every(place)] == [
            "model.tflite",
            "model_float16.tflite",
        ]
        with pytest.raises(ModelFileError, match=r"has formats/model_float16\.tflite"):
            measured_models.one(place, NumberFormat.DYNAMIC)


def test_wheels_are_asked_for_the_board(monkeypatch: pytest.MonkeyPatch) -> None:
    """pip itself is not asked here, since the network decides what it answers."""
    asked = []

    def download(python: str, machine: str, place: Path) -> subprocess.CompletedProcess[str]:
        asked.append((python, machine))
        (place / f"numpy-1-cp{python.replace('.', '')}-x-manylinux_2_17_aarch64.whl").touch()
        return subprocess.CompletedProcess([], 0 if python == "3.11" else 1, "", "no wheel")

    monkeypatch.setattr(wheels, "_download", download)
    found = wheels.fetch(PI4)
    assert asked == [("3.11", "aarch64"), ("3.13", "aarch64")]
    assert list(found) == ["numpy-1-cp311-x-manylinux_2_17_aarch64.whl"]
    text = folder.files([], PI4, QUICK, found)["README.txt"].decode()
    assert "Python 3.11. The folder wheels/" in text


def test_the_emulated_pi_without_a_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Show: run there by hand, brought back and accepted, with void times."""
    python = emulate.default_folder() / "python"
    if not python.is_file():
        pytest.skip(f"no emulated Pi in {python.parent}: python tools/pi_emulator.py sets it up")
    one = tiny()
    kit = made(tmp_path / "kit", folder.Model("model", one.model, one.golden()))
    alone = ["unshare", "--map-root-user", "--net"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        alone = []
    ran = subprocess.run(
        [*alone, "sh", str(kit / "run.sh")],
        env={"PATH": "/usr/bin:/bin", "PYTHON": str(python)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "times are void" in ran.stdout
    model = model_file(tmp_path / "m.tflite", one.model)
    words = ["bench", str(model), "--brought", str(returned(kit)), "--json"]
    assert cli.main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["emulated"], told["host"]["machine"]) == (True, "aarch64")
    assert told["golden"]["argmax_agreement"] == 1.0
