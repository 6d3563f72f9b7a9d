"""The search space, and which of its candidates can keep the limits."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edgekd.core.errors import RecipeError, UnknownName
from edgekd.search import predict, reach, space
from edgekd.search.candidate import Candidate
from edgekd.search.forecast import Forecast
from edgekd.search.limits import Limits
from edgekd.search.reach import Reason
from edgekd.settings.device_profiles import load_profile
from edgekd.settings.recipe import Recipe


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return tmp_path / "space.toml"


def test_the_default_space_is_written_and_read(written: Path) -> None:
    default = space.default()
    written.write_text(space.to_toml(default), encoding="utf-8")
    assert space.load(written) == default
    assert {"mobilenetv2_050", "resnet18"} <= set(default.students)
    assert "vit_small_patch14_dinov2" not in default.students  # it is a teacher


def test_a_file_narrows_the_space(written: Path) -> None:
    written.write_text('students = "resnet18"\npruned = [0, 0.5]\n[edits]\ngelu = ["relu6"]\n')
    found = space.load(written)
    assert (found.students, found.pruned) == (("resnet18",), (0.0, 0.5))
    assert found.edits.gelu == ("relu6",)
    assert found.input_px == space.default().input_px


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("studnets = []", ["studnets", "students", "space.toml"]),
        ("[edits]\nswish = []", ["edits.swish", "edits.hard_swish"]),
        ("input_px = [96, 2000]", ["input_px", "2000", "32 to 1,024"]),
        ("pruned = [0.9]", ["pruned", "0.9", "0.75"]),
        ('formats = ["int4"]', ["formats", "int4", "int8"]),
        ("students = []", ["students", "no candidate"]),
        ("pruned = 0.1 0.2", ["space.toml", "not valid TOML"]),
    ],
)
def test_a_mistake_is_named(written: Path, text: str, words: list[str]) -> None:
    written.write_text(text)
    with pytest.raises((RecipeError, UnknownName)) as error:
        space.load(written)
    for word in words:
        assert word in str(error.value)


def test_a_missing_file_says_how_to_get_one(written: Path) -> None:
    with pytest.raises(RecipeError, match="--write-space"):
        space.load(written)


def test_trained_weights_come_first_and_own_edits_count_once() -> None:
    wanted = dataclasses.replace(
        space.default(),
        students=("mobilenetv2_050", "resnet18@mine.safetensors"),
        input_px=(64, 96),
        pruned=(0.0,),
        edits=space.EditChoices(hard_swish=("", "keep"), squeeze_excite=("",)),
    )
    found = space.candidates(wanted, load_profile("pi4"))  # which keeps hard-swish itself
    assert [(one.student, one.weights, one.input_px) for one in found] == [
        ("resnet18", "mine.safetensors", 64),
        ("resnet18", "mine.safetensors", 96),
        ("mobilenetv2_050", "none", 64),
        ("mobilenetv2_050", "none", 96),
    ]
    assert [space.trained(one) for one in found] == [True, True, False, False]


def forecast(low_ms: float | None, size: int = 1000, **other: tuple[str, ...]) -> Forecast:
    high = None if low_ms is None else low_ms * 3
    latency = None if low_ms is None else low_ms * 2
    candidate = Candidate("resnet18", 96)
    return Forecast(candidate, "pi4", latency, low_ms, high, "", size, 2 * size, 1, **other)


def test_the_favourable_end_of_the_interval_decides() -> None:
    found = reach.within([forecast(9.9), forecast(10.1), forecast(None)], Limits(latency_ms=10))
    assert [one.low_ms for one in found.within] == [9.9, None]
    assert found.counts() == {Reason.LATENCY: 1}


def test_the_nearest_misses_say_by_how_much() -> None:
    refused = ("PRELU does not map",)
    far, near = forecast(30.0), forecast(11.0, size=1_200_000)
    found = reach.within(
        [forecast(1.0, refused=refused), far, near], Limits(10.0, size_bytes=1_000_000)
    )
    assert not found.within
    assert [one.forecast.low_ms for one in found.nearest(2)] == [11.0, 30.0]
    assert [miss.why for miss in found.nearest(1)[0].misses] == [
        "latency 11 ms at best, at most 10 ms allowed",
        "size 1.2 MB, at most 1 MB allowed",
    ]
    assert found.nearest(1)[0].worst.reason is Reason.SIZE
    assert found.counts() == {Reason.OPERATORS: 1, Reason.SIZE: 1, Reason.LATENCY: 1}


def test_what_a_device_has_no_memory_for_counts_as_memory() -> None:
    large = ("the tensor arena takes 300 KiB",)
    found = reach.within([forecast(1.0, refused=large, too_large=large)], Limits())
    assert found.counts() == {Reason.MEMORY: 1}


def test_forecasts_are_those_of_the_check_and_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEKD_SKETCHES", str(tmp_path))
    pi, coral = load_profile("pi4"), load_profile("coral-usb")
    student, swish = Candidate("mobilenetv3_small_050", 64), ("hard_swish", "relu6")
    candidates = [
        student,
        dataclasses.replace(student, pruned=0.5),
        dataclasses.replace(student, edits=(("gelu", "relu6"),)),  # it has none: the same network
        dataclasses.replace(student, edits=(swish,)),
    ]
    found = predict.forecasts(candidates, Recipe(), pi, [coral])
    assert [one.candidate for one in found[:3]] == [candidates[0], candidates[1], candidates[3]]
    assert [one.profile for one in found] == ["pi4"] * 3 + ["coral-usb"] * 3
    assert not any(one.refused for one in found[:3])
    assert "HARD_SWISH" in found[3].refused[0]
    assert not found[5].refused
    assert found[0].macs > found[1].macs
    assert found[0].size_bytes == found[3].size_bytes
    assert len([*tmp_path.glob("*.sketch")]) == 2  # none for the edit that changes nothing
    for kept in tmp_path.glob("*.forecasts"):
        kept.write_bytes(b"damaged")  # they are made again
    assert predict.forecasts(candidates, Recipe(), pi, [coral]) == found
    for sketch in tmp_path.glob("*.sketch"):
        sketch.write_bytes(b"damaged")  # and then no sketch is needed
    assert predict.forecasts(candidates, Recipe(), pi, [coral]) == found
