"""Bench: send the runner and a model through a transport to a device, and check what comes back.

`bench` measures over a transport. `emit` writes a folder for a board without a network, and
`carried_back` takes the JSON file that the board made from it.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from edgekd.core.artifacts import sha256
from edgekd.core.errors import DeviceError, StoreError
from edgekd.core.files import reason
from edgekd.device import runner_job
from edgekd.device.bench_record import Bench
from edgekd.device.bench_settings import DEFAULTS, BenchSettings
from edgekd.device.device_text import MAX_TEXT, clean
from edgekd.device.log_lines.reader import first_error
from edgekd.device.model_file import check_model
from edgekd.device.result_reader import Origin, read_result
from edgekd.device.runner_job import RESULT, RUNNER
from edgekd.device.transports import PYTHON, Job, Progress, Transport
from edgekd.settings.device_profiles import DeviceProfile

COMMAND = "COMMAND.txt"
MARGIN_S = 30.0  # over the runner's own limit: starting Python on a Pi Zero takes seconds


def bench(
    model: bytes,
    profile: DeviceProfile,
    transport: Transport,
    *,
    golden: bytes | None = None,
    settings: BenchSettings = DEFAULTS,
    on_progress: Progress = lambda _share: None,
) -> Bench:
    """Measure a model on a device.

    `golden`: the bytes of golden.npz; without it the result's `golden` is None. `on_progress` gets
    shares from 0 to 1. Raises ModelFileError when the model is not whole or the runtime there
    refuses it, DataError when the golden set does not fit the model, and DeviceError for every
    other fault.
    """
    check_model(model, "the model")
    job = Job(
        runner_job.files(model, golden),
        [PYTHON, RUNNER, *_arguments(profile, settings, golden)],
        [RESULT],
        settings.whole_s + MARGIN_S,
    )
    ran = transport.run(job, on_progress)
    if RESULT not in ran.files:
        said = clean(first_error(ran.stderr) or ran.stderr[-MAX_TEXT:])
        raise DeviceError(
            f"the runner ended with exit code {ran.exit_code} at {transport.name} and left no "
            "result" + (f"; it said: {said}" if said else ""),
            "the device needs Python 3.9 or newer; `edgekd bench --emit DIR` writes what to run by "
            "hand",
        )
    origin = Origin(profile.name, transport.name, transport.emulated)
    return completed(read_result(ran.files[RESULT], sha256(model), origin), profile)


def carried_back(data: bytes, model: bytes, profile: DeviceProfile) -> Bench:
    """The measurement in the result.json of an emitted folder. Raises as `bench` does."""
    return completed(read_result(data, sha256(model), Origin(profile.name, "emit")), profile)


def completed(result: Bench, profile: DeviceProfile) -> Bench:
    """The measurement with the warnings that follow from the profile it was made for."""
    host, runtime, warnings = result.host, result.runtime, list(result.warnings)
    if result.emulated:
        warnings.append("emulated: these times say nothing about the device")
    elsewhere = (
        profile.machine not in ("", host.machine)
        or profile.board.lower() not in (host.cpu or "").lower()
    )
    if elsewhere and not result.emulated:
        warnings.append(
            f"measured on {host.cpu or 'an unknown processor'} ({host.machine}), which is not a "
            f"{profile.title}: these are not the times of {profile.name}"
        )
    if runtime.name != profile.runtime:
        warnings.append(
            f"measured with {runtime.name} {runtime.version}; profile {profile.name} runs "
            f"{profile.runtime}"
        )
    return msgspec.structs.replace(result, warnings=warnings)


def emit(
    folder: Path,
    model: bytes,
    profile: DeviceProfile,
    *,
    golden: bytes | None = None,
    settings: BenchSettings = DEFAULTS,
) -> list[Path]:
    """Write runner, model, golden set and COMMAND.txt into a new or empty folder.

    COMMAND.txt holds the command for the device's shell, with comments. Returns the paths of the
    files. Raises ModelFileError for a model that is not whole, and StoreError when the folder is
    not empty or cannot be written.
    """
    check_model(model, "the model")
    words = ["python3", "-I", RUNNER, *_arguments(profile, settings, golden)]
    command = (
        f"# EdgeKD: measure model.tflite on {clean(profile.title)}.\n"
        "# 1. Copy this folder to the device, and open a shell in it there.\n"
        "# 2. If no TFLite runtime is installed, install one (in a virtual environment):\n"
        "#    python3 -m pip install ai-edge-litert numpy\n"
        "# 3. Measure:\n"
        f"{shlex.join(words)}\n"
        f"# 4. Bring {RESULT} back.\n"
    )
    return written(folder, {**runner_job.files(model, golden), COMMAND: command.encode()})


def _arguments(profile: DeviceProfile, settings: BenchSettings, golden: bytes | None) -> list[str]:
    """The runner's arguments for the files of `runner_job.files`."""
    words = runner_job.arguments(profile, settings, runner_job.names(golden))
    return [*words, "--json", RESULT]


def check_empty(folder: Path) -> None:
    """Raise StoreError when `folder` is there and holds something, or is not a folder."""
    try:
        if folder.exists() and any(folder.iterdir()):
            raise StoreError(f"{folder} is not empty", "give a folder that does not exist yet")
    except OSError as error:
        raise _unwritable(folder, error) from error


def written(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Write the files, {path: bytes}, into a new or empty folder: all of them, or none.

    Raises StoreError when the folder is not empty or cannot be written.
    """
    check_empty(folder)
    made: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            made.append(folder / name)
            made[-1].parent.mkdir(parents=True, exist_ok=True)
            made[-1].write_bytes(data)
    except OSError as error:
        for path in made:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        for path in {path.parent for path in made} - {folder}:
            with suppress(OSError):
                path.rmdir()
        raise _unwritable(folder, error) from error
    return made


def _unwritable(folder: Path, error: OSError) -> StoreError:
    return StoreError(f"{folder} cannot be written: {reason(error)}", "give another folder")
