"""A search as a small piece of HTML, which Jupyter shows below a cell."""

from __future__ import annotations

from edgekd.app import notebook
from edgekd.search import words
from edgekd.search.record import Search


def table(search: Search) -> str:
    """The finalists, or where there is none, the nearest misses."""
    profile = search.request.profile
    head = notebook.heading(words.title(search), search.recommended is not None)
    failed = notebook.bullets([*search.failed, *search.notes])
    if search.finalists:
        columns = ("finalist", words.SCORES[search.score], "latency", "file", "limits and gates")
        rows = [
            (
                row.candidate,
                words.score(search.score, words.finalist_score(search, row)[0]),
                words.latency(row.latency(profile)),
                words.size(row.size_bytes),
                "; ".join(words.faults(row)) or "all kept",
            )
            for row in search.finalists
        ]
        return head + failed + notebook.table(columns, rows)
    nearest = [
        (row.candidate.name, "; ".join(miss.text for miss in row.misses))
        for row in search.dropped.nearest
    ]
    return head + failed + notebook.table(("nearest misses", "what each misses"), nearest)
