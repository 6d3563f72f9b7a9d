"""Reads the JSON that comes back from a device, and trusts nothing in it.

Types, bounds and sizes are those of `bench_record`. Every text is made safe to print. Fields that
the schema does not have are refused.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import msgspec

from edgekd.core.artifacts import Json
from edgekd.core.errors import DataError, DeviceError, EdgeKDError, ModelFileError
from edgekd.core.records import from_json, to_json
from edgekd.device.bench_record import ERROR_SCHEMA, SCHEMA, Bench, BenchFailure, LatencyMs
from edgekd.device.device_text import clean
from edgekd.device.transports import MAX_FILE_BYTES

MAX_WARNINGS = 50  # the runner gives fewer than ten
# In the name of the emulated Pi's board, as tools/pi_emulator.py writes it: times are void also
# where a person ran a folder there by hand.
EMULATED = "(emulated)"
WHERE = "result.json"  # in messages, since the file lies on the device


@dataclass(frozen=True)
class Origin:
    """What only the host knows of a result: the profile and the transport by name, and whether
    times are void.
    """

    profile: str
    transport: str
    emulated: bool = False


class _UnfitError(Exception):
    """The JSON does not fit the schema."""


def read_result(data: bytes, model_sha256: str, origin: Origin) -> Bench:
    """The measurement in the runner's JSON, for the model of that sha256.

    Raises DeviceError when the JSON does not fit its schema or is for another model. If the runner
    reported an error, raises that: ModelFileError or DataError for the files it was given,
    DeviceError for the rest.
    """
    try:
        body = _decoded(data)
        if body.get("schema") == ERROR_SCHEMA:
            raise _reported(_converted(BenchFailure, body))
        if body.get("schema") != SCHEMA:
            raise _UnfitError(f"its schema is not {SCHEMA}")
        added = asdict(origin)
        result = _converted(Bench, {**body, **added})
        kept = to_json(result)
        _check_unknown(body, {name: kept[name] for name in kept if name not in added})
        _check_latency(result.latency_ms)
        if len(result.warnings) > MAX_WARNINGS:
            raise _UnfitError(f"it has {len(result.warnings)} warnings; {MAX_WARNINGS} are read")
    except _UnfitError as error:
        raise DeviceError(
            f"the result that came back from the device cannot be used: {error}",
            "run it again; if the message stays, run edgebench.py there by hand and look at its "
            "JSON",
        ) from error
    if result.model_sha256 != model_sha256:
        raise DeviceError(
            f"the result that came back is for another model (sha256 {result.model_sha256[:12]}, "
            f"expected {model_sha256[:12]})",
            "run it again with this model, or give the model that the result is for",
        )
    return msgspec.structs.replace(
        result, emulated=result.emulated or EMULATED in str(result.host.cpu)
    )


def _decoded(data: bytes) -> dict[str, Json]:
    if len(data) > MAX_FILE_BYTES:
        raise _UnfitError(f"it has {len(data)} bytes; at most {MAX_FILE_BYTES} are read")
    try:
        body = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _UnfitError("it is not JSON") from None
    if not isinstance(body, dict):
        raise _UnfitError("it is not a JSON object")
    return _cleaned(body)


def _cleaned(value: Json) -> Json:
    """The same JSON value with every text made safe to print, names of fields included."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    if isinstance(value, dict):
        return {clean(name): _cleaned(item) for name, item in value.items()}
    return value


def _converted[R: Bench | BenchFailure](cls: type[R], body: dict[str, Json]) -> R:
    try:
        return from_json(cls, body, WHERE)
    except ModelFileError as error:
        raise _UnfitError(error.what) from None


def _check_unknown(found: Json, kept: Json, place: str = "") -> None:
    """Refuse fields that the record did not keep."""
    if isinstance(found, dict) and isinstance(kept, dict):
        for name, value in found.items():
            if name not in kept:
                raise _UnfitError(f"{WHERE}: {SCHEMA} has no field {place}{name}")
            _check_unknown(value, kept[name], f"{place}{name}.")
    elif isinstance(found, list) and isinstance(kept, list):
        for one, other in zip(found, kept, strict=True):
            _check_unknown(one, other, place)


def _check_latency(latency: LatencyMs) -> None:
    """Refuse percentiles in the wrong order, or that the samples contradict.

    The runner tells all of them.
    """
    steps = [latency.min, latency.p50, latency.p90, latency.p95, latency.p99, latency.max]
    known = [step for step in steps if step is not None]
    samples = latency.samples
    if not samples or None in (*steps, latency.load, latency.first, latency.mean, latency.std):
        raise _UnfitError("it lacks latencies")
    if known != sorted(known) or (known[0], known[-1]) != (min(samples), max(samples)):
        raise _UnfitError("its latencies contradict each other")


def _reported(error: BenchFailure) -> EdgeKDError:
    """The runner's error as one of the package's own."""
    families: dict[str, type[EdgeKDError]] = {"model": ModelFileError, "golden": DataError}
    return families.get(error.kind, DeviceError)(error.message, error.next_step)
