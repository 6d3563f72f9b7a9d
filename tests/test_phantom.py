"""The synthetic radiographs: reproducible, plausible, and marked as synthetic."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from edgekd.core.errors import DataError
from edgekd.data import phantom
from edgekd.data.source_registry import open_source


def test_an_index_determines_its_image_in_any_order_and_any_number_of_threads() -> None:
    alone = [phantom.render(0, index, 64) for index in range(8)]
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(lambda index: phantom.render(0, index, 64), reversed(range(8))))
    for one, other in zip(alone, reversed(together), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(alone[0], phantom.render(1, 0, 64))
    assert alone[0].shape == (64, 64)
    assert alone[0].dtype == np.uint8


def test_classes_are_balanced_and_belong_to_patients() -> None:
    train, test = phantom.plan(2600)
    assert (len(train), len(test)) == (2000, 600)
    assert set(Counter(phantom.label(index) for index in test).values()) == {150}
    of_patient: dict[int, set[str]] = {}
    images = Counter(phantom.patient(index) for index in train)
    for index in train:
        of_patient.setdefault(phantom.patient(index), set()).add(phantom.label(index))
    assert all(len(labels) == 1 for labels in of_patient.values())
    assert set(images.values()) == {1, 2}
    assert not images.keys() & {phantom.patient(index) for index in test}


def test_a_larger_set_begins_with_the_smaller_one() -> None:
    small, large = phantom.plan(100), phantom.plan(1000)
    assert set(small[0]) <= set(large[0])
    assert set(small[1]) <= set(large[1])


def test_it_looks_like_a_radiograph() -> None:
    """Dark lungs beside a bright middle, a bright belly below, black air in the upper corners."""
    mean = np.mean([phantom.render(3, index, 96) for index in range(48)], axis=0)
    lungs = 0.5 * (mean[32:48, 20:32].mean() + mean[32:48, 64:76].mean())
    assert mean[32:48, 44:52].mean() > lungs + 60
    assert mean[80:92, 40:60].mean() > lungs + 60
    assert mean[:6, :8].mean() < 25
    spread = np.mean([phantom.render(3, index, 96).std() for index in range(12)])
    assert spread > 40


def test_diseases_show_where_they_should() -> None:
    """Class means differ from normal in the right places: heart, and the angles at the bases."""
    by_class: dict[str, list[NDArray[np.float64]]] = {name: [] for name in phantom.CLASSES}
    for index in range(240):
        by_class[phantom.label(index)].append(phantom.render(5, index, 48).astype(float))
    mean = {name: np.mean(images, axis=0) for name, images in by_class.items()}
    heart = np.s_[22:30, 30:36]  # the left border of the heart
    assert mean["cardiomegaly"][heart].mean() > mean["normal"][heart].mean() + 8
    for base in (np.s_[38:42, 6:11], np.s_[38:42, 37:42]):
        assert mean["effusion"][base].mean() > mean["normal"][base].mean() + 5
    fields = [np.s_[12:30, 9:18], np.s_[12:30, 33:40]]
    lung = {
        name: np.mean([image[field].mean() for field in fields]) for name, image in mean.items()
    }
    assert lung["opacity"] > lung["normal"]


def test_advanced_cases_differ_more_from_normal_ones_than_usual_cases() -> None:
    usual, advanced = (open_source(f"{kind}:120@48") for kind in ("phantom", "phantom-advanced"))
    assert usual.fingerprint() != advanced.fingerprint()
    moved: dict[str, list[float]] = {name: [] for name in phantom.CLASSES}
    for one, other in zip(usual.items()[:24], advanced.items()[:24], strict=True):
        assert (one.label, one.split) == (other.label, other.split)
        healthy = phantom.render(0, int(one.name.removeprefix("synthetic-")), 48, ())
        near, far = (np.abs(s.load(one).astype(float) - healthy).mean() for s in (usual, advanced))
        moved[one.label].append(far - near)
    assert not any(moved["normal"])
    assert all(np.mean(moved[name]) > 1 for name in phantom.FINDINGS)


def test_another_size_shows_the_same_patient() -> None:
    small = phantom.render(0, 4, 96).astype(float)
    large = phantom.render(0, 4, 192).astype(float).reshape(96, 2, 96, 2).mean(axis=(1, 3))
    assert np.corrcoef(small.ravel(), large.ravel())[0, 1] > 0.98


def test_it_says_that_it_is_synthetic() -> None:
    source = open_source("phantom:120")
    assert source.facts.synthetic is True
    assert "SYNTHETIC" in source.facts.source
    for item in source.items():
        assert item.name.startswith("synthetic-")
        assert item.group is not None
        assert item.group.startswith("synthetic-patient-")


@pytest.mark.parametrize(
    "text",
    ["phantom:12", "phantom:many", "phantom:600@4", "phantom:600@9999", "phantom:-5", "phantom@x"],
)
def test_impossible_sets_are_refused_with_a_next_step(text: str) -> None:
    with pytest.raises(DataError, match="phantom") as error:
        open_source(text)
    assert "phantom" in error.value.next_step
