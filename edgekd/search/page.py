"""A search as search.html: one file that loads nothing, and reads well however the search ended."""

from __future__ import annotations

import dataclasses

from edgekd.core.records import present
from edgekd.reporting import html_report, page_script
from edgekd.reporting import text as fmt
from edgekd.reporting.sections.summary import KeyFigure, Notice, Stamp
from edgekd.search import words
from edgekd.search.page_candidates import candidates_view
from edgekd.search.page_front import front_view
from edgekd.search.record import (
    Choice,
    FinalistRow,
    NearMiss,
    Search,
    SearchState,
    TrialState,
)


@dataclasses.dataclass(frozen=True)
class ChoiceView:
    """The recommended network or the runner-up. `doubts`: limits that it may miss."""

    head: str
    name: str
    why: str
    doubts: list[str]
    figures: list[KeyFigure]
    folder: str
    command: str


@dataclasses.dataclass(frozen=True)
class FinalistLine:
    """One finalist. `latencies`: (figure, interval, source) on each device."""

    name: str
    role: str
    score: str
    score_bound: str
    top1: str
    top1_bound: str
    against: str
    against_bound: str
    latencies: list[tuple[str, str, str]]
    size: str
    certificate: str
    certificate_style: str
    faults: list[str]
    doubts: list[str]
    folder: str
    command: str


@dataclasses.dataclass(frozen=True)
class MissLine:
    """A candidate that misses a limit by little."""

    name: str
    latency: str
    latency_bound: str
    size: str
    memory: str
    misses: list[str]


@dataclasses.dataclass(frozen=True)
class DroppedView:
    """What was dropped and why. `reasons`: (limit, candidates, why)."""

    told: str
    reasons: list[tuple[str, int, str]]
    nearest: list[MissLine]


def page(search: Search) -> str:
    """The whole search as HTML."""
    request = search.request
    return html_report.render(
        "search.html",
        {
            "script": page_script.load("copy.js"),
            "search": search,
            "title": words.title(search),
            "asked": words.asked(search),
            "stamp": stamp(search),
            "notices": _notices(search),
            "choices": _choices(search),
            "unfinished": search.state in (SearchState.INTERRUPTED, SearchState.RUNNING),
            "score": words.SCORES[search.score],
            "profiles": [request.profile, *request.also],
            "fronts": [front_view(search, row) for row in search.fronts],
            "finalists": [_finalist(search, row) for row in words.finalists(search)],
            "taught": any(row.drop_points is not None for row in search.finalists),
            "candidates": candidates_view(search),
            "dropped": _dropped(search),
            "facts_of_request": _facts(search),
        },
        package="edgekd.search",
    )


def stamp(search: Search) -> Stamp:
    """How the search ended."""
    finalists = search.finalists
    good = sum(not words.faults(row) for row in finalists)
    if search.state is SearchState.INTERRUPTED:
        return Stamp("warn", "Interrupted", "The same command goes on; nothing is trained twice.")
    if search.state is SearchState.RUNNING:
        return Stamp("open", "Under way", "The figures are those of the moment.")
    if search.state is SearchState.NOTHING_FITS:
        return Stamp(
            "bad", "Nothing fits", "No candidate can meet the limits. Nothing was trained."
        )
    verbs = ("keeps", "passes") if good == 1 else ("keep", "pass")
    counted = f"{good} of {fmt.plural(len(finalists), 'finalist')}"
    kept = f"{counted} {verbs[0]} every limit and {verbs[1]} the gates"
    if search.recommended is None:
        return Stamp("bad", "Nothing keeps every limit", f"{kept}.")
    return Stamp("good", "Found", f"{kept}.")


def _notices(search: Search) -> list[Notice]:
    found = [Notice("Failed:", text) for text in search.failed]
    lost = sum(row.state is TrialState.FAILED for row in search.trials)
    if lost:
        found.append(Notice(f"{fmt.plural(lost, 'trial')} failed.", "Their reasons are below."))
    return found + [Notice("Note:", text) for text in search.notes]


def _choices(search: Search) -> list[ChoiceView]:
    rows = (("Recommended", search.recommended), ("Runner-up", search.runner_up))
    return [_choice(search, head, choice) for head, choice in rows if choice is not None]


def _choice(search: Search, head: str, choice: Choice) -> ChoiceView:
    row = next((row for row in search.finalists if row.candidate == choice.candidate), None)
    return ChoiceView(
        head=head,
        name=choice.candidate,
        why=choice.why,
        doubts=[] if row is None else words.doubts(search, row),
        figures=[] if row is None else _figures(search, row),
        folder=choice.folder,
        command=choice.command,
    )


def _figures(search: Search, row: FinalistRow) -> list[KeyFigure]:
    profile = search.request.profile
    latency = row.latency(profile)
    score, interval = words.finalist_score(search, row)
    bound = words.latency_bound(latency)
    figures = [
        KeyFigure(
            words.score(search.score, score),
            f"{words.SCORES[search.score]} on the test images",
            words.score_bound(search.score, interval),
        ),
        KeyFigure(
            words.latency(latency),
            f"{'' if latency is None else words.source(latency)} on {profile}".strip(),
            bound,
        ),
        KeyFigure(words.size(row.size_bytes), "file"),
    ]
    if row.drop_points is not None:
        name = "points of top-1 against the teacher"
        figures.append(KeyFigure(words.against_teacher(row), name, words.against_bound(row)))
    return figures


def _finalist(search: Search, row: FinalistRow) -> FinalistLine:
    score, interval = words.finalist_score(search, row)
    latencies = [row.latency(name) for name in (search.request.profile, *search.request.also)]
    return FinalistLine(
        name=row.candidate,
        role=_role(search, row),
        score=words.score(search.score, score),
        score_bound=words.score_bound(search.score, interval),
        top1=fmt.percent(row.top1),
        top1_bound=fmt.bound(row.top1_ci95, fmt.percent),
        against=words.against_teacher(row),
        against_bound=words.against_bound(row),
        latencies=[
            (
                words.latency(found),
                words.latency_bound(found),
                "" if found is None else words.source(found),
            )
            for found in latencies
        ],
        size=words.size(row.size_bytes),
        certificate=words.certificate(row),
        certificate_style={None: "open", True: "good", False: "bad"}[row.certified],
        faults=words.faults(row),
        doubts=words.doubts(search, row),
        folder=row.folder,
        command=row.command,
    )


def _role(search: Search, row: FinalistRow) -> str:
    for name, choice in (("recommended", search.recommended), ("runner-up", search.runner_up)):
        if choice is not None and choice.candidate == row.candidate:
            return name
    return ""


def _dropped(search: Search) -> DroppedView:
    return DroppedView(
        told=words.dropped(search.dropped, search.considered),
        reasons=[
            (words.LIMITS[row.limit], row.candidates, row.text) for row in search.dropped.reasons
        ],
        nearest=[_near_miss(search, row) for row in search.dropped.nearest],
    )


def _near_miss(search: Search, row: NearMiss) -> MissLine:
    forecast = row.candidate.on(search.request.profile)
    return MissLine(
        name=row.candidate.name,
        latency=words.latency(forecast),
        latency_bound=words.latency_bound(forecast),
        size=words.size(None if forecast is None else forecast.size_bytes),
        memory=words.size(None if forecast is None else forecast.memory_bytes),
        misses=[miss.text for miss in row.misses],
    )


def _facts(search: Search) -> list[tuple[str, str]]:
    """Everything else that was asked, and what the search rests on."""
    request, teacher = search.request, present(search.teacher)
    workers = sorted({row.worker for row in search.trials})
    budget = request.budget_seconds
    rows = [
        ("data", request.data),
        ("digest of the data", "" if request.data_digest is None else request.data_digest[:16]),
        ("budget", "" if budget is None else fmt.seconds(budget)),
        ("time taken", fmt.seconds(search.seconds)),
        (
            "workers",
            f"{request.workers} asked for; these trained: {', '.join(workers)}"
            if workers
            else f"{request.workers}",
        ),
        ("seed", f"{request.seed}"),
        ("settings", ", ".join(request.settings)),
        (
            "teacher",
            ""
            if teacher is None
            else f"{teacher.name}: top-1 {fmt.percent(teacher.top1)} on the validation images",
        ),
        *(("latencies rest on", text) for text in _bases(search)),
        ("EdgeKD", search.edgekd),
    ]
    return [(name, text) for name, text in rows if text]


def _bases(search: Search) -> list[str]:
    """What the latencies on each device rest on: what all of its forecasts share, said once."""
    found: dict[str, list[list[str]]] = {}
    for row in (row for one in search.candidates for row in one.forecasts):
        if row.latency_ms is not None:
            found.setdefault(row.profile, []).append(row.basis.split("; "))
    texts = []
    for parts in found.values():
        shared = [part for part in parts[0] if all(part in each for each in parts)]
        more = sum(len(each) > len(shared) for each in parts)
        notes = f"; further notes on {more} of {len(parts)} candidates are in search.json"
        texts.append("; ".join(shared) + (notes if more else ""))
    return texts
