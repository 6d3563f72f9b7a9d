"""Reads the one file that comes back from a kit, and trusts nothing in it.

Each row is read as a result that an emitted folder gives: schema, bounds, sizes, and the sha256 of
the model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import msgspec

from edgekd.core.artifacts import Json, sha256
from edgekd.core.errors import DeviceError, ModelFileError
from edgekd.core.records import Record, from_json
from edgekd.device.bench_record import Bench
from edgekd.device.device_text import clean
from edgekd.device.kit import run as on_board
from edgekd.device.result_reader import Origin, read_result
from edgekd.device.transports import MAX_FILE_BYTES

SCHEMA = on_board.RESULT_SCHEMA
TRANSPORT = "kit"
AGAIN = "bring the file from the board again, or run the kit there again"


class KitRow(Record, frozen=True):
    """One model. `result`: its measurement (edgekd.bench/1) or error (edgekd.bench-error/1), as
    the runner wrote it.
    """

    name: str
    model_sha256: str
    result: dict[str, Json]


class KitResult(Record, frozen=True):
    """result-HOST.edgekd-bench.json: what a kit gives back.

    `edgekd`: the version that made the kit. `profile`: the board that the kit was made for.
    `emulated`: another processor pretended to be the board's, so times are void. `sha256`: over
    `measured` as JSON with sorted keys and without spaces; it shows a file that was cut or changed.
    """

    schema: str
    edgekd: str
    profile: str
    emulated: bool
    measured: list[KitRow]
    sha256: str


@dataclass(frozen=True)
class Returned:
    """A file that came back, checked as a whole; its rows are read one by one."""

    name: str
    body: KitResult

    @property
    def models(self) -> str:
        """The models of the file, in words."""
        return ", ".join(clean(row.name) for row in self.body.measured)

    def row_of(self, model: bytes) -> KitRow | None:
        """The row of a model, by its sha256; the last one where there are several."""
        digest = sha256(model)
        rows = [row for row in self.body.measured if row.model_sha256 == digest]
        return rows[-1] if rows else None

    def measurement(self, row: KitRow, profile: str) -> Bench:
        """The measurement of a row. Raises what `read_result` raises."""
        data = json.dumps(row.result).encode()
        return read_result(data, row.model_sha256, Origin(profile, TRANSPORT, self.body.emulated))


def parsed(data: bytes) -> dict[str, Json] | None:
    """The JSON object of a kit's result; None for bytes that are none."""
    if len(data) > MAX_FILE_BYTES:
        return None
    try:
        body = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return body if isinstance(body, dict) and body.get("schema") == SCHEMA else None


def read(body: dict[str, Json], name: str) -> Returned:
    """A kit's result from its JSON object. `name`: of the file, for messages.

    Raises DeviceError for a file that was changed or cut, or that holds no row.
    """
    try:
        found = from_json(KitResult, body, name)
    except ModelFileError as error:
        raise DeviceError(error.what, AGAIN) from None
    text = json.dumps(body["measured"], sort_keys=True, separators=(",", ":"))
    if sha256(text.encode()) != found.sha256:
        raise DeviceError(f"{name} was changed after the board wrote it, or is damaged", AGAIN)
    if not found.measured:
        raise DeviceError(f"{name} holds no measurement", AGAIN)
    return Returned(name, found)
