"""MIMIC-CXR-JPG (Johnson et al. 2019, arXiv 1901.07042): labels of studies, and their images.

    mimic-cxr-2.0.0-chexpert.csv.gz   subject_id,study_id,Atelectasis,...,Support Devices
    mimic-cxr-2.0.0-split.csv.gz      dicom_id,study_id,subject_id,split
    mimic-cxr-2.0.0-metadata.csv.gz   dicom_id,subject_id,study_id,...,ViewPosition,...

A label belongs to a study and holds for each of its images: 1 present, 0 absent, -1 uncertain
(`data.uncertain`), and empty where the report does not mention it, which counts as absent. The
image of a row is files/p10/p10000032/s50414267/DICOM_ID.jpg. `split` is the owners' own ("train",
"validate" or "test"), and the group is the patient, `subject_id`. The file of the labeller NegBio
is read alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgekd.core.errors import DataError
from edgekd.data import label_csv, tables
from edgekd.data.label_table import LabelRow, LabelTable, split_of
from edgekd.settings.recipe import DataConfig

_KEYS = ("subject_id", "study_id")
_IMAGE_KEYS = ("dicom_id", "subject_id", "study_id")
_VIEW = "ViewPosition"


def known(header: Sequence[str]) -> bool:
    """Whether a header is that of the labels of MIMIC-CXR-JPG."""
    return tuple(header[:2]) == _KEYS and "dicom_id" not in header and len(header) > len(_KEYS) + 1


def read(path: Path, config: DataConfig) -> LabelTable:
    """The images of the split file, each with the labels of its study.

    Images of studies without a row of labels are left out and counted. Raises DataError when the
    split file is missing, and what `label_csv.marked` raises.
    """
    rows = tables.numbered(path, _KEYS, "labels")
    labels = label_csv.chosen(
        path, config.labels, [name for name in rows[0][1] if name not in _KEYS]
    )
    said, uncertain = label_csv.marked(path, rows, labels, config)
    studies = {(row["subject_id"], row["study_id"]): place for place, (_, row) in enumerate(rows)}
    split_file = _beside(path, "split")
    if split_file is None:
        raise DataError(
            f"labels {path}: they are of studies, and the file that names the images of each study "
            "is not beside it",
            "put mimic-cxr-2.0.0-split.csv.gz, from the same release, into that folder",
        )
    views = _views(path)
    found, without = [], 0
    for line, row in tables.numbered(split_file, (*_IMAGE_KEYS, "split"), "splits"):
        place = studies.get((row["subject_id"], row["study_id"]))
        if place is None:
            without += 1
            continue
        where = f"splits {split_file}, line {line}"
        view = views.get(row["dicom_id"], "")
        found.append(
            LabelRow(
                image=_image(row),
                said=said[place],
                where=where,
                uncertain=uncertain[place],
                split=split_of(row["split"], where),
                group=row["subject_id"],
                cells={**row, **({"view": view, _VIEW: view} if view else {})},
            )
        )
    left = f"{without} images belong to studies without labels, and were left out"
    return LabelTable(
        path,
        found,
        labels,
        by="column 'subject_id'",
        warnings=[left] if without else [],
        licence="PhysioNet Credentialed Health Data License 1.5.0: credentialed users, no sharing",
        source="MIMIC-CXR-JPG, Johnson et al. 2019, arXiv 1901.07042",
    )


def _image(row: dict[str, str]) -> str:
    subject, study = row["subject_id"], row["study_id"]
    return f"files/p{subject[:2]}/p{subject}/s{study}/{row['dicom_id']}.jpg"


def _beside(path: Path, what: str) -> Path | None:
    """The release's file of splits or of metadata, packed or not; the newest version."""
    found = [
        *path.parent.glob(f"mimic-cxr-*-{what}.csv"),
        *path.parent.glob(f"mimic-cxr-*-{what}.csv.gz"),
    ]
    return max(found, default=None)


def _views(path: Path) -> dict[str, str]:
    """{dicom_id: view} of the metadata file; empty without one."""
    metadata = _beside(path, "metadata")
    if metadata is None:
        return {}
    rows = tables.rows(metadata, ("dicom_id", _VIEW), "metadata")
    return {row["dicom_id"]: row[_VIEW].strip() for row in rows}
