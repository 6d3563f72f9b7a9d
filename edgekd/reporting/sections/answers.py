"""The confusion matrix, and the examples: test images with what each network answers."""

from __future__ import annotations

import base64
import dataclasses

from edgekd.core.records import present
from edgekd.evaluation.accuracy_record import Accuracy
from edgekd.evaluation.examples import Example
from edgekd.reporting import text as fmt
from edgekd.reporting.report_record import Report

# The networks whose answers are shown with an example, and their names there.
SHOWN = {"teacher": "teacher", "student": "student", "tflite": "int8"}
# A larger confusion matrix cannot be read; the worst confusions are listed instead.
MATRIX_CLASSES = 20
NAMED_COLUMNS = 4  # up to this many columns have their class as head; more are numbered
SHORT_NAME = 14  # letters of a class name that fits above a column


@dataclasses.dataclass(frozen=True)
class Head:
    """A column's head, and the class it stands for."""

    name: str
    full: str


@dataclasses.dataclass(frozen=True)
class Cell:
    """One count. `share`: of the row, which gives the colour; `right`: on the diagonal."""

    count: int
    share: str
    right: bool


@dataclasses.dataclass(frozen=True)
class ClassLine:
    """One row of the matrix: a true class. `number`: of its column, where columns are numbered."""

    name: str
    number: int | None
    total: str
    recall: str
    cells: list[Cell]


@dataclasses.dataclass(frozen=True)
class Mistake:
    """Images of one class that were taken for another."""

    count: str
    true: str
    said: str
    share: str


@dataclasses.dataclass(frozen=True)
class ConfusionView:
    """The matrix, and the most frequent mistakes. `by`: the network that answered."""

    heads: list[Head]
    rows: list[ClassLine]
    precision: list[str]
    matrix: bool
    numbered: bool
    mistakes: list[Mistake]
    more: int
    by: str


@dataclasses.dataclass(frozen=True)
class AnswerLine:
    """What one network answers, with its own probability."""

    who: str
    said: str
    chance: str
    right: bool


@dataclasses.dataclass(frozen=True)
class Look:
    """Where one network looks: a PNG as a data URI."""

    who: str
    src: str


@dataclasses.dataclass(frozen=True)
class ExampleView:
    """One test image. `src`: a PNG as a data URI."""

    src: str
    name: str
    label: str
    why: str
    answers: list[AnswerLine]
    looks: list[Look]


def confusion(report: Report) -> ConfusionView | None:
    """The confusion matrix of the last stage; None where there is none."""
    accuracy = present(report.accuracy)
    block = None if accuracy is None else present(accuracy.confusion)
    if accuracy is None or block is None or not block.classes:
        return None
    classes, counts = block.classes, block.counts
    totals = [sum(row) for row in counts]
    answers = [sum(column) for column in zip(*counts, strict=True)]
    numbered = len(classes) > NAMED_COLUMNS or max(map(len, classes)) > SHORT_NAME
    matrix = len(classes) <= MATRIX_CLASSES
    mistakes = _mistakes(classes, counts, totals) if len(classes) > 2 else []
    return ConfusionView(
        heads=[
            Head(str(number) if numbered else name, name) for number, name in enumerate(classes, 1)
        ],
        rows=[
            _class_line(name, k if numbered else None, k, counts[k], totals[k], matrix)
            for k, name in enumerate(classes)
        ],
        precision=[_part(counts[k][k], answers[k]) for k in range(len(classes))],
        matrix=matrix,
        numbered=numbered,
        mistakes=mistakes[: fmt.LISTED],
        more=max(0, len(mistakes) - fmt.LISTED),
        by=_last_network(accuracy),
    )


def _class_line(
    name: str, number: int | None, k: int, counts: list[int], total: int, matrix: bool
) -> ClassLine:
    """`matrix`: whether the row has a cell for each class. 1,000 classes would have a million."""
    return ClassLine(
        name=name,
        number=None if number is None else number + 1,
        total=fmt.whole(total),
        recall=_part(counts[k], total),
        cells=[
            Cell(count, f"{count / total if total else 0:.3f}", column == k)
            for column, count in enumerate(counts)
            if matrix
        ],
    )


def _mistakes(classes: list[str], counts: list[list[int]], totals: list[int]) -> list[Mistake]:
    """Every pair of classes that was confused, the most frequent first."""
    pairs = [
        (counts[i][j], i, j)
        for i in range(len(classes))
        for j in range(len(classes))
        if i != j and counts[i][j]
    ]
    return [
        Mistake(fmt.whole(count), classes[i], classes[j], fmt.percent(count / totals[i]))
        for count, i, j in sorted(pairs, key=lambda pair: (-pair[0], *pair[1:]))
    ]


def _part(count: int, total: int) -> str:
    return fmt.percent(count / total if total else None)


def _last_network(accuracy: Accuracy) -> str:
    last = accuracy.waterfall[-1].stage if accuracy.waterfall else ""
    return "int8" if last == "tflite" else "the last stage"


def example(example: Example) -> ExampleView:
    """One test image with each network's answer."""
    shown = {
        name: example.answers[stage] for stage, name in SHOWN.items() if stage in example.answers
    }
    return ExampleView(
        src=_data_uri(example.png),
        name=example.name,
        label=example.label,
        why=example.why,
        answers=[
            AnswerLine(who, said, fmt.percent(chance, 0), said == example.label)
            for who, (said, chance) in (shown or example.answers).items()
        ],
        looks=[
            Look(SHOWN.get(stage, stage), _data_uri(png)) for stage, png in example.looks.items()
        ],
    )


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
