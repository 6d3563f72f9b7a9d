"""The report's block for medical data: from a build's artifacts and its source's columns."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgekd.core.artifact_rows import ImageRow
from edgekd.core.artifacts import Confidence, Dataset, Evaluation
from edgekd.core.errors import DataError, RecipeError, UnknownName
from edgekd.data import datasets, patient_columns
from edgekd.evaluation import confidence_record, medical
from edgekd.evaluation.medical_record import Medical
from edgekd.pipeline.jobs import Done, Job, load
from edgekd.reporting.report_record import Report

AUTO = "auto"  # in subgroups.columns: the columns about patients that the data have


def check_columns(job: Job) -> None:
    """Raise RecipeError for a name in `subgroups.columns` that the data have no column of."""
    for name in job.recipe.subgroups.columns:
        if name == AUTO or patient_columns.values(job.source, name) is not None:
            continue
        read = getattr(job.source, "column", None)
        if read is None:
            raise RecipeError(
                f"subgroups.columns has {name!r}, but {job.source.name} has no table with columns",
                "name a folder with a manifest.csv, or a CSV of labels, as --data; or leave it out",
            )
        try:
            read(name)
        except (UnknownName, DataError) as error:
            raise RecipeError(
                f"subgroups.columns has {name!r}: {error.what}", error.next_step
            ) from None


def groups(job: Job, rows: list[ImageRow]) -> dict[str, list[str | None]]:
    """{column: the group of each image} of the columns that the recipe asks for."""
    config = job.recipe.subgroups
    wanted = [config.column] if config.column else []
    for name in config.columns:
        wanted += patient_columns.known(job.source) if name == AUTO else [name]
    found: dict[str, list[str | None]] = {}
    for column in dict.fromkeys(wanted):
        values = patient_columns.values(job.source, column) or {}
        found[column] = [patient_columns.group_of(column, values.get(row["name"])) for row in rows]
    return found


def block(
    job: Job, done: Mapping[str, Done], report: Report, fitted: confidence_record.Confidence
) -> Medical | None:
    """The block "medical", or None where the data are not medical or the recipe says no."""
    wanted = job.recipe.medical.report
    columns = patient_columns.known(job.source)
    if wanted == "no" or (
        wanted == "auto"
        and not patient_columns.is_medical(report.data.name, report.data.source, columns)
    ):
        return None
    dataset: Dataset = load(done, "data")
    evaluation: Evaluation = load(done, "evaluate")
    confidence: Confidence = load(done, "confidence")
    rows = [row for row in dataset.images if row["split"] == "test"]
    validation = medical.Split(
        np.frombuffer(confidence.codes, np.int8).reshape(-1, evaluation.classes),
        datasets.labels(dataset, "val"),
    )
    test = medical.Split(
        np.frombuffer(evaluation.codes, np.int8).reshape(-1, evaluation.classes),
        np.asarray(evaluation.labels, np.int64),
    )
    patients = medical.Patients(groups(job, rows), [row["group"] for row in rows])
    return medical.report(
        fitted,
        dataset.classes,
        validation,
        test,
        patients,
        job.recipe.medical,
        job.recipe.seed,
    )
