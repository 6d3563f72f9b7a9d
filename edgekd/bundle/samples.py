"""The runnable samples of a bundle: templates/samples, with this model's name and size filled in where they are needed.

The samples read deployment.json, labels.txt and golden/ from the bundle at run time; what is filled in are titles,
identifiers and comments. A marker is @@WORD@@.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekd.core.errors import EdgeKDError

FOLDER = "samples/"
SUFFIX = ".in"  # a template NAME.in becomes NAME: so that tools which read this repository leave it alone
MARKER = re.compile(r"@@([A-Z_]+)@@")


def _templates(folder: Path) -> Iterator[Path]:
    yield from sorted(
        path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")
    )


def render(name: str, contract: Mapping[str, Any], labels: Sequence[str]) -> dict[str, bytes]:
    """{samples/...: bytes} for one model. Equal input gives equal bytes."""
    folder = Path(__file__).with_name("templates") / "samples"
    words = {
        "NAME": _line(name),
        "IDENTIFIER": identifier(name),
        "PX": str(contract["input"]["px"]),
        "CLASSES": str(len(labels)),
        "LIMITS": _line(contract["limits"]),
        "CHANNELS": str(contract["input"]["channels"]),
        "TEMPERATURE": repr(float(contract["confidence"].get("temperature", 1.0))),
        **{
            key.upper(): ", ".join(
                repr(float(value)) for value in contract["confidence"].get(key, [0.0] * len(labels))
            )
            for key in ("thresholds", "slopes", "offsets")
        },
        "SEVERAL": "true" if contract["output"]["kind"] == "labels" else "false",
        "PROBABILITIES": "true" if contract["output"]["kind"] == "probabilities" else "false",
    }

    def word(match: re.Match[str]) -> str:
        if match[1] not in words:
            raise EdgeKDError(
                f"a sample's template holds the unknown marker {match[0]}", "install edgekd again"
            )
        return words[match[1]]

    made = {}
    for path in _templates(folder):
        text = path.read_text(encoding="utf-8")
        made[FOLDER + path.relative_to(folder).as_posix().removesuffix(SUFFIX)] = MARKER.sub(
            word, text
        ).encode()
    return made


def identifier(name: str) -> str:
    """The name as letters, digits and underscores, starting with a letter: a package, a unit, a service."""
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return plain if plain[:1].isalpha() else f"model_{plain}".rstrip("_")


def _line(text: str) -> str:
    """One line without anything that could end a comment, a string or a tag in any of the samples' languages."""
    return re.sub(r"[\"'`<>\\$*&]|[^\x20-\x7e\u00a0-\uffff]", " ", " ".join(str(text).split()))
