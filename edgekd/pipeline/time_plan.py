"""The plan of a build that has to fit into a time (`distil.minutes`).

It chooses the preset, the views of each image, the side of the teacher's input, and the epochs of
every training. What a user gives stays as it is, and the plan works around it. The plan is made
again at the start of every training, from the time that is left and from what work has really
taken (`edgekd.app.timed_build`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from edgekd.pipeline import build_costs
from edgekd.pipeline.build_costs import Speeds, Work
from edgekd.settings import presets
from edgekd.settings.presets import Value
from edgekd.settings.recipe import Recipe, changed
from edgekd.settings.recipe_tables import value
from edgekd.settings.training_settings import PresetName


@dataclasses.dataclass(frozen=True)
class Rule:
    """A preset is chosen where the time is enough for so many epochs and views with it.

    `taught`: whether it is for builds with a teacher alone.
    """

    preset: PresetName
    fewest_epochs: int
    fewest_views: int
    why: str
    taught: bool = False

    def suits(self, fitted: Recipe) -> bool:
        """Whether the settings that fit into the time have enough epochs and views."""
        enough = fitted.distil.epochs >= self.fewest_epochs
        return enough and fitted.views.per_image >= self.fewest_views


# The shortest training that is planned: a shorter one says little about a network.
FEWEST_EPOCHS = 2
# Which recipe suits a time, the one that needs most of it first.
RULES = (
    # Half of the preset's own numbers, set by hand.
    Rule(
        "patient",
        fewest_epochs=100,
        fewest_views=20,
        why="its many views and the teacher's features pay in a long training",
        taught=True,
    ),
    Rule("standard", FEWEST_EPOCHS, fewest_views=1, why="it learns fastest from few epochs"),
)
# A smaller input of the teacher is chosen where the larger one leaves fewer views than this. An
# epoch shows one view, and with fewer of them the student sees the same ones again and again.
ENOUGH_VIEWS = 4
# The most that the teacher's own training takes of the time, as in a search.
TEACHER_SHARE = 1 / 3
# The most that other trainings of the student take, as a part of float training: learning features
# before it, those of a pruned network, and with int8 arithmetic. It is what they take with the
# default settings, and a little.
PRETRAIN_SHARE, PRUNE_SHARE, QAT_SHARE = 1.0, 0.8, 0.5
# Part of the time that is left free, for what the estimates do not know. It may be used to round
# the epochs up, which lie far apart in a short training.
SPARE = 0.04
MOST_EPOCHS = 10_000  # the bound of the settings
# What a plan chooses, beside the preset.
CHOSEN = (
    "views.per_image",
    "teacher.px",
    "teacher.epochs",
    "distil.pretrain_epochs",
    "distil.epochs",
    "prune.epochs",
    "qat.epochs",
)


@dataclasses.dataclass(frozen=True)
class TimePlan:
    """What a build sets out to do.

    `values`: the settings that the plan has chosen, by key. `seconds`: of each stage that is not
    over. `reasons`: why, a sentence each.
    """

    values: dict[str, Value]
    seconds: dict[str, float]
    reasons: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class TooShort:
    """No plan fits. `seconds`: what the `smallest` one takes, and `given`: the settings that it may
    not make smaller.
    """

    seconds: float
    given: tuple[str, ...]
    smallest: TimePlan


def make(left: float, settings: Recipe, work: Work, speeds: Speeds) -> TimePlan | TooShort:
    """The best plan for the time `left`, in seconds."""
    room = left * (1 - SPARE)
    allowed = rules(settings, bool(work.sides))
    for rule in allowed:
        based = under(settings, rule.preset)
        fitted = _fitted(room, based, work, speeds)
        if fitted is None:
            continue
        if rule is allowed[-1] or rule.suits(fitted):
            return _plan(based, fitted, rule, work, speeds)
    based = under(settings, allowed[-1].preset)
    smallest = _plan(based, _smallest(based, work), allowed[-1], work, speeds)
    needed = sum(smallest.seconds.values()) / (1 - SPARE)
    return TooShort(needed, tuple(key for key in CHOSEN if key in settings.given), smallest)


def under(settings: Recipe, preset: PresetName) -> Recipe:
    """The settings with a preset, where they have another one."""
    if settings.distil.preset == preset:
        return settings
    named = changed(settings, {presets.KEY: preset})
    return changed(named, presets.filled(named))


def rules(settings: Recipe, taught: bool) -> list[Rule]:
    """The rules that apply to a build, the one for the longest time first. `taught`: whether it has
    a teacher.
    """
    if presets.KEY in settings.given:
        return [Rule(settings.distil.preset, FEWEST_EPOCHS, 1, "it was asked for")]
    return [rule for rule in RULES if taught or not rule.taught]


def _fitted(room: float, based: Recipe, work: Work, speeds: Speeds) -> Recipe | None:
    """The settings with the best choices of CHOSEN that fit into `room` seconds, if any do.

    The teacher's input becomes smaller before its views become fewer than ENOUGH_VIEWS. There are
    as many views as training shows as often as the preset does.
    """
    often = based.distil.epochs / based.views.per_image
    if not work.sides or based.distil.answers != "cached" or "views.per_image" in based.given:
        often = 0.0  # more views cost nothing, or were asked for
    elif "distil.epochs" in based.given:
        often = 1.0
    best: Recipe | None = None
    for taught in _teachers(room, based, work, speeds):
        for views in counts(taught, "views.per_image", 1):
            seen = changed(taught, {"views.per_image": views})
            fitted = _trained(room, seen, work, speeds)
            if fitted is None:
                continue
            there = build_costs.teacher_choice(seen, work) in work.kept
            if views > 1 and not there and fitted.distil.epochs < views * often:
                continue
            best = fitted
            break
        if best is not None and best.views.per_image >= min(ENOUGH_VIEWS, based.views.per_image):
            break
    return best


def _teachers(room: float, based: Recipe, work: Work, speeds: Speeds) -> Iterator[Recipe]:
    """The settings with each side of the teacher's input, the largest first.

    Its own training takes at most TEACHER_SHARE of the time, or as little as it can.
    """
    free = "teacher.px" not in based.given and len(work.sides) > 1
    for side in work.sides if free else (based.teacher.px,):
        # The side that a build chooses by itself stays unnamed, so that stages keep their keys.
        sized = changed(based, {"teacher.px": 0 if free and side == work.sides[0] else side})
        made = sized
        if sized.teacher.mode == "finetune" and work.sides and not sized.teacher.as_it_is:
            for epochs in counts(sized, "teacher.epochs", 1):
                made = changed(sized, {"teacher.epochs": epochs})
                taken = build_costs.seconds(made, work, speeds).get("teacher", 0.0)
                if taken <= TEACHER_SHARE * room:
                    break
        yield made


def _trained(room: float, seen: Recipe, work: Work, speeds: Speeds) -> Recipe | None:
    """The settings with the student's epochs that fill the time, if it is enough for FEWEST_EPOCHS.

    The epochs before and behind float training are as many as usual where it is long enough for
    them.
    """
    known = build_costs.teacher_choice(seen, work) in work.pretrained
    free = build_costs.is_pretrained(seen) and not known
    before = counts(seen, "distil.pretrain_epochs", 1) if free else []
    cuts = counts(seen, "prune.epochs", 1) if build_costs.is_pruned(seen) else []
    int8 = counts(seen, "qat.epochs", 0)
    for features, cut, qat in _shrinking(before or [0], cuts or [0], int8):
        others: dict[str, Value] = {"qat.epochs": qat, "distil.epochs": 0}
        others |= {"distil.pretrain_epochs": features} if before else {}
        others |= {"prune.epochs": cut} if cuts else {}
        made = changed(seen, others)
        fixed = sum(build_costs.seconds(made, work, speeds).values())
        epochs = _epochs(room - fixed, seen, work, speeds)
        if epochs is None:
            continue
        # The last of the possible values is taken however short the training is.
        limits = (
            (before, features, 1, PRETRAIN_SHARE),
            (cuts, cut, seen.prune.trainings, PRUNE_SHARE),
            (int8, qat, speeds.qat, QAT_SHARE),
        )
        if all(
            value_ == possible[-1] or each * value_ <= share * epochs
            for possible, value_, each, share in limits
            if possible
        ):
            return changed(made, {"distil.epochs": epochs})
    return None


def _shrinking(*possible: list[int]) -> Iterator[tuple[int, ...]]:
    """A value of each list, from the first values to the last ones, one step at a time.

    The setting that has lost the smallest part becomes smaller next, so that none is gone while
    another is still whole. `possible`: the values of each setting, as `counts` gives them.
    """
    places = [0] * len(possible)
    while True:
        yield tuple(each[place] for each, place in zip(possible, places, strict=True))
        parts = {
            number: each[place] / each[0]
            for number, (each, place) in enumerate(zip(possible, places, strict=True))
            if place + 1 < len(each)
        }
        if not parts:
            return
        places[max(parts, key=parts.__getitem__)] += 1


def _epochs(room: float, seen: Recipe, work: Work, speeds: Speeds) -> int | None:
    """The epochs of float training that fit into `room` seconds; None where they are too few."""
    if "distil" in work.done:
        return seen.distil.epochs if room >= 0 else None
    epoch = build_costs.epoch_seconds(seen, work, speeds)
    fitting = room / epoch
    if "distil.epochs" in seen.given:
        return seen.distil.epochs if fitting >= seen.distil.epochs else None
    if fitting < FEWEST_EPOCHS:
        return None
    return min(MOST_EPOCHS, math.floor(fitting + min(0.5, SPARE * fitting)))


def counts(settings: Recipe, key: str, fewest: int) -> list[int]:
    """The values that a setting may have, the largest first: from what it has down to `fewest`."""
    most = value(settings, key)
    return [most] if key in settings.given else [*range(most, min(most, fewest) - 1, -1)]


def _smallest(based: Recipe, work: Work) -> Recipe:
    """The settings with the least work that a plan may choose."""
    least: dict[str, int] = {
        "views.per_image": 1,
        "teacher.px": work.sides[-1] if work.sides else 0,
        "distil.epochs": FEWEST_EPOCHS,
        "distil.pretrain_epochs": 1,
        "prune.epochs": 1,
        "qat.epochs": 0,
    }
    if not based.teacher.as_it_is:
        least["teacher.epochs"] = 1
    return changed(based, {key: each for key, each in least.items() if key not in based.given})


def _plan(based: Recipe, fitted: Recipe, rule: Rule, work: Work, speeds: Speeds) -> TimePlan:
    values: dict[str, Value] = {presets.KEY: rule.preset}
    values |= {key: value(fitted, key) for key in presets.filled(based)}
    used = [key for key in CHOSEN if key not in based.given and _matters(key, fitted, work)]
    values |= {key: value(fitted, key) for key in used}
    reasons = _reasons(based, fitted, rule, work)
    return TimePlan(values, build_costs.seconds(fitted, work, speeds), tuple(reasons))


def _matters(key: str, fitted: Recipe, work: Work) -> bool:
    """Whether a setting of CHOSEN has a meaning in the build."""
    if key == "teacher.px":
        return bool(fitted.teacher.px)
    if key == "teacher.epochs":
        return bool(work.sides) and fitted.teacher.mode == "finetune"
    if key == "distil.pretrain_epochs":
        return build_costs.is_pretrained(fitted)
    return key != "prune.epochs" or build_costs.is_pruned(fitted)


def _reasons(based: Recipe, fitted: Recipe, rule: Rule, work: Work) -> Iterator[str]:
    """Why the plan is as it is, a sentence each."""
    yield f"preset {rule.preset}: {rule.why}"
    for longer in RULES[: RULES.index(rule)] if rule in RULES else ():
        if work.sides or not longer.taught:
            yield (
                f"preset {longer.preset} is chosen where {longer.fewest_epochs} epochs and "
                f"{longer.fewest_views} views fit: {longer.why}"
            )
    for key, why in (
        ("views.per_image", "the teacher's answers about more would leave too few epochs"),
        ("teacher.px", "the teacher's answers take less time at this size"),
        ("teacher.epochs", "more would take more than a third of the time"),
        ("distil.pretrain_epochs", "at most as long as the training behind it"),
        ("prune.epochs", "in proportion to the epochs before pruning"),
        ("qat.epochs", "in proportion to the epochs in float"),
    ):
        if key not in based.given and value(fitted, key) != value(based, key):
            yield f"{key} {value(fitted, key)}: {why}"
