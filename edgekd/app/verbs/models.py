"""`edgekd models`."""

from __future__ import annotations

import dataclasses

from edgekd.app.commands import ModelsCommand
from edgekd.app.printing import print_json, print_keys, print_titles
from edgekd.core.errors import UnknownName
from edgekd.settings import model_specs


def run(command: ModelsCommand) -> int:
    """List the networks that have a file in models/, or show one. Raises UnknownName."""
    names = model_specs.names()
    if command.name is None:
        specs = [model_specs.spec(name) for name in names]
        if command.json:
            print_json([dataclasses.asdict(spec) for spec in specs])
        else:
            print_titles([(spec.name, spec.title) for spec in specs])
        return 0
    if command.name not in names:
        raise UnknownName(
            "model", command.name, names, "a build accepts any other timm name as well"
        )
    body = dataclasses.asdict(model_specs.spec(command.name))
    (print_json if command.json else print_keys)(body)
    return 0
