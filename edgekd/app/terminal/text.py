"""What the tables share: a way to print, and texts that cannot change the terminal."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import rich.box
import rich.console
import rich.markup
import rich.table
import rich.text

from edgekd.app.terminal.phrases import folded

MARGIN = 2  # columns before a label, and between the longest label and its text

type Say = Callable[[rich.console.RenderableType], None]


@dataclass(frozen=True)
class Lines:
    """(what it is about, text) pairs with markup; a long text goes on below its own beginning."""

    pairs: Sequence[tuple[str, str]]

    def __rich_console__(
        self,
        console: rich.console.Console,
        options: rich.console.ConsoleOptions,
    ) -> rich.console.RenderResult:
        """The pairs as lines of the console's width."""
        labels = [rich.text.Text.from_markup(about) for about, _ in self.pairs]
        indent = max((len(label) for label in labels), default=0) + 2 * MARGIN
        for label, (_, text) in zip(labels, self.pairs, strict=True):
            for row in _rows(rich.text.Text.from_markup(text), options.max_width - indent):
                line = rich.text.Text(" " * MARGIN) + label
                line.pad_right(indent - len(line))
                yield line + row
                label = rich.text.Text()


def _rows(body: rich.text.Text, width: int) -> Iterator[rich.text.Text]:
    """A text in lines of at most `width` columns, broken between phrases; 1 at least."""
    for paragraph in body.split("\n", allow_blank=True):
        ends = itertools.accumulate(map(len, folded(paragraph.plain, max(width, 1))))
        for row in paragraph.divide([*ends][:-1]):
            row.rstrip()
            yield row


def safe(text: str) -> str:
    """A user's text without markup or control characters."""
    return rich.markup.escape("".join(c if c.isprintable() else "?" for c in text))
