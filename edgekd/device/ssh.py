"""Jobs at a device that is reached by ssh: the OpenSSH client of this machine, one connection a job.

Keys, agent, jump hosts and known hosts are those of the user's own configuration; nothing is ever asked, and a host whose
key is not known, or has changed, is refused. Through the connection go `agent.py` and the job; the device needs a Python.
The connection is the job's life line: when it ends, the agent stops the job and removes the folder.
"""

from __future__ import annotations

import json
import re
import secrets
import shlex
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from edgekd.core.errors import DeviceError
from edgekd.device import agent, transports
from edgekd.device.transports import Deadline, Ear, Job, Progress, Ran

CONNECT_S = 10  # seconds to connect; a Pi that boots takes longer, and then the message says so
ALIVE_S, ALIVE_COUNT = 5, 3  # a silent connection is given up after 15 s: Wi-Fi roaming takes less
MAX_GREETING = 64 * 2**10  # bytes a login script may print before the agent answers
MAX_MESSAGE = (
    64 * 2**10
)  # bytes of one answer line; the longest passes on MAX_LINE bytes of the job's
SLOWEST_LINK = 50_000  # bytes a second: files are given this long to travel
PORTS = range(1, 65536)
USER = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.@+-]*\$?")
HOST = re.compile(
    r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9_.-]+)?"
)

# What OpenSSH's client says (9.x; in English, for LC_ALL is C) -> what it means and what to do.
SAYINGS = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "its host key is not the one known from before",
        "if the board was set up anew: ssh-keygen -R HOST, then connect once by hand and compare the fingerprint",
    ),
    (
        "Host key verification failed",
        "its host key is not known here",
        "connect once by hand (ssh DEST), compare the fingerprint, and answer yes",
    ),
    (
        "Permission denied",
        "it refuses this user and key",
        "put your public key there: ssh-copy-id DEST; or name the key in ~/.ssh/config",
    ),
    (
        "Too many authentication failures",
        "it refuses after too many keys",
        "name one key for this host in ~/.ssh/config, with IdentitiesOnly yes",
    ),
    (
        "Could not resolve hostname",
        "this name is not known",
        "check the host's name, or give its address",
    ),
    (
        "Connection refused",
        "nothing answers on that port",
        "start sshd there: sudo systemctl enable --now ssh; or give the port: user@host:port",
    ),
    ("timed out", "it does not answer", "see that it is switched on and in this network"),
    ("No route to host", "it cannot be reached", "see that it is switched on and in this network"),
    ("Network is unreachable", "it cannot be reached", "see that this machine is in its network"),
    (
        "Bad owner or permissions",
        "the ssh configuration here is not safe",
        "see the message and correct that file's mode",
    ),
)


@dataclass(frozen=True)
class SshTransport:
    """A device at `host`. `python`: the Python there, by name or path ("~/" is its user's home).

    `config`: a configuration file in place of the user's own, as `ssh -F`.
    """

    host: str
    user: str | None = None
    port: int | None = None
    python: str = "python3"
    config: Path | None = None
    name: str = "ssh"
    emulated: bool = False

    @classmethod
    def to(cls, destination: str, **options: Any) -> SshTransport:
        """From `[user@]host[:port]`, an IPv6 address in brackets where a port follows. Raises DeviceError."""
        user, at, place = destination.rpartition("@")
        bracketed = re.fullmatch(r"\[([^\[\]]*)\](?::(\d{1,5}))?", place)
        plain = re.fullmatch(r"([^:]*)(?::(\d{1,5}))?", place)
        found = bracketed or plain
        host, port = (
            found.groups() if found else (place, None)
        )  # what is left is an IPv6 address without brackets
        if (
            not HOST.fullmatch(host)
            or (at and not USER.fullmatch(user))
            or (port and int(port) not in PORTS)
        ):
            raise DeviceError(
                f"{destination!r} is not [user@]host[:port]",
                "name the host as ssh does, such as pi@raspberrypi.local or pi@192.0.2.7:2222",
            )
        return cls(host, user or None, int(port) if port else None, **options)

    def __str__(self) -> str:
        return f"{self.user}@{self.host}" if self.user else self.host

    def run(self, job: Job, on_progress: Progress) -> Ran:
        mark = secrets.token_hex(16)
        payload = _payload(job, mark)
        source = Path(agent.__file__).read_bytes() + b"\nserve(sys.stdin.buffer)\n"
        try:
            process = subprocess.Popen(
                self._command(len(source)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise DeviceError(
                f"ssh cannot be started: {error.strerror}", "apt-get install openssh-client"
            ) from error
        assert process.stdin
        assert process.stdout
        assert process.stderr
        talk = _Talk(process.stderr)
        sender = threading.Thread(target=_send, args=(process.stdin, source + payload), daemon=True)
        allowed = (
            job.timeout_s + 2 * transports.GRACE_S + CONNECT_S + 15 + len(payload) / SLOWEST_LINK
        )
        sender.start()
        deadline = Deadline(allowed, process.kill)
        reading = _Reading(process.stdout, mark, job, Ear(on_progress))
        try:
            ran = reading.all()
        except _GarbledError as error:
            process.stdout.close()  # whoever floods it must not be waited for
            raise DeviceError(
                f"the answer of {self} cannot be used: {error}",
                "see that its login script prints nothing, and that its Python is the system's own",
            ) from error
        finally:
            deadline.end()
            sender.join(0.0 if reading.ended else transports.GRACE_S)
            with suppress(OSError):
                process.stdin.close()  # the agent's sign to stop, if it has not ended
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
        raise self._failure(process.returncode, reading.greeted, talk.said)

    def _command(self, source_bytes: int) -> list[str]:
        home = self.python.startswith("~/")
        python = '"$HOME"/' + shlex.quote(self.python[2:]) if home else shlex.quote(self.python)
        # no newline and no "!", which csh minds; the version is checked before anything that an old Python cannot read
        first = (
            'import sys; sys.version_info < (3, 9) and exit("edgekd-old-python " + sys.version.split()[0]); '
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

    def _failure(self, code: int, greeted: bool, said: str) -> DeviceError:
        """Why a connection ended before the job did."""
        quoted = _quoted(said)
        destination = str(self) + (f" -p {self.port}" if self.port else "")
        if greeted:
            return DeviceError(
                f"the connection to {self} was lost while the job ran{quoted}",
                "run it again; there the job stops by itself and its folder is removed",
            )
        if code == 255:
            for words, meaning, step in SAYINGS:
                if words in said:
                    return DeviceError(
                        f"{self} cannot be reached by ssh: {meaning}{quoted}",
                        step.replace("DEST", destination).replace("HOST", self.host),
                    )
            return DeviceError(
                f"{self} cannot be reached by ssh{quoted}", f"try by hand: ssh {destination}"
            )
        old = re.search(r"edgekd-old-python ([0-9.]{1,20})", said)
        if old:
            return DeviceError(
                f"{self.python} on {self} is Python {old.group(1)}; the runner needs 3.9 or newer",
                "install a newer one there, and name it: --python PATH",
            )
        if code in (126, 127) or "not found" in said:
            return DeviceError(
                f"{self} has no {self.python}{quoted}",
                "there: sudo apt-get install python3 python3-venv; or name another: --python PATH",
            )
        return DeviceError(
            f"{self} lets you in, and its Python gave no answer (exit code {code}){quoted}",
            f"try by hand: ssh {destination} {shlex.quote(self.python)} --version",
        )


def _payload(job: Job, mark: str) -> bytes:
    header = {
        "mark": mark,
        "files": [[name, len(data)] for name, data in job.files.items()],
        "argv": list(job.argv),
        "fetch": list(job.fetch),
        "limits": job.limits,
    }
    return json.dumps(header).encode() + b"\n" + b"".join(job.files.values())


def _send(stream: IO[bytes], data: bytes) -> None:
    with suppress(
        OSError, ValueError
    ):  # the other end has gone, or we have; whoever reads the answers finds out
        stream.write(data)
        stream.flush()


def _quoted(said: str) -> str:
    """The last line that ssh or the device's shell said, in brackets."""
    lines = [
        "".join(c if c.isprintable() else " " for c in line).strip() for line in said.splitlines()
    ]
    kept = [line for line in lines if line and not line.startswith("@")]
    return f" ({kept[-1][:300]})" if kept else ""


class _Talk:
    """What ssh says on its standard error, read to the end so that it never blocks."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._kept = b""
        self._stream = stream
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with suppress(ValueError):  # closed under our hands
            while data := self._stream.read1(4096):  # type: ignore[attr-defined]
                self._kept = (self._kept + data)[-transports.MAX_STDERR :]

    def end(self) -> None:
        self._thread.join(1.0)
        self._stream.close()

    @property
    def said(self) -> str:
        return self._kept.decode("utf-8", "replace")


class _GarbledError(Exception):
    """What came through the connection is not what an agent says."""


class _Reading:
    """Reads the agent's answers, and believes nothing: bounded lines, known names, bounded sizes."""

    def __init__(self, stream: IO[bytes], mark: str, job: Job, ear: Ear) -> None:
        self._stream, self._mark, self._job, self._ear = stream, mark.encode() + b" ", job, ear
        self.greeted = self.ended = False

    def all(self) -> Ran | None:
        """How the job ended; None when the connection ended first. Raises _GarbledError, or DeviceError for the agent's."""
        files: dict[str, bytes] = {}
        while (message := self._next()) is not None:
            kind = next(iter(message), "")
            if kind == "line":
                self._ear(_text(message, "line").encode())
            elif kind == "file":
                name, size = _text(message, "file"), message.get("bytes")
                if name not in self._job.fetch or name in files:
                    raise _GarbledError("it sends a file that was not asked for")
                if type(size) is not int or not 0 <= size <= transports.MAX_FILE_BYTES:
                    raise _GarbledError(
                        f"it says that {name} has {str(size)[:40]} bytes; "
                        f"{transports.MAX_FILE_BYTES} is the most that is read"
                    )
                files[name] = self._stream.read(size)
                if len(files[name]) != size:
                    return None
            elif kind == "failed":
                self.ended = True
                raise DeviceError(_line(_text(message, "failed")), _line(_text(message, "next")))
            elif kind == "exit" and type(message["exit"]) is int:
                self.ended = True
                return Ran(message["exit"], files, self._ear.said)
            elif kind != "hello":
                raise _GarbledError("it says what no agent says")
        return None

    def _next(self) -> Mapping[str, Any] | None:
        room = MAX_GREETING
        while line := self._stream.readline(MAX_MESSAGE):
            if line.startswith(self._mark):
                self.greeted = True
                if not line.endswith(b"\n"):
                    return None if len(line) < MAX_MESSAGE else self._garbled()
                try:
                    message = json.loads(line[len(self._mark) :])
                except (ValueError, RecursionError):
                    return self._garbled()
                return message if isinstance(message, dict) else self._garbled()
            room -= len(line)
            if self.greeted or room < 0:
                self._garbled()
        return None

    def _garbled(self) -> Mapping[str, Any]:
        raise _GarbledError(
            "it is not the agent's"
            if self.greeted
            else f"more than {MAX_GREETING} bytes came before the agent's first word"
        )


def _text(message: Mapping[str, Any], key: str) -> str:
    value = message.get(key)
    if not isinstance(value, str):
        raise _GarbledError(f"its {key!r} is not a text")
    return value


def _line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:500]
