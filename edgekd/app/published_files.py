"""The files of an out folder, read for `edgekd verify`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from edgekd.core.errors import ModelFileError
from edgekd.core.files import reason
from edgekd.core.records import Record, from_json
from edgekd.core.store import read_json
from edgekd.device.model_file import read_model
from edgekd.proof import certificate_record, companion_files
from edgekd.proof.certificate_record import Bound, CertificateBody
from edgekd.tflite.flatbuffer import LiteGraph, read


class ReportedData(Record, frozen=True):
    """The classes that report.json names, in the order of the model's outputs."""

    classes: list[str]


class ReportedModel(Record, frozen=True):
    """The model that report.json is about."""

    sha256: str


class Reported(Record, frozen=True):
    """The part of report.json that is verified. Other parts may be of any version."""

    data: ReportedData
    artifact: ReportedModel


@dataclass(frozen=True)
class PublishedFiles:
    """The files of one build.

    `bound`: the certificate's block about the files beside the model. `golden`: the arrays of
    golden.npz by name.
    """

    certificate: CertificateBody
    bound: Bound
    report: Reported
    model: bytes
    graph: LiteGraph
    onnx: bytes
    golden: Mapping[str, npt.NDArray[Any]]
    labels: list[str]


def read_files(folder: Path) -> PublishedFiles:
    """Read the files. Raises ModelFileError for one that is missing or damaged."""
    file, report = folder / "certificate.json", folder / "report.json"
    stored = read_json(file, certificate_record.SCHEMA)
    model = read_model(folder / "model.tflite")
    blocks = (stored.get("bound"), stored.get("op_local"))
    if not all(isinstance(block, dict) for block in blocks):
        raise ModelFileError(
            f"{file} was made by an older edgekd: it does not cover the labels and the golden set",
            "build again with this edgekd; training is not repeated",
        )
    certificate = from_json(CertificateBody, stored, str(file))
    assert certificate.bound is not None  # checked above
    return PublishedFiles(
        certificate,
        certificate.bound,
        from_json(Reported, read_json(report, "edgekd.report/1"), str(report)),
        model,
        read(model),
        _bytes(folder / "model.onnx"),
        companion_files.read_golden(_bytes(folder / "golden.npz")),
        _labels(folder),
    )


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
