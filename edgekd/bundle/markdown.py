"""Texts from outside in a Markdown page."""

from __future__ import annotations

import re


def plain(text: str) -> str:
    """One line of text that Markdown and HTML show as it is."""
    clean = "".join(c if c.isprintable() else " " for c in text)
    return re.sub(r"([\\`*_<>\[\]#|])", r"\\\1", clean)
