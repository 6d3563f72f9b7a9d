"""A scripted Android device: adb's device protocol over TCP, with this machine's shell.

Real adb clients and servers connect to it (`adb connect 127.0.0.1:PORT`). Sources:
packages/modules/adb, protocol.txt, SYNC.TXT and shell_protocol.h. Paths under /data/local/tmp lie
in `root`; programs such as getprop lie in `bin`.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import threading
from pathlib import Path

MAX_DATA = 4096
CNXN, AUTH, OPEN, OKAY, CLSE, WRTE = (
    int.from_bytes(name, "little")
    for name in (b"CNXN", b"AUTH", b"OPEN", b"OKAY", b"CLSE", b"WRTE")
)
STDOUT, STDERR, EXIT = 1, 2, 3  # packets of shell_v2


class Device:
    """One device on a port of its own.

    `authorized`: with False, it asks for a key and accepts none. `features`: as adbd lists them.
    """

    def __init__(
        self, folder: Path, authorized: bool = True, features: str = "shell_v2,cmd"
    ) -> None:
        self.root, self.bin = folder / "data", folder / "bin"
        for place in (self.root, self.bin):
            place.mkdir(parents=True)
        self.authorized, self.features = authorized, features
        self.shells: list[str] = []  # every command line that was run
        self.full = False  # no room for what is pushed
        self._links: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.serial = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def program(self, name: str, text: str) -> None:
        """Put a program on the device's PATH."""
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def unplug(self) -> None:
        """Cut every connection."""
        for link in self._links:
            try:
                link.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def stop(self) -> None:
        self._server.close()
        self.unplug()

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self._server.accept()
            except OSError:
                return
            self._links.append(link)
            threading.Thread(target=_Link(self, link).serve, daemon=True).start()


class _Link:
    """One connection of an adb server."""

    def __init__(self, device: Device, link: socket.socket) -> None:
        self.device, self.link = device, link
        self.lock = threading.Lock()
        self.streams: dict[int, _Stream] = {}

    def send(self, command: int, first: int, second: int, data: bytes = b"") -> None:
        header = struct.pack(
            "<6I", command, first, second, len(data), sum(data) & 0xFFFFFFFF, command ^ 0xFFFFFFFF
        )
        with self.lock:
            self.link.sendall(header + data)

    def exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self.link.recv(count - len(data))
            if not piece:
                raise ConnectionError
            data += piece
        return data

    def serve(self) -> None:
        try:
            while True:
                command, first, second, size, _, _ = struct.unpack("<6I", self.exactly(24))
                self.take(command, first, second, self.exactly(size))
        except OSError:
            for stream in list(self.streams.values()):
                stream.cut()
            self.link.close()

    def take(self, command: int, first: int, second: int, data: bytes) -> None:
        if command == CNXN and self.device.authorized:
            banner = (
                "device::ro.product.name=scripted;ro.product.model=Scripted;"
                f"features={self.device.features}"
            )
            self.send(CNXN, 0x01000000, MAX_DATA, banner.encode())
        elif command == CNXN or (command == AUTH and first == 2):
            self.send(
                AUTH, 1, 0, os.urandom(20)
            )  # another token to sign, until the key itself is shown
        elif command == OPEN:
            own = len(self.streams) + 1
            stream = self.streams[own] = _Stream(self, own, first, data.rstrip(b"\0").decode())
            threading.Thread(target=stream.run, daemon=True).start()
        elif second in self.streams:
            self.streams[second].take(command, data)


class _Stream:
    """One service that was opened on a connection."""

    def __init__(self, link: _Link, own: int, other: int, service: str) -> None:
        self.link, self.own, self.other, self.service = link, own, other, service
        self.device = link.device
        self.ready = threading.Semaphore(0)  # an OKAY for each WRTE
        self.inbox = b""
        self.news = threading.Condition()
        self.open = True
        self.process: subprocess.Popen[bytes] | None = None

    def take(self, command: int, data: bytes) -> None:
        if command == OKAY:
            self.ready.release()
        elif command == WRTE:
            with self.news:
                self.inbox += data
                self.news.notify()
            self.link.send(OKAY, self.own, self.other)
        elif command == CLSE:
            self.cut()

    def cut(self) -> None:
        """End what runs, as adbd does when the other side has gone."""
        with self.news:
            self.open = False
            self.news.notify()
        self.ready.release()
        if self.process is not None:
            self.process.terminate()

    def write(self, data: bytes) -> None:
        for start in range(0, len(data), MAX_DATA):
            if not self.open:
                return
            self.link.send(WRTE, self.own, self.other, data[start : start + MAX_DATA])
            self.ready.acquire()

    def read(self, count: int) -> bytes:
        with self.news:
            while len(self.inbox) < count:
                if not self.open:
                    raise ConnectionError
                self.news.wait()
            data, self.inbox = self.inbox[:count], self.inbox[count:]
        return data

    def run(self) -> None:
        try:
            self.link.send(OKAY, self.own, self.other)
            kind, _, command = self.service.partition(":")
            if kind.startswith("shell,v2"):
                self.shell(command, framed=True)
            elif kind in ("shell", "exec"):
                self.shell(command, framed=False)
            elif kind == "sync":
                self.sync()
            self.link.send(CLSE, self.own, self.other)
        except OSError:
            pass
        finally:
            self.cut()

    def shell(self, command: str, framed: bool) -> None:
        self.device.shells.append(command)
        here = command.replace("/data/local/tmp", str(self.device.root))
        path = f"{self.device.bin}:{os.environ['PATH']}"
        self.process = subprocess.Popen(
            ["sh", "-c", here],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": path, "LC_ALL": "C"},
        )
        assert self.process.stdout
        with self.process.stdout as stream:
            while data := stream.read1(MAX_DATA - 5):
                self.write(struct.pack("<BI", STDOUT, len(data)) + data if framed else data)
        code = self.process.wait()
        if framed:
            self.write(struct.pack("<BIB", EXIT, 1, code & 0xFF))

    def sync(self) -> None:
        """The file service: STAT and SEND."""
        path, data = "", b""
        while True:
            name, size = struct.unpack("<4sI", self.read(8))
            if name == b"DATA":
                data += self.read(size)
            elif name == b"DONE":
                self.write(self.stored(path, data))
                data = b""
            elif name == b"SEND":
                path = self.read(size).decode().rpartition(",")[0]
            elif name == b"STAT":
                place = self.place(self.read(size).decode())
                mode = place.stat().st_mode if place.exists() else 0
                self.write(struct.pack("<4s3I", b"STAT", mode, 0, 0))
            else:
                return

    def stored(self, path: str, data: bytes) -> bytes:
        if self.device.full:
            words = b"couldn't write: No space left on device"
            return struct.pack("<4sI", b"FAIL", len(words)) + words
        self.place(path).write_bytes(data)
        return struct.pack("<4sI", b"OKAY", 0)

    def place(self, path: str) -> Path:
        return Path(path.replace("/data/local/tmp", str(self.device.root)))


def have_adb() -> bool:
    """Whether an adb is installed."""
    return shutil.which("adb") is not None
