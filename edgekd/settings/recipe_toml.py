"""Recipes as text: reads TOML, writes whole recipes, and edits some keys of a user's recipe."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Collection, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import tomlkit
import tomlkit.exceptions

from edgekd.core import files
from edgekd.core.errors import RecipeError
from edgekd.settings.recipe_tables import LOSSES
from edgekd.settings.setting_types import Toml

# What tomllib raises for a text that is no TOML: ValueError also for a whole number of more than
# 4,300 digits, RecursionError for brackets in brackets.
INVALID = (ValueError, RecursionError)
START = "edgekd new DIR writes one to start from"
MARK = "\ufeff"  # the byte-order mark that some Windows editors put before the text


def read_text(path: Path, what: str = "recipe", how: str = START) -> str:
    """The text of a recipe as it is, byte-order mark and line ends included. Raises RecipeError.

    For messages, `what` the file is, and `how` to get one.
    """
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        raise RecipeError(f"{what} {path} does not exist", how) from None
    except OSError as error:
        raise RecipeError(
            f"{what} {path}: {files.reason(error)}", "name a TOML file that can be read"
        ) from None
    except ValueError:  # UnicodeDecodeError, or a NUL byte in the name
        raise RecipeError(
            f"{what} {path} is not text in UTF-8", "save it as UTF-8, or name another file"
        ) from None


def read(path: Path, what: str = "recipe", how: str = START) -> dict[str, Toml]:
    """A recipe's values by key, such as {"seed": 0, "data.input_px": 96}.

    Raises RecipeError that names the file. `what`, `how`: as in `read_text`.
    """
    try:
        tables = tomllib.loads(read_text(path, what, how).removeprefix(MARK))
    except INVALID as error:
        raise RecipeError(
            f"{what} {path} is not valid TOML: {error}", "correct the line that it names"
        ) from None
    return _flat(tables)


def by_key(text: str) -> dict[str, Toml]:
    """The values of a recipe's text by key. Raises tomllib.TOMLDecodeError."""
    return _flat(tomllib.loads(text))


def _flat(tables: Mapping[str, Any]) -> dict[str, Toml]:
    """The values of a recipe's tables by key. Each loss of [distil.losses] has a key of its own."""
    values: dict[str, Toml] = {}
    for key, value in tables.items():
        if isinstance(value, dict):
            values.update({f"{key}.{name}": inner for name, inner in value.items()})
        else:
            values[key] = value
    losses = values.get(LOSSES)
    if isinstance(losses, dict) and losses:
        del values[LOSSES]
        values.update({f"{LOSSES}.{name}": inner for name, inner in losses.items()})
    return values


def parse_value(text: str) -> Toml:
    """A value given on the command line: TOML, or a text that needs no quotes."""
    try:
        value: Toml = tomllib.loads(f"x = {text}")["x"]
    except INVALID:
        return text
    return value


def write(tables: Mapping[str, Toml]) -> str:
    """The TOML text of tables such as {"data": {"input_px": 96}}.

    A table inside a table gets a heading of its own, [distil.losses].
    """
    return "\n".join(_lines(tables, "")) + "\n"


def _lines(table: Mapping[str, Toml], name: str) -> list[str]:
    """Values first, then the tables. Below the second level tables are written on one line."""
    nested = name.count(".") < 1
    inner = {key: part for key, part in table.items() if isinstance(part, dict) and nested}
    lines = [f"{key} = {spelled(value)}" for key, value in table.items() if key not in inner]
    for key, part in inner.items():
        whole = f"{name}.{key}".lstrip(".")
        lines += ["", f"[{whole}]", *_lines(part, whole)]
    return lines


def spelled(value: Toml) -> str:
    """A value in TOML's spelling, on one line."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {spelled(part)}' for key, part in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(spelled, value))}]"
    return tomlkit.item(value).as_string()


def with_comments(text: str, keys: Collection[str]) -> str:
    """The text of whole tables with the lines of some keys as comments: "# epochs = 20"."""
    lines, section = list[str](), ""
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        key = f"{section}.{line.partition(' = ')[0]}".lstrip(".")
        lines.append(f"# {line}" if key in keys else line)
    return "\n".join(lines) + "\n"


def edited(text: str, values: Mapping[str, Toml]) -> str:
    """A recipe's text with some keys set ({"data.input_px": 64}); all other text stays as it is.

    Raises RecipeError, with the lines to write by hand, for a recipe whose layout leaves no place
    for a key.
    """
    mark, plain = MARK if text.startswith(MARK) else "", text.removeprefix(MARK)
    expected: dict[str, Toml] = tomllib.loads(plain)
    try:
        document = tomlkit.parse(plain)
        # A key of the top level stands before the first table.
        for key, value in sorted(values.items(), key=lambda item: "." in item[0]):
            _put(document, key, value, tomlkit.table)
            _put(expected, key, value, dict)
        made = tomlkit.dumps(document)
        if tomllib.loads(made) == expected:
            return mark + made
    except (tomlkit.exceptions.TOMLKitError, tomllib.TOMLDecodeError, TypeError):
        pass
    lines = ", ".join(f"{key} = {spelled(value)}" for key, value in values.items())
    raise RecipeError(
        f"EdgeKD cannot write {', '.join(values)} into this recipe", f"write by hand: {lines}"
    )


def _put(
    root: MutableMapping[str, Any], key: str, value: Toml, empty: Callable[[], object]
) -> None:
    """Set a dotted key in a tomlkit document or a dictionary; `empty` makes a missing table.

    Raises TypeError when a part of the key is no table.
    """
    *sections, name = key.split(".")
    table = root
    for section in sections:
        if section not in table:
            table[section] = empty()
        table = table[section]
        if not isinstance(table, MutableMapping):
            raise TypeError(f"{section} is no table")
    table[name] = value
