"""What is asked before any training: whether the terms of all parts allow the use that is declared.

A teacher whose outputs may train no model is refused for every use. `card.use = "commercial"`
refuses parts under non-commercial terms, and parts whose terms are not known.
"""

from __future__ import annotations

from collections.abc import Iterable

from edgekd.bundle import licences
from edgekd.bundle.licences import LogTerms, NetworkTerms, Parts
from edgekd.bundle.licences_record import LicenceLink
from edgekd.bundle.provider_terms import OutputUse
from edgekd.bundle.teacher_terms import LOG, SETTING, OutputTerms
from edgekd.core.errors import EdgeKDError, GateFailed, RecipeError
from edgekd.settings.recipe import CardConfig

STUDENT = "student"


def check(parts: Parts, card: CardConfig) -> None:
    """Check that the terms of all parts allow what `card.use` declares.

    Raises RecipeError for a teacher whose terms forbid training on its outputs, and GateFailed that
    names every part whose terms forbid commercial use, or do not say, when that is declared.
    """
    for network in parts.networks:
        terms = licences.outputs(network, card)
        if network.role != STUDENT and terms.use is OutputUse.NO_TRAINING:
            raise _may_not_teach(network, terms)
    if parts.log is not None and parts.log.outputs.use is OutputUse.NO_TRAINING:
        raise _log_may_not_teach(parts.log)
    if card.use != "commercial":
        return
    _check_commercial(parts, card)
    _check_name(parts, card)


def warnings(parts: Parts, card: CardConfig) -> list[str]:
    """A sentence for each teacher whose terms are not known, where no use forbids that."""
    if card.use == "commercial":
        return []
    return [
        f"{_told(row, parts, role == LOG)}: nothing says what may be done with a model that learns "
        f"from it; --set {SETTING}.{role}=LICENCE declares it"
        for role, row in _teachers(parts, card)
        if row.unknown
    ]


def _teachers(parts: Parts, card: CardConfig) -> Iterable[tuple[str, LicenceLink]]:
    """(role, link) of each teacher."""
    for network in parts.networks:
        if network.role != STUDENT:
            yield network.role, licences.network_link(network, card)
    if parts.log is not None:
        yield LOG, licences.log_link(parts.log)


def _may_not_teach(network: NetworkTerms, terms: OutputTerms) -> EdgeKDError:
    spec = network.spec
    return RecipeError(
        f"{network.role} {spec.name}: its terms forbid training another model on its outputs "
        f"({terms.licence or 'licence not stated'}; {terms.source})",
        "choose another teacher, or use --teacher none to train on the labels alone",
    )


def _log_may_not_teach(log: LogTerms) -> EdgeKDError:
    return RecipeError(
        f"log {log.file}: the terms of {log.model}, whose answers it holds, forbid training on "
        f"them ({_cited(log)})",
        f"take another teacher's answers; or, with an agreement that allows it, "
        f"--set '{SETTING}.{LOG}=any: AGREEMENT'",
    )


def _cited(log: LogTerms) -> str:
    terms = log.outputs
    return "; ".join(part for part in (terms.licence, terms.clause, terms.source) if part)


def _check_commercial(parts: Parts, card: CardConfig) -> None:
    """Raise GateFailed when a part is non-commercial, or when its terms are not known."""
    links = licences.model_links(parts, card)
    log = licences.log_link(parts.log) if parts.log else None
    forbidden = [_told(row, parts, row == log) for row in links if row.non_commercial]
    unknown = [row for row in links if row.unknown]
    said, steps = [], []
    if forbidden:
        said.append(f"non-commercial terms: {'; '.join(forbidden)}")
        steps.append("replace these parts, or --set card.use=non-commercial")
        if log is not None and log.non_commercial:
            steps.append(
                f"if an agreement allows the use, --set '{SETTING}.{LOG}=any: AGREEMENT' states it"
            )
    if unknown:
        named = "; ".join(_told(row, parts, row == log) for row in unknown)
        said.append(f"terms that are not known: {named}")
        steps.append(f"state them with --set {' --set '.join(_settings(unknown))}")
    if said:
        raise GateFailed(
            f"licence: card.use is commercial, but there are parts with {', and with '.join(said)}",
            "; ".join(steps),
        )


def _told(row: LicenceLink, parts: Parts, is_log: bool) -> str:
    """A part with its terms, for a message."""
    if is_log and parts.log is not None:
        cited = _cited(parts.log) or "its provider is not in EdgeKD's table"
        return f"log {parts.log.file} with answers of {row.name} ({cited})"
    return f"{licences.role(row)} {row.name} ({row.licence})"


def _settings(unknown: Iterable[LicenceLink]) -> list[str]:
    """The settings that state the terms of these parts."""
    keys = {
        "data": "card.data_licence",
        "unlabelled data": "card.unlabelled_licence",
        STUDENT: "card.student_licence",
    }
    roles = [licences.role(row) for row in unknown]
    return [f"{keys.get(role, f'{SETTING}.{role}')}=LICENCE" for role in roles]


def _check_name(parts: Parts, card: CardConfig) -> None:
    """Raise GateFailed when a teacher's terms ask for another name of the model."""
    if parts.log is None:
        return
    prefix = parts.log.outputs.name_prefix
    if not card.name.startswith(prefix):
        raise GateFailed(
            f"licence: log {parts.log.file} holds answers of {parts.log.model}, and a model that "
            f'learnt from them must have a name that begins with "{prefix}" ({_cited(parts.log)})',
            f"--set 'card.name={prefix} NAME'",
        )
