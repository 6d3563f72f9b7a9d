"""The chart of each front: accuracy against latency."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Sequence

from edgekd.reporting import scatter
from edgekd.reporting.pareto import Standing
from edgekd.reporting.scatter import Dot, Frame, Limit, Title
from edgekd.reporting.svg import decimals
from edgekd.search import words
from edgekd.search.record import (
    FrontBasis,
    FrontPoint,
    FrontRow,
    ScoreKind,
    Search,
)

STYLES = {Standing.ON: "on", Standing.WITHIN_CHANCE: "near", Standing.BEHIND: "behind"}
# How a score is written on an axis, from the distance of its marks.
AXES: dict[ScoreKind, Callable[[float, float], str]] = {
    ScoreKind.AUC: lambda value, step: f"{value:.{decimals(step / 100)}f}",
    ScoreKind.TOP1: lambda value, step: f"{value:.{decimals(step)}%}",
}
# Points with bars and labels. The bars of more lie on top of each other.
MOST_BARS = 12


@dataclasses.dataclass(frozen=True)
class FrontView:
    """One device's chart, for wide and for narrow boxes. `key`: the numbers' names in the narrow.

    `basis`: what the points are. `limit_note`: of a limit that cannot be drawn. `stopped`: what the
    faint points are, "" for none. `legend`: (style, words) of the others.
    """

    profile: str
    wide: str
    narrow: str
    key: list[str]
    basis: str
    limit_note: str
    stopped: str
    legend: list[tuple[str, str]]


def front_view(search: Search, front: FrontRow) -> FrontView:
    """The charts of one device."""
    stopped = _stopped(search, front)
    behind = _near(stopped, front)
    # Of unfinished trials there are many, and most are within chance of the front.
    finalists = front.basis is FrontBasis.FINALISTS
    least = Standing.WITHIN_CHANCE if finalists else Standing.ON
    named = [row for row in front.points if row.standing in (Standing.ON, least)][:MOST_BARS]
    limits = search.request.limits
    lowest = _least_score(search, front)
    return FrontView(
        profile=front.profile,
        wide=_chart(search, front, behind, {row.candidate: row.candidate for row in named}),
        narrow=_chart(
            search,
            front,
            behind,
            {row.candidate: f"{number}" for number, row in enumerate(named, 1)},
            scatter.NARROW,
        ),
        key=[row.candidate for row in named],
        basis=_basis(search, front),
        limit_note="The limit on the loss is in points of top-1, and is not drawn."
        if limits.drop_points is not None and lowest is None
        else "",
        stopped=_told(stopped, behind),
        legend=[
            (STYLES[standing], words.STANDINGS[standing])
            for standing in Standing
            if any(row.standing is standing for row in front.points)
        ],
    )


def _basis(search: Search, front: FrontRow) -> str:
    """What the points of the front are."""
    name = words.SCORES[search.score]
    if front.basis is FrontBasis.FINALISTS:
        return f"{name} of each finalist’s .tflite on the test images"
    return f"{name} on the validation images at the last rung that any candidate reached"


def _chart(
    search: Search,
    front: FrontRow,
    behind: Sequence[Dot],
    labels: dict[str, str],
    frame: Frame = scatter.WIDE,
) -> str:
    kind = search.score
    dots = [*behind, *_dots(search, front, labels)]
    told = "; ".join(
        f"{row.candidate}: {words.score(kind, row.score)} at {row.latency_ms:.3g} ms, "
        f"{words.STANDINGS[row.standing]}"
        for row in front.points[:MOST_BARS]
    )
    return scatter.scatter(
        dots,
        (
            Title(f"latency on {front.profile}, ms for an image", lambda value, _: f"{value:.3g}"),
            Title(words.SCORES[kind], AXES[kind]),
        ),
        f"{words.SCORES[kind]} against latency on {front.profile}. {told}",
        frame,
        front=[(row.latency_ms, row.score) for row in front.points if row.standing is Standing.ON],
        limits=(_latency_limit(search, front), _least_score(search, front)),
    )


def _dots(search: Search, front: FrontRow, labels: dict[str, str]) -> list[Dot]:
    """The points of the front, the best ones last, since those lie on top."""
    order = {Standing.BEHIND: 0, Standing.WITHIN_CHANCE: 1, Standing.ON: 2}
    rows = sorted(front.points, key=lambda row: order[row.standing])
    return [_dot(search, row, labels.get(row.candidate, "")) for row in rows]


def _dot(search: Search, row: FrontPoint, label: str) -> Dot:
    chosen = search.recommended is not None and search.recommended.candidate == row.candidate
    barred = bool(label)
    return Dot(
        name=row.candidate,
        x=row.latency_ms,
        y=row.score,
        x_ci=(row.low_ms, row.high_ms) if barred and row.low_ms < row.high_ms else None,
        y_ci=row.score_ci95 if barred and row.score_ci95[0] < row.score_ci95[1] else None,
        style=f"{STYLES[row.standing]}{' chosen' if chosen else ''}",
        label=label,
    )


def _stopped(search: Search, front: FrontRow) -> list[Dot]:
    """The candidates that were stopped before the front's stage, at their last score."""
    shown = {row.candidate for row in front.points}
    found = []
    for name, trial in words.last_trials(search).items():
        candidate = search.candidate(name)
        row = None if candidate is None else candidate.on(front.profile)
        if name in shown or trial.score is None or row is None or row.latency_ms is None:
            continue
        found.append(
            Dot(f"{name}, after {trial.epochs} epochs", row.latency_ms, trial.score, style="faint")
        )
    return found


def _near(stopped: Sequence[Dot], front: FrontRow) -> list[Dot]:
    """The half of the stopped candidates that is nearest, so that the front keeps its space."""
    if not stopped:
        return []
    least = min(
        statistics.median(dot.y for dot in stopped), *(row.score_ci95[0] for row in front.points)
    )
    fastest = min(
        statistics.median(dot.x for dot in stopped), *(row.low_ms for row in front.points)
    )
    return [dot for dot in stopped if dot.y >= least and dot.x >= fastest]


def _told(stopped: Sequence[Dot], shown: Sequence[Dot]) -> str:
    """What the faint points are."""
    if not shown:
        return ""
    of = "" if len(shown) == len(stopped) else f"the nearest {len(shown)} of "
    return f"{of}{len(stopped)} that stopped earlier, on the validation images"


def _latency_limit(search: Search, front: FrontRow) -> Limit | None:
    """The limit on latency, which holds for the device of --profile."""
    limit = search.request.limits.latency_ms
    if limit is None or front.profile != search.request.profile:
        return None
    return Limit(limit, f"limit {limit:g} ms")


def _least_score(search: Search, front: FrontRow) -> Limit | None:
    """The least top-1 that the limit on the loss allows, where top-1 is what is drawn.

    It is counted from the teacher's top-1 on the images of the front: a finalist's own top-1 and
    its loss give it.
    """
    limit = search.request.limits.drop_points
    if limit is None or search.score is not ScoreKind.TOP1 or front.basis is FrontBasis.TRIALS:
        return None
    for row in search.finalists:
        if row.top1 is not None and row.drop_points is not None:
            return Limit(row.top1 + (row.drop_points - limit) / 100, f"limit −{limit:g} points")
    return None
