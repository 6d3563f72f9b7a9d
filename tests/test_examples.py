"""Which test images the report shows: every reason and class in turn, and always the same."""

from __future__ import annotations

import dataclasses
import io
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from edgekd.core.artifacts import Dataset, Evaluation, Inputs, Saliency
from edgekd.evaluation.examples import MOST_PX, choose, pick

CLASSES = ["cat", "dog", "owl"]
STAGES = ["teacher", "student", "qat", "onnx", "tflite"]
OFFSET = 7  # train images before the test images: rows of `inputs` are not rows of the data set


def artifacts(n=60, *, teacher=True, px=8, channels=1, fill=None):
    """n test images of three classes in turn, all answered correctly, with rising confidence."""
    labels = [row % 3 for row in range(n)]
    logits = np.zeros((len(STAGES), n, 3), np.float32)
    logits[:, np.arange(n), labels] = 1 + np.arange(n) / 20
    table = [
        {"name": f"{row}.png", "sha256": "", "label": 0, "split": "train", "group": None}
        for row in range(OFFSET)
    ]
    table += [
        {"name": f"test/{row}.png", "sha256": "", "label": label, "split": "test", "group": None}
        for row, label in enumerate(labels)
    ]
    dataset = Dataset("d", CLASSES, px, channels, table, {}, b"")
    pixels = np.repeat(np.arange(n, dtype=np.uint8), px * px * channels) if fill is None else fill
    inputs = Inputs(
        px, channels, {"test": list(range(OFFSET, OFFSET + n))}, b"", pixels.tobytes(), b"", b""
    )
    stages = STAGES if teacher else STAGES[1:]
    return dataset, inputs, labels, logits if teacher else logits[1:], stages


def evaluation(labels, logits, stages):
    return Evaluation(list(stages), 3, labels, logits.tobytes(), b"")


def says(logits, stage, row, answer, sure=5.0):
    logits[STAGES.index(stage), row] = 0
    logits[STAGES.index(stage), row, answer] = sure


def pixel(example):
    return Image.open(io.BytesIO(example.png))


def test_an_image_comes_with_its_name_label_and_answers():
    dataset, inputs, labels, logits, stages = artifacts()
    says(logits, "tflite", 10, 2)  # its label is dog (1)
    found = {
        example.name: example
        for example in choose(dataset, inputs, evaluation(labels, logits, stages))
    }
    example = found["test/10.png"]
    assert example.label == "dog"
    assert list(example.answers) == STAGES
    assert example.answers["tflite"][0] == "owl"
    assert example.answers["tflite"][1] == pytest.approx(np.exp(5) / (np.exp(5) + 2))
    assert example.answers["student"][0] == "dog"
    assert "student and int8 differ" in example.why
    assert "int8 is wrong" in example.why
    assert np.asarray(pixel(example)).max() == 10  # the pixels of this image and of no other


def test_each_reason_is_named():
    dataset, inputs, labels, logits, stages = artifacts()
    says(logits, "teacher", 4, 0)  # label dog: only the teacher errs
    for stage in STAGES:
        says(logits, stage, 7, 2)  # label dog: all err
    for stage in ("student", "qat", "onnx", "tflite"):
        says(logits, stage, 9, 1)  # label cat: the teacher knows better
    says(logits, "student", 13, 2)  # label dog: int8 puts it right
    why = {
        example.name: example.why
        for example in choose(dataset, inputs, evaluation(labels, logits, stages), 60)
    }
    assert why["test/4.png"] == "teacher and student differ, int8 is right"
    assert why["test/7.png"] == "int8 is wrong, as all are"
    assert why["test/9.png"] == "teacher and student differ, int8 is wrong"
    assert why["test/13.png"] == "student and int8 differ, int8 is right"
    assert why["test/0.png"] == "right, but least sure"


def test_without_a_teacher_none_is_named():
    dataset, inputs, labels, logits, stages = artifacts(teacher=False)
    logits[-1, 5] = [9, 0, 0]
    logits[:, 8] = [9, 0, 0]
    found = choose(dataset, inputs, evaluation(labels, logits, stages))
    assert len(found) == 12
    assert all(
        "teacher" not in example.why and "teacher" not in example.answers for example in found
    )


def test_all_networks_agreeing_leaves_the_least_sure_and_the_surest():
    dataset, inputs, labels, logits, stages = artifacts()
    found = choose(dataset, inputs, evaluation(labels, logits, stages))
    assert len(found) == 12
    assert {example.why for example in found} == {"right, but least sure", "right and sure"}
    unsure = [
        int(example.name[5:-4]) for example in found if example.why == "right, but least sure"
    ]
    assert {0, 1, 2} <= set(unsure)
    assert max(unsure) < 30
    assert "test/59.png" in {example.name for example in found if example.why == "right and sure"}


def test_the_most_certain_mistake_comes_first():
    dataset, inputs, labels, logits, stages = artifacts()
    for row, sure in ((0, 2.0), (3, 6.0), (6, 4.0)):
        for stage in STAGES:
            says(logits, stage, row, 1, sure)
    found = choose(dataset, inputs, evaluation(labels, logits, stages), 20)
    assert [example.name for example in found if "wrong" in example.why] == [
        "test/3.png",
        "test/6.png",
        "test/0.png",
    ]


def test_classes_take_turns():
    dataset, inputs, labels, logits, stages = artifacts(90)
    for row in range(60):  # mistakes galore, most of them surest in one class
        for stage in STAGES:
            says(logits, stage, row, (labels[row] + 1) % 3, 9.0 if labels[row] == 0 else 3.0)
    found = choose(dataset, inputs, evaluation(labels, logits, stages), 12)
    assert Counter(example.label for example in found) == {"cat": 4, "dog": 4, "owl": 4}


def test_many_mistakes_leave_room_for_right_answers():
    dataset, inputs, labels, logits, stages = artifacts()
    for row in range(50):
        says(logits, "tflite", row, (labels[row] + 1) % 3)
    why = Counter(
        example.why for example in choose(dataset, inputs, evaluation(labels, logits, stages), 12)
    )
    assert why["right, but least sure"] >= 2
    assert why["right and sure"] >= 2
    assert sum(why.values()) == 12


@pytest.mark.parametrize(
    ("n", "count", "expected"), [(60, 12, 12), (5, 12, 5), (60, 1, 1), (60, 0, 0), (3, 3, 3)]
)
def test_no_more_than_asked_for_and_none_twice(n, count, expected):
    dataset, inputs, labels, logits, stages = artifacts(n)
    found = choose(dataset, inputs, evaluation(labels, logits, stages), count)
    assert len(found) == len({example.name for example in found}) == expected


def test_equal_artifacts_give_equal_examples():
    dataset, inputs, labels, logits, stages = artifacts()
    logits += np.random.default_rng(0).normal(0, 1, logits.shape).astype(np.float32)
    made = evaluation(labels, logits, stages)
    assert choose(dataset, inputs, made) == choose(dataset, inputs, made)
    with pytest.raises(dataclasses.FrozenInstanceError):
        choose(dataset, inputs, made)[0].why = "other"


def test_grey_stays_grey_and_colour_colour():
    dataset, inputs, labels, logits, stages = artifacts()
    assert pixel(choose(dataset, inputs, evaluation(labels, logits, stages))[0]).mode == "L"
    dataset, inputs, labels, logits, stages = artifacts(channels=3)  # three equal channels
    assert pixel(choose(dataset, inputs, evaluation(labels, logits, stages))[0]).mode == "L"
    fill = np.random.default_rng(0).integers(0, 255, (60, 8, 8, 3), np.uint8)
    dataset, inputs, labels, logits, stages = artifacts(channels=3, fill=fill)
    example = choose(dataset, inputs, evaluation(labels, logits, stages))[0]
    assert pixel(example).mode == "RGB"
    assert (np.asarray(pixel(example)) == fill[int(example.name[5:-4])]).all()


def test_large_images_are_made_small():
    dataset, inputs, labels, logits, stages = artifacts(3, px=400)
    found = choose(dataset, inputs, evaluation(labels, logits, stages))
    assert {pixel(example).size for example in found} == {(MOST_PX, MOST_PX)}


def test_maps_stand_over_their_own_image():
    dataset, inputs, labels, logits, stages = artifacts(px=32)
    made = evaluation(labels, logits, stages)
    rows = [row for row, _ in pick(made, "one")][:2]
    maps = np.zeros((2, 2, 8, 8), np.float32)
    maps[0, 0, :4], maps[1, 0, 4:] = (
        2.0,
        -3.0,
    )  # the teacher is for the upper half, the file against the lower
    found = choose(
        dataset, inputs, made, saliency=Saliency(["teacher", "tflite"], rows, 8, maps.tobytes())
    )
    first = {
        stage: np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), int)
        for stage, png in found[0].looks.items()
    }
    assert list(first) == ["teacher", "tflite"]
    upper, lower = (slice(0, 30), slice(60, None))
    assert (first["teacher"][upper, :, 0] > first["teacher"][upper, :, 2] + 100).all()  # orange
    assert (first["tflite"][lower, :, 2] > first["tflite"][lower, :, 0] + 100).all()  # blue
    assert first["teacher"][lower].max(-1) == pytest.approx(
        first["teacher"][lower].min(-1), abs=6
    )  # grey as it was
    assert found[2].looks == {}  # no map was made of it
