"""The store: whole entries or none, checked digests, one build at a time, errors of the disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgekd.core.artifacts import Network, canonical_json, stage_key
from edgekd.core.errors import StoreError
from edgekd.core.packing import Packed, pack, unpack
from edgekd.core.store import Store
from tests.small_artifact import artifact


def test_pack_is_the_whole_wire_form() -> None:
    packed = pack(artifact())
    assert unpack(Network, packed) == artifact()
    assert packed.digest == pack(artifact()).digest
    assert packed.digest != pack(artifact(b"weighty")).digest
    assert packed.digest != pack(artifact(px=97)).digest
    with pytest.raises(ValueError, match="Other"):
        unpack(Network, Packed("Other", packed.facts, packed.blobs))
    with pytest.raises(ValueError, match="do not match"):
        unpack(Network, Packed(packed.kind, packed.facts, {}))


def test_key_depends_on_everything_that_makes_it() -> None:
    base = {
        "stage": "a",
        "version": 1,
        "config": {"x": 1},
        "parents": {"p": "d"},
        "seed": 0,
        "code": "c",
    }
    keys = {stage_key(**base)}  # type: ignore[arg-type]
    for name, other in {
        "stage": "b",
        "version": 2,
        "config": {"x": 2},
        "parents": {"p": "e"},
        "seed": 1,
        "code": "d",
    }.items():
        keys.add(stage_key(**{**base, name: other}))  # type: ignore[arg-type]
    assert len(keys) == 7


def test_canonical_json_refuses_nan() -> None:
    assert (
        canonical_json({"b": 1, "a": [True, None, "é"]}) == '{"a":[true,null,"é"],"b":1}'.encode()
    )
    with pytest.raises(ValueError, match=r"NaN|nan|Out of range"):
        canonical_json(float("nan"))


def test_put_find_load(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.find("net", "k" * 64) is None
    put = store.put("net", "k" * 64, artifact(b"\0" * 100_000), 1.5)
    found = Store(tmp_path).find("net", "k" * 64)
    assert found is not None
    assert (found.digest, found.seconds) == (put.digest, 1.5)
    loaded = found.load(Network)
    assert bytes(loaded.state) == b"\0" * 100_000
    assert loaded.history == artifact().history


@pytest.mark.parametrize(
    "damage", ["flip", "cut", "no entry", "not json", "foreign", "other key", "missing blob"]
)
def test_a_broken_entry_is_set_aside(tmp_path: Path, damage: str) -> None:
    store = Store(tmp_path)
    key = "k" * 64
    store.put("net", key, artifact(), 1.0)
    folder = next((tmp_path / "store").glob("net-*"))
    blob, entry = folder / "state.bin", folder / "entry.json"
    match damage:
        case "flip":
            blob.write_bytes(b"weighty")
        case "cut":
            blob.write_bytes(b"")
        case "no entry":
            entry.unlink()
        case "not json":
            entry.write_bytes(b"\x80{")
        case "foreign":
            entry.write_bytes(b"[1, 2]")
        case "other key":
            entry.write_text(entry.read_text().replace(key, "j" * 64))
        case "missing blob":
            blob.unlink()
    assert store.find("net", key) is None
    assert not folder.exists()
    assert list((tmp_path / "store").glob(".broken-*")), "a broken entry must be kept for its owner"
    again = store.put("net", key, artifact(), 1.0)
    assert store.find("net", key) is not None
    assert again.digest == pack(artifact()).digest


def test_an_out_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(StoreError, match="is a file"):
        Store(tmp_path / "out")
    with pytest.raises(StoreError, match="out"):
        Store(tmp_path / "out" / "deeper")


def test_second_build_in_one_folder(tmp_path: Path) -> None:
    """The lock belongs to a living process: it holds against another one, and a kill frees it."""
    code = (
        "import sys, time; from pathlib import Path; from edgekd.core.store import Store\n"
        "with Store(Path(sys.argv[1])).lock():\n    print('held', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    with pytest.raises(StoreError, match=str(child.pid)), Store(tmp_path).lock():
        pass
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    with Store(tmp_path).lock():
        pass


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    """With a real limit on file size a put fails with one message, and older entries stay."""
    code = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.small_artifact import artifact
from edgekd.core.store import Store
from edgekd.core.errors import StoreError
store = Store(Path(sys.argv[1]))
store.put("net", "a" * 64, artifact(), 1.0)
store.publish("report.json", b"old")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
for act in (lambda: store.put("net", "b" * 64, artifact(b"x" * 100_000), 1.0),
            lambda: store.publish("report.json", b"y" * 100_000)):
    try:
        act()
    except StoreError as error:
        print(error.what)
"""
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent.parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(run.stdout.splitlines()) == 2, run.stdout + run.stderr
    store = Store(tmp_path)
    assert store.find("net", "a" * 64) is not None
    assert store.find("net", "b" * 64) is None
    assert (tmp_path / "report.json").read_bytes() == b"old"
    assert not list(tmp_path.rglob(".tmp-*"))


def test_leftovers_of_a_killed_process_are_swept(tmp_path: Path) -> None:
    """Only those of dead processes: a living one may still be writing."""
    store = Store(tmp_path)
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    dead = store.entries / f".tmp-net-{child.pid}-x"
    living = store.entries / f".tmp-net-{os.getpid()}-x"
    dead.mkdir()
    living.mkdir()
    # A process of another machine with this number may be alive, unless the file is old.
    elsewhere = store.entries / f".tmp-net-{child.pid}.0badcafe-x"
    forgotten = store.entries / f".tmp-net-{child.pid}.0badcafe-y"
    elsewhere.mkdir()
    forgotten.mkdir()
    os.utime(forgotten, (1, 1))
    Store(tmp_path)
    assert (dead.exists(), living.exists()) == (False, True)
    assert (forgotten.exists(), elsewhere.exists()) == (False, True)


def test_kill_while_writing(tmp_path: Path) -> None:
    """SIGKILL at many moments of a loop of puts: every entry that can be found is whole."""
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
        "from tests.small_artifact import artifact; from edgekd.core.store import Store\n"
        "store = Store(Path(sys.argv[1])); print('go', flush=True)\n"
        "for n in range(10**6):\n"
        "    made = artifact(bytes([n % 256]) * 300_000)\n"
        "    store.put('net', f'{n:064x}'[::-1], made, 0.0)\n"
    )
    for delay in (0.0, 0.003, 0.01, 0.02, 0.05):
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent.parent)],
            stdout=subprocess.PIPE,
        )
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(delay)
        child.kill()
        child.wait()
        child.stdout.close()
        store = Store(tmp_path)
        for folder in store.entries.glob("net-*"):
            n = int(folder.name.removeprefix("net-")[::-1], 16)
            found = store.find("net", f"{n:064x}"[::-1])
            assert found is not None
            assert bytes(found.load(Network).state) == bytes([n % 256]) * 300_000
    assert not list(store.entries.glob(".tmp-*"))


def test_checkpoint(tmp_path: Path) -> None:
    store = Store(tmp_path)
    checkpoint = store.checkpoint("net", "c" * 64)
    assert checkpoint.load() is None
    checkpoint.save(b"one")
    checkpoint.save(b"two")
    assert store.checkpoint("net", "c" * 64).load() == b"two"
    store.put("net", "c" * 64, artifact(), 0.0)
    assert checkpoint.load() is None
