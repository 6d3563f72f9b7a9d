"""Why an ssh connection failed, and what to do about it."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from edgekd.core.errors import DeviceError
from edgekd.device.device_text import clean

MAX_QUOTE = 300  # characters of the device's or ssh's last line that are shown
SSH_FAILED = 255  # the exit code of the ssh client when the connection fails (ssh(1), EXIT STATUS)
NOT_FOUND = (126, 127)  # exit codes of a shell for a program that it cannot start
OLD_PYTHON = "edgekd-old-python"  # what the device's Python says when it is too old


@dataclass(frozen=True)
class Saying:
    """A message of OpenSSH's client, its meaning, and the next step (DEST and HOST are
    filled in).
    """

    text: str
    meaning: str
    next_step: str


# OpenSSH 9.x, in English, since the client runs with LC_ALL=C. The first one that fits is used.
SAYINGS = (
    Saying(
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "its host key is not the one known from before",
        "if the board was set up anew: ssh-keygen -R HOST, then connect once by hand and compare "
        "the fingerprint",
    ),
    Saying(
        "Host key verification failed",
        "its host key is not known here",
        "connect once by hand (ssh DEST), compare the fingerprint, and answer yes",
    ),
    Saying(
        "Permission denied",
        "it refuses this user and key",
        "put your public key there: ssh-copy-id DEST; or name the key in ~/.ssh/config",
    ),
    Saying(
        "Too many authentication failures",
        "it refuses after too many keys",
        "name one key for this host in ~/.ssh/config, with IdentitiesOnly yes",
    ),
    Saying(
        "Could not resolve hostname",
        "this name is not known",
        "check the host's name, or give its address",
    ),
    Saying(
        "Connection refused",
        "nothing answers on that port",
        "start sshd there: sudo systemctl enable --now ssh; or give the port: user@host:port",
    ),
    Saying("timed out", "it does not answer", "check that it is switched on and in this network"),
    Saying(
        "No route to host",
        "it cannot be reached",
        "check that it is switched on and in this network",
    ),
    Saying(
        "Network is unreachable",
        "it cannot be reached",
        "check that this machine is in its network",
    ),
    Saying(
        "Bad owner or permissions",
        "the ssh configuration here is not safe",
        "correct the mode of the file in the message",
    ),
)


@dataclass(frozen=True)
class Target:
    """The device in messages: `name` as user@host, `host`, `destination` as words for ssh, and its
    `python`.
    """

    name: str
    host: str
    destination: str
    python: str


def lost(target: Target, said: str) -> DeviceError:
    """A connection that ended while the job ran. `said`: what ssh wrote to its standard error."""
    return DeviceError(
        f"the connection to {target.name} was lost while the job ran{_quoted(said)}",
        "run it again; the job there stops by itself, and its folder is removed",
    )


def not_started(target: Target, code: int, said: str) -> DeviceError:
    """A connection that ended with exit code `code` before the agent answered."""
    quoted = _quoted(said)
    if code == SSH_FAILED:
        saying = next((saying for saying in SAYINGS if saying.text in said), None)
        if saying is None:
            return DeviceError(
                f"{target.name} cannot be reached by ssh{quoted}",
                f"try by hand: ssh {target.destination}",
            )
        step = saying.next_step.replace("DEST", target.destination).replace("HOST", target.host)
        return DeviceError(
            f"{target.name} cannot be reached by ssh: {saying.meaning}{quoted}", step
        )
    old = re.search(OLD_PYTHON + r" ([0-9.]{1,20})", said)
    if old:
        return DeviceError(
            f"{target.python} on {target.name} is Python {old.group(1)}; the runner needs 3.9 or "
            "newer",
            "install a newer one there, and name it: --python PATH",
        )
    if code in NOT_FOUND or "not found" in said:
        return DeviceError(
            f"{target.name} has no {target.python}{quoted}",
            "there: sudo apt-get install python3 python3-venv; or name another: --python PATH",
        )
    return DeviceError(
        f"{target.name} lets you in, and its Python gave no answer (exit code {code}){quoted}",
        f"try by hand: ssh {target.destination} {shlex.quote(target.python)} --version",
    )


def _quoted(said: str) -> str:
    """The last line that ssh or the device's shell wrote, in brackets; empty when there is none."""
    lines = [line for line in map(clean, said.splitlines()) if line and not line.startswith("@")]
    return f" ({lines[-1][:MAX_QUOTE]})" if lines else ""
