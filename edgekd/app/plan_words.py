"""What a build with `distil.minutes` says of its plan."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from edgekd.core.records import present
from edgekd.pipeline import build_costs
from edgekd.pipeline.build_costs import Work
from edgekd.pipeline.plan_record import PlanBlock
from edgekd.pipeline.time_plan import TooShort
from edgekd.reporting.text import plural
from edgekd.settings.preset_record import spoken
from edgekd.settings.presets import Value
from edgekd.settings.recipe import Recipe

# Added to the time that would do, since the next try measures again.
ROUNDED = 1.1


def read(work: Work) -> str:
    """What was read, in words."""
    return f"{work.images} images to train on, {work.judged} to validate, {work.tested} to test"


def what(stage: str, settings: Recipe, work: Work) -> str:
    """What a stage does under the settings of a plan, in words."""
    choice = build_costs.teacher_choice(settings, work)
    seen = f"{plural(settings.views.per_image, 'view')} of each image"
    match stage:
        case "teacher" if settings.teacher.mode == "frozen":
            views = settings.views.per_image
            heads = min(settings.teacher.head_views or views, views)
            return f"{settings.teacher.name} at {choice.px} px: head on {plural(heads, 'view')}"
        case "teacher" if settings.teacher.epochs:
            epochs = plural(settings.teacher.epochs, "epoch")
            return f"{settings.teacher.name} at {choice.px} px: {epochs}"
        case "teacher":
            return f"{settings.teacher.name} at {choice.px} px, as it is"
        case "knowledge":
            return f"its answers about {seen}"
        case "pretrain":
            epochs = plural(settings.distil.pretrain_epochs, "epoch")
            return f"{settings.distil.student} learns its features: {epochs}"
        case "distil":
            epochs = plural(settings.distil.epochs, "epoch")
            return f"{settings.distil.student}: {epochs}, which show {seen}"
        case "prune":
            return _pruning(settings)
        case "qat" if settings.qat.epochs:
            return f"{plural(settings.qat.epochs, 'epoch')} with int8 arithmetic"
        case "qat":
            return "int8 from the calibration images, without training"
        case _:
            return "conversion, evaluation, certificate, benchmark"


def _pruning(settings: Recipe) -> str:
    config = settings.prune
    steps = [plural(config.cuts, "cut")] if config.cuts else []
    steps += ["low-rank pairs"] if config.low_rank else []
    return f"{' and '.join(steps)} with {plural(config.epochs, 'epoch')} each"


def table(block: PlanBlock, preset: str, left: float) -> str:
    """The plan as a table, before it is carried out. `left`: seconds until the time is up."""
    ahead = sum(row.planned_seconds for row in block.rows if present(row.seconds) is None)
    parts = [(row.stage, row.what, _minutes(row.planned_seconds)) for row in block.rows]
    return "\n".join(
        [
            f"plan for {block.minutes:g} minutes, preset {preset}:",
            *_aligned([*parts, ("spare", "", _minutes(left - ahead))]),
            *(f"  {reason}" for reason in block.reasons),
        ]
    )


def taken(block: PlanBlock) -> list[str]:
    """What each part took beside what was planned, in lines, after the build."""
    whole = present(block.seconds)
    took = "" if whole is None else f"; the command took {_minutes(whole)}"
    parts = [("minutes", "", "planned  taken")]
    for row in block.rows:
        seconds = present(row.seconds)
        told = "" if seconds is None else _minutes(seconds)
        parts.append((row.stage, row.what, f"{_minutes(row.planned_seconds)} {told:>6}"))
    return [f"planned for {block.minutes:g} minutes{took}", *_aligned(parts)]


def _aligned(parts: Sequence[tuple[str, str, str]]) -> list[str]:
    """Lines of three columns, the last of which is aligned to the right."""
    widths = [max(len(part[column]) for part in parts) for column in range(3)]
    return [
        f"  {stage:<{widths[0]}}  {does:<{widths[1]}}  {times:>{widths[2]}}"
        for stage, does, times in parts
    ]


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f}"


def too_short(minutes: float, passed: float, found: TooShort) -> tuple[str, str]:
    """That the time is too short for a build, and what to do. `passed`: seconds so far."""
    needed = passed + found.seconds
    parts = [("so far", passed), *found.smallest.seconds.items()]
    told = ", ".join(f"{stage} {_minutes(seconds)}" for stage, seconds in parts)
    fixed = f" with {', '.join(found.given)} as given" if found.given else ""
    would = math.ceil(ROUNDED * needed / 60)
    what = (
        f"distil.minutes is {minutes:g}, and the smallest build{fixed} takes about "
        f"{_minutes(needed)} minutes on this machine ({told})"
    )
    return what, f"--minutes {would}"


def changes(before: Mapping[str, Value], after: Mapping[str, Value]) -> str:
    """The settings that another plan has changed, in words; "" where it has changed none."""
    parts = []
    for key, value in after.items():
        if before.get(key) != value:
            was = f" instead of {spoken(before[key])}" if key in before else ""
            parts.append(f"{key} {spoken(value)}{was}")
    return ", ".join(parts)


def off(stage: str, ratio: float) -> str:
    """That a stage is slower or faster than planned."""
    how = f"{ratio:.2g} times as long as planned"
    return f"{stage} takes {how}"
