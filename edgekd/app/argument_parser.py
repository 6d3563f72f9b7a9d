"""The argparse parser of the command line, built from the dataclasses in edgekd.app.commands."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from edgekd.app.command_options import KEY, Option, Positional


def add_arguments(parser: argparse.ArgumentParser, arguments: type) -> None:
    """Give `parser` one argument for each field of the dataclass `arguments` that has an Option."""
    groups: dict[str, argparse._MutuallyExclusiveGroup] = {}
    for field in dataclasses.fields(arguments):
        option: Option | None = field.metadata.get(KEY)
        if option is None:
            continue
        place: argparse._ActionsContainer = parser
        if option.exclusive is not None:
            if option.exclusive not in groups:
                groups[option.exclusive] = parser.add_mutually_exclusive_group()
            place = groups[option.exclusive]
        _add(place, field, option)


def parsed[A](arguments: type[A], namespace: argparse.Namespace) -> A:
    """The dataclass that a parsed command line describes."""
    names = [
        field.name
        for field in dataclasses.fields(arguments)  # type: ignore[arg-type]  # A is a dataclass
        if KEY in field.metadata
    ]
    return arguments(**{name: getattr(namespace, name) for name in names})


def _add(place: argparse._ActionsContainer, field: dataclasses.Field[Any], option: Option) -> None:
    if field.default is False:
        place.add_argument(option.called(field.name), action="store_true", help=option.help)
        return
    required = field.default is dataclasses.MISSING
    shared: dict[str, Any] = {
        "help": option.help,
        "metavar": option.metavar,
        "type": option.parse,
        "default": None if required else field.default,
    }
    if isinstance(option, Positional):
        place.add_argument(field.name, nargs=option.nargs, **shared)
    elif option.repeated:
        shared["default"] = []
        place.add_argument(option.called(field.name), dest=field.name, action="append", **shared)
    else:
        place.add_argument(
            option.called(field.name),
            dest=field.name,
            nargs=option.nargs,
            const=option.const,
            **shared,
        )
