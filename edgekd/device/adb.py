"""Jobs on an Android device through adb, the Android SDK's own client and server."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from edgekd.core.errors import DeviceError
from edgekd.core.files import reason
from edgekd.device import transports
from edgekd.device.agent import PYTHON
from edgekd.device.device_text import clean
from edgekd.device.transports import Job, Progress, Ran

# The folder in which adb's shell user may write files and start programs.
TEMPORARY = "/data/local/tmp"
SHORT_S = 30.0  # for a command that answers at once; starting the server takes seconds
SLOWEST_LINK = 200_000  # bytes a second of a push: USB 1 and bad Wi-Fi
MAX_LISTING = 2**20  # bytes of a command's output
SERVER_PORT = 5037  # adb's own, unless ANDROID_ADB_SERVER_PORT says otherwise
STATES = {  # of `adb devices`, other than "device" -> what to do
    "unauthorized": "unlock its screen and allow USB debugging for this machine",
    "offline": "plug it in again, or: adb reconnect offline",
    "no permissions": (
        "give this user access to it: install android-sdk-platform-tools-common (udev rules), and "
        "join the group plugdev"
    ),
}


@contextmanager
def attached(serial: str | None) -> Iterator[AdbTransport]:
    """The only device that is attached, or the one with that serial.

    A server that this function had to start is stopped again. Raises DeviceError when adb is
    missing, when the device is not there or not ready, or when several are attached and none was
    named.
    """
    if shutil.which("adb") is None:
        raise DeviceError(
            "adb is not on PATH", "apt-get install adb, or the Android SDK's platform-tools"
        )
    ours = not _server_runs()
    try:
        yield AdbTransport(_choose(_devices(), serial))
    finally:
        if ours:
            with suppress(DeviceError):
                _adb("kill-server")


def _server_runs() -> bool:
    try:
        port = int(os.environ.get("ANDROID_ADB_SERVER_PORT") or SERVER_PORT)
        with socket.create_connection(("127.0.0.1", port), timeout=2):
            return True
    except (OSError, ValueError, OverflowError):
        return False


def _devices() -> dict[str, str]:
    """{serial: state} of the attached devices."""
    code, listing, _ = _adb("devices", timeout_s=SHORT_S)
    if code != 0:
        raise DeviceError(
            f"`adb devices` ended with exit code {code}: {clean(listing)}",
            "adb kill-server, then try again",
        )
    return dict(line.split("\t", 1) for line in listing.splitlines() if "\t" in line)


def _choose(devices: dict[str, str], serial: str | None) -> str:
    names = ", ".join(map(clean, sorted(devices)))
    if not devices:
        raise DeviceError(
            "no Android device is attached",
            "plug one in and switch USB debugging on, or: adb connect ADDRESS",
        )
    if serial is None and len(devices) > 1:
        raise DeviceError(
            f"{len(devices)} Android devices are attached: {names}", "name one: --adb SERIAL"
        )
    chosen = next(iter(devices)) if serial is None else serial
    if chosen not in devices:
        raise DeviceError(
            f"no device {chosen!r} is attached; these are: {names}",
            "name one of them: --adb SERIAL",
        )
    state = devices[chosen]
    if state != "device":
        step = next((step for words, step in STATES.items() if words in state), "see `adb devices`")
        raise DeviceError(f"{clean(chosen)} is {clean(state)}", step)
    return chosen


def _adb(
    *words: str, timeout_s: float = SHORT_S, limit: int = MAX_LISTING
) -> tuple[int, str, bytes]:
    """Run adb. Returns (exit code, text of both streams, bytes of standard output).

    Raises DeviceError when it does not end in time, or writes more than `limit` bytes.
    """
    # a file cannot block the writer, as a pipe that is not read would
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(
                ["adb", *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
                env={**os.environ, "LC_ALL": "C"},
            )
        except OSError as error:
            raise DeviceError(
                f"adb cannot be started: {reason(error)}", "apt-get install adb"
            ) from error
        assert process.stdout
        timer = transports.Deadline(timeout_s, process.kill)
        try:
            data = process.stdout.read(limit + 1)
            if len(data) > limit:
                raise DeviceError(
                    f"the device sends more than {limit} bytes", "run the job by hand in adb shell"
                )
            code = process.wait()
        finally:
            timer.end()
            process.kill()
            process.wait()
            process.stdout.close()
        if timer.passed:
            verb = words[2] if words[0] == "-s" else words[0]
            raise DeviceError(
                f"adb {verb} did not end within {timeout_s:.0f} s",
                "check that the device is awake and attached",
            )
        said.seek(0)
        return code, (data + b"\n" + said.read(limit)).decode("utf-8", "replace").strip(), data


@dataclass(frozen=True)
class AdbTransport:
    """The device with that serial.

    A job's program runs in a folder of mode 0700 under TEMPORARY; both its streams come back as its
    stderr.
    """

    serial: str
    name: str = "adb"
    emulated: bool = False

    def shell(self, command: str, timeout_s: float = SHORT_S) -> tuple[int, str]:
        """(exit code, output) of a command line for the device's shell. Raises DeviceError when the
        device is lost.

        The exit code comes from a line of our own, because adb passes none on from devices before
        Android 7.
        """
        mark = secrets.token_hex(8)
        code, text, data = _adb(
            "-s", self.serial, "shell", f"({command}) 2>&1; echo {mark} $?", timeout_s=timeout_s
        )
        answer = data.decode("utf-8", "replace").replace("\r\n", "\n")
        found = re.fullmatch(rf"(.*?)\n?{mark} (\d{{1,3}})\s*", answer, re.DOTALL)
        if found is None:
            raise DeviceError(
                f"the connection to {clean(self.serial)} was lost (adb exit code {code}: "
                f"{clean(text[-300:])})",
                f"attach it again, and remove the folder edgekd-* in {TEMPORARY} there",
            )
        return int(found.group(2)), found.group(1)

    def run(self, job: Job, on_progress: Progress) -> Ran:
        if job.argv[0] == PYTHON:
            raise DeviceError(
                "Android has no Python for the runner",
                "measure with benchmark_model, or emit a folder",
            )
        folder = f"{TEMPORARY}/edgekd-{secrets.token_hex(8)}"
        code, said = self.shell(f"mkdir -m 700 {folder}")
        if code != 0:
            raise DeviceError(
                f"no folder can be made in {TEMPORARY}: {clean(said)}", "make room on the device"
            )
        try:
            self._push(job, folder)
            on_progress(0.2)
            code = self._start(job, folder)
            on_progress(0.9)
            files = {
                name: data
                for name in job.fetch
                if (data := self._file(f"{folder}/{name}")) is not None
            }
            said = self._said(folder)
            on_progress(1.0)
            return Ran(code, files, said)
        finally:
            self._remove(folder)

    def _push(self, job: Job, folder: str) -> None:
        with tempfile.TemporaryDirectory(prefix="edgekd-") as temporary:
            for name, data in job.files.items():
                path = Path(temporary) / name
                path.write_bytes(data)
                code, said, _ = _adb(
                    "-s",
                    self.serial,
                    "push",
                    str(path),
                    f"{folder}/{name}",
                    timeout_s=SHORT_S + len(data) / SLOWEST_LINK,
                )
                if code != 0:
                    raise DeviceError(
                        f"{len(data) / 2**20:.1f} MiB cannot be copied to the device: "
                        f"{clean(said[-300:])}",
                        "make room on the device",
                    )
        code, said = self.shell(f"cd {folder} && chmod -R 700 .")
        if code != 0:
            raise DeviceError(
                f"what was copied to the device cannot be used there: {clean(said)}",
                "make room on the device",
            )

    def _start(self, job: Job, folder: str) -> int:
        """Run the job's program and return its exit code.

        Its process id lies in .pid, so that it can be killed.
        """
        inner = 'echo $$ > .pid; exec "$@" > .said 2>&1'
        try:
            code, said = self.shell(
                f"cd {folder} && sh -c {shlex.quote(inner)} sh {shlex.join(job.argv)}",
                job.timeout_s,
            )
        except DeviceError as error:
            if "did not end within" in error.what:
                raise DeviceError(
                    f"the job did not end within {job.timeout_s:g} s and was stopped",
                    "give a longer --timeout, fewer --runs or a smaller model",
                ) from None
            raise
        if code in (126, 127):
            raise DeviceError(
                f"the program cannot be started on the device: {clean(said or self._said(folder))}",
                "check that it is built for this device's processor",
            )
        return code

    def _file(self, path: str) -> bytes | None:
        """The bytes of a plain file; None when there is none.

        Raises DeviceError over MAX_FILE_BYTES.
        """
        quoted = shlex.quote(path)
        most = transports.MAX_FILE_BYTES
        code, size = self.shell(f"[ -f {quoted} ] && [ ! -L {quoted} ] && wc -c < {quoted}")
        if code != 0:
            return None
        if not size.strip().isdecimal() or int(size) > most:
            raise DeviceError(
                f"the job left a file of {clean(size)[:30]} bytes; {most} is the most that is read",
                "run the job by hand in adb shell and look at the file",
            )
        return _adb(
            "-s",
            self.serial,
            "exec-out",
            f"cat {quoted}",
            timeout_s=SHORT_S + most / SLOWEST_LINK,
            limit=most,
        )[2]

    def _said(self, folder: str) -> str:
        """The beginning and the end of the program's output."""
        half = transports.MAX_STDERR // 2
        _, text = self.shell(
            f"cd {folder} && if [ $(wc -c < .said) -le {2 * half} ]; then cat .said; "
            f"else head -c {half} .said; echo; tail -c {half} .said; fi"
        )
        return text

    def _remove(self, folder: str) -> None:
        # a device that is gone cannot be tidied; the error that is being raised says so
        with suppress(DeviceError):
            self.shell(
                f"cd {folder} && {{ [ -f .pid ] && kill -9 $(cat .pid); cd /; rm -rf {folder}; }}"
            )
