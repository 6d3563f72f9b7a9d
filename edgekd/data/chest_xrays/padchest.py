"""PadChest (Bustos et al. 2020, arXiv 1901.07441): PADCHEST_chest_x_ray_images_labels_160K.csv.

    ,ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,...,
    Projection,...,Labels,...

`Labels` holds the findings of the report as a Python list, ['pleural effusion', 'cardiomegaly'];
['normal'] means none. Left out and counted are rows without labels, reports labelled "exclude", and
reports of "unchanged" alone, which do not say what is unchanged. The owners publish no splits:
images are split by `PatientID`. The age is the year of the study less that of the birth.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgekd.core.errors import DataError
from edgekd.data import column_names, label_csv, tables
from edgekd.data.label_table import LabelRow, LabelTable
from edgekd.settings.recipe import DataConfig

_NEEDED = ("ImageID", "PatientID", "Labels", "Projection")
NORMAL, EXCLUDE, UNCHANGED = "normal", "exclude", "unchanged"
# Cells of missing labels: pandas writes an empty cell, and some copies the text "nan".
_MISSING = frozenset({"", "nan"})


def known(header: Sequence[str]) -> bool:
    """Whether a header is that of PadChest."""
    return set(_NEEDED) <= set(header)


def read(path: Path, config: DataConfig) -> LabelTable:
    """The rows whose report says what the image shows. Raises DataError for a cell of labels that
    is no list, and what `label_csv.chosen` raises.
    """
    left: Counter[str] = Counter()
    kept: list[tuple[str, dict[str, str], tuple[str, ...]]] = []
    for line, row in tables.numbered(path, _NEEDED, "labels"):
        where = label_csv.where(path, line)
        labels = _labels(row["Labels"], where)
        why = _why_left_out(labels)
        if why or labels is None:
            left[why] += 1
        else:
            said = tuple(name for name in labels if name not in (NORMAL, UNCHANGED))
            kept.append((where, row, said))
    every = sorted({name for _, _, said in kept for name in said})
    chosen = label_csv.chosen(path, config.labels, every)
    rows = [
        LabelRow(
            image=row["ImageID"].strip(),
            said=said,
            where=where,
            group=row["PatientID"].strip() or None,
            cells={**row, **_about(row)},
        )
        for where, row, said in kept
    ]
    counts = ", ".join(f"{count} {why}" for why, count in left.items())
    return LabelTable(
        path,
        rows,
        chosen,
        by="column 'PatientID'",
        warnings=[f"{left.total()} images were left out: {counts}"] if left else [],
        licence="PadChest's research use agreement of BIMCV; check it before you ship",
        source="PadChest, Bustos et al. 2020, arXiv 1901.07441",
    )


def _labels(cell: str, where: str) -> list[str] | None:
    """The labels in a cell such as "['normal']", without outer spaces; None where it is empty."""
    if cell.strip().lower() in _MISSING:
        return None
    try:
        found = ast.literal_eval(cell.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise DataError(
            f"{where}: Labels is {cell[:60]!r}, expected a list such as ['pleural effusion']",
            "correct the line",
        )
    return list(dict.fromkeys(name.strip() for name in found if name.strip()))


def _why_left_out(labels: Sequence[str] | None) -> str:
    """Why a row says nothing of what its image shows; "" when it does."""
    if not labels:
        return "without labels"
    if EXCLUDE in labels:
        return f"labelled {EXCLUDE!r}"
    return f"labelled {UNCHANGED!r} alone" if set(labels) == {UNCHANGED} else ""


def _about(row: Mapping[str, str]) -> dict[str, str]:
    """Sex, age and view of a row, where they are known."""
    found = {
        "sex": row.get("PatientSex_DICOM", "").strip(),
        "view": row["Projection"].strip(),
        "age": _age(row.get("StudyDate_DICOM", ""), row.get("PatientBirth", "")),
    }
    assert set(found) == set(column_names.ABOUT)
    return {name: value for name, value in found.items() if value}


def _age(study: str, birth: str) -> str:
    """The year of the study (20140915) less that of the birth (1950 or 1950.0), as text."""
    year, born = study.strip()[:4], birth.strip().partition(".")[0]
    return str(int(year) - int(born)) if year.isdecimal() and born.isdecimal() else ""
