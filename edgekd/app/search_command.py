"""The command line that asks for a search, as a shell takes it."""

from __future__ import annotations

import dataclasses
import shlex

from edgekd.app.command_options import KEY, Option, Positional
from edgekd.app.search_arguments import Search
from edgekd.app.settings import sets
from edgekd.search import storage

# The unit of an argument that is a number in Python.
UNITS = {"max_latency": "ms", "max_size": "B", "max_memory": "B", "budget": "s"}


def line(asked: Search) -> str:
    """`edgekd search ...` with every argument that is not its default. Passwords are left out."""
    words, flags = ["edgekd", "search"], list[str]()
    for field in dataclasses.fields(asked):
        option: Option | None = field.metadata.get(KEY)
        value = getattr(asked, field.name)
        if option is None or value == field.default or not value:
            continue
        if isinstance(option, Positional):
            words.append(str(value) if isinstance(value, str) else "RECIPE.toml")
            continue
        for part in _values(field.name, value):
            flags += [option.called(field.name), *part]
    return shlex.join(words + flags)


def _values(name: str, value: object) -> list[list[str]]:
    """The words behind the flag, for each time that it is given."""
    if value is True:
        return [[]]
    if name in UNITS:
        return [[f"{value:.12g}{UNITS[name]}"]]
    if name == "settings":
        return [[text] for text in sets(value)]  # type: ignore[arg-type]
    if name == "storage":
        return [[storage.shown(str(value))]]
    if isinstance(value, list | tuple):
        return [[str(part)] for part in value]
    return [[f"{value:g}" if isinstance(value, float) else str(value)]]
