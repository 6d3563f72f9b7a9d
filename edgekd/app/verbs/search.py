"""`edgekd search`."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from edgekd.app import search
from edgekd.app.commands import SearchCommand
from edgekd.app.console import Console
from edgekd.app.printing import print_json
from edgekd.app.terminal.search import show_search
from edgekd.core import atomic_files, files
from edgekd.core.errors import RecipeError


def run(command: SearchCommand) -> int:
    """Search, and show what was found. Raises GateFailed when no network keeps the limits."""
    if command.write_space is not None:
        _write_space(Path(command.write_space))
        return 0
    console = Console()
    with console:
        result = search.run(dataclasses.replace(command, progress=console))
    if command.json:
        print_json(result.search)
    else:
        show_search(console.say, result.search)
    result.raise_if_failed()
    return 0


def _write_space(path: Path) -> None:
    """Write a file for --space, with every key. Raises RecipeError where there is one."""
    from edgekd.search import space

    if files.exists(path, "--write-space"):
        raise RecipeError(f"{path} exists already", "name another file, or remove it first")
    with atomic_files.disk_errors(path):
        atomic_files.replace(path, space.to_toml(space.default()).encode())
    print(f"edgekd: {path}: narrow it, then edgekd search --space {path} ...", file=sys.stderr)
