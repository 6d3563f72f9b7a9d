"""Results as small pieces of HTML, which Jupyter shows below a cell."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgekd.reporting.comparison_record import Comparison

GOOD, BAD = "#1a7f37", "#b42318"  # green and red that are readable on white and on dark grey


def heading(title: str, passed: bool) -> str:
    """A title, and whether every gate passed."""
    colour, word = (GOOD, "passed") if passed else (BAD, "failed")
    return (
        f'<p><strong>{escape(title)}</strong> <strong style="color: {colour}">{word}</strong></p>'
    )


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts. The first column is aligned to the left, the others to the right."""

    def line(tag: str, cells: Sequence[str]) -> str:
        sides = ["left", *["right"] * (len(cells) - 1)]
        return "".join(
            f'<{tag} style="text-align: {side}">{escape(cell)}</{tag}>'
            for side, cell in zip(sides, cells, strict=True)
        )

    body = "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    return f"<table><thead><tr>{line('th', columns)}</tr></thead><tbody>{body}</tbody></table>"


def bullets(texts: Sequence[str]) -> str:
    """A list of texts; nothing for no text."""
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>" if texts else ""


def comparison(body: Comparison) -> str:
    """Several builds: a column for each of a few, a row for each of many."""
    from edgekd.reporting import builds_table
    from edgekd.reporting.comparison import beside

    if beside(body):
        figures = [
            (row.name, *("" if value is None else f"{value}" for value in row.values))
            for row in body.figures
        ]
        return table(("figure", *(build.name for build in body.builds)), figures)
    made = builds_table.table(body)
    rows = [
        (build.name, *(column.cells[number].text for column in made.columns))
        for number, build in enumerate(made.builds)
    ]
    return table(("build", *(column.head for column in made.columns)), rows)
