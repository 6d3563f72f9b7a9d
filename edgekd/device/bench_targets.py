"""Where a bench runs.

Each function returns another one that measures the subject for a profile at its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgekd.core.errors import DeviceError
from edgekd.core.files import reason
from edgekd.device import adb, android, emulate
from edgekd.device.bench import bench, carried_back
from edgekd.device.bench_record import Bench
from edgekd.device.bench_settings import BenchSettings
from edgekd.device.ssh import SshTransport
from edgekd.device.transports import MAX_FILE_BYTES, LocalTransport, Progress, Transport
from edgekd.settings.device_profiles import DeviceProfile

# (profile, progress callback) -> the measurement; raises what `bench.bench` raises
Measure = Callable[[DeviceProfile, Progress], Bench]


@dataclass(frozen=True)
class Subject:
    """What is measured, and how: the bytes of a .tflite, of its golden.npz or None, and the
    settings.
    """

    model: bytes
    golden: bytes | None
    settings: BenchSettings


def here(subject: Subject) -> Measure:
    """This machine."""
    return _by_runner(subject, LocalTransport())


def over_ssh(subject: Subject, destination: str, python: str, config: Path | None) -> Measure:
    """A device at `[user@]host[:port]`.

    `python`: the device's Python, by name or path. `config`: as `ssh -F`. Raises DeviceError for a
    wrong destination.
    """
    return _by_runner(subject, SshTransport.to(destination, python=python, config=config))


def _by_runner(subject: Subject, transport: Transport) -> Measure:
    return lambda profile, on_progress: bench(
        subject.model,
        profile,
        transport,
        golden=subject.golden,
        settings=subject.settings,
        on_progress=on_progress,
    )


@contextmanager
def over_adb(
    subject: Subject, serial: str | None, tool: Path | None, npu_libraries: Path | None = None
) -> Iterator[Measure]:
    """The Android device with that serial, or the only one that is attached.

    `tool`: the file of benchmark_model, or None to look for it. `npu_libraries`: the folder of the
    vendor's libraries, for the delegate npu. Raises DeviceError.
    """
    with adb.attached(serial) as device:
        yield lambda profile, on_progress: android.bench(
            subject.model, profile, device, tool, subject.settings, on_progress, npu_libraries
        )


def emulated(subject: Subject) -> Measure:
    """The emulated Pi, whose outputs are compared with this machine's byte by byte."""
    return lambda profile, on_progress: emulate.compared(
        subject.model, profile, subject.golden, subject.settings, on_progress
    )


def read_brought(result: Path) -> bytes:
    """The bytes of a file that a board wrote. Raises DeviceError if it is unreadable."""
    try:
        with result.open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise DeviceError(
            f"{result} cannot be read: {reason(error)}",
            "give the result.json that the command in COMMAND.txt wrote, or the result-....json of "
            "a kit",
        ) from error


def brought(subject: Subject, data: bytes) -> Measure:
    """The result.json that the command in an emitted folder wrote on a board."""
    return lambda profile, _progress: carried_back(data, subject.model, profile)
