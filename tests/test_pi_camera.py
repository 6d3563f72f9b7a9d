"""The Pi's camera sample: its page over HTTP, its units, and its Debian package."""

from __future__ import annotations

import http.client
import importlib
import io
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_tflite import tiny

from edgekd.bundle import service_memory
from edgekd.device import emulate

DEPENDS = ("python3", "python3-numpy", "python3-pil")
ARM64 = emulate.default_folder() / "python"


@pytest.fixture(scope="module")
def bundle(small_bundle: Path) -> Path:
    return small_bundle / "bundle"


@contextmanager
def running(bundle: Path, *words: str) -> Iterator[int]:
    """The page of a camera.py, by its port."""
    program = [sys.executable, str(bundle / "samples/pi/camera.py"), "--port", "0", *words]
    with subprocess.Popen(program, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            found = None
            for line in process.stderr:
                found = re.search(r"page: http://127\.0\.0\.1:(\d+)/", line)
                if found:
                    break
            assert found, process.wait(10)
            yield int(found[1])
        finally:
            process.terminate()


def ask(
    port: int, path: str, method: str = "GET", host: str | None = None
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, headers={} if host is None else {"Host": host})
    response = connection.getresponse()
    data = response.read()
    connection.close()
    return response, data


def test_the_page_shows_the_newest_image(bundle: Path, tmp_path: Path) -> None:
    row = json.loads((bundle / "golden/golden.json").read_text())["images"][0]
    shutil.copy(bundle / row["file"], tmp_path / "one.png")
    (tmp_path / "two.png").write_bytes(b"half an ima")  # newer, and being written
    with running(bundle, "--source", str(tmp_path), "--every", "0.05") as port:
        told: dict = {}
        for _ in range(100):
            told = json.loads(ask(port, "/answer.json")[1])
            if told.get("frame", 0) > 1:
                break
            time.sleep(0.05)
        assert (told["answer"], told["set"]) == (row["answer"], row["set"])
        assert told["frames_per_second"] > 0
        assert told["ms"] > 0

        frame, data = ask(port, "/frame.jpg?3")
        assert frame.getheader("Content-Type") == "image/jpeg"
        with Image.open(io.BytesIO(data)) as shown, Image.open(tmp_path / "one.png") as stored:
            off = np.asarray(shown).astype(int) - np.asarray(stored.convert("RGB"))
        assert np.abs(off).mean() < 5

        page, html = ask(port, "/")
        assert b"/page.js" in html
        assert b"<script>" not in html
        assert "default-src 'none'" in (page.getheader("Content-Security-Policy") or "")
        assert b"innerHTML" not in ask(port, "/page.js")[1]
        assert ask(port, "/", method="HEAD")[1] == b""
        assert ask(port, "/", host="evil.example:80")[0].status == 403
        assert ask(port, "/", host=f"localhost:{port}")[0].status == 200
        for path in ("/classify.py", "/../classify.py", "/%2e%2e/deployment.json", "//x"):
            assert ask(port, path)[0].status == 404
        assert ask(port, "/", method="POST")[0].status == 501


def test_a_camera_gives_frames_of_the_models_size(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(bundle / "samples/pi"))
    camera = importlib.import_module("camera")
    try:
        assert camera.size_of({"input": {"px": 192, "frame": [240, 320]}}) == (320, 240)
        assert camera.size_of({"input": {"px": 192}}) == camera.SIZE
    finally:
        del sys.modules["camera"], sys.modules["classify"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--source", "usb:x"], 1, "write usb:0"),
        (["--source", "nowhere"], 1, "expected pi, usb:0, auto or a folder"),
        (["--source", "."], 1, "holds no image that can be read"),
        (["--bundle", "."], 3, "refused"),
    ],
)
def test_what_stops_it(
    bundle: Path, tmp_path: Path, words: list[str], code: int, said: str
) -> None:
    program = [sys.executable, str(bundle / "samples/pi/camera.py"), "--once", *words]
    ran = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == code, ran.stderr
    assert said in ran.stderr


def test_the_units_are_sound_and_hardened(bundle: Path, tmp_path: Path) -> None:
    """systemd calls an exposure below 2 OK; a service of its own default has 9.6."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: apt-get install systemd")
    for unit in ("edgekd-camera.service", "edgekd-classify.service"):
        text = (bundle / "samples/pi" / unit).read_text()
        limit = service_memory.limit_mib((bundle / "model.tflite").read_bytes())
        assert f"MemoryMax={limit}M\n" in text
        path = tmp_path / unit
        path.write_text(text)
        said = subprocess.run(
            ["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False
        )
        assert unit not in said.stderr, said.stderr
        subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(path)],
            capture_output=True,
            check=True,
        )


def test_the_limit_grows_with_the_model() -> None:
    model = tiny().model
    assert service_memory.limit_mib(model) == service_memory.BASE_MIB + service_memory.STEP_MIB
    heavy = model + bytes(100 * 2**20)
    assert service_memory.limit_mib(heavy) >= service_memory.BASE_MIB + 300


def make_deb(bundle: Path, folder: Path, *wheels: str) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    return subprocess.run(
        ["sh", str(bundle / "samples/pi/make_deb.sh"), *wheels],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def installed_in(root: Path) -> list[str]:
    """The words of a dpkg that installs into `root`, where the package's needs are installed."""
    state = root / "var/lib/dpkg"
    for name in ("info", "updates"):
        (state / name).mkdir(parents=True)
    (state / "status").write_text(
        "\n".join(
            f"Package: {name}\nStatus: install ok installed\nArchitecture: all\n"
            "Version: 3.11\nMaintainer: x <x@x>\nDescription: x\n"
            for name in DEPENDS
        )
    )
    for name in DEPENDS:
        (state / "info" / f"{name}.list").touch()
    flags = ["--force-not-root", "--force-architecture", "--force-script-chrootless"]
    return ["dpkg", f"--root={root}", *flags]


def test_the_package_installs_and_leaves_nothing(bundle: Path, tmp_path: Path) -> None:
    """Show: into an own root, by dpkg with its dependencies checked; run by the emulated Pi's
    Python where it is set up, else by this one.
    """
    if shutil.which("dpkg-deb") is None:
        pytest.skip("dpkg-deb is not installed: this is no Debian")
    made = [make_deb(bundle, tmp_path / name) for name in ("first", "second")]
    assert [ran.returncode for ran in made] == [0, 0], made[0].stderr
    (package,) = (tmp_path / "first").glob("*_all.deb")
    (again,) = (tmp_path / "second").glob("*_all.deb")
    assert package.read_bytes() == again.read_bytes()
    dpkg = installed_in(tmp_path / "root")
    (tmp_path / "empty").mkdir()
    lacking = [dpkg[0], f"--root={tmp_path / 'empty'}", *dpkg[2:]]
    shutil.copytree(tmp_path / "root/var", tmp_path / "empty/var")
    (tmp_path / "empty/var/lib/dpkg/status").write_text("")
    refused = subprocess.run([*lacking, "-i", str(package)], capture_output=True, check=False)
    assert b"depends on python3-pil" in refused.stderr

    subprocess.run([*dpkg, "-i", str(package)], capture_output=True, check=True)
    (home,) = (tmp_path / "root/opt").iterdir()
    units = sorted((tmp_path / "root/usr/lib/systemd/system").iterdir())
    assert all(f"/opt/{home.name}/samples/pi/" in unit.read_text() for unit in units)
    assert [unit.name.rpartition("-")[2] for unit in units] == [
        "camera.service",
        "classify.service",
    ]
    python = str(ARM64) if ARM64.is_file() else sys.executable
    camera = [python, str(home / "samples/pi/camera.py"), "--once", "--source"]
    ran = subprocess.run([*camera, str(home / "golden")], capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["frame"] == 0
    for cache in home.rglob("__pycache__"):
        shutil.rmtree(cache)
    subprocess.run([*dpkg, "-r", package.name.partition("_")[0]], capture_output=True, check=True)
    assert not home.exists()


def test_wheels_of_another_processor_are_refused(bundle: Path, tmp_path: Path) -> None:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("dpkg-deb is not installed: this is no Debian")
    wheel = tmp_path / "ai_edge_litert-2.1.2-cp311-cp311-manylinux_2_27_x86_64.whl"
    wheel.touch()
    ran = make_deb(bundle, tmp_path / "made", str(wheel))
    assert ran.returncode == 2
    assert "not for 64-bit Arm" in ran.stderr
    assert list((tmp_path / "made").iterdir()) == []
