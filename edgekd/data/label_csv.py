"""A CSV of labels, one row for each image. Its header decides what it means.

A column for each label, with 1 or 0 (empty means 0); an image may have none or several:

    image,Mass,Edema
    a.png,1,0

The labels in one cell, separated by "|"; empty or "No Finding" for none:

    image,labels
    a.png,Mass|Edema

One class for each image:

    image,label
    a.png,cat

The names of columns are compared without case, spaces and underscores, and the usual other names
are known, such as `Path` or `filename` for `image` (`column_names`). Two further columns are
optional: `split` (train, val or test) and one that names the group (`grouping`). Columns that say
sex, age or view are no labels. The headers of some public data sets are known as published
(`chest_xrays`).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from edgekd.core.errors import DataError, UnknownName, nearest
from edgekd.data import column_names, grouping, tables
from edgekd.data.class_names import normal
from edgekd.data.label_table import AboutColumns, LabelRow, LabelTable, split_of
from edgekd.data.shown_names import SHOWN, shown
from edgekd.settings.recipe import DataConfig
from edgekd.settings.recipe_toml import spelled

_YES = frozenset({"1", "1.0", "1.00"})
# CheXpert writes floats, and leaves a cell empty where a report does not mention a finding.
_NO = frozenset({"0", "0.0", "0.00", ""})
# CheXpert's values for an uncertain finding.
_UNCERTAIN = frozenset({"-1", "-1.0", "-1.00"})
# A cell of labels that means none, in lower case.
_NONE = frozenset({"", "no finding"})

# Names of groups that may also be those of labels.
_WORDS = frozenset({*column_names.GROUP_WORDS, *column_names.LIKELY_GROUP_WORDS})

Numbered = list[tuple[int, dict[str, str]]]


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns of a table by what they hold; None where there is no such column."""

    image: str
    label: str | None
    labels: str | None
    split: str | None

    @property
    def taken(self) -> list[str]:
        """The columns that are neither labels nor further facts."""
        return [name for name in dataclasses.astuple(self) if name is not None]


def read(path: Path, config: DataConfig) -> LabelTable:
    """The rows of a CSV of labels.

    Raises DataError, naming file and line, for a missing column, a value that is no label, an
    unknown split, an uncertain label when data.uncertain is "refuse"; UnknownName for a label or a
    group column that the CSV does not have.
    """
    rows = tables.numbered(path, (), "labels")
    header = list(rows[0][1])
    columns = _columns(path, header)
    names = [_image(path, line, row[columns.image]) for line, row in rows]
    said, uncertain, labels = _labels(path, rows, columns, config)
    grouped = grouping.group(
        names,
        {name: [row[name] for _, row in rows] for name in header},
        config,
        path.name,
        [*columns.taken, *(labels or ())],
        [_below(name, own) for name, own in zip(names, said, strict=True)],
    )
    about = AboutColumns.of(header)
    found = [
        LabelRow(
            image=name,
            said=own,
            where=where(path, line),
            uncertain=unsure,
            split=None
            if columns.split is None
            else split_of(row[columns.split], where(path, line)),
            group=tied,
            cells={**row, **about.read(row)},
        )
        for (line, row), name, own, unsure, tied in zip(
            rows, names, said, uncertain, grouped.groups, strict=True
        )
    ]
    return LabelTable(
        path,
        found,
        labels,
        chosen=bool(config.labels),
        by=grouped.by,
        warnings=grouped.warnings,
        source=path.stem,
    )


def where(path: Path, line: int) -> str:
    """File and line, for messages."""
    return f"labels {path}, line {line}"


def _columns(path: Path, header: Sequence[str]) -> Columns:
    """What the columns hold. Raises DataError when none names the images."""
    image = column_names.find(header, column_names.IMAGE)
    if image is None:
        near = nearest("image", header)
        raise DataError(
            f"labels {path}: no column 'image'" + (f"; there is {near!r}" if near else ""),
            "the first line must name the columns, and one of them must be called image, path or "
            "filename",
        )
    return Columns(
        image,
        column_names.find(header, column_names.LABEL),
        column_names.find(header, column_names.LABELS),
        column_names.find(header, column_names.SPLIT),
    )


def _image(path: Path, line: int, cell: str) -> str:
    """The image's name. Raises DataError for one that is not below the images' folder."""
    name = cell.strip().replace("\\", "/").removeprefix("./")
    if not name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise DataError(
            f"{where(path, line)}: image {name!r} is not a path below the images' folder",
            "name images relative to the CSV's folder, or to another folder with "
            "--set data.images=DIR",
        )
    return name


def _below(name: str, said: Sequence[str]) -> str:
    """The path without folders that are called like the image's class or label."""
    return "/".join(part for part in name.split("/") if part not in said)


def _labels(
    path: Path, rows: Numbered, columns: Columns, config: DataConfig
) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]], list[str] | None]:
    """What each row says, its uncertain labels, and all labels where there may be several."""
    if columns.labels is not None:
        said = [_listed(row[columns.labels]) for _, row in rows]
        labels = chosen(path, config.labels, sorted({name for names in said for name in names}))
        return said, [()] * len(rows), labels
    if columns.label is not None:
        return _classes(path, rows, columns.label, config), [()] * len(rows), None
    own = {*columns.taken, *_not_labels(rows, config)}
    labels = chosen(path, config.labels, [name for name in rows[0][1] if name not in own])
    if not config.labels:
        _refuse_other_values(path, rows, labels)
    others = [name for name in rows[0][1] if name in own]
    return *marked(path, rows, labels, config, others), labels


def _classes(path: Path, rows: Numbered, column: str, config: DataConfig) -> list[tuple[str, ...]]:
    """The one class of each row."""
    if config.labels:
        raise DataError(
            f"data.labels names labels, but {path} has one class for each image (its column "
            f"{column!r})",
            "leave data.labels out",
        )
    for line, row in rows:
        if not row[column].strip():
            raise DataError(f"{where(path, line)}: {column} is empty", "name the image's class")
    return [(row[column].strip(),) for _, row in rows]


def _not_labels(rows: Numbered, config: DataConfig) -> list[str]:
    """Columns of the layout with a column for each label that are known to hold no labels: those
    with facts about a patient or a picture, and groups.
    """
    about_keys, header = column_names.about_keys(), list(rows[0][1])
    known = [name for name in header if column_names.key(name) in about_keys]
    asked = column_names.named(header, config.group_column)
    likely = grouping.known_names(header)
    marks = _YES | _NO | _UNCERTAIN
    return [
        *known,
        *([asked] if asked else []),
        # A label may be called "Subject" or "Case"; its cells then hold nothing but marks.
        *(
            name
            for name in likely
            if column_names.key(name) not in _WORDS
            or not all(row[name].strip() in marks for _, row in rows)
        ),
    ]


def _refuse_other_values(path: Path, rows: Numbered, labels: Sequence[str]) -> None:
    """Raise DataError that names every column which holds something else than 1, 0, -1 or nothing,
    when all columns were taken for labels.
    """
    marks = _YES | _NO | _UNCERTAIN
    others = {
        name: next(
            ((line, row[name]) for line, row in rows if row[name].strip() not in marks), None
        )
        for name in labels
    }
    wrong = [f"{name} is {cell!r}" for name, found in others.items() if found for cell in found[1:]]
    if not wrong:
        return
    line = min(found[0] for found in others.values() if found)
    rest = [name for name in labels if others[name] is None]
    example = spelled(tuple(rest) if len(rest) > 1 else ("A", "B"))
    raise DataError(
        f"{where(path, line)}: {shown(wrong)}, expected 1, 0 or nothing in a column of a label",
        f"correct the values, or say which columns are labels: --set 'data.labels={example}'",
    )


def marked(
    path: Path,
    rows: Numbered,
    labels: Sequence[str],
    config: DataConfig,
    others: Sequence[str] = (),
) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """The labels whose column says 1, and those whose column says -1, of each row.

    `others`: the columns that are no labels. Raises DataError for another value, and for
    -1 when data.uncertain is "refuse".
    """
    said, uncertain = [], []
    marks = _YES | _NO | _UNCERTAIN
    for line, row in rows:
        for name in labels:
            if row[name].strip() not in marks:
                raise DataError(
                    f"{where(path, line)}: {name} is {row[name]!r}, expected 1, 0 or nothing",
                    "correct the line",
                )
        said.append(tuple(name for name in labels if row[name].strip() in _YES))
        uncertain.append(tuple(name for name in labels if row[name].strip() in _UNCERTAIN))
    if config.uncertain == "refuse" and any(uncertain):
        first = next(place for place, names in enumerate(uncertain) if names)
        line, name = rows[first][0], uncertain[first][0]
        counts = Counter(name for names in uncertain for name in names)
        each = [f"{name} {count}" for name, count in counts.most_common()]
        apart = f"; columns that are no labels: {', '.join(others)}" if others else ""
        raise DataError(
            f"{where(path, line)}: {name} is {rows[first][1][name].strip()!r}, which means "
            f"uncertain; cells that say so: {counts.total()} ({shown(each)}){apart}",
            "decide them all with --set data.uncertain=ignore, zero, one or soft:0.55-0.85, or "
            "write 1 or 0",
        )
    return said, uncertain


def chosen(path: Path, wanted: Sequence[str], known: Sequence[str]) -> list[str]:
    """The labels to use. Raises UnknownName, and DataError for fewer than two."""
    by_normal = {normal(name): name for name in reversed(known)}
    for name in wanted:
        if normal(name) not in by_normal:
            raise UnknownName(
                f"label in data.labels (of {path}):",
                name,
                known,
                f"labels: {', '.join(known[:SHOWN])}{', ...' if len(known) > SHOWN else ''}",
            )
    labels = list(dict.fromkeys(by_normal[normal(name)] for name in wanted)) or list(known)
    if len(labels) < 2:
        raise DataError(
            f"labels {path}: {len(labels)} labels ({', '.join(labels) or 'none'}); two are needed",
            "add a column for each label; for two classes that exclude each other write them "
            "in a column 'label'",
        )
    return labels


def _listed(cell: str) -> tuple[str, ...]:
    """The labels of a cell "A|B"."""
    names = (part.strip() for part in cell.split("|"))
    return tuple(dict.fromkeys(name for name in names if name.lower() not in _NONE))
