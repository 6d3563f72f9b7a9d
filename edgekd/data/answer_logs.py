"""A teacher's logged answers in place of the teacher: a CSV from production (`distil.logs`).

A row holds either the k most likely classes with their probabilities, or one column `p:CLASS` for
each class of the data set:

    image,sha256,time,model,class_1,p_1,class_2,p_2
    train/cat/1.jpg,9f86...,2026-03-01T12:00:00+00:00,vit-7,cat,0.91,dog,0.06

    image,p:cat,p:dog,p:bird
    train/cat/1.jpg,0.91,0.06,0.03

`image` is the name in the data set, or the file's name if no other image has it. The columns
`sha256` (of the image file), `time` (ISO 8601) and `model` (the teacher's version) may be missing
or empty. Hashes are compared with the images, and all answers must come from one model.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgekd.core.artifact_rows import ImageRow
from edgekd.core.errors import DataError, UnknownName
from edgekd.core.records import Record
from edgekd.data import class_names, tables

# Prefix of the columns of a full answer.
FULL = "p:"
# How far the probabilities of a row may sum above 1: often only two digits of each are logged.
SLACK = 0.01
# Largest share of the probability that a row may leave out. Beyond it the row says little about
# what the teacher answered.
MOST_MISSING = 0.5
# Smallest probability: its logarithm is finite, and float16 holds it.
FLOOR = 1e-6
# In the facts, for what no row of the log says.
UNKNOWN = "not stated"


class MissingMass(Record, frozen=True):
    """The share of the probability that rows leave out: its mean and its largest value."""

    mean: float
    most: float


class LogFacts(Record, frozen=True):
    """What the report says about a log.

    `answers`: rows used, one for each image. `images`: training images in the data set.
    `classes_a_row`: logged probabilities in a row. `too_old`: answers left out for their age.
    `skipped`: {reason: rows left out}. `oldest`, `newest`: ISO 8601 times.
    """

    answers: int
    images: int
    classes_a_row: int
    missing_mass: MissingMass
    too_old: int
    skipped: dict[str, int]
    model: str
    oldest: str
    newest: str
    hashes_checked: int
    source: Literal["log"] = "log"


@dataclasses.dataclass(frozen=True)
class Logged:
    """The answers of a log.

    `rows`: indices into the data set's images. `probabilities`: float64 [len(rows), classes]; each
    row sums to 1.
    """

    rows: list[int]
    probabilities: NDArray[np.float64]
    facts: LogFacts


@dataclasses.dataclass(frozen=True)
class _Answer:
    """One row of the log. `given`: {class index: probability}."""

    line: int
    time: dt.datetime | None
    given: dict[int, float]


@dataclasses.dataclass(frozen=True)
class _Layout:
    """Which columns hold the answers: one for each class of `full`, or `depth` pairs (top-k)."""

    full: list[str]
    depth: int

    def pairs(self, row: Mapping[str, str]) -> list[tuple[str, str]]:
        """(class name, probability as text) of one row."""
        if self.full:
            return [(name, row[FULL + name]) for name in self.full]
        return [
            (row[f"class_{place}"], row.get(f"p_{place}", ""))
            for place in range(1, self.depth + 1)
            if row.get(f"class_{place}")
        ]


def read(
    path: Path, images: Sequence[ImageRow], classes: Sequence[str], max_days: float = 0.0
) -> Logged:
    """The answers to the training images among `images`, the newest one for each image.

    Probability that a top-k row leaves out is spread evenly over the other classes, (1 - S) /
    (K - k) each, as TinyViT does (Wu et al. 2022, arXiv 2207.10666). Answers more than `max_days`
    older than the newest one are left out; 0 keeps all.

    Raises DataError for a hash that differs from the image's, answers of several models, a value
    that is no probability, a row that leaves out too much, and a log without a training image; and
    UnknownName for a class that the data set does not have.
    """
    numbered = tables.numbered(path, ("image",), "log")
    table = [row for _, row in numbered]
    layout = _layout(path, table[0], classes)
    teacher = _model(path, table)
    kept, skipped = _newest(path, numbered, layout, images, classes)
    too_old = _drop_old(kept, max_days)
    if not kept:
        raise _no_image(path)
    rows = sorted(kept)
    probabilities, missing = _filled([kept[place] for place in rows], len(classes), path)
    times = [answer.time for answer in kept.values() if answer.time]
    facts = LogFacts(
        answers=len(rows),
        images=sum(image["split"] == "train" for image in images),
        classes_a_row=len(layout.full) or layout.depth,
        missing_mass=missing,
        too_old=too_old,
        skipped=dict(skipped),
        model=teacher,
        oldest=min(times).isoformat() if times else UNKNOWN,
        newest=max(times).isoformat() if times else UNKNOWN,
        hashes_checked=sum(bool(row.get("sha256")) for row in table),
    )
    return Logged(rows, probabilities, facts)


def model(path: Path) -> str:
    """The name of the model that gave a log's answers; UNKNOWN where no row names one.

    Raises DataError for a file that is no log, and for answers of several models.
    """
    return _model(path, tables.rows(path, ("image",), "log"))


def _model(path: Path, table: Sequence[Mapping[str, str]]) -> str:
    models = Counter(row["model"].strip() for row in table if row.get("model", "").strip())
    if len(models) > 1:
        raise DataError(
            f"log {path}: answers of {len(models)} models ({', '.join(sorted(models))})",
            "keep the rows of one: answers of different teachers contradict each other",
        )
    return next(iter(models), UNKNOWN)


def check(path: Path, images: Mapping[str, str | None], classes: Sequence[str]) -> None:
    """Check a log before any image is read: its columns, its classes, and its rows.

    `images`: {name: split} of the data set, with None where the split is drawn later. Raises what
    `read` raises for everything but the images' contents.
    """
    table = tables.numbered(path, ("image",), "log")
    layout, names = _layout(path, table[0][1], classes), _unique_names(list(images))
    used = [(line, row) for line, row in table if row["image"] in names]
    used = [part for part in used if images[names[part[1]["image"]]] in ("train", None)]
    for line, row in used:
        _given(layout.pairs(row), classes, f"log {path}, line {line}")
        _time(row.get("time", ""), f"log {path}, line {line}")
    if not used:
        raise _no_image(path)


def _no_image(path: Path) -> DataError:
    return DataError(
        f"log {path}: no row names a training image of the data set",
        "image must be a name in the data set (train/cat/1.jpg), or the name of one file only",
    )


def _layout(path: Path, header: Mapping[str, str], classes: Sequence[str]) -> _Layout:
    """The columns of the log. Raises DataError for neither or both layouts, or a missing class."""
    full = [name.removeprefix(FULL) for name in header if name.startswith(FULL)]
    depth = sum(name.startswith("class_") for name in header)
    if bool(full) == bool(depth):
        raise DataError(
            f"log {path}: it has neither or both of the columns {FULL}CLASS and class_1, p_1, ...",
            "log either a column for each class, or the k most likely classes with probabilities",
        )
    for name in full:
        _number(name, classes, f"log {path}")
    lacking = [name for name in classes if full and name not in full]
    if lacking:
        raise DataError(
            f"log {path}: {len(lacking)} classes have no column, {FULL}{lacking[0]} first",
            "log every class, or the most likely ones as class_1, p_1, ...",
        )
    return _Layout(full, depth)


def _number(name: str, classes: Sequence[str], where: str) -> int:
    """The index of a class, in any Unicode form. Raises UnknownName."""
    name = class_names.normal(name)
    if name not in classes:
        raise UnknownName(
            f"class in {where}:", name, classes, f"the data's classes are {', '.join(classes)}"
        )
    return classes.index(name)


def _newest(
    path: Path,
    table: Sequence[tuple[int, Mapping[str, str]]],
    layout: _Layout,
    images: Sequence[ImageRow],
    classes: Sequence[str],
) -> tuple[dict[int, _Answer], Counter[str]]:
    """The newest answer to each training image, by its row, and why other rows were left out."""
    by_name = _names(images)
    kept: dict[int, _Answer] = {}
    skipped = Counter[str]()
    for line, row in table:
        place = by_name.get(row["image"])
        if place is None or images[place]["split"] != "train":
            skipped["not a training image"] += 1
            continue
        where = f"log {path}, line {line}"
        digest = images[place]["sha256"]
        if row.get("sha256") and row["sha256"].lower() != digest:
            raise DataError(
                f"{where}: {row['image']} has sha256 {digest[:12]}..., but the log says "
                f"{row['sha256'][:12]}...",
                "the image has changed since it was logged: remove the row",
            )
        given = _given(layout.pairs(row), classes, where)
        answer = _Answer(line, _time(row.get("time", ""), where), given)
        before = kept.get(place)
        skipped["repeated"] += before is not None
        if before is None or not (before.time and answer.time and answer.time < before.time):
            kept[place] = answer
    return kept, skipped


def _names(images: Sequence[ImageRow]) -> dict[str, int]:
    """Rows of images by name, and by the name's last part where only one image has it."""
    rows = {image["name"]: row for row, image in enumerate(images)}
    return {short: rows[name] for short, name in _unique_names(list(rows)).items()}


def _unique_names(images: Sequence[str]) -> dict[str, str]:
    """Names of images by what a log may call them: the name, or its last part where only one image
    has it.
    """
    files = [name.rpartition("/")[2] for name in images]
    counts = Counter(files)
    unique = {file: name for name, file in zip(images, files, strict=True) if counts[file] == 1}
    return unique | {name: name for name in images}


def _time(text: str, where: str) -> dt.datetime | None:
    """A time with a time zone; UTC when the text names none."""
    if not text:
        return None
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        raise DataError(
            f"{where}: time {text!r} is not ISO 8601", "for example 2026-03-01T12:00:00+00:00"
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=dt.UTC)


def _given(
    pairs: Sequence[tuple[str, str]], classes: Sequence[str], where: str
) -> dict[int, float]:
    """{class index: probability} of one row."""
    given: dict[int, float] = {}
    for name, text in pairs:
        number = _number(name, classes, where)
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 <= value <= 1 + SLACK:
            raise DataError(
                f"{where}: the probability of {name} is {text!r}", "expected a number in 0 .. 1"
            )
        if number in given:
            raise DataError(f"{where}: {name} occurs twice", "name each class once in a row")
        given[number] = value
    total = sum(given.values())
    if total > 1 + SLACK:
        raise DataError(
            f"{where}: the probabilities sum to {total:.3f}", "log probabilities after the softmax"
        )
    return given


def _drop_old(kept: dict[int, _Answer], max_days: float) -> int:
    """Remove answers more than `max_days` older than the newest, and those without a time.

    Returns how many were removed.
    """
    times = [answer.time for answer in kept.values() if answer.time]
    if not max_days or not times:
        return 0
    limit = max(times) - dt.timedelta(days=max_days)
    old = [place for place, answer in kept.items() if answer.time is None or answer.time < limit]
    for place in old:
        del kept[place]
    return len(old)


def _filled(
    answers: Sequence[_Answer], classes: int, path: Path
) -> tuple[NDArray[np.float64], MissingMass]:
    """Probabilities float64 [n, classes] with the missing mass spread evenly, and that mass."""
    out = np.empty((len(answers), classes))
    missing = np.empty(len(answers))
    for row, answer in enumerate(answers):
        total = sum(answer.given.values())
        missing[row] = max(0.0, 1 - total)
        if missing[row] > MOST_MISSING:
            raise DataError(
                f"log {path}, line {answer.line}: the probabilities sum to {total:.2f} only",
                "log more classes in each row: what is left out is spread evenly and teaches "
                "nothing",
            )
        absent = classes - len(answer.given)
        out[row] = missing[row] / absent if absent else 0.0
        out[row, list(answer.given)] = list(answer.given.values())
        out[row] = np.maximum(out[row], FLOOR)
        out[row] /= out[row].sum()
    return out, MissingMass(float(missing.mean()), float(missing.max()))
