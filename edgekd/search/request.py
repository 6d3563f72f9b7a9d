"""What a search was asked for. A study remembers it, and refuses workers that ask otherwise."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence

import msgspec

from edgekd.core.artifacts import Json, canonical_json, sha256
from edgekd.core.errors import RecipeError
from edgekd.search.candidate import Candidate
from edgekd.search.ledger import Ledger
from edgekd.search.limits import Limits, Objective

FACT = "request"


@dataclasses.dataclass(frozen=True)
class Asked:
    """All that decides which trials a search makes; time and workers do not.

    `profile`: the device's name, with `rules`, a digest of its whole profile. `data`: what names
    the images, with a digest. `settings`: of the recipe that the candidates share, by key. `space`:
    a digest of all candidates.
    """

    profile: str
    rules: str
    data: str
    limits: Limits
    objective: Objective
    settings: Mapping[str, Json]
    space: str
    seed: int


def digest(value: Json) -> str:
    """A digest of plain JSON."""
    return sha256(canonical_json(json.loads(json.dumps(value, default=str))))[:16]


def of_candidates(candidates: Sequence[Candidate]) -> str:
    """A digest of a space."""
    return digest(sorted(json.dumps(msgspec.to_builtins(each)) for each in candidates))


def agree(ledger: Ledger, asked: Asked) -> None:
    """Remember a request, or compare it with the one that the study remembers.

    Raises RecipeError that names the first difference.
    """
    own: dict[str, Json] = json.loads(json.dumps(msgspec.to_builtins(asked)))
    if ledger.fact(FACT) is None:
        ledger.set_fact(FACT, own)
    kept = ledger.fact(FACT)
    if kept != own:
        raise RecipeError(
            f"the search in {ledger.shown} was started for another request: {_differs(kept, own)}",
            "name another --out (and --storage) for a new search, or ask as before",
        )


def _differs(kept: Mapping[str, Json], own: Mapping[str, Json]) -> str:
    """The first difference in words: "limits.latency_ms was 5 and is 8"."""
    before, now = _flat(kept), _flat(own)
    name = next(name for name in sorted({*before, *now}) if before.get(name) != now.get(name))
    if name in ("space", "rules", "data"):
        return {
            "space": "the candidates are others (--space, or the students of models/)",
            "rules": "the device's profile has changed",
            "data": f"the images were {before.get(name)} and are {now.get(name)}",
        }[name]
    label = name.removeprefix("settings.")
    return f"{label} was {_spoken(before.get(name))} and is {_spoken(now.get(name))}"


def _flat(values: Mapping[str, Json], before: str = "") -> dict[str, Json]:
    found: dict[str, Json] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{before}{name}.")
        else:
            found[f"{before}{name}"] = value
    return found


def _spoken(value: Json) -> str:
    return "not set" if value is None else str(value)
