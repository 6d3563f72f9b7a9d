"""Where a bench runs: from the command line's words to a function that measures a profile there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd.core.errors import DeviceError
from edgekd.device import adb, android, emulate
from edgekd.device.bench import BenchSettings, bench, carried_back
from edgekd.device.ssh import SshTransport
from edgekd.device.transports import MAX_FILE_BYTES, LocalTransport, Progress
from edgekd.settings.device_profiles import DeviceProfile

Measure = Callable[[DeviceProfile, Progress], dict[str, Any]]


@dataclass(frozen=True)
class Subject:
    """What is measured, and how: the .tflite, its golden.npz or None, the settings."""

    model: bytes
    golden: bytes | None
    settings: BenchSettings


def here(subject: Subject) -> Measure:
    """This machine."""
    return _by_runner(subject, LocalTransport())


def over_ssh(subject: Subject, destination: str, python: str, config: Path | None) -> Measure:
    """A device at `[user@]host[:port]`. `python`: the Python there. `config`: as `ssh -F`. Raises DeviceError."""
    return _by_runner(subject, SshTransport.to(destination, python=python, config=config))


def _by_runner(subject: Subject, transport: LocalTransport | SshTransport) -> Measure:
    return lambda profile, on_progress: bench(
        subject.model,
        profile,
        transport,
        golden=subject.golden,
        settings=subject.settings,
        on_progress=on_progress,
    )


@contextmanager
def over_adb(subject: Subject, serial: str | None, tool: Path | None) -> Iterator[Measure]:
    """The Android device of that serial, or the only one. `tool`: benchmark_model's file. Raises DeviceError."""
    with adb.attached(serial) as device:
        yield lambda profile, on_progress: android.bench(
            subject.model, profile, device, tool, subject.settings, on_progress
        )


def emulated(subject: Subject) -> Measure:
    """The emulated Pi, compared with this machine byte by byte."""
    return lambda profile, on_progress: emulate.compared(
        subject.model, profile, subject.golden, subject.settings, on_progress
    )


def brought(subject: Subject, result: Path) -> Measure:
    """What an emitted folder's command left on a board: its result.json. Raises DeviceError when it cannot be read."""
    try:
        with result.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise DeviceError(
            f"{result} cannot be read: {error.strerror}",
            "give the result.json that the command in COMMAND.txt wrote",
        ) from error
    return lambda profile, _progress: carried_back(data, subject.model, profile)
