"""The terms of a build's teachers: what outputs may be used for, by what was declared or is known.

The recipe's `teacher.terms` declares them, for all teachers or for each:

    [teacher.terms]
    teacher = "Apache-2.0"
    teacher2 = "non-commercial"
    log = "any: agreement with the provider of 2026-03-01"

A value is one of WORDS or a licence's SPDX id, and after a colon it may say where that stands.
Without a declaration, the model file (`output_terms`), the licence of the weights or the table of
providers (`provider_terms`) decides, and otherwise the terms are unknown.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from edgekd.bundle.licence_texts import non_commercial, spdx_expression
from edgekd.bundle.provider_terms import OutputUse, of_model
from edgekd.core.errors import RecipeError, UnknownName

SETTING = "teacher.terms"
# The words that a declaration may consist of. "commercial" is what `card.use` calls the same.
WORDS = {
    "any": OutputUse.ANY,
    "commercial": OutputUse.ANY,
    "non-commercial": OutputUse.NON_COMMERCIAL,
    "no-training": OutputUse.NO_TRAINING,
}
LOG = "log"  # the name of a log's teacher in `teacher.terms`, in lineage.json and in the papers


@dataclasses.dataclass(frozen=True)
class OutputTerms:
    """What a teacher's outputs may be used for.

    `licence`: the document or licence that says so, "" where none is known. `source`: where it
    stands, for a reader. `clause`: what it says, in one sentence. `name_prefix`: how the name of a
    model that was trained on the outputs must begin.
    """

    use: OutputUse
    licence: str = ""
    source: str = ""
    clause: str = ""
    name_prefix: str = ""


UNKNOWN = OutputTerms(OutputUse.UNKNOWN)


def declared(terms: str | Mapping[str, str], roles: Iterable[str]) -> dict[str, OutputTerms]:
    """What `teacher.terms` declares, by role ("teacher", "teacher2", "log").

    A text counts for every role. Raises UnknownName for a role that the build does not have, and
    RecipeError for terms that are neither a word nor a licence.
    """
    known = list(roles)
    if isinstance(terms, str):
        terms = dict.fromkeys(known, terms) if terms.strip() else {}
    for role in terms:
        if role not in known:
            told = f"this build's teachers are {', '.join(known)}" if known else "it has none"
            raise UnknownName(f"teacher in {SETTING}:", role, known, told)
    return {role: _read(role, text) for role, text in terms.items()}


def _read(role: str, text: str) -> OutputTerms:
    """One declaration. Raises RecipeError."""
    word, _, where = (part.strip() for part in text.partition(":"))
    source = f"declared in {SETTING}" + (f": {where}" if where else "")
    if word.lower() in WORDS:
        return OutputTerms(WORDS[word.lower()], "", source)
    licence = spdx_expression(word)
    if licence is None:
        raise RecipeError(
            f"{SETTING} of {role} is {text!r}, expected {', '.join(WORDS)} or an SPDX licence",
            f'for example --set {SETTING}.{role}=Apache-2.0, or "any: agreement of 2026-03-01"',
        )
    return OutputTerms(_of_licence(licence), licence, source)


def of_log(model: str, stated: OutputTerms | None, licence: str = "") -> OutputTerms:
    """The terms of the teacher whose answers a log holds: declared, or its provider's.

    `model`: the model's name as the log writes it. `licence`: as `card.teacher_licence` states it.
    """
    if stated is not None:
        return stated
    if licence:
        return OutputTerms(_of_licence(licence), licence, "declared in card.teacher_licence")
    row = of_model(model)
    if row is None:
        return UNKNOWN
    return OutputTerms(
        row.use, f"{row.provider}: {row.terms}", row.cited, row.clause, row.name_prefix
    )


def of_network(licence: str, output_terms: str, where: str) -> OutputTerms:
    """The terms of a network, by its licence and its model file's `output_terms`."""
    if output_terms == OutputUse.NO_TRAINING:
        return OutputTerms(
            OutputUse.NO_TRAINING,
            licence,
            f"{where} says output_terms",
            "another model may not be trained on its outputs",
        )
    return OutputTerms(_of_licence(licence), licence)


def _of_licence(licence: str) -> OutputUse:
    return OutputUse.NON_COMMERCIAL if non_commercial(licence) else OutputUse.ANY
