"""Bench: send the runner and a model through a transport, and believe nothing that comes back before it is checked.

`bench` returns the bench JSON (schema edgekd.bench/1). `emit` writes a folder for a board without network, and
`carried_back` takes the JSON file that was made from it.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd.core.artifacts import sha256
from edgekd.core.errors import (
    DataError,
    DeviceError,
    EdgeKDError,
    ModelFileError,
    RecipeError,
    StoreError,
)
from edgekd.device import edgebench
from edgekd.device.transports import MAX_FILE_BYTES, PYTHON, Job, Progress, Transport
from edgekd.settings.device_profiles import DeviceProfile

RUNNER, MODEL, GOLDEN, RESULT, COMMAND = (
    "edgebench.py",
    "model.tflite",
    "golden.npz",
    "result.json",
    "COMMAND.txt",
)
MAX_TEXT = 500  # characters of a text from a device that are kept
MAX_WARNINGS = 50
MARGIN_S = 30.0  # over the runner's own limit: starting Python on a Pi Zero takes seconds


@dataclass(frozen=True)
class BenchSettings:
    """How to measure. `threads` None: the profile's. `mean`, `std` None: 8-bit inputs take pixels as they are.

    `runs`: fewest measured runs; `min_seconds`: least time spent on them; `warmup_runs`: most warm-up runs, which end
    when the times have settled; `timeout_s`: for all of it but a soak; `seed`: of the random input that is timed;
    `delegate`: as `edgebench.Delegate` names it; `cores`: keep to these; `soak_minutes`: run on and tell whether it
    throttles. Raises RecipeError outside `edgebench.LIMITS`.
    """

    threads: int | None = None
    runs: int = 50
    min_seconds: float = 1.0
    warmup_runs: int = 100
    seed: int = 0
    timeout_s: float = 600.0
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    delegate: str = "auto"
    cores: tuple[int, ...] | None = None
    soak_minutes: float | None = None

    def __post_init__(self) -> None:
        for name, (low, high) in edgebench.LIMITS.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise RecipeError(
                    f"{name} is {value}; the runner takes {low:g} to {high:g}",
                    f"give another {name}",
                )

    @property
    def whole_s(self) -> float:
        """Seconds for the runner, a soak included."""
        return self.timeout_s + 60.0 * (self.soak_minutes or 0.0)


DEFAULTS = BenchSettings()


def core_numbers(text: str | None) -> tuple[int, ...] | None:
    """The cores of "0-3" or "4,5"; None for None. Raises RecipeError."""
    try:
        return None if text is None else tuple(edgebench.core_list(text))
    except ValueError as error:
        raise RecipeError(
            f"--cores {text!r} is not a list of cores", "write it as 0-3 or 4,5"
        ) from error


def read_model(path: Path) -> bytes:
    """The bytes of a whole .tflite. Raises ModelFileError that names the file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(
            f"{path} cannot be read: {error.strerror}", "give the path of a .tflite file"
        ) from error
    check_model(data, str(path))
    return data


def check_model(data: bytes, name: str) -> None:
    """Raises ModelFileError, with `name` in it, for what is not a whole TFLite flatbuffer."""
    try:
        edgebench.check_model(data)
    except edgebench.BadModelError as error:
        raise ModelFileError(f"{name}: {error.message}", error.next_step) from error


def find_model(path: Path) -> tuple[Path, Path | None]:
    """(model, golden set or None) of a .tflite file, or of a folder that holds model.tflite.

    A golden set is taken only from beside a file named model.tflite: those two belong together. Raises ModelFileError.
    """
    model = path / MODEL if path.is_dir() else path
    if not model.is_file():
        raise ModelFileError(
            f"{model} is not there", "give a .tflite file, or a folder that edgekd build has filled"
        )
    golden = model.with_name(GOLDEN)
    return model, golden if model.name == MODEL and golden.is_file() else None


def arguments(profile: DeviceProfile, settings: BenchSettings, golden: bytes | None) -> list[str]:
    """The runner's own arguments. Raises RecipeError for a delegate that it does not know."""
    try:
        edgebench.Delegate(settings.delegate)
    except ValueError as error:
        raise RecipeError(
            f"the delegate {error}", "give one of these; gpu and nnapi run over --adb"
        ) from error
    words = [
        "--model",
        MODEL,
        "--threads",
        str(settings.threads or profile.threads),
        "--runs",
        str(settings.runs),
        "--min-seconds",
        str(settings.min_seconds),
        "--warmup-runs",
        str(settings.warmup_runs),
        "--seed",
        str(settings.seed),
        "--timeout",
        str(settings.whole_s),
        "--json",
        RESULT,
    ]
    if golden is not None:
        words += ["--golden", GOLDEN]
    if settings.delegate != DEFAULTS.delegate:
        words.append(f"--delegate={settings.delegate}")
    if settings.cores:
        words += ["--cores", ",".join(map(str, settings.cores))]
    if settings.soak_minutes:
        words += ["--soak", str(settings.soak_minutes)]
    for name, values in (("mean", settings.mean), ("std", settings.std)):
        if (
            values is not None
        ):  # with "=", for a list that starts with a minus sign is not an option
            words.append(f"--{name}=" + ",".join(str(value) for value in values))
    return words


def bench(
    model: bytes,
    profile: DeviceProfile,
    transport: Transport,
    *,
    golden: bytes | None = None,
    settings: BenchSettings = DEFAULTS,
    on_progress: Progress = lambda _share: None,
) -> dict[str, Any]:
    """Measure a model on a device. Returns the bench JSON, schema edgekd.bench/1.

    `golden`: the bytes of golden.npz; without it the JSON's "golden" is None. Raises ModelFileError when the model is
    not whole or the runtime there refuses it, DataError when the golden set does not fit it, DeviceError for the rest.
    """
    check_model(model, "the model")
    job = Job(
        _files(model, golden),
        [PYTHON, RUNNER, *arguments(profile, settings, golden)],
        [RESULT],
        settings.whole_s + MARGIN_S,
    )
    ran = transport.run(job, on_progress)
    if RESULT not in ran.files:
        said = clean(ran.stderr[-MAX_TEXT:])
        raise DeviceError(
            f"the runner ended with exit code {ran.exit_code} at {transport.name} and left no result"
            + (f"; it said: {said}" if said else ""),
            "the device needs Python 3.9 or newer; `edgekd bench --emit DIR` writes what to run by hand",
        )
    result = read_result(ran.files[RESULT], sha256(model))
    return completed(result, profile, transport.name, transport.emulated)


def carried_back(data: bytes, model: bytes, profile: DeviceProfile) -> dict[str, Any]:
    """The bench JSON from the result.json of an emitted folder. Raises as `bench` does."""
    return completed(read_result(data, sha256(model)), profile, "emit", emulated=False)


def completed(
    result: Mapping[str, Any], profile: DeviceProfile, transport: str, emulated: bool
) -> dict[str, Any]:
    """The runner's JSON with what only the host knows: profile, transport, emulated, and warnings that follow."""
    host, runtime, warnings = result["host"], result["runtime"], list(result["warnings"])
    if emulated:
        warnings.append("emulated: these times say nothing about the device")
    elsewhere = (
        profile.machine not in ("", host["machine"])
        or profile.board.lower() not in (host["cpu"] or "").lower()
    )
    if elsewhere and not emulated:
        warnings.append(
            f"measured on {host['cpu'] or 'an unknown processor'} ({host['machine']}), which is not a "
            f"{profile.title}: these are not the times of {profile.name}"
        )
    if runtime["name"] != profile.runtime:
        warnings.append(
            f"measured with {runtime['name']} {runtime['version']}; profile {profile.name} runs "
            f"{profile.runtime}"
        )
    order = (
        "schema",
        "model_sha256",
        "runner_version",
        "profile",
        "transport",
        "runtime",
        "host",
        "settings",
        "latency_ms",
        "memory_kib",
        "golden",
        "output_sha256",
        "soak",
        "emulated",
        "warnings",
    )
    whole = {
        **result,
        "profile": profile.name,
        "transport": transport,
        "emulated": emulated,
        "warnings": warnings,
    }
    return {key: whole[key] for key in order}


def emit(
    folder: Path,
    model: bytes,
    profile: DeviceProfile,
    *,
    golden: bytes | None = None,
    settings: BenchSettings = DEFAULTS,
) -> list[Path]:
    """Write runner, model, golden set and COMMAND.txt into a new or empty folder; returns the files written.

    COMMAND.txt is the command for the device's shell, with comments. Raises ModelFileError and StoreError.
    """
    check_model(model, "the model")
    words = shlex.join(["python3", "-I", RUNNER, *arguments(profile, settings, golden)])
    command = (
        f"# EdgeKD: measure model.tflite on {clean(profile.title)}. Copy this folder there, and in it:\n"
        "# once, if no TFLite runtime is installed (in a virtual environment, whose python3 is used below):\n"
        "#   python3 -m pip install ai-edge-litert numpy\n"
        f"{words}\n"
        f"# then bring {RESULT} back.\n"
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise StoreError(f"{folder} is not empty", "give a folder that does not exist yet")
        written = []
        for name, data in {**_files(model, golden), COMMAND: command.encode()}.items():
            (folder / name).write_bytes(data)
            written.append(folder / name)
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written: {error.strerror}", "give another folder"
        ) from error
    return written


def _files(model: bytes, golden: bytes | None) -> dict[str, bytes]:
    files = {RUNNER: Path(edgebench.__file__).read_bytes(), MODEL: model}
    return files if golden is None else {**files, GOLDEN: golden}


# Reading what came back ---------------------------------------------------------------------------------------------


def clean(text: str) -> str:
    """A device's text as one line that is safe on a terminal: no control, format or line characters, MAX_TEXT long."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:MAX_TEXT]


class _UnfitError(Exception):
    """What came back does not fit the schema."""


Reader = Callable[
    [Any, str], Any
]  # (value, where it stands) -> the value to keep; raises _UnfitError


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise _UnfitError(f"{where} is not a text")
    return clean(value)


def _number(low: float, high: float = 1e12) -> Reader:
    def read(value: Any, where: str) -> float:
        if type(value) not in (int, float) or not (math.isfinite(value) and low <= value <= high):
            raise _UnfitError(f"{where} is not a number from {low:g} to {high:g}")
        return float(value)

    return read


def _count(low: int, high: int = 2**53) -> Reader:
    def read(value: Any, where: str) -> int:
        if type(value) is not int or not low <= value <= high:
            raise _UnfitError(f"{where} is not a whole number from {low} to {high}")
        return value

    return read


def _maybe(reader: Reader) -> Reader:
    return lambda value, where: None if value is None else reader(value, where)


def _each(reader: Reader, least: int, most: int) -> Reader:
    def read(value: Any, where: str) -> list[Any]:
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise _UnfitError(f"{where} is not a list of {least} to {most} items")
        return [reader(item, f"{where}[{number}]") for number, item in enumerate(value)]

    return read


def _object(**fields: Reader) -> Reader:
    def read(value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict) or value.keys() != fields.keys():
            raise _UnfitError(f"{where or 'it'} is not an object of {', '.join(fields)}")
        return {
            key: reader(value[key], f"{where}.{key}" if where else key)
            for key, reader in fields.items()
        }

    return read


_MS, _SHARE, _TEXT_OR_NONE = _number(0.0), _number(0.0, 1.0), _maybe(_text)
_KIB = _KHZ = _maybe(_count(0))
_CELSIUS = _maybe(_number(-100.0, 300.0))
_SOAK = _object(
    minutes=_number(0.0, edgebench.LIMITS["soak_minutes"][1]),
    verdict=_text,
    slowdown=_number(-1.0),
    reason=_text,
    trace=_each(
        _object(
            at_s=_number(0.0),
            p50_ms=_MS,
            runs=_count(1),
            clock_khz=_KHZ,
            temperature_c=_CELSIUS,
            throttled=_TEXT_OR_NONE,
        ),
        1,
        2 * edgebench.SOAK_WINDOWS,
    ),
)
_RESULT = _object(
    schema=_text,
    model_sha256=_text,
    runner_version=_text,
    runtime=_object(name=_text, version=_text, delegate=_TEXT_OR_NONE, threads=_count(1, 256)),
    host=_object(
        machine=_text,
        cpu=_TEXT_OR_NONE,
        cores=_count(1, 4096),
        kernel=_text,
        python=_text,
        governor=_TEXT_OR_NONE,
        clock_khz=_KHZ,
        temperature_c=_CELSIUS,
        throttled=_maybe(_object(before=_text, after=_text)),
        before=_object(clock_khz=_KHZ, temperature_c=_CELSIUS),
    ),
    settings=_object(
        warmup_runs=_count(0),
        runs=_count(1),
        min_seconds=_number(0.0),
        seed=_count(0),
        cores=_maybe(_each(_count(0, edgebench.MAX_CORE), 1, edgebench.MAX_CORE + 1)),
    ),
    latency_ms=_object(
        load=_MS,
        first=_MS,
        p50=_MS,
        p90=_MS,
        p95=_MS,
        p99=_MS,
        mean=_MS,
        std=_MS,
        min=_MS,
        max=_MS,
        samples=_each(_MS, 1, edgebench.MAX_SAMPLES),
    ),
    memory_kib=_object(baseline=_KIB, after_load=_KIB, peak=_KIB),
    golden=_maybe(
        _object(
            images=_count(1),
            argmax_agreement=_SHARE,
            max_abs_lsb=_maybe(_count(0, 255)),
            top1=_SHARE,
        )
    ),
    output_sha256=_text,
    soak=_maybe(_SOAK),
    warnings=_each(_text, 0, MAX_WARNINGS),
)
_ERROR = _object(schema=_text, runner_version=_text, kind=_text, message=_text, next_step=_text)


def _not_json(constant: str) -> None:
    raise _UnfitError(f"it holds {constant}, which is not JSON")


def read_result(data: bytes, model_sha256: str) -> dict[str, Any]:
    """The runner's JSON after every key, type and range is checked and every text made safe to print.

    Raises DeviceError when it does not fit schema edgekd.bench/1 or answers for another model, and the error it holds
    when the runner reported one.
    """
    try:
        if len(data) > MAX_FILE_BYTES:
            raise _UnfitError(
                f"it has {len(data)} bytes; {MAX_FILE_BYTES} is the most that is read"
            )
        found = json.loads(data.decode(), parse_constant=_not_json)
        schema = found.get("schema") if isinstance(found, dict) else None
        if schema == edgebench.ERROR_SCHEMA:
            raise _told(_ERROR(found, ""))
        if schema != edgebench.SCHEMA:
            raise _UnfitError(f"its schema is not {edgebench.SCHEMA}")
        result: dict[str, Any] = _RESULT(found, "")
        latency = result["latency_ms"]
        steps = [latency[key] for key in ("min", "p50", "p90", "p95", "p99", "max")]
        if steps != sorted(steps) or [steps[0], steps[-1]] != [
            min(latency["samples"]),
            max(latency["samples"]),
        ]:
            raise _UnfitError("its latencies contradict each other")
    except (_UnfitError, UnicodeDecodeError, ValueError, RecursionError) as error:
        why = "it is not JSON" if isinstance(error, ValueError | RecursionError) else str(error)
        raise DeviceError(
            f"the result that came back from the device cannot be used: {why}",
            "run again; if it stays, run edgebench.py there by hand and look at its JSON",
        ) from error
    if result["model_sha256"] != model_sha256:
        raise DeviceError(
            f"the result that came back is for another model (sha256 {result['model_sha256'][:12]}, not "
            f"{model_sha256[:12]})",
            "run again with the model that belongs to it",
        )
    return result


def _told(error: Mapping[str, str]) -> EdgeKDError:
    """The runner's own error in EdgeKD's terms."""
    family = {"model": ModelFileError, "golden": DataError}.get(error["kind"], DeviceError)
    return family(error["message"], error["next_step"])
