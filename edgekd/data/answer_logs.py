"""A teacher's logged answers in place of the teacher: a CSV from production, full or top-k, checked before it is used.

    image,sha256,time,model,class_1,p_1,class_2,p_2          top-k: the k most likely classes and their probabilities
    image,sha256,time,model,p:cat,p:dog,p:bird               full: a column for each class of the data

`image` is the name in the data set, or the file's name where that is unique. `sha256` (of the image file), `time` (ISO
8601) and `model` (the teacher's version) may be left out, or be empty; what is there is checked.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.core.errors import DataError, UnknownName
from edgekd.data import tables

FULL = "p:"
SLACK = (
    0.01  # how far a row's probabilities may sum beyond 1: two digits are often all that is logged
)
MOST_MISSING = (
    0.5  # a row whose classes hold less than half of the mass does not say what the teacher thought
)
FLOOR = 1e-6  # a probability of 0 as written: its logarithm must be finite, and float16 holds it


@dataclasses.dataclass(frozen=True)
class Logged:
    """`rows`: indices into the data set's images; `probabilities` float64 [len(rows), k], each row summing to 1."""

    rows: list[int]
    probabilities: np.ndarray
    facts: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class _Answer:
    line: int
    time: dt.datetime | None
    given: dict[int, float]


def read(
    path: Path, images: Sequence[Mapping[str, Any]], classes: Sequence[str], max_days: float = 0.0
) -> Logged:
    """The answers to the training images among `images` (rows of a Dataset), the newest of each image.

    The mass that top-k leaves out is spread evenly over the classes that are not named, (1 - S) / (K - k) each, as
    TinyViT does (Wu et al. 2022, arXiv 2207.10666). `max_days`: answers older than that, counted back from the newest
    one, are left out; 0 keeps all.

    Raises DataError for a hash that is not the image's, a class that the data do not have, several models in one log,
    probabilities that are none, too much missing mass, or when no training image is left.
    """
    table = tables.rows(path, ("image",), "log")
    full = [name for name in table[0] if name.startswith(FULL)]
    depth = sum(name.startswith("class_") for name in table[0])
    if bool(full) == bool(depth):
        raise DataError(
            f"log {path}: neither or both of full (p:CLASS) and top-k (class_1, p_1, ...) columns",
            "log either a column for each class, or the k most likely classes with their probabilities",
        )
    if full:
        _all_classes(path, [name.removeprefix(FULL) for name in full], classes)
    models = Counter(row["model"] for row in table if row.get("model"))
    if len(models) > 1:
        raise DataError(
            f"log {path}: answers of {len(models)} models ({', '.join(sorted(models))})",
            "keep the rows of one: answers of different teachers contradict each other",
        )
    places, by_file = _names(images)
    kept: dict[int, _Answer] = {}
    counts = Counter[str]()
    for line, row in enumerate(table, 2):
        place = places.get(row["image"], by_file.get(row["image"]))
        if place is None or images[place]["split"] != "train":
            counts["not a training image"] += 1
            continue
        where = f"log {path}, line {line}"
        if row.get("sha256") and row["sha256"].lower() != images[place]["sha256"]:
            raise DataError(
                f"{where}: {row['image']} has sha256 {images[place]['sha256'][:12]}..., the log says "
                f"{row['sha256'][:12]}...",
                "the image changed since it was logged: take the row out",
            )
        answer = _Answer(
            line, _time(row.get("time", ""), where), _given(row, full, depth, classes, where)
        )
        before = kept.get(place)
        counts["repeated"] += before is not None
        if before is None or not (before.time and answer.time and answer.time < before.time):
            kept[place] = answer
    dropped = _drop_old(kept, max_days)
    if not kept:
        raise DataError(
            f"log {path}: no row speaks of a training image of the data set",
            "image must be a name in the data set (train/cat/1.jpg) or a file's name that is unique",
        )
    rows = sorted(kept)
    probabilities, missing = _filled([kept[place] for place in rows], len(classes), path)
    times = [answer.time for answer in kept.values() if answer.time]
    facts = {
        "source": "log",
        "answers": len(rows),
        "images": sum(image["split"] == "train" for image in images),
        "classes_a_row": len(classes) if full else depth,
        "missing_mass": missing,
        "too_old": dropped,
        "skipped": dict(counts),
        "model": next(iter(models), "not stated"),
        "oldest": min(times).isoformat() if times else "not stated",
        "newest": max(times).isoformat() if times else "not stated",
        "hashes_checked": sum(bool(row.get("sha256")) for row in table),
    }
    return Logged(rows, probabilities, facts)


def _all_classes(path: Path, named: list[str], classes: Sequence[str]) -> None:
    for name in named:
        if name not in classes:
            raise UnknownName(
                f"class in log {path}:",
                name,
                classes,
                f"the data's classes are {', '.join(classes)}",
            )
    lacking = [name for name in classes if name not in named]
    if lacking:
        raise DataError(
            f"log {path}: no column for {len(lacking)} classes, {FULL}{lacking[0]} first",
            "log every class, or the most likely ones as class_1, p_1, ...",
        )


def _names(images: Sequence[Mapping[str, Any]]) -> tuple[dict[str, int], dict[str, int]]:
    """Places of images by name, and by the last part of it where that is unique."""
    files = Counter(str(image["name"]).rpartition("/")[2] for image in images)
    by_file = {
        file: index
        for index, image in enumerate(images)
        if files[file := str(image["name"]).rpartition("/")[2]] == 1
    }
    return {str(image["name"]): index for index, image in enumerate(images)}, by_file


def _time(text: str, where: str) -> dt.datetime | None:
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
    row: Mapping[str, str], full: list[str], depth: int, classes: Sequence[str], where: str
) -> dict[int, float]:
    """{class: probability} of one row."""
    pairs = [(name.removeprefix(FULL), row[name]) for name in full] or [
        (row[f"class_{place}"], row.get(f"p_{place}", ""))
        for place in range(1, depth + 1)
        if row.get(f"class_{place}")
    ]
    given: dict[int, float] = {}
    for name, text in pairs:
        if name not in classes:
            raise UnknownName(
                f"class in {where}:", name, classes, f"the data's classes are {', '.join(classes)}"
            )
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 <= value <= 1 + SLACK:
            raise DataError(
                f"{where}: the probability of {name} is {text!r}", "a number in 0 .. 1 is expected"
            )
        if classes.index(name) in given:
            raise DataError(f"{where}: {name} stands there twice", "name each class once a row")
        given[classes.index(name)] = value
    total = sum(given.values())
    if total > 1 + SLACK:
        raise DataError(
            f"{where}: the probabilities sum to {total:.3f}", "log probabilities after the softmax"
        )
    return given


def _drop_old(kept: dict[int, _Answer], max_days: float) -> int:
    """Take out answers older than `max_days` before the newest; one without a time is as old as can be."""
    times = [answer.time for answer in kept.values() if answer.time]
    if not max_days or not times:
        return 0
    limit = max(times) - dt.timedelta(days=max_days)
    old = [place for place, answer in kept.items() if answer.time is None or answer.time < limit]
    for place in old:
        del kept[place]
    return len(old)


def _filled(
    answers: list[_Answer], classes: int, path: Path
) -> tuple[np.ndarray, dict[str, float]]:
    """Probabilities float64 [n, k] with the missing mass spread evenly, and how much was missing."""
    out = np.empty((len(answers), classes))
    missing = np.empty(len(answers))
    for row, answer in enumerate(answers):
        total = sum(answer.given.values())
        missing[row] = max(0.0, 1 - total)
        if missing[row] > MOST_MISSING:
            raise DataError(
                f"log {path}, line {answer.line}: the logged classes hold {total:.2f} of the mass",
                "log more classes a row: what is left out is spread evenly and says nothing",
            )
        absent = classes - len(answer.given)
        out[row] = missing[row] / absent if absent else 0.0
        out[row, list(answer.given)] = list(answer.given.values())
        out[row] = np.maximum(out[row], FLOOR)
        out[row] /= out[row].sum()
    return out, {"mean": float(missing.mean()), "most": float(missing.max())}
