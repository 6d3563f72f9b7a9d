"""A real sshd on the loopback for tests, with its own keys and client configuration."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
PRIVILEGE_SEPARATION = Path("/run/sshd")  # sshd of root refuses to start without it


class Sshd:
    """A server that accepts `user` with the key of `config`.

    Its sessions have `temp` as TMPDIR, and run the `sh` lines of `mode` first.
    """

    def __init__(self, folder: Path, user: str) -> None:
        self.folder, self.user, self.config = folder, user, folder / "client config"
        self.temp, self._mode, self._forced = (
            folder / "remote temp",
            folder / "mode",
            folder / "forced",
        )
        for name in ("host", "client", "stranger"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True
            )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.known_hosts = folder / "known_hosts"
        self.client("client")
        self.fresh()
        self._forced.write_text(
            f"#!/bin/sh\nexport TMPDIR={shlex.quote(str(self.temp))}\n"
            f". {shlex.quote(str(self._mode))}\n"
            'exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"\n'
        )
        self._forced.chmod(0o755)
        (folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder / 'host'}\n"
            "PidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {folder / 'client.pub'}\nStrictModes no\n"
            "PasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\nPermitRootLogin yes\n"
            f"ForceCommand {self._forced}\nPrintMotd no\n"
        )
        self._made_folder = os.geteuid() == 0 and not PRIVILEGE_SEPARATION.exists()
        if self._made_folder:
            PRIVILEGE_SEPARATION.mkdir(mode=0o755)
        self.log = (folder / "log").open("wb")
        self.process = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", str(folder / "sshd_config")],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
        )

    def client(self, key: str) -> None:
        """Make the client use this key and know the host."""
        kind, public, *_ = (self.folder / "host.pub").read_text().split()
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {kind} {public}\n")
        self.config.write_text(
            f'Host *\n  IdentityFile "{self.folder / key}"\n  IdentitiesOnly yes\n'
            "  IdentityAgent none\n"
            f'  UserKnownHostsFile "{self.known_hosts}"\n  GlobalKnownHostsFile /dev/null\n'
        )

    def fresh(self) -> None:
        """Empty the temporary folder, and remove the lines before the command."""
        shutil.rmtree(self.temp, ignore_errors=True)
        self.temp.mkdir()
        self.temp.chmod(0o777)
        self.client("client")
        self.mode("")

    def mode(self, lines: str) -> None:
        """Set what a session does before the client's command."""
        self._mode.write_text(lines + "\n")

    @property
    def destination(self) -> str:
        return f"{self.user}@127.0.0.1:{self.port}"

    def sessions(self) -> list[int]:
        """Process ids of the connections that are open."""
        children = (
            Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        )
        return [int(child) for child in children]

    def wait(self) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self.process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.02)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        self.log.close()
        if self._made_folder:
            shutil.rmtree(PRIVILEGE_SEPARATION, ignore_errors=True)


def start(folder: Path, user: str | None = None) -> Sshd:
    """A running server. Skips the test where OpenSSH is not installed."""
    if not Path(SSHD).exists() or shutil.which("ssh") is None:
        pytest.skip("sshd is not installed: apt-get install openssh-server openssh-client")
    folder.chmod(0o755)
    server = Sshd(folder, user or getpass.getuser())
    server.wait()
    return server
