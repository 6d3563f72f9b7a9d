"""The runnable samples of a bundle: templates/samples, with this model's name and size filled in.

The samples read deployment.json, labels.txt and golden/ from the bundle when they run. What is
filled in are titles, identifiers, comments, and figures for samples that read no file. A marker in
a template is @@WORD@@.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from edgekd.bundle import preprocess_vectors, service_memory
from edgekd.bundle.deployment_record import AnswerRule, Deployment
from edgekd.core.errors import EdgeKDError
from edgekd.core.records import UnsetType
from edgekd.evaluation.confidence_record import OutputKind

FOLDER = "samples/"
# A template NAME.in becomes NAME. The suffix keeps build tools that read this repository from
# picking templates up.
SUFFIX = ".in"
MARKER = re.compile(r"@@([A-Z_]+)@@")


def render(contract: Deployment, labels: Sequence[str], model: bytes) -> dict[str, bytes]:
    """{samples/...: bytes} for one model, a .tflite. Equal input gives equal bytes."""
    known = {**words(contract, labels), "MEMORY_MIB": str(service_memory.limit_mib(model))}
    folder = Path(__file__).with_name("templates") / "samples"
    made = {}
    for path in templates(folder):
        name = FOLDER + path.relative_to(folder).as_posix().removesuffix(SUFFIX)
        made[name] = fill(path, known)
    made[preprocess_vectors.FILE] = preprocess_vectors.file(contract)
    return made


def fill(template: Path, known: Mapping[str, str]) -> bytes:
    """A template with its markers replaced. `known`: marker -> text. Raises EdgeKDError."""

    def word(match: re.Match[str]) -> str:
        if match[1] not in known:
            raise EdgeKDError(
                f"a sample's template holds the unknown marker {match[0]}", "install edgekd again"
            )
        return known[match[1]]

    return MARKER.sub(word, template.read_text(encoding="utf-8")).encode()


def templates(folder: Path) -> Iterator[Path]:
    """Every template, in one order on all systems."""
    yield from sorted(
        path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")
    )


def words(contract: Deployment, labels: Sequence[str]) -> dict[str, str]:
    """The text for each marker. A temperature that the rule lacks is 1, other figures are 0."""
    rule, kind = contract.confidence, contract.output.kind
    temperature = 1.0 if isinstance(rule.temperature, UnsetType) else rule.temperature
    return {
        "NAME": line(contract.name),
        "IDENTIFIER": identifier(contract.name),
        "PX": str(contract.input.px),
        "CLASSES": str(len(labels)),
        "LIMITS": line(contract.limits),
        "CHANNELS": str(contract.input.channels),
        "TEMPERATURE": repr(float(temperature)),
        **{name: _numbers(row) for name, row in _lists(rule, len(labels)).items()},
        "SEVERAL": "true" if kind is OutputKind.LABELS else "false",
        "PROBABILITIES": "true" if kind is OutputKind.PROBABILITIES else "false",
    }


def _lists(rule: AnswerRule, labels: int) -> dict[str, list[float]]:
    none = [0.0] * labels
    return {
        "THRESHOLDS": rule.thresholds,
        "SLOPES": none if isinstance(rule.slopes, UnsetType) else rule.slopes,
        "OFFSETS": none if isinstance(rule.offsets, UnsetType) else rule.offsets,
    }


def _numbers(row: Sequence[float]) -> str:
    return ", ".join(repr(float(value)) for value in row)


def identifier(name: str) -> str:
    """The name in letters, digits and underscores, starting with a letter, as for a package."""
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return plain if plain[:1].isalpha() else f"model_{plain}".rstrip("_")


def line(text: str) -> str:
    """One line without any character that could end a comment, a string or a tag in one of the
    samples' languages.
    """
    return re.sub(r"[\"'`<>\\$*&]|[^\x20-\x7e\u00a0-\uffff]", " ", " ".join(str(text).split()))
