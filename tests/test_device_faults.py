"""`edgekd bench` on the command line, against each fault of a board.

Each fault gives one message and exit code 2, and leaves nothing on either side. The board is a real
sshd on the loopback. The tests of the transports look at the same faults from inside.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sshd
from bench_answers import processes_with
from tiny_tflite import busy, tiny

from tests.lite_graphs import Net, T

ODD = "a \"model\"; $(touch owned) 'é'"  # characters that a shell, sed or printf treats specially
EXTENDS = 'extends = "pi4"\ntitle = "a board"\nmeasured_on_hardware = false\nname = '


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sshd.Sshd]:
    running = sshd.start(tmp_path_factory.mktemp("faults"))
    yield running
    running.stop()


class Place:
    """A user's files: a model, a profile and a Python, all with odd names. `temp`: TMPDIR."""

    def __init__(self, folder: Path, server: sshd.Sshd) -> None:
        self.folder, self.server = folder / ODD, server
        self.folder.mkdir()
        self.temp = folder / "temp"
        self.temp.mkdir()
        self.model = self.folder / f"{ODD}.tflite"
        self.model.write_bytes(tiny().model)
        self.profile = self.folder / "my 'board'; $(id).toml"
        self.profile.write_text(EXTENDS + json.dumps("my 'board'; $(id)") + "\n")
        self.destination, self.python, self.options = (
            server.destination,
            sys.executable,
            ["--runs", "5", "--threads", "1"],
        )

    def script(self, lines: str) -> None:
        """Lines of sh that stand for the board's Python."""
        path = self.folder / "python 'of the board'"
        path.write_text(f"#!/bin/sh\n{lines}\n")
        path.chmod(0o755)
        self.python = str(path)

    def bench(self, *where: str) -> subprocess.CompletedProcess[str]:
        """The arguments of a bench, over ssh unless `where` says otherwise."""
        over_ssh = [
            "--ssh",
            self.destination,
            "--ssh-config",
            str(self.server.config),
            "--python",
            self.python,
        ]
        return subprocess.run(
            [
                sys.executable,
                "-m",
                "edgekd",
                "bench",
                str(self.model),
                "--profile",
                str(self.profile),
                "--out",
                str(self.folder),
                *self.options,
                *(where or over_ssh),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            cwd=Path(__file__).resolve().parents[1],
            env={**os.environ, "TMPDIR": str(self.temp)},
        )


@pytest.fixture
def place(tmp_path: Path, server: sshd.Sshd) -> Iterator[Place]:
    """After the test there must be no process, session or temporary file on either side."""
    server.fresh()
    made = Place(tmp_path, server)
    yield made
    end = time.monotonic() + 60
    while (
        server.sessions() or processes_with(str(tmp_path)) or list(server.temp.iterdir())
    ) and time.monotonic() < end:
        time.sleep(0.02)
    assert not server.sessions()
    assert not processes_with(str(tmp_path))
    assert not list(server.temp.iterdir())
    assert not list(made.temp.iterdir())
    assert not list(tmp_path.rglob("owned")), "a name was run by a shell"


def test_a_model_a_profile_and_a_python_of_odd_names_are_measured(place: Place) -> None:
    place.script(f'exec {sys.executable} "$@"')
    done = place.bench()
    assert done.returncode == 0, done.stderr
    (written,) = (place.folder / "bench").iterdir()
    assert json.loads(written.read_text())["profile"] == "my 'board'; $(id)"
    assert written.name.startswith("my_board_id-ssh-")


def down(place: Place) -> None:
    with socket.socket() as taken:  # closed again, so nothing listens there
        taken.bind(("127.0.0.1", 0))
        place.destination = f"127.0.0.1:{taken.getsockname()[1]}"


def bare(place: Place) -> None:
    venv.create(place.folder / "bare", with_pip=False)
    place.python = str(place.folder / "bare" / "bin" / "python")


def other_processor(place: Place) -> None:
    if (
        subprocess.run(["setarch", "i686", "uname", "-m"], capture_output=True, check=False).stdout
        != b"i686\n"
    ):
        pytest.skip("this kernel does not play an i686")
    venv.create(place.folder.parent / "bare", with_pip=False)
    place.script(f'exec setarch i686 {place.folder.parent}/bare/bin/python "$@"')


def crashing(place: Place) -> None:
    """A SPLIT into no parts, a sound flatbuffer for which LiteRT reads past the outputs."""
    net = Net((1, 8, 8, 8))
    net.op("SPLIT", T((1, 8, 8, 8)), T((), "INT32", "zeros"), version=2)
    place.model.write_bytes(net.bytes())


def too_long(place: Place) -> None:
    place.model.write_bytes(busy())
    place.options = ["--timeout", "2", "--runs", "20000", "--threads", "1"]


def lying(answer: str) -> Callable[[Place], None]:
    """Makes the board's Python leave `answer` (a Python expression) as the runner's result."""

    def set_up(place: Place) -> None:
        liar = place.folder.parent / "liar"
        liar.write_text(
            f"#!{sys.executable} -I\nimport json, sys\n"
            f"open(sys.argv[sys.argv.index('--json') + 1], 'w').write({answer})\n"
        )
        liar.chmod(0o755)
        # the agent is the real one, and starts the liar in the runner's place: it takes
        # sys.executable for the runner's Python
        place.script(
            f"exec {sys.executable} -I -c "
            f'"import sys; sys.executable = \'{liar}\'; exec(sys.argv[1])" "$3"'
        )

    return set_up


FAULTS: dict[str, tuple[Callable[[Place], None], str]] = {
    "a host that is down": (down, "nothing answers on that port"),
    "a key that is refused": (
        lambda place: place.server.client("stranger"),
        "refuses this user and key",
    ),
    "a host key that is not known": (
        lambda place: place.server.known_hosts.write_text(""),
        "host key is not known here",
    ),
    "no Python": (
        lambda place: setattr(place, "python", "/no 'such'; python"),
        "apt-get install python3",
    ),
    "no runtime": (bare, "-m pip install"),
    "a processor without a runtime": (other_processor, "on i686"),
    "no space": (lambda place: place.server.mode("ulimit -f 1"), "make room"),
    "a model that crashes the interpreter": (crashing, "SIGSEGV"),
    "a run without end": (too_long, "within 2 s"),
    "a login shell that floods": (
        lambda place: place.server.mode("head -c 100000000 /dev/zero"),
        "more than 65536 bytes",
    ),
    "a login shell with escape sequences": (
        lambda place: place.server.mode("printf '\\033]0;owned\\007' >&2; exit 3"),
        "gave no answer",
    ),
    "an answer that is not JSON": (lying("'{'"), "is not JSON"),
    "an answer of 100 MB": (lying("' ' * 10**8"), "is the most that is read"),
    "an answer with escape sequences": (
        lying(
            "json.dumps({'schema': 'edgekd.bench-error/1', "
            "'runner_version': '1', 'kind': 'model', "
            "'message': '\\x1b[2J owned', 'next_step': '\\x07'})"
        ),
        "owned",
    ),
    "an answer with a path": (lying('\'{"schema": "../../etc/passwd"}\''), "its schema is not"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_message_and_nothing_is_left(place: Place, fault: str) -> None:
    set_up, words = FAULTS[fault]
    set_up(place)
    done = place.bench()
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.replace("\n", "").isprintable()
    assert done.stderr.count("edgekd: error:") == 1
    assert done.stdout == ""
    assert not (place.folder / "bench").exists()


def test_a_model_that_crashes_the_interpreter_here(place: Place) -> None:
    crashing(place)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "edgekd",
            "bench",
            str(place.model),
            "--profile",
            "host",
            *place.options,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=Path(__file__).resolve().parents[1],
        env={**os.environ, "TMPDIR": str(place.temp)},
    )
    assert (done.returncode, done.stderr.count("edgekd: error:")) == (2, 1), done.stderr
    assert "SIGSEGV" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_clock_that_throttles_is_told_and_measured(place: Place) -> None:
    tool = place.folder.parent / "vcgencmd"
    tool.write_text("#!/bin/sh\necho throttled=0x50005\n")
    tool.chmod(0o755)
    place.server.mode(f"PATH='{tool.parent}':$PATH")
    done = place.bench()
    assert done.returncode == 0, done.stderr
    (written,) = (place.folder / "bench").iterdir()
    body = json.loads(written.read_text())
    assert body["host"]["throttled"] == {"before": "0x50005", "after": "0x50005"}
    assert "throttled" in done.stdout
    assert "Traceback" not in done.stderr
