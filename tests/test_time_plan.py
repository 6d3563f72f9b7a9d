"""The plan of a build with `distil.minutes`: what it chooses, and how it is kept and corrected."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest

from edgekd.pipeline import build_costs, time_plan
from edgekd.pipeline.build_costs import Speeds, TeacherChoice, Work
from edgekd.pipeline.time_plan import TimePlan, TooShort
from edgekd.settings import presets, recipe
from edgekd.settings.presets import Value
from edgekd.settings.recipe import Recipe

# 5,000 X-rays on two cores: an epoch takes 33 s, and a view of each image 125 s or 60 s.
WORK = Work(images=4700, labelled=4700, judged=520, tested=624, sides=(140, 98))
SPEEDS = Speeds(image=0.007, views={140: 0.0265, 98: 0.013})
FROZEN = ["teacher.name=vit", "teacher.mode=frozen"]


def settings(*sets: str) -> Recipe:
    return recipe.load(None, [*FROZEN, *sets])


def planned(minutes: float, *sets: str, work: Work = WORK, speeds: Speeds = SPEEDS) -> TimePlan:
    made = time_plan.make(60 * minutes, settings(*sets), work, speeds)
    assert isinstance(made, TimePlan)
    return made


@pytest.mark.parametrize("minutes", [8, 15, 45, 240, 1000])
def test_a_plan_takes_the_time(minutes: float) -> None:
    taken = sum(planned(minutes).seconds.values())
    assert 0.85 * 60 * minutes <= taken <= 60 * minutes


@pytest.mark.parametrize(
    ("sets", "keys"),
    [
        ((), ()),
        (("prune.ratio=0.5",), ("prune.epochs",)),
        # Another preset has other values.
        (
            ("distil.pretrain=features", "distil.preset=standard"),
            ("distil.pretrain_epochs",),
        ),
    ],
    ids=["whole", "pruned", "features first"],
)
def test_more_time_never_means_less_training(sets: tuple[str, ...], keys: tuple[str, ...]) -> None:
    plans = [planned(minutes, *sets).values for minutes in (12, 15, 20, 30, 45, 60, 90, 200)]
    for key in ("distil.epochs", "qat.epochs", *keys):
        found = [each[key] for each in plans]
        assert found == sorted(found)  # type: ignore[type-var]
    assert all(each["qat.epochs"] for each in plans[3:])
    assert plans[0]["distil.epochs"] != plans[-1]["distil.epochs"]


def test_a_long_time_chooses_the_patient_preset_with_all_its_settings() -> None:
    short, long = planned(60), planned(500)
    assert short.values["distil.preset"] == "standard"
    assert long.values["distil.preset"] == "patient"
    own = presets.filled(time_plan.under(settings(), "patient"))
    assert own.keys() <= long.values.keys()
    assert not (own.keys() - {"distil.epochs", "views.per_image"}) & short.values.keys()


def test_without_a_teacher_no_time_is_enough_for_the_patient_preset() -> None:
    alone = dataclasses.replace(WORK, sides=())
    made = planned(500, "teacher.name=none", work=alone)
    assert made.values["distil.preset"] == "standard"
    assert made.values["views.per_image"] == 8
    assert not {"teacher", "knowledge", "prune"} & set(made.seconds)


def test_a_preset_that_is_given_is_kept() -> None:
    assert planned(15, "distil.preset=patient").values["distil.preset"] == "patient"
    assert planned(500, "distil.preset=standard").values["distil.preset"] == "standard"


@pytest.mark.parametrize(
    ("key", "value"),
    [("distil.epochs", 9), ("views.per_image", 6), ("teacher.px", 140), ("qat.epochs", 4)],
)
def test_what_the_user_gives_wins(key: str, value: int) -> None:
    made = planned(30, f"{key}={value}")
    assert key not in made.values
    assert sum(made.seconds.values()) <= 30 * 60
    plan_of = recipe.changed(settings(f"{key}={value}"), made.values)
    assert sum(build_costs.seconds(plan_of, WORK, SPEEDS).values()) == pytest.approx(
        sum(made.seconds.values())
    )


def test_the_teacher_shrinks_before_its_views_become_few() -> None:
    assert planned(15).values["teacher.px"] == 98
    assert "teacher.px" not in planned(90).values
    large = dataclasses.replace(WORK, sides=(140,))
    assert "teacher.px" not in planned(15, work=large).values


def test_answers_that_are_there_cost_nothing() -> None:
    known = dataclasses.replace(WORK, kept=frozenset({TeacherChoice("standard", 140, 8, 0)}))
    made, before = planned(15, work=known), planned(15)
    assert "teacher" not in made.seconds
    assert "teacher.px" not in made.values
    assert made.values["views.per_image"] == 8
    assert made.values["distil.epochs"] > before.values["distil.epochs"]  # type: ignore[operator]


def test_answers_of_a_stage_that_begins_again_are_not_asked_for_twice() -> None:
    half = dataclasses.replace(WORK, answered=2 * 4700)
    sets = ("teacher.px=98", "views.per_image=4")
    whole, rest = (planned(15, *sets, work=work) for work in (WORK, half))
    saved = whole.seconds["teacher"] - rest.seconds["teacher"]
    assert saved == pytest.approx(2 * 4700 * SPEEDS.views[98])


def test_a_teacher_is_trained_for_a_third_of_the_time_at_most() -> None:
    finetuned = ("teacher.mode=finetune", "teacher.weights=hub")
    made = planned(30, *finetuned)
    assert made.seconds["teacher"] <= 30 * 60 / 3
    assert 1 <= made.values["teacher.epochs"] < 8  # type: ignore[operator]
    assert planned(500, *finetuned).values["teacher.epochs"] in (3, 8)


def test_a_pruned_student_has_time_for_its_cuts() -> None:
    made = planned(45, "prune.ratio=0.5")
    assert made.seconds["prune"] <= time_plan.PRUNE_SHARE * made.seconds["distil"]
    assert made.values["prune.epochs"] >= 1  # type: ignore[operator]


def test_learning_features_first_takes_at_most_as_long_as_what_follows() -> None:
    features = "distil.pretrain=features"
    short, long = planned(20, features), planned(200, features, "distil.preset=standard")
    assert 0 < short.seconds["pretrain"] <= short.seconds["distil"]
    assert long.values["distil.pretrain_epochs"] == 20
    there = TeacherChoice("standard", 140, 8, 0)
    known = dataclasses.replace(WORK, kept=frozenset({there}), pretrained=frozenset({there}))
    kept = planned(20, features, work=known)
    assert "pretrain" not in kept.seconds
    assert kept.values["distil.pretrain_epochs"] == 20  # the store has no other


@pytest.mark.parametrize("sets", [(), ("distil.epochs=200",), ("prune.ratio=0.5",)])
def test_a_time_that_is_too_short_names_one_that_would_do(sets: tuple[str, ...]) -> None:
    made = time_plan.make(60, settings(*sets), WORK, SPEEDS)
    assert isinstance(made, TooShort)
    assert made.given == tuple(text.partition("=")[0] for text in sets if "epochs" in text)
    assert isinstance(time_plan.make(made.seconds + 1, settings(*sets), WORK, SPEEDS), TimePlan)
    assert isinstance(time_plan.make(made.seconds - 1, settings(*sets), WORK, SPEEDS), TooShort)


def test_stages_that_are_over_take_no_time_and_keep_their_settings() -> None:
    over = dataclasses.replace(WORK, done=frozenset({"teacher", "knowledge", "distil"}))
    settled: Mapping[str, Value] = {"distil.epochs": 9, "views.per_image": 3, "teacher.px": 98}
    base = settings()
    base = dataclasses.replace(
        recipe.changed(base, settled), given=base.given | {*settled, "distil.preset"}
    )
    for left, qat in ((1000, 1), (80, 0)):
        made = time_plan.make(left, base, over, SPEEDS)
        assert isinstance(made, TimePlan)
        assert set(made.seconds) == {"qat", "rest"}
        assert made.values["qat.epochs"] == qat
