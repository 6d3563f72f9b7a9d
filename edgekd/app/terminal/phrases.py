"""Breaks a long text into lines between its phrases, and inside a phrase only where it must."""

from __future__ import annotations

import re

# Where a text may be broken, from the best place to the worst: {how deep in parentheses: pattern}.
# A pattern matches the end of what stays on the line.
_OUTSIDE, _ANYWHERE = 0, 99
_PLACES: tuple[tuple[int, re.Pattern[str]], ...] = (
    (_OUTSIDE, re.compile(r"; ")),
    (_OUTSIDE, re.compile(r"[,:] | (?=\()")),
    (_ANYWHERE, re.compile(r"[;,:] ")),
    (_ANYWHERE, re.compile(r"(?<![\d ])(?<!--set) ")),  # not between a number and its unit
    (_ANYWHERE, re.compile(r" ")),
    (_ANYWHERE, re.compile(r"")),
)


def folded(text: str, width: int) -> list[str]:
    """The text in lines of at most `width` characters, which together are the text.

    A line may end in a space that does not count.
    """
    depths = _depths(text)
    lines = [""]

    def place(start: int, end: int, level: int) -> None:
        part = text[start:end]
        if _fits(lines[-1] + part, width):
            lines[-1] += part
        elif _fits(part, width):
            lines.append(part)
        else:
            if level == 1 and lines[-1]:  # a phrase that is broken anyway starts a line
                lines.append("")
            within, pattern = _PLACES[level]
            ends = [
                found.end() + start
                for found in pattern.finditer(part)
                if 0 < found.end() < len(part) and depths[found.start() + start] <= within
            ]
            for first, last in zip([start, *ends], [*ends, end], strict=True):
                place(first, last, level + 1)

    place(0, len(text), 0)
    return [line for line in lines if line] or [""]


def _fits(line: str, width: int) -> bool:
    return len(line.rstrip()) <= width


def _depths(text: str) -> list[int]:
    """How many parentheses are open at each character."""
    found, depth = [], 0
    for letter in text:
        depth += letter == "("
        found.append(depth)
        depth -= letter == ")"
    return found
