"""Reads the answers of the agent (agent.py) on a device.

Nothing in them is trusted: lines and sizes are bounded, and names must be known.
"""

from __future__ import annotations

from typing import IO, NoReturn

import msgspec

from edgekd.core.errors import DeviceError
from edgekd.core.records import UNSET, Record, UnsetType
from edgekd.device import transports
from edgekd.device.device_text import clean
from edgekd.device.transports import Job, Ran, StderrReader

MAX_GREETING = 64 * 2**10  # bytes that a login script may print before the agent answers
MAX_MESSAGE = 64 * 2**10  # bytes of one line; the longest holds MAX_LINE bytes of the job's stderr


class Message(Record, frozen=True, forbid_unknown_fields=True):
    """One line of the agent, of one of these kinds.

    `hello`: the device's Python version. `line`: a line of the job's stderr. `file`: a name,
    followed by `bytes` bytes. `failed`: why the job could not be run, with the `next` step. `exit`:
    the job's exit code, which ends the answers.
    """

    hello: str | UnsetType = UNSET
    line: str | UnsetType = UNSET
    file: str | UnsetType = UNSET
    bytes: int | UnsetType = UNSET
    failed: str | UnsetType = UNSET
    next: str | UnsetType = UNSET
    exit: int | UnsetType = UNSET


class GarbledError(Exception):
    """What came through the connection is not what an agent says."""


class AgentAnswers:
    """The answers to one job.

    `mark`: the word that starts each of the agent's lines. `stderr` takes the job's own lines.
    `greeted`: the agent has answered. `ended`: it has given its last answer.
    """

    def __init__(self, stream: IO[bytes], mark: str, job: Job, stderr: StderrReader) -> None:
        self._stream, self._mark, self._job = stream, mark.encode() + b" ", job
        self._stderr = stderr
        self.greeted = self.ended = False

    def read(self) -> Ran | None:
        """How the job ended; None when the connection ended first.

        Raises GarbledError, and DeviceError for a job that the agent could not run.
        """
        files: dict[str, bytes] = {}
        while (message := self._next()) is not None:
            if isinstance(message.line, str):
                self._stderr(message.line.encode())
            elif isinstance(message.file, str):
                if message.file in files:
                    raise GarbledError("it sends a file twice")
                data = self._file(message.file, message.bytes)
                if data is None:
                    return None
                files[message.file] = data
            elif isinstance(message.failed, str):
                self.ended = True
                raise DeviceError(clean(message.failed), clean(message.next or ""))
            elif isinstance(message.exit, int):
                self.ended = True
                return Ran(message.exit, files, self._stderr.text)
            elif message.hello is UNSET:
                raise GarbledError("it says what no agent says")
        return None

    def _file(self, name: str, size: int | UnsetType) -> bytes | None:
        """The bytes of a file; None when the connection ends first."""
        if name not in self._job.fetch:
            raise GarbledError("it sends a file that was not asked for")
        if isinstance(size, UnsetType) or not 0 <= size <= transports.MAX_FILE_BYTES:
            raise GarbledError(
                f"it says that {name} has {size} bytes; at most {transports.MAX_FILE_BYTES} are "
                "read"
            )
        data = self._stream.read(size)
        return data if len(data) == size else None

    def _next(self) -> Message | None:
        """The next message; None at the end of the connection.

        Other lines are skipped before the first message.
        """
        room = MAX_GREETING
        while line := self._stream.readline(MAX_MESSAGE):
            if line.startswith(self._mark):
                self.greeted = True
                if not line.endswith(b"\n"):
                    return None if len(line) < MAX_MESSAGE else self._garbled()
                try:
                    return msgspec.json.decode(line[len(self._mark) :], type=Message)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    self._garbled()
            room -= len(line)
            if self.greeted or room < 0:
                self._garbled()
        return None

    def _garbled(self) -> NoReturn:
        raise GarbledError(
            "it is not the agent's"
            if self.greeted
            else f"more than {MAX_GREETING} bytes came before the agent's first word"
        )
