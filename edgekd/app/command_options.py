"""How an argument is written and explained on the command line: the metadata of a field.

seed: int | None = field(default=None, metadata=option("seed of every random choice", parse=int))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

KEY = "command line"  # of the metadata
MAY_BE_EMPTY, ONE_OR_MORE, ANY_NUMBER = "?", "+", "*"  # argparse's `nargs`


@dataclass(frozen=True)
class Option:
    """An argument that is given by a flag, such as `--seed 3`.

    `flag`: None for "--" and the field's name. `exclusive` names a group of options of which at
    most one may be given. `const` is the value of an option that is given without one, where
    `nargs` allows that.
    """

    help: str
    metavar: str | None = None
    flag: str | None = None
    parse: Callable[[str], object] = str
    nargs: str | None = None
    const: str | None = None
    repeated: bool = False
    exclusive: str | None = None

    def called(self, name: str) -> str:
        """How the argument of the field `name` is called: "--out", "the argument DIR"."""
        return self.flag or f"--{name.replace('_', '-')}"


@dataclass(frozen=True)
class Positional(Option):
    """An argument that is given by its place."""

    def called(self, name: str) -> str:
        """As in Option."""
        return f"the argument {self.metavar or name.upper()}"


def _metadata[**P](kind: Callable[P, Option]) -> Callable[P, Mapping[str, Option]]:
    """A function of the same arguments that gives the metadata of a dataclass's field."""

    def made(*args: P.args, **kwargs: P.kwargs) -> Mapping[str, Option]:
        return {KEY: kind(*args, **kwargs)}

    return made


option = _metadata(Option)
positional = _metadata(Positional)
