"""VinDr-CXR (Nguyen et al. 2022, doi 10.1038/s41597-022-01498-w), from PhysioNet or from Kaggle.

    image_labels_train.csv   image_id,rad_id,Aortic enlargement,...,No finding   a row a reader
    image_labels_test.csv    image_id,Aortic enlargement,...,No finding          a row an image
    train.csv (Kaggle)       image_id,class_name,class_id,rad_id,x_min,...       a row a box

Of the training images each was labelled by three radiologists on their own. An image has a label
when most of its readers gave it; where they are divided in halves, the label is uncertain
(`data.uncertain`). The test set is the owners', labelled by the consensus of five. Kaggle published
no labels of it, so that test is then taken from train. The owners publish no patients.
VinDr-PCXR has the same layout.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from edgekd.core.errors import DataError
from edgekd.core.files import is_file
from edgekd.data import column_names, label_csv, tables
from edgekd.data.label_table import LabelRow, LabelTable, joined
from edgekd.settings.recipe import DataConfig

TRAIN, TEST = "image_labels_train.csv", "image_labels_test.csv"
_IMAGE, _READER, _CLASS = "image_id", "rad_id", "class_name"
# The two files spell one label in two ways. {as in the test file: as in the training file}
_SPELT = {"Other disease": "Other diseases"}
NO_FINDING = "No finding"
_NO_PATIENTS = (
    "VinDr-CXR names no patients, so that images of one patient can lie in several splits"
)
# Votes of an image's readers: {label: share of the readers who gave it}.
_Votes = dict[str, float]


def known(header: Sequence[str]) -> bool:
    """Whether a header is that of image_labels_train.csv or image_labels_test.csv."""
    names = [column_names.key(name) for name in header]
    return (
        names[:1] == ["imageid"]
        and column_names.key(NO_FINDING) in names
        and "classname" not in names
    )


def known_boxes(header: Sequence[str]) -> bool:
    """Whether a header is that of Kaggle's train.csv."""
    return {_IMAGE, _CLASS, "class_id", _READER} <= set(header)


def read(path: Path, config: DataConfig) -> LabelTable:
    """One row an image; beside image_labels_train.csv, with those of the test file. Raises what
    `label_csv.marked` raises.
    """
    table = _read_one(path, config)
    test = path.with_name(TEST)
    if path.name != TRAIN or not is_file(test):
        return table
    wanted = dataclasses.replace(config, labels=tuple(table.labels or ()))
    return joined(table, [("train", table), ("test", _read_one(test, wanted))])


def read_boxes(path: Path, config: DataConfig) -> LabelTable:
    """One row an image of Kaggle's train.csv: a reader who drew a box of a class gave its label."""
    given: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    lines: dict[str, int] = {}
    for line, row in tables.numbered(path, (_IMAGE, _CLASS, _READER), "labels"):
        image = row[_IMAGE].strip()
        lines.setdefault(image, line)
        given[image][row[_READER].strip()].add(row[_CLASS].strip())
    told = [said for readers in given.values() for said in readers.values()]
    every = sorted({name for said in told for name in said})
    votes = {
        image: {
            name: sum(name in said for said in readers.values()) / len(readers) for name in every
        }
        for image, readers in given.items()
    }
    known_labels = [name for name in every if name != NO_FINDING]
    return _table(path, votes, lines, label_csv.chosen(path, config.labels, known_labels), config)


def _read_one(path: Path, config: DataConfig) -> LabelTable:
    """One row an image of one file."""
    rows = [
        (line, {_SPELT.get(name, name): cell for name, cell in row.items()})
        for line, row in tables.numbered(path, (), "labels")
    ]
    header = list(rows[0][1])
    image = header[0]
    reader = column_names.find(header, ("radid",))
    labels = label_csv.chosen(
        path, config.labels, [name for name in header if name not in (image, reader)]
    )
    said, _ = label_csv.marked(path, rows, labels, config)
    each: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    lines: dict[str, int] = {}
    for (line, row), own in zip(rows, said, strict=True):
        name = row[image].strip()
        lines.setdefault(name, line)
        each[name].append(own)
    votes = {
        name: {label: sum(label in own for own in told) / len(told) for label in labels}
        for name, told in each.items()
    }
    return _table(path, votes, lines, labels, config)


def _table(
    path: Path,
    votes: dict[str, _Votes],
    lines: dict[str, int],
    labels: list[str],
    config: DataConfig,
) -> LabelTable:
    """The table of the readers' majorities. Raises DataError where they are divided in halves and
    data.uncertain is "refuse".
    """
    half = [(name, label) for name, own in votes.items() for label in labels if own[label] == 0.5]
    if half and config.uncertain == "refuse":
        name, label = half[0]
        raise DataError(
            f"{label_csv.where(path, lines[name])}: half of the readers of {name} gave {label}; "
            f"{len(half)} labels are uncertain so",
            "decide them all with --set data.uncertain=ignore, zero, one or soft:0.55-0.85",
        )
    rows = [
        LabelRow(
            image=name,
            said=tuple(label for label in labels if own[label] > 0.5),
            where=label_csv.where(path, lines[name]),
            uncertain=tuple(label for label in labels if own[label] == 0.5),
            cells={_IMAGE: name},
        )
        for name, own in votes.items()
    ]
    return LabelTable(
        path,
        rows,
        labels,
        warnings=[_NO_PATIENTS],
        licence="PhysioNet Credentialed Health Data License 1.5.0: research and education",
        source="VinDr-CXR, Nguyen et al. 2022, doi 10.1038/s41597-022-01498-w",
        root=path.parent.parent if path.parent.name == "annotations" else path.parent,
    )
