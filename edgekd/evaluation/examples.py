"""Pick instructive test images: int8 is wrong, the networks differ, or int8 is barely right."""

from __future__ import annotations

import dataclasses
import io
from collections import Counter
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgekd.core.artifacts import Dataset, Evaluation, Inputs, Labels, Saliency
from edgekd.data import datasets
from edgekd.data.sources import together
from edgekd.evaluation import metrics

# Longest side of a shown image, in pixels: 12 images then take less than half a megabyte.
MOST_PX = 160
LOOK_PX, LOOK_COLOURS = 88, 160  # three maps an image then take about 18 KB
FOR, AGAINST = (255, 140, 30), (70, 130, 255)  # orange and blue: colour-blind readers can tell
COVER = 0.75  # opacity of a map where it is strongest, so that the image stays visible below it
MOST = 12  # examples on the page

Mask = NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class Example:
    """One test image with every network's answer.

    `answers`: {stage: (class, its probability)} in waterfall order; `looks`: {stage: PNG} of where
    that network looks. Where an image may have several labels, a class is the names of the labels
    that it has, and the probability is that of the least certain label.
    """

    png: bytes
    name: str
    label: str
    answers: dict[str, tuple[str, float]]
    why: str
    looks: dict[str, bytes] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class _Pool:
    """Images that share a reason to be shown; the largest `score` is shown first."""

    why: Callable[[int], str]
    rows: Mask
    score: NDArray[np.float64]


def choose(
    dataset: Dataset,
    inputs: Inputs,
    evaluation: Evaluation,
    count: int = MOST,
    saliency: Saliency | None = None,
) -> list[Example]:
    """The picked test images with every network's answer, and with the maps in `saliency`."""
    labels, said = np.asarray(evaluation.labels, np.int64), _said(evaluation, dataset.labels)
    pictures = datasets.input_images(inputs, "test", inputs.channels)
    names = [str(dataset.images[row]["name"]) for row in inputs.rows["test"]]
    return [
        Example(
            _png(pictures[row]),
            names[row],
            _told(labels[row], dataset.classes),
            {
                stage: (_told(answer.said[row], dataset.classes), float(answer.sure[row]))
                for stage, answer in said.items()
            },
            why,
            _looks(saliency, row, pictures[row]),
        )
        for row, why in pick(evaluation, dataset.labels, count)
    ]


def pick(evaluation: Evaluation, many: Labels, count: int = MOST) -> list[tuple[int, str]]:
    """(row of the test split, reason) of at most `count` images, spread over reasons and classes.

    Equal artifacts give an equal choice. Every reason first gets an equal number of places. Places
    that a reason cannot fill go to the other reasons in their order.
    """
    labels = np.asarray(evaluation.labels, np.int64)
    count = min(count, len(labels))
    if count < 1:
        return []
    pools = _pools(_said(evaluation, many), labels)
    strata = (
        labels
        if labels.ndim == 1
        else np.unique(labels, axis=0, return_inverse=True)[1].reshape(-1)
    )
    picked: dict[int, int] = {}  # row -> number of the pool it came from
    fair = max(1, count // len(pools))
    for room in (fair, count):
        for number in range(len(pools)):
            _fill(picked, pools, number, strata, min(count, len(picked) + room))
    # a stable sort: within a pool, images stay in the order of picking
    shown = sorted(picked.items(), key=lambda item: item[1])
    return [(row, pools[number].why(row)) for row, number in shown]


def shown_label(evaluation: Evaluation, row: int) -> int:
    """The label whose maps are drawn.

    The image's own label, so that the maps of networks that answer differently can be compared.
    Where an image may have several labels or none, the last network's strongest label.
    """
    label = evaluation.labels[row]
    if isinstance(label, int):
        return label
    logits = np.frombuffer(evaluation.logits, np.float32).reshape(
        len(evaluation.stages), -1, evaluation.classes
    )
    return int(logits[-1, row].argmax())


def _looks(saliency: Saliency | None, row: int, picture: NDArray[np.uint8]) -> dict[str, bytes]:
    """{stage: PNG of the picture with that network's map over it}."""
    if saliency is None or row not in saliency.rows:
        return {}
    shape = (len(saliency.stages), len(saliency.rows), saliency.side, saliency.side)
    maps = np.frombuffer(saliency.maps, np.float32).reshape(shape)[:, saliency.rows.index(row)]
    return {
        stage: _heat(picture, chart) for stage, chart in zip(saliency.stages, maps, strict=True)
    }


def _heat(pixels: NDArray[np.uint8], chart: NDArray[np.float32]) -> bytes:
    """The image in grey, covered in orange (evidence for the label) and blue (against it).

    `pixels`: uint8 [px, px, channels]; `chart`: float32 [side, side], scaled by its own largest
    absolute value.
    """
    grey = Image.fromarray(np.ascontiguousarray(pixels.mean(2).round().astype(np.uint8))).resize(
        (LOOK_PX, LOOK_PX), Image.Resampling.LANCZOS
    )
    strength = np.asarray(
        Image.fromarray(chart / max(float(np.abs(chart).max()), 1e-9)).resize(
            (LOOK_PX, LOOK_PX), Image.Resampling.BICUBIC
        )
    ).clip(-1, 1)[..., None]
    colour = np.where(strength > 0, np.array(FOR, np.float64), np.array(AGAINST, np.float64))
    cover = COVER * np.abs(strength)
    mixed = (1 - cover) * np.asarray(grey, np.float64)[..., None] + cover * colour
    buffer = io.BytesIO()
    # An octree takes a twelfth of the time of Pillow's median cut. On radiographs its 160 colours
    # are as close to the picture (34 dB) as 96 colours of median cut.
    Image.fromarray(mixed.round().astype(np.uint8)).quantize(
        LOOK_COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE
    ).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


@dataclasses.dataclass(frozen=True)
class _Answers:
    """One network's answers.

    `said`: classes int64 [n], or 0 and 1 [n, k]; `sure`: the probability of each image's answer
    [n], with several labels that of the least certain one.
    """

    said: NDArray[np.int64]
    sure: NDArray[np.float64]

    def equals(self, other: NDArray[np.int64]) -> Mask:
        """Whether the whole answer is the same, image by image."""
        same = self.said == other
        return same if same.ndim == 1 else np.asarray(same.all(1))


def _said(evaluation: Evaluation, many: Labels) -> dict[str, _Answers]:
    """Each stage's answers to the test images."""
    shape = (len(evaluation.stages), len(evaluation.labels), evaluation.classes)
    logits = np.frombuffer(evaluation.logits, np.float32).reshape(shape)
    return {stage: _answers(logits[number], many) for number, stage in enumerate(evaluation.stages)}


def _answers(logits: NDArray[np.float32], labels: Labels) -> _Answers:
    if labels == "many":
        return _Answers(metrics.answers(logits, labels), metrics.sigmoid(np.abs(logits)).min(1))
    return _Answers(metrics.answers(logits, labels), metrics.probabilities(logits).max(1))


def _told(label: NDArray[np.int64], classes: list[str]) -> str:
    """The name of a class, or the names of the labels that are 1."""
    return (
        classes[int(label)]
        if label.ndim == 0
        else together(tuple(classes[k] for k in np.flatnonzero(label)))
    )


def _pools(answers: dict[str, _Answers], labels: NDArray[np.int64]) -> list[_Pool]:
    """The reasons to show an image. An image is shown for the first reason that fits it."""
    last = "tflite" if "tflite" in answers else list(answers)[-1]
    name = "int8" if last == "tflite" else last
    sure = answers[last].sure
    correct_by = {stage: answer.equals(labels) for stage, answer in answers.items()}
    right = correct_by[last]
    pools: list[_Pool] = []

    def wrong(row: int) -> str:
        others = [stage for stage in ("teacher", "student") if stage in answers and stage != last]
        correct = [stage for stage in others if correct_by[stage][row]]
        if not others:
            return f"{name} is wrong"
        return (
            f"{name} is wrong, {' and '.join(correct)} right"
            if correct
            else f"{name} is wrong, as all are"
        )

    def differ(one: str, other: str) -> Callable[[int], str]:
        return lambda row: (
            f"{one} and {other} differ, {name} is {'right' if right[row] else 'wrong'}"
        )

    if "student" in answers and last != "student":
        pools.append(
            _Pool(differ("student", name), ~answers["student"].equals(answers[last].said), sure)
        )
    if "teacher" in answers and "student" in answers:
        pools.append(
            _Pool(
                differ("teacher", "student"),
                ~answers["teacher"].equals(answers["student"].said),
                sure,
            )
        )
    pools.append(_Pool(wrong, ~right, sure))
    pools.append(_Pool(lambda _: "right, but least sure", right, -sure))
    pools.append(_Pool(lambda _: "right and sure", right, sure))
    return pools


def _fill(
    picked: dict[int, int], pools: list[_Pool], number: int, labels: NDArray[np.int64], until: int
) -> None:
    """Add a pool's images until `until` are picked, always of the class with the fewest so far."""
    pool = pools[number]
    order = np.argsort(-pool.score, kind="stable")
    waiting = [int(row) for row in order if pool.rows[row] and int(row) not in picked]
    have = Counter(int(labels[row]) for row in picked)
    while waiting and len(picked) < until:
        # of equally rare classes, the first image has the largest score
        row = min(waiting, key=lambda r: have[int(labels[r])])
        waiting.remove(row)
        picked[row] = number
        have[int(labels[row])] += 1


def _png(pixels: NDArray[np.uint8]) -> bytes:
    """A small PNG of an image, uint8 [px, px, channels]; equal channels become a grey PNG."""
    if pixels.shape[2] == 3 and not (pixels == pixels[..., :1]).all():
        image = Image.fromarray(np.ascontiguousarray(pixels))
    else:
        image = Image.fromarray(np.ascontiguousarray(pixels[..., 0]))
    if max(image.size) > MOST_PX:
        image.thumbnail((MOST_PX, MOST_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
