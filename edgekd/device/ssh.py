"""Jobs on a device that is reached by ssh: the OpenSSH client of this machine, with one connection
for each job.

Keys, agent, jump hosts and known hosts are those of the user's own configuration. ssh never asks
anything, and it refuses a host whose key is unknown or has changed. The text of `agent.py` and the
job travel through the connection; the device needs a Python. When the connection ends, the agent
stops the job and removes its folder.
"""

from __future__ import annotations

import json
import re
import secrets
import shlex
import subprocess
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from edgekd.core.errors import DeviceError
from edgekd.core.files import reason
from edgekd.device import agent, ssh_failures, transports
from edgekd.device.agent import Header
from edgekd.device.agent_answers import AgentAnswers, GarbledError
from edgekd.device.ssh_failures import OLD_PYTHON, Target
from edgekd.device.transports import Deadline, Job, Progress, Ran, StderrReader

CONNECT_S = 10  # seconds to connect; a Pi that is starting takes longer, and the message says so
ALIVE_S, ALIVE_COUNT = 5, 3  # a silent connection is given up after 15 s: Wi-Fi roaming takes less
MARGIN_S = 15  # to start Python on the device
SLOWEST_LINK = 50_000  # bytes a second; the limit for the files to travel
PORTS = range(1, 65536)
USER = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.@+-]*\$?")
NAME_OR_IPV4 = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
IPV6 = r"[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9_.-]+)?"
HOST = re.compile(f"{NAME_OR_IPV4}|{IPV6}")


@dataclass(frozen=True)
class SshTransport:
    """A device at `host`.

    `python`: the device's Python, by name or path ("~/" is its user's home). `config`: a
    configuration file in the place of the user's own, as `ssh -F`.
    """

    host: str
    user: str | None = None
    port: int | None = None
    python: str = "python3"
    config: Path | None = None
    name: str = "ssh"
    emulated: bool = False

    @classmethod
    def to(
        cls, destination: str, *, python: str = "python3", config: Path | None = None
    ) -> SshTransport:
        """From `[user@]host[:port]`, with an IPv6 address in brackets where a port follows.

        Raises DeviceError for a text of another form.
        """
        user, at, place = destination.rpartition("@")
        bracketed = re.fullmatch(r"\[([^\[\]]*)\](?::(\d{1,5}))?", place)
        plain = re.fullmatch(r"([^:]*)(?::(\d{1,5}))?", place)
        found = bracketed or plain
        # what is neither is an IPv6 address without brackets
        host, port = found.groups() if found else (place, None)
        if (
            not HOST.fullmatch(host)
            or (at and not USER.fullmatch(user))
            or (port and int(port) not in PORTS)
        ):
            raise DeviceError(
                f"{destination!r} is not [user@]host[:port]",
                "name the host as ssh does, such as pi@raspberrypi.local or pi@192.0.2.7:2222",
            )
        return cls(host, user or None, int(port) if port else None, python, config)

    def __str__(self) -> str:
        return f"{self.user}@{self.host}" if self.user else self.host

    def run(self, job: Job, on_progress: Progress) -> Ran:
        mark = secrets.token_hex(16)
        source = Path(agent.__file__).read_bytes() + b"\nserve(sys.stdin.buffer)\n"
        payload = source + _payload(job, mark)
        process = self._start(len(source))
        assert process.stdin
        assert process.stdout
        assert process.stderr
        talk = _Talk(process.stderr)
        sender = threading.Thread(target=_send, args=(process.stdin, payload), daemon=True)
        sender.start()
        allowed = job.timeout_s + 2 * transports.GRACE_S + CONNECT_S + MARGIN_S
        allowed += len(payload) / SLOWEST_LINK
        deadline = Deadline(allowed, process.kill)
        answers = AgentAnswers(process.stdout, mark, job, StderrReader(on_progress))
        try:
            ran = answers.read()
        except GarbledError as error:
            process.stdout.close()  # do not wait for a device that floods it
            raise DeviceError(
                f"the answer of {self} cannot be used: {error}",
                "check that its login script prints nothing, and that its Python is the system's "
                "own",
            ) from error
        finally:
            deadline.end()
            sender.join(0.0 if answers.ended else transports.GRACE_S)
            with suppress(OSError):
                process.stdin.close()  # tells the agent to stop, if it has not ended
            try:
                process.wait(2 * transports.GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
            talk.end()
        if ran is not None:
            return ran
        if deadline.passed:
            raise DeviceError(
                f"{self} did not finish within {allowed:.0f} s, copying included",
                "give a longer --timeout, or a faster connection",
            )
        if answers.greeted:
            raise ssh_failures.lost(self._target, talk.said)
        raise ssh_failures.not_started(self._target, process.returncode, talk.said)

    def _start(self, source_bytes: int) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                self._command(source_bytes),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise DeviceError(
                f"ssh cannot be started: {reason(error)}", "apt-get install openssh-client"
            ) from error

    @property
    def _target(self) -> Target:
        port = f" -p {self.port}" if self.port else ""
        return Target(str(self), self.host, f"{self}{port}", self.python)

    def _command(self, source_bytes: int) -> list[str]:
        home = self.python.startswith("~/")
        python = '"$HOME"/' + shlex.quote(self.python[2:]) if home else shlex.quote(self.python)
        # Without newline and "!", which csh does not take. The version is checked before anything
        # that an old Python cannot parse.
        first = (
            f'import sys; sys.version_info < (3, 9) and exit("{OLD_PYTHON} " '
            "+ sys.version.split()[0]); "
            f'exec(compile(sys.stdin.buffer.read({source_bytes}), "agent", "exec"))'
        )
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "ConnectTimeout": CONNECT_S,
            "ServerAliveInterval": ALIVE_S,
            "ServerAliveCountMax": ALIVE_COUNT,
            "ClearAllForwardings": "yes",
            "ControlMaster": "no",
            "RemoteCommand": "none",
            "PermitLocalCommand": "no",
            "LogLevel": "INFO",
        }
        return [
            "env",
            "LC_ALL=C",
            "ssh",
            "-T",
            "-a",
            "-x",
            *(["-F", str(self.config)] if self.config else []),
            *(word for key, value in options.items() for word in ("-o", f"{key}={value}")),
            *(["-p", str(self.port)] if self.port else []),
            *(["-l", self.user] if self.user else []),
            "--",
            self.host,
            f"{python} -I -c {shlex.quote(first)}",
        ]


def _payload(job: Job, mark: str) -> bytes:
    header: Header = {
        "mark": mark,
        "files": [(name, len(data)) for name, data in job.files.items()],
        "argv": list(job.argv),
        "fetch": list(job.fetch),
        "limits": job.limits,
    }
    return json.dumps(header).encode() + b"\n" + b"".join(job.files.values())


def _send(stream: IO[bytes], data: bytes) -> None:
    # when either end has closed the connection, the reader of the answers finds out
    with suppress(OSError, ValueError):
        stream.write(data)
        stream.flush()


class _Talk:
    """What ssh writes to its standard error, read to the end so that ssh never blocks."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._kept = b""
        self._stream = stream
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with suppress(ValueError):  # `end` has closed the stream
            while data := self._stream.read1(4096):  # type: ignore[attr-defined]
                self._kept = (self._kept + data)[-transports.MAX_STDERR :]

    def end(self) -> None:
        self._thread.join(1.0)
        self._stream.close()

    @property
    def said(self) -> str:
        return self._kept.decode("utf-8", "replace")
