"""The files of an out folder, read for `edgekd verify`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy.typing as npt

from edgekd.core.errors import ModelFileError
from edgekd.core.files import reason
from edgekd.core.number_formats import NumberFormat, file_name
from edgekd.core.records import Record, from_json
from edgekd.core.store import read_json
from edgekd.device.model_file import MODEL, read_model
from edgekd.proof import certificate_record, companion_files
from edgekd.proof.certificate_record import Bound, CertificateBody
from edgekd.tflite.flatbuffer import LiteGraph, read


class ReportedData(Record, frozen=True):
    """The classes that report.json names, in the order of the model's outputs."""

    classes: list[str]


class ReportedModel(Record, frozen=True):
    """The model that report.json is about."""

    sha256: str


class ReportedFormat(Record, frozen=True):
    """A file in another number format, or model.tflite itself."""

    path: str
    sha256: str


class ReportedAccuracy(Record, frozen=True):
    """The files whose accuracy report.json states; none where there is nothing but int8."""

    formats: list[ReportedFormat] = msgspec.field(default_factory=list)


class Reported(Record, frozen=True):
    """The part of report.json that is verified. Other parts may be of any version."""

    data: ReportedData
    artifact: ReportedModel
    accuracy: ReportedAccuracy = ReportedAccuracy()


@dataclass(frozen=True)
class PublishedFiles:
    """The files of one build.

    `bound`: the certificate's block about the files beside the model. `golden`: the arrays of
    golden.npz by name. `others`: the files in other number formats, by their paths in report.json.
    """

    certificate: CertificateBody
    bound: Bound
    report: Reported
    model: bytes
    graph: LiteGraph
    onnx: bytes
    golden: Mapping[str, npt.NDArray[Any]]
    labels: list[str]
    others: Mapping[str, bytes]


def read_files(folder: Path) -> PublishedFiles:
    """Read the files. Raises ModelFileError for one that is missing or damaged."""
    file, report = folder / "certificate.json", folder / "report.json"
    stored = read_json(file, certificate_record.SCHEMA)
    model = read_model(folder / MODEL)
    blocks = (stored.get("bound"), stored.get("op_local"))
    if not all(isinstance(block, dict) for block in blocks):
        raise ModelFileError(
            f"{file} was made by an older edgekd: it does not cover the labels and the golden set",
            "build again with this edgekd; training is not repeated",
        )
    certificate = from_json(CertificateBody, stored, str(file))
    reported = from_json(Reported, read_json(report, "edgekd.report/1"), str(report))
    others = [row.path for row in reported.accuracy.formats if row.path != MODEL]
    assert certificate.bound is not None  # checked above
    return PublishedFiles(
        certificate,
        certificate.bound,
        reported,
        model,
        read(model),
        _bytes(folder / "model.onnx"),
        companion_files.read_golden(_bytes(folder / "golden.npz")),
        _labels(folder),
        {path: _bytes(_inside(folder, path)) for path in others},
    )


def _inside(folder: Path, path: str) -> Path:
    """A file of the folder formats. Raises ModelFileError for a path that leads elsewhere."""
    if path not in map(file_name, NumberFormat):
        raise ModelFileError(
            f"{folder / 'report.json'} names the file {path!r}, which no build writes",
            "fetch the out folder again, or build again",
        )
    return folder / path


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelFileError(
            f"{path}: {reason(error)}", "name the out folder of a finished `edgekd build`"
        ) from None


def _labels(folder: Path) -> list[str]:
    """The lines of labels.txt; none when it cannot be read, which the labels' check reports."""
    try:
        return (folder / "labels.txt").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
