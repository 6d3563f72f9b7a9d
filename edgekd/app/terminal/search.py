"""A search on the terminal: what it found, or what was nearest, in 80 columns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import rich.box
import rich.table
import rich.text

from edgekd.app.terminal.text import Lines, Say, safe
from edgekd.reporting import text as fmt
from edgekd.search import words
from edgekd.search.page import stamp
from edgekd.search.page_candidates import candidates_view
from edgekd.search.record import Choice, FinalistRow, Search, SearchState

COLOURS = {"good": "green", "warn": "yellow", "bad": "red", "open": "cyan"}
INDENT = 4  # columns before a command
WIDTH = 78  # columns of a command's lines: a terminal of 80 does not wrap them


def show_search(say: Say, search: Search) -> None:
    """The result first, then how the search came to it."""
    verdict = stamp(search)
    colour = COLOURS[verdict.style]
    head = safe(words.title(search))
    told = f": [{colour}]{safe(verdict.words.lower())}[/]"
    say(f"[bold {colour}]{head}[/]" if verdict.style == "bad" else f"[bold]{head}[/]{told}")
    say(Lines([(name, safe(text)) for name, text in _summary(search)]))
    for head, choice in (("recommended", search.recommended), ("runner-up", search.runner_up)):
        if choice is not None:
            _choice(say, search, head, choice)
    if search.finalists:
        say(_finalists(search))
    if search.trials:
        say(_rungs(search))
    if verdict.style == "bad" and search.dropped.nearest:
        say(_nearest(search))
    if search.state in (SearchState.INTERRUPTED, SearchState.RUNNING):
        say("go on with")
        say(command(search.request.command))


def _summary(search: Search) -> Iterator[tuple[str, str]]:
    """What was asked, and how many candidates came how far."""
    yield "asked for", words.asked(search)
    trained = len({row.candidate for row in search.trials})
    lost = search.dropped.candidates
    counts = [fmt.plural(search.considered, "candidate")]
    counts += [f"{lost:,} dropped before training"] if lost else []
    counts += [f"{trained:,} trained"] if trained else []
    counts += [f"{len(search.finalists)} built whole"] if search.finalists else []
    yield "looked at", ", ".join(counts)
    for row in search.dropped.reasons:
        yield "", f"{row.candidates:,} dropped for {words.LIMITS[row.limit]}: {row.text}"
    yield "time", _time(search)
    if correlation := words.correlation(search):
        yield "first rung", correlation
    yield from (("failed", text) for text in search.failed)
    yield from (("note", text) for text in search.notes)


def _time(search: Search) -> str:
    budget = search.request.budget_seconds
    of = "" if budget is None else f" of {fmt.seconds(budget)}"
    workers = {row.worker for row in search.trials}
    by = f", {fmt.plural(len(workers), 'worker')}" if workers else ""
    return f"{fmt.seconds(search.seconds)}{of}{by}"


def _choice(say: Say, search: Search, head: str, choice: Choice) -> None:
    """A network that is worth taking, with the command that builds it."""
    say(f"\n[bold]{head}[/]: [bold]{safe(choice.candidate)}[/]")
    row = next((row for row in search.finalists if row.candidate == choice.candidate), None)
    figures = [] if row is None else _figures(search, row)
    say(Lines([(safe(name), safe(text)) for name, text in [("why", choice.why), *figures]]))
    say(command(choice.command))


def _figures(search: Search, row: FinalistRow) -> Iterator[tuple[str, str]]:
    score, interval = words.finalist_score(search, row)
    yield (
        words.SCORES[search.score],
        f"{words.score(search.score, score)} ({words.score_bound(search.score, interval)})",
    )
    if row.drop_points is not None:
        change = f"{words.against_teacher(row)} points against the teacher"
        yield "top-1", f"{fmt.percent(row.top1)}, {change} ({words.against_bound(row)})"
    for name in (search.request.profile, *search.request.also):
        latency = row.latency(name)
        if latency is not None:
            bound = words.latency_bound(latency)
            yield (
                name,
                f"{words.latency(latency)} {words.source(latency)}{f' ({bound})' if bound else ''}",
            )
    yield from (("may miss", text) for text in words.doubts(search, row))
    yield "file", f"{words.size(row.size_bytes)}; certificate {words.certificate(row)}"
    yield "folder", row.folder


def _finalists(search: Search) -> rich.table.Table:
    """Every finalist, with its interval below each figure."""
    table = _table("finalist", words.SCORES[search.score], "latency", "file", "limits and gates")
    table.columns[0].min_width = _longest_word(row.candidate for row in search.finalists)
    for row in words.finalists(search):
        score, interval = words.finalist_score(search, row)
        latency = row.latency(search.request.profile)
        table.add_row(
            _name(row.candidate),
            f"{words.score(search.score, score)}\n{words.score_bound(search.score, interval)}",
            f"{words.latency(latency)}\n{words.latency_bound(latency)}",
            words.size(row.size_bytes),
            _kept(search, row),
        )
    return table


def _kept(search: Search, row: FinalistRow) -> str:
    """What a finalist misses, or may miss."""
    faults, doubts = words.faults(row), words.doubts(search, row)
    told = [f"[red]{safe(text)}[/]" for text in faults]
    told += [f"[yellow]{safe(text)}[/]" for text in doubts]
    return "; ".join(told) or "all kept"


def _rungs(search: Search) -> rich.table.Table:
    """One line for each rung."""
    best = f"best {words.SCORES[search.score]}"
    table = _table("rung", "epochs", "trained", best, "time", "then")
    view = candidates_view(search)
    for row in [] if view is None else view.rungs:
        cells = (row.name, row.epochs, f"{row.trained}", row.best, row.seconds, row.counts)
        table.add_row(*map(safe, cells))
    return table


def _nearest(search: Search) -> rich.table.Table:
    """The candidates that miss the limits by least."""
    table = _table("nearest misses", "what each misses")
    for row in search.dropped.nearest:
        table.add_row(safe(row.candidate.name), safe("; ".join(miss.text for miss in row.misses)))
    return table


def _table(*heads: str) -> rich.table.Table:
    """A table whose first and last columns are texts, and the others figures."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    for number, head in enumerate(heads):
        figure = 0 < number < len(heads) - 1
        table.add_column(head, justify="right" if figure else "left", no_wrap=figure)
    return table


def _name(text: str) -> str:
    """A candidate's name, which breaks after its commas."""
    return safe(text).replace(", ", ",\n")


def _longest_word(names: Iterable[str]) -> int:
    """The letters of the longest word, which is not broken."""
    return max((len(word) for name in names for word in name.split()), default=1)


def command(text: str) -> rich.text.Text:
    """A command in lines that a shell takes as one when they are copied.

    A flag stays with its value.
    """
    lines: list[str] = []
    for part in re.split(r" (?=--)", text):
        if lines and INDENT + len(lines[-1]) + len(part) + 3 <= WIDTH:
            lines[-1] += f" {part}"
        else:
            lines.append(f"  {part}" if lines else part)
    shown = " \\\n".join(" " * INDENT + line for line in lines)
    return rich.text.Text("".join(c if c.isprintable() or c == "\n" else "?" for c in shown))
