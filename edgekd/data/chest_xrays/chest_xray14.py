"""NIH ChestX-ray14 (Wang et al. 2017, arXiv 1705.02315): Data_Entry_2017.csv.

    Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,...
    00000001_001.png,Cardiomegaly|Emphysema,1,1,58,M,PA,...

"No Finding" stands for none of the 14 labels. The owners divide the images by patient into
train_val_list.txt and test_list.txt. Where these lie beside the CSV they are followed, and val is
taken from the patients of the first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from edgekd.core.errors import DataError
from edgekd.core.files import expanded, is_file, problem
from edgekd.data import column_names, label_csv
from edgekd.data.label_table import LabelTable
from edgekd.settings.recipe import DataConfig

LISTS = {"train": "train_val_list.txt", "test": "test_list.txt"}


def known(header: Sequence[str]) -> bool:
    """Whether a header is that of ChestX-ray14."""
    return {"imageindex", "findinglabels"} <= {column_names.key(name) for name in header}


def read(path: Path, config: DataConfig) -> LabelTable:
    """The rows, with the owners' splits where their lists are. Raises what `label_csv.read` raises,
    and DataError when one of the two lists is missing.
    """
    table = dataclasses.replace(
        label_csv.read(path, config),
        licence="NIH Clinical Center: unrestricted use, with a link to its site and a citation",
        source="NIH ChestX-ray14, Wang et al. 2017, arXiv 1705.02315",
    )
    folders = [path.parent, *([expanded(config.images, "data.images")] if config.images else [])]
    found = {
        split: next((each / name for each in folders if is_file(each / name)), None)
        for split, name in LISTS.items()
    }
    if not any(found.values()):
        return table
    splits: dict[str, str] = {}
    for split, place in found.items():
        if place is None:
            raise DataError(
                f"{path}: {LISTS[split]} is missing, and the other list of its splits is there",
                "put both lists beside it, or neither: images are then split by patient",
            )
        splits |= dict.fromkeys(_names(place), split)
    listed = [
        dataclasses.replace(row, split=splits[row.image])
        for row in table.rows
        if row.image in splits
    ]
    said = list(table.warnings)
    if len(listed) < len(table.rows):
        said.append(
            f"{len(table.rows) - len(listed)} images are in neither {LISTS['train']} nor "
            f"{LISTS['test']}, and were left out"
        )
    return dataclasses.replace(table, rows=listed, warnings=said)


def _names(path: Path) -> list[str]:
    """The names in a list, one a line. Raises PathError when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig", errors="replace").split()
    except OSError as error:
        raise problem(error, path) from None
