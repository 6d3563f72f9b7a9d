"""Trials of a search: training that pauses and goes on, and what candidates share."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from edgekd.app import build
from edgekd.core.artifacts import Network
from edgekd.core.context import Hardware
from edgekd.core.pause import Pause, Paused
from edgekd.core.store import Store
from edgekd.data import dataset_builder, datasets
from edgekd.pipeline import runner
from edgekd.pipeline.jobs import Job
from edgekd.search import shared_teacher
from edgekd.search.candidate import Candidate
from edgekd.search.rung import Part, Rung, fewest_epochs, lengths, rungs
from edgekd.search.trial import Trials
from edgekd.settings import recipe
from edgekd.settings.recipe import Recipe
from edgekd.settings.setting_types import Toml
from edgekd.training import answer_time, step_time
from tests.small_build import STUDENT, TEACHER

SMALL = Candidate(STUDENT, 32)
PRUNED = Candidate(STUDENT, 32, pruned=0.5)
LARGE = Candidate(TEACHER, 48)
# Dropout draws random numbers in every step, which a resumed run has to go on with.
SETTINGS: dict[str, Toml] = {
    "data.source": "phantom:120@40",
    "teacher.name": TEACHER,
    "teacher.epochs": 1,
    "distil.epochs": 2,
    "distil.drop": 0.3,
    "views.per_image": 1,
    "prune.steps": 1,
    "prune.epochs": 1,
}
# 1.5 times 48, in patches of 14.
TRAINED: dict[str, Toml] = {"teacher.name": "vit_small_patch14_dinov2", "teacher.weights": "hub"}
SHARED = ("data", "teacher", "knowledge", "answers")


def job(changes: Mapping[str, Toml]) -> Job:
    return build.job(recipe.changed(Recipe(), SETTINGS | dict(changes)), "pi4")


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Trials:
    made = job({})
    settings = shared_teacher.shared(made, [SMALL, LARGE])

    def job_of(candidate: Candidate) -> Job:
        return dataclasses.replace(made, recipe=recipe.changed(settings, candidate.settings))

    return Trials(job_of, Store(tmp_path_factory.mktemp("search")))


def entries(store: Store, *stages: str) -> list[str]:
    return sorted(path.name for stage in stages for path in store.entries.glob(f"{stage}-*"))


def test_a_student_that_paused_is_the_one_that_did_not(trials: Trials, tmp_path: Path) -> None:
    made = trials.job_of(SMALL)
    trials.prepare(SMALL)
    (tmp_path / "store").mkdir()
    for name in entries(trials.store, *SHARED):
        (tmp_path / "store" / name).symlink_to(trials.store.entries / name)
    whole = runner.run(made, Store(tmp_path), "distil")["distil"].entry

    with pytest.raises(Paused) as paused:
        runner.run(made, trials.store, "distil", pause=Pause("distil", 1))
    assert len(paused.value.network.history) == 1
    assert entries(trials.store, "distil") == [f"distil-{whole.key[:16]}.part"]
    resumed = runner.run(made, trials.store, "distil")["distil"].entry

    assert (resumed.key, resumed.digest) == (whole.key, whole.digest)
    assert resumed.load(Network).history[0] == paused.value.network.history[0]
    assert entries(trials.store, "distil") == [f"distil-{whole.key[:16]}"]


def test_candidates_share_everything_but_their_own_training(trials: Trials) -> None:
    teacher = trials.prepare(SMALL)
    before = entries(trials.store, *SHARED)
    score = trials.run(LARGE, Rung(0, 1))
    assert entries(trials.store, *SHARED) == before
    assert len(entries(trials.store, "teacher")) == len(entries(trials.store, "answers")) == 1
    assert score.teacher == teacher
    assert (score.epochs, score.trained) == (1, 1)
    assert score.images_per_second
    assert score.figures.n == 20
    assert score.value == score.figures.auc
    promoted = trials.run(LARGE, Rung(1, 2))
    assert (promoted.epochs, promoted.trained) == (2, 1)
    again = trials.run(LARGE, Rung(1, 2))
    assert (again.trained, again.images_per_second) == (0, None)
    assert again.figures == promoted.figures


def test_a_pruned_candidate_is_its_parent_until_the_last_rung(trials: Trials) -> None:
    assert trials.family(PRUNED) == trials.family(SMALL) != trials.family(LARGE)
    parent = trials.run(SMALL, Rung(0, 2))
    assert trials.run(PRUNED, Rung(0, 2)).figures == parent.figures
    assert not entries(trials.store, "prune")
    trials.run(PRUNED, Rung(1, 2, Part.PRUNE))
    assert len(entries(trials.store, "prune")) == 1
    assert trials.run(SMALL, Rung(1, 2, Part.PRUNE)).figures == parent.figures


def test_the_rungs_of_a_search() -> None:
    assert lengths(27) == (3, 9, 27)
    assert lengths(20) == (2, 6, 20)
    assert lengths(2) == (1, 2)
    assert lengths(1) == (1,)
    assert rungs((2, 6), pruned=True) == [Rung(0, 2), Rung(1, 6), Rung(2, 6, Part.PRUNE)]
    assert rungs((2, 6), pruned=False) == [Rung(0, 2), Rung(1, 6)]


def test_the_first_rung_has_enough_steps() -> None:
    assert fewest_epochs(20, 32) == 140
    assert fewest_epochs(700, 0) == fewest_epochs(700, 32) == 7
    assert fewest_epochs(5000, 32) == 1
    assert lengths(20, 7) == (7, 20)
    assert lengths(30, 5) == (5, 12, 30)
    assert lengths(4, 5) == (4,)


@pytest.mark.parametrize(
    ("changes", "candidates", "px"),
    [
        ({}, [SMALL, LARGE], 48),
        ({}, [SMALL, PRUNED], 0),  # of one size: the teacher of a build without a search
        ({"teacher.px": 40}, [SMALL, LARGE], 40),
        ({"teacher.name": "none"}, [SMALL, LARGE], 0),
        (TRAINED, [SMALL, LARGE], 70),
    ],
)
def test_one_teacher_serves_all_sizes(
    changes: dict[str, Toml], candidates: list[Candidate], px: int
) -> None:
    made = dataclasses.replace(job({}), recipe=recipe.changed(Recipe(), SETTINGS | changes))
    assert shared_teacher.shared(made, candidates).teacher.px == px


@pytest.mark.parametrize(
    ("changes", "seconds", "px", "views", "cut"),
    [
        ({}, 3000, 238, 8, False),
        ({}, 1500, 140, 8, True),
        ({}, 600, 98, 8, True),
        ({}, 240, 98, 4, True),
        ({}, 1, 98, 2, True),  # the cheapest there is
        ({"views.per_image": 4}, 600, 140, 4, True),
        ({"views.per_image": 16}, 1, 98, 16, True),  # another number than the default was asked for
        ({"distil.preset": "patient"}, 1, 98, 2, True),  # whose number nobody asked for
        ({"teacher.mode": "finetune", "teacher.epochs": 4}, 3000, 140, 8, True),
    ],
)
def test_the_teacher_takes_a_third_of_the_time(
    changes: dict[str, Toml], seconds: float, px: int, views: int, cut: bool
) -> None:
    asked = recipe.load(None, (), {"teacher.mode": "frozen", **changes})
    sides = (238, 140, 98)

    def view_seconds(px: int) -> float:
        return 0.1 * (px / 238) ** 2

    made = shared_teacher.affordable(asked, sides, 1000, seconds, view_seconds)
    assert made is not None
    assert (made.px, made.views, made.cut) == (px, views, cut)
    assert made.settings == {"teacher.px": px, "views.per_image": views}


def test_a_teacher_that_is_asked_while_students_train_is_left_alone() -> None:
    live = recipe.changed(Recipe(), {"distil.answers": "live"})
    assert shared_teacher.affordable(live, (140,), 1000, 1, lambda _px: 1.0) is None
    assert shared_teacher.affordable(Recipe(), (), 1000, 1, lambda _px: 1.0) is None


def test_a_view_is_timed_before_the_teacher_is_trained() -> None:
    teacher = job({}).teachers[0]
    assert 0 < answer_time.seconds_per_view(teacher.spec, 32, "float32", Hardware()) < math.inf


@pytest.mark.parametrize("limit", [0, 12])
def test_the_number_of_training_images_is_known_before_one_is_read(limit: int) -> None:
    made = job({"data.limit": limit})
    known = dataset_builder.training_images(made.source.items(), made.recipe.data, 0)
    read = dataset_builder.build_dataset(made.source, made.recipe.data, 0)
    assert abs(known - len(datasets.rows(read, "train"))) <= 4  # groups stay in one split


def test_a_step_is_timed_before_anything_is_trained() -> None:
    made = job({"data.input_px": 32, "data.cache_px": 40, "distil.student": STUDENT})
    state = torch.get_rng_state()
    assert 0 < step_time.seconds_per_image(made.student, made.recipe) < math.inf
    assert torch.equal(torch.get_rng_state(), state)


def test_one_process_at_a_time_makes_a_stage(tmp_path: Path) -> None:
    class Waits(Exception):
        pass

    def give_up() -> None:
        raise Waits

    store, other = Store(tmp_path), Store(tmp_path)
    with (
        store.alone("distil", "abc", give_up),
        other.alone("distil", "def", give_up),
        pytest.raises(Waits),
        other.alone("distil", "abc", give_up),
    ):
        pass
    with other.alone("distil", "abc", give_up):
        pass
