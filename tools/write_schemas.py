"""Writes docs/schemas/ from the records: one JSON Schema (draft 2020-12) for each published file.

    python tools/write_schemas.py

Run it after a change to a record. A test fails when a field differs.
"""

from __future__ import annotations

import json
from pathlib import Path

from edgekd.assessment.check_record import DeviceCheck
from edgekd.assessment.latency.files import LatencyFile
from edgekd.assessment.slowness import Slowness
from edgekd.bundle.bundle_record import BundleCertificate, Manifest
from edgekd.bundle.deployment_record import Deployment, FormatAnswers, Golden
from edgekd.bundle.licences_record import LicenceChain
from edgekd.bundle.lineage_record import BundleLineage, Lineage
from edgekd.bundle.vector_record import PreprocessVectors
from edgekd.bundle.verify_record import Verification
from edgekd.core.records import Record, json_schema
from edgekd.device.bench_record import Bench, BenchFailure
from edgekd.device.kit.result import KitResult
from edgekd.evaluation.confidence_record import (
    ClassConfidence,
    LabelConfidence,
    LogitConfidence,
    ProbabilityConfidence,
)
from edgekd.pipeline.plan_record import PlanFile
from edgekd.proof.certificate_record import CertificateBody
from edgekd.quantization.sensitivity_record import SensitivityReport
from edgekd.reporting.comparison_record import Comparison
from edgekd.reporting.report_record import Report
from edgekd.search.record import Search

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "schemas"
# File name without its ending -> the record, and the schema id that the JSON carries.
SCHEMAS: dict[str, tuple[type[Record], str]] = {
    "bench": (Bench, "edgekd.bench/1"),
    "bench_error": (BenchFailure, "edgekd.bench-error/1"),
    "bench_kit_result": (KitResult, "edgekd.bench-kit-result/1"),
    "bundle_certificate": (BundleCertificate, "edgekd.certificate/1"),
    "bundle_lineage": (BundleLineage, "edgekd.bundle_lineage/1"),
    "bundle_manifest": (Manifest, "edgekd.bundle/1"),
    "certificate": (CertificateBody, "edgekd.certificate/1"),
    "check": (DeviceCheck, "edgekd.check/1"),
    "comparison": (Comparison, "edgekd.comparison/1"),
    "confidence_labels": (LabelConfidence, "edgekd.confidence/1"),
    "confidence_logits": (LogitConfidence, "edgekd.confidence/1"),
    "confidence_probabilities": (ProbabilityConfidence, "edgekd.confidence/1"),
    "deployment": (Deployment, "edgekd.deployment/1"),
    "format_answers": (FormatAnswers, "edgekd.format_answers/1"),
    "golden": (Golden, "edgekd.golden/1"),
    "latency": (LatencyFile, "edgekd.latency/1"),
    "licences": (LicenceChain, "edgekd.licences/1"),
    "lineage": (Lineage, "edgekd.lineage/1"),
    "plan": (PlanFile, "edgekd.plan/1"),
    "preprocess_vectors": (PreprocessVectors, "edgekd.preprocess_vectors/1"),
    "report": (Report, "edgekd.report/1"),
    "search": (Search, "edgekd.search/1"),
    "slow": (Slowness, "edgekd.slow/1"),
    "verify": (Verification, "edgekd.verify/1"),
    "why": (SensitivityReport, "edgekd.why/1"),
}
# Records with a schema id that are not written themselves: base classes.
BASES: tuple[type[Record], ...] = (ClassConfidence,)


def texts() -> dict[str, str]:
    """{file name: text} of every schema."""
    return {
        f"{name}.json": json.dumps(json_schema(record, title), indent=1) + "\n"
        for name, (record, title) in SCHEMAS.items()
    }


def main() -> None:
    """Write every file, and delete those that are no longer written."""
    FOLDER.mkdir(exist_ok=True)
    written = texts()
    for path in FOLDER.glob("*.json"):
        if path.name not in written:
            path.unlink()
    for name, text in written.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
