"""Where the losses of a recipe read the student: those channels stay whole when it is pruned."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator

from edgekd.settings.loss_catalogue import Term
from edgekd.settings.recipe import Recipe

# Losses with a key of their own in [distil], and which of the teacher's answers each reads.
KEYED = {"pooled": "pooled", "grid": "grid", "exits": "logits"}


class Place(enum.StrEnum):
    """A place in the student whose features losses read."""

    POOLED = "pooled"  # what the classifier reads
    LAST = "last"  # the last of its taps
    TAPS = "taps"  # all of them


_PLACES = {"grid": Place.LAST, "pooled": Place.POOLED, "cams": Place.POOLED}
# The losses that compare early exits.
_EXITS = "self_exits"


def places(terms: Iterable[Term], keyed: Iterable[str]) -> Iterator[tuple[Place, str]]:
    """Each place that is read, and the loss that reads it. A later one says more than an earlier.

    `terms`: the losses of [distil.losses] that apply. `keyed`: the names of KEYED that do.
    """
    for term in terms:
        needed = [_PLACES[part] for part in term.method.needs if part in _PLACES]
        for place in [Place.TAPS] if term.name == _EXITS else needed:
            yield place, f"the loss {term.name}"
    wanted = set(keyed)
    if "exits" in wanted:
        yield Place.TAPS, "the exits"
    if "grid" in wanted:
        yield Place.LAST, "the grid loss"
    if "pooled" in wanted:
        yield Place.POOLED, "the pooled loss"


def of_recipe(settings: Recipe) -> tuple[Place, ...]:
    """The places that a recipe's losses will read, sorted.

    Known before there are answers: a recipe with a teacher gets all of its answers, one with logged
    answers gets logits alone.
    """
    distil = settings.distil
    logits_alone = bool(distil.logs)
    teaches = logits_alone or settings.federated.on or settings.teacher.name != "none"
    said = {"logits"} if logits_alone else {"logits", "pooled", "grid", "cams"}
    said = said if teaches else set()
    keyed = [name for name, needed in KEYED.items() if getattr(distil, name) and needed in said]
    terms = [term for term in distil.losses if said.issuperset(term.method.needs)]
    return tuple(sorted({place for place, _ in places(terms, keyed)}))
