"""CheXpert (Irvin et al. 2019, arXiv 1901.07031): train.csv and valid.csv.

    Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,...,Support Devices
    CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,...

14 columns of labels: 1 present, 0 absent, -1 uncertain (`data.uncertain`), and empty where the
report does not mention the finding, which counts as absent as in the owners' own models. The
patient is a folder of the path. Beside train.csv, valid.csv is the owners' validation set, and
test.csv (or test_labels.csv), which they publish apart, their test set. Without the latter, test
is taken from the patients of train.csv.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from edgekd.core.files import is_file
from edgekd.data import column_names, csv_text, label_csv
from edgekd.data.label_table import LabelTable, joined
from edgekd.settings.recipe import DataConfig

TRAIN = "train.csv"
BESIDE = {"val": ("valid.csv",), "test": ("test.csv", "test_labels.csv")}


def known(header: Sequence[str]) -> bool:
    """Whether a header is that of CheXpert."""
    keys = {column_names.key(name) for name in header}
    return {"path", "sex", "age", column_names.FRONTAL, column_names.DIRECTION} <= keys


def read(path: Path, config: DataConfig) -> LabelTable:
    """The rows; beside train.csv, with those of the owners' other files. Raises what
    `label_csv.read` raises.
    """
    table = dataclasses.replace(
        label_csv.read(path, config),
        licence="Stanford University Dataset Research Use Agreement: non-commercial research",
        source="CheXpert, Irvin et al. 2019, arXiv 1901.07031",
    )
    if path.name != TRAIN:
        return table
    parts = [("train", table)]
    for split, names in BESIDE.items():
        places = [path.with_name(name) for name in names]
        place = next((each for each in places if is_file(each)), None)
        # The same labels in the same order, even where a file has further columns.
        if place is not None and set(table.labels or ()) <= set(csv_text.header(place)):
            wanted = dataclasses.replace(config, labels=tuple(table.labels or ()))
            parts.append((split, label_csv.read(place, wanted)))
    return table if len(parts) == 1 else joined(table, parts)
