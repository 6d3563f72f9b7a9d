"""ssh against a real sshd on the loopback: a real run, and every way in which it can fail."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import venv
from pathlib import Path

import pytest
import sshd
from bench_answers import QUICK, processes_with
from tiny_tflite import tiny

from edgekd.core.errors import DeviceError
from edgekd.device import bench, ssh, transports
from edgekd.device.bench_record import Throttled
from edgekd.device.result_reader import Origin, read_result
from edgekd.device.ssh import SshTransport
from edgekd.device.transports import PYTHON, Job, Ran
from edgekd.settings.device_profiles import load_profile

HOST = load_profile("host")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The server that all these tests share."""
    running = sshd.start(
        tmp_path_factory.mktemp("sshd ; 'x'").rename(tmp_path_factory.getbasetemp() / "sshd")
    )
    yield running
    running.stop()


@pytest.fixture
def board(server):
    """A transport to the server in its normal state. The server must be clean after the test."""
    server.fresh()
    yield SshTransport.to(server.destination, config=server.config, python=sys.executable)
    end = time.monotonic() + 60
    while (server.sessions() or list(server.temp.iterdir())) and time.monotonic() < end:
        time.sleep(0.02)
    assert not server.sessions()
    assert not list(server.temp.iterdir())


def said(transport: SshTransport, job: Job) -> str:
    """The error of a job that cannot be run."""
    with pytest.raises(DeviceError) as caught:
        transport.run(job, lambda share: None)
    text = str(caught.value)
    assert text.replace("\n  next: ", "").isprintable()
    assert "\n  next: " in text
    return text


def script(body: str, *words: str, fetch: tuple[str, ...] = (), timeout_s: float = 20.0) -> Job:
    return Job({"job.py": body.encode()}, [PYTHON, "job.py", *words], list(fetch), timeout_s)


def test_a_model_is_measured_over_ssh(board):
    made, shares = tiny(), []
    found = bench.bench(
        made.model, HOST, board, golden=made.golden(), settings=QUICK, on_progress=shares.append
    )
    assert (found.transport, found.emulated) == ("ssh", False)
    assert found.golden.argmax_agreement == 1.0
    assert shares[-1] == 1.0


def test_it_can_be_another_user(tmp_path_factory):
    """Logs in as another user.

    Run it as root, with EDGEKD_TEST_SSH_USER set to an account that is not locked (useradd -m -p
    '*' NAME). Set EDGEKD_TEST_SSH_PYTHON where that account may not use this Python.
    """
    user = os.environ.get("EDGEKD_TEST_SSH_USER")
    if not user:
        pytest.skip("EDGEKD_TEST_SSH_USER names no account to log in as")
    folder = tmp_path_factory.mktemp("other")
    for parent in folder.parents[:2]:
        parent.chmod(0o755)
    other = sshd.start(folder, user)
    python = os.environ.get("EDGEKD_TEST_SSH_PYTHON", sys.executable)
    try:
        transport = SshTransport.to(other.destination, config=other.config, python=python)
        who = script("import getpass; open('out', 'w').write(getpass.getuser())", fetch=("out",))
        assert transport.run(who, lambda share: None).files == {"out": user.encode()}
        made = tiny()
        found = bench.bench(made.model, HOST, transport, golden=made.golden(), settings=QUICK)
        assert found.golden.argmax_agreement == 1.0
        assert not list(other.temp.iterdir())
    finally:
        other.stop()


def test_files_talk_and_exit_code_come_back(board):
    body = (
        "import os, sys; print('noise'); print('hello', file=sys.stderr)\n"
        "print('edgebench: progress 0.50', file=sys.stderr)\n"
        "sent = open(sys.argv[1], 'rb').read()\n"
        "open('out', 'wb').write(bytes(range(256)) * 1000 + b'\\n' + sent)\n"
        "print(oct(os.stat('.').st_mode & 0o777), file=sys.stderr); sys.exit(7)"
    )
    shares, name = [], "a 'b' \"c\"; $(touch d) é"
    job = Job(
        {"job.py": body.encode(), name: b"\0\r\n"}, [PYTHON, "job.py", name], ["out", "none"], 20.0
    )
    ran = board.run(job, shares.append)
    assert ran == Ran(7, {"out": bytes(range(256)) * 1000 + b"\n\0\r\n"}, "hello\n0o700")
    assert shares == [0.5]


def test_a_login_script_may_print(board, server):
    server.mode("echo Welcome to the board; echo 'deadbeef {\"exit\": 0}'; echo talk >&2")
    job = script("open('out', 'w').write('kept')", fetch=("out",))
    assert board.run(job, lambda share: None) == Ran(0, {"out": b"kept"}, "")


@pytest.mark.parametrize(
    "destination",
    [
        "",
        "pi@",
        "-oProxyCommand=x",
        "pi@-oProxyCommand=x",
        "a b",
        "pi@a b",
        "pi@'a'",
        "pi@a;id",
        'pi@"a"',
        "pi@$(id)",
        "p i@a",
        "pi;id@a",
        "pi@a:0",
        "pi@a:65536",
        "pi@a:x",
        "-l@a",
        "pi@a\nb",
        "pi@\x1b[2J",
        "pi@a/b",
        "@a",
        "pi@é.local",
    ],
)
def test_what_is_no_host_is_refused_before_anything_runs(destination):
    with pytest.raises(DeviceError, match="is not \\[user@\\]host"):
        SshTransport.to(destination)


@pytest.mark.parametrize(
    ("destination", "parts"),
    [
        ("pi4", ("pi4", None, None)),
        ("pi@pi4.local:2222", ("pi4.local", "pi", 2222)),
        ("a.b@[2001:db8::1]:22", ("2001:db8::1", "a.b", 22)),
        ("2001:db8::1", ("2001:db8::1", None, None)),
        ("a@[fe80::1%eth0]", ("fe80::1%eth0", "a", None)),
    ],
)
def test_destinations(destination, parts):
    made = SshTransport.to(destination)
    assert (made.host, made.user, made.port) == parts


def test_a_host_that_is_down(server):
    with socket.socket() as taken:  # bound, but not listening
        taken.bind(("127.0.0.1", 0))
        text = said(
            SshTransport("127.0.0.1", port=taken.getsockname()[1], config=server.config), script("")
        )
    assert "nothing answers on that port" in text


def test_a_name_that_is_not_known(server):
    assert "this name is not known" in said(
        SshTransport("no-such-host.invalid", config=server.config), script("")
    )


def test_a_key_that_is_refused(board, server):
    server.client("stranger")
    assert "refuses this user and key" in said(board, script(""))


def test_an_unknown_host_key(board, server):
    server.known_hosts.write_text("")
    text = said(board, script(""))
    assert "host key is not known here" in text
    assert f"ssh {server.user}@127.0.0.1 -p {server.port}" in text


def test_a_changed_host_key(board, server):
    kind, public, *_ = (server.folder / "stranger.pub").read_text().split()
    server.known_hosts.write_text(f"[127.0.0.1]:{server.port} {kind} {public}\n")
    assert "not the one known from before" in said(board, script(""))


def test_a_board_without_python(server):
    server.fresh()
    server.mode("PATH=/nonexistent")
    text = said(SshTransport.to(server.destination, config=server.config), script(""))
    assert "has no python3" in text
    assert "apt-get install python3" in text


@pytest.mark.parametrize("python", ["/no/such 'python'; $(touch x)", "~/no such", "-c"])
def test_names_of_pythons_are_quoted(server, python):
    server.fresh()
    text = said(
        SshTransport.to(server.destination, config=server.config, python=python), script("")
    )
    assert python in text
    assert not list(server.temp.iterdir())


def test_a_python_that_is_too_old(board, server, tmp_path):
    old = tmp_path / "python3.7"
    program = (
        "import sys; sys.version_info = (3, 7, 3); sys.version = '3.7.3 (default)'; "
        "exec(sys.argv[1])"
    )
    old.write_text(f'#!/bin/sh\nexec {sys.executable} -I -c "{program}" "$3"\n')
    old.chmod(0o755)
    text = said(
        SshTransport.to(server.destination, config=server.config, python=str(old)), script("")
    )
    assert "is Python 3.7.3; the runner needs 3.9" in text


def test_a_board_without_a_runtime_is_told_what_to_type(server, tmp_path):
    server.fresh()
    venv.create(tmp_path / "bare", with_pip=False)
    python = str(tmp_path / "bare" / "bin" / "python")
    bare = SshTransport.to(server.destination, config=server.config, python=python)
    with pytest.raises(DeviceError) as caught:
        bench.bench(tiny().model, HOST, bare, settings=QUICK)
    assert "-m pip install" in str(caught.value)
    assert not list(server.temp.iterdir())


def test_an_architecture_without_a_runtime(server, tmp_path):
    """`setarch` makes the kernel say that this machine is an i686."""
    server.fresh()
    venv.create(tmp_path / "bare", with_pip=False)
    wrapped = tmp_path / "python of an i686"
    wrapped.write_text(f'#!/bin/sh\nexec setarch i686 {tmp_path}/bare/bin/python "$@"\n')
    wrapped.chmod(0o755)
    if (
        subprocess.run(["setarch", "i686", "uname", "-m"], capture_output=True, check=False).stdout
        != b"i686\n"
    ):
        pytest.skip("this kernel does not play an i686")
    board = SshTransport.to(server.destination, config=server.config, python=str(wrapped))
    with pytest.raises(
        DeviceError, match=r"no TFLite runtime has a wheel for 64-bit Python .* on i686"
    ):
        bench.bench(tiny().model, HOST, board, settings=QUICK)


def test_a_board_that_is_full(board, server):
    server.mode(
        "ulimit -f 1"
    )  # no file over half a KiB or one, as the shell counts: writing fails as on a full disk
    text = said(board, Job({"big": b"x" * 100_000}, [PYTHON, "-c", ""], [], 20.0))
    assert "0.1 MiB cannot be written" in text
    assert "make room" in text


def test_a_board_that_throttles_says_so(board, server, tmp_path):
    tool = tmp_path / "vcgencmd"
    tool.write_text("#!/bin/sh\necho throttled=0x4\n")
    tool.chmod(0o755)
    server.mode(f"PATH={tmp_path}:$PATH")
    found = bench.bench(tiny().model, HOST, board, settings=QUICK)
    assert found.host.throttled == Throttled("0x4", "0x4")
    assert any("throttled" in warning for warning in found.warnings)


HOSTILE = {
    "nothing": ("", "gave no answer"),
    "a flood before the first word": ("cat /dev/zero | head -c 100000000", "more than 65536 bytes"),
    "escape sequences on stderr": (
        "printf '\\033]0;owned\\007\\033[2J' >&2; exit 3",
        "gave no answer",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_login_shells(board, server, case):
    lines, words = HOSTILE[case]
    server.mode(lines + "\nexit 0")
    assert words in said(board, script(""))


SAY = (
    "import sys; header = sys.stdin.buffer.readline(); "
    "import json; mark = json.loads(header)['mark']\n"
)
LIARS = {
    "not JSON": "print(mark, '{')",
    "a list": "print(mark, '[]')",
    "deep": "print(mark, '[' * 30000)",
    "a foreign line": "print(mark, '{\"hello\": \"x\"}'); print('stop')",
    "a long line": "print(mark, '{\"hello\": \"x\"}'); sys.stdout.write(mark + ' ' + 'x' * 10**8)",
    "a file of 100 MB": (
        'print(mark, \'{"file": "out", "bytes": 100000000}\'); sys.stdout.write(\'x\' * 10**8)'
    ),
    "a negative file": 'print(mark, \'{"file": "out", "bytes": -1}\')',
    "a file of another folder": (
        'print(mark, \'{"file": "../../etc/passwd", "bytes": 1}\'); print(\'x\')'
    ),
    "an unknown word": 'print(mark, \'{"run": "rm"}\')',
    "a text that is none": "print(mark, '{\"line\": 1}')",
}


@pytest.mark.parametrize("case", LIARS)
def test_hostile_agents(board, monkeypatch, tmp_path, case):
    """A program in the place of the agent says what no agent says."""
    liar = tmp_path / "agent.py"
    liar.write_text(
        f"import sys\ndef serve(source):\n    exec({SAY + LIARS[case]!r})\n    sys.stdout.flush()\n"
        "    sys.stdin.buffer.read()\n"
    )
    monkeypatch.setattr(ssh.agent, "__file__", str(liar))
    assert "cannot be used" in said(board, script("", fetch=("out",)))


def test_texts_of_an_agent_are_made_safe(board, monkeypatch, tmp_path):
    liar = tmp_path / "agent.py"
    liar.write_text(
        f"import sys\ndef serve(source):\n    exec({SAY!r} + "
        "\"print(mark, json.dumps({'failed': '\\x1b[2J' * 500, 'next': '\\x07type this'}))\")\n"
        "    sys.stdout.flush()\n"
    )
    monkeypatch.setattr(ssh.agent, "__file__", str(liar))
    assert len(said(board, script(""))) < 1000


def test_a_job_that_takes_too_long(board, monkeypatch):
    monkeypatch.setattr(transports, "GRACE_S", 0.3)
    mark = f"edgekd-test-{os.getpid()}-ssh-late"
    assert "within 1 s" in said(board, script("import time; time.sleep(60)", mark, timeout_s=1.0))
    assert not processes_with(mark)


@pytest.mark.parametrize("side", ["server", "client", "interrupted"])
def test_a_dropped_connection(board, server, side):
    """One end of the connection disappears while the job runs: a clear error, and the job stops."""
    mark = f"edgekd-test-{os.getpid()}-dropped-{side}"

    def cut() -> None:
        end = time.monotonic() + 60
        while len(processes_with(mark)) < 1 and time.monotonic() < end:
            time.sleep(0.02)
        for pid in server.sessions():
            os.kill(pid, signal.SIGTERM)

    body = (
        "import sys, time; print('edgebench: progress 0.10', file=sys.stderr, flush=True); "
        "time.sleep(60)"
    )
    if side == "server":
        cutter = threading.Thread(target=cut)
        cutter.start()
        text = said(board, script(body, mark))
        cutter.join()
        assert "the connection to" in text
        assert "was lost" in text
    else:
        program = (
            "import signal, sys, pathlib; from edgekd.device.ssh import SshTransport\n"
            "from edgekd.device.transports import Job, PYTHON\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "config = pathlib.Path(sys.argv[2])\n"
            "t = SshTransport.to(sys.argv[1], config=config, python=sys.executable)\n"
            f"files = {{'j': {body.encode()!r}}}\n"
            "job = Job(files, [PYTHON, 'j', 'edgekd' + sys.argv[3]], [], 50.0)\n"
            "t.run(job, lambda share: None)"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", program, server.destination, str(server.config), mark[6:]],
            stderr=subprocess.DEVNULL,
            cwd=Path(__file__).resolve().parents[1],
        )
        end = time.monotonic() + 60
        while not processes_with(mark) and time.monotonic() < end:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT if side == "interrupted" else signal.SIGKILL)
        process.wait(15)
        if side == "interrupted":
            assert not processes_with(mark)  # it waits for the other side before it ends
    end = time.monotonic() + 15
    while processes_with(mark) and time.monotonic() < end:
        time.sleep(0.05)
    assert not processes_with(mark)


def test_the_answer_of_a_board_is_read_like_any_other(board, server):
    job = script(
        "import json; open('result.json', 'w').write(json.dumps({'schema': '\\x1b[2J'}))",
        fetch=("result.json",),
    )
    data = board.run(job, lambda share: None).files["result.json"]
    assert json.loads(data) == {"schema": "\x1b[2J"}
    with pytest.raises(DeviceError, match="its schema is not"):
        read_result(data, "", Origin("host", "ssh"))
