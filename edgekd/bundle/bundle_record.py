"""Records of a bundle's manifest.json and certificate.json."""

from __future__ import annotations

from edgekd.core.records import Record
from edgekd.proof.certificate_record import CertificateBody

SCHEMA = "edgekd.bundle/1"


class BundleFile(Record, frozen=True):
    """A file of the bundle: its hash and its size."""

    sha256: str
    bytes: int


class Manifest(Record, frozen=True, kw_only=True):
    """manifest.json (schema edgekd.bundle/1).

    `files`: every other file, by path. `sha256`: of the canonical JSON of `files`.
    """

    schema: str = SCHEMA
    name: str
    files: dict[str, BundleFile]
    sha256: str


class FormAnswers(Record, frozen=True):
    """How many test images a form of the model ran on, and to how many its answer is the certified
    file's.
    """

    images: int
    identical: int


class ModelForm(Record, frozen=True):
    """A .tflite of the bundle. `ports`: the dtype of its input and output, "uint8" or "float32"."""

    sha256: str
    ports: str
    answers: FormAnswers


class BundleCertificate(CertificateBody, frozen=True, kw_only=True):
    """certificate.json of a bundle: the build's certificate, for the files of the bundle.

    `model_sha256` is that of the bundle's model.tflite. `certified_sha256` is that of the bare int8
    file, on which every check ran. Each form contains it, and `edgekd verify` extracts it again
    (`model_metadata.detach`, `edgekd.tflite.ports`).
    """

    certified_sha256: str
    forms: dict[str, ModelForm]
