"""Artifacts as the store writes them: JSON, blobs, and references to shards."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from edgekd.core.artifacts import Blob, Json, Shards, canonical_json, sha256


@dataclasses.dataclass(frozen=True)
class Packed:
    """An artifact as it is stored: the name of its class, its JSON, its blobs and its shards."""

    kind: str
    facts: Mapping[str, Json]
    blobs: Mapping[str, Blob]
    shards: Mapping[str, Shards] = dataclasses.field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Hex sha256 over the class, the JSON, and the sha256 of each blob and shard."""
        whole: dict[str, Json] = {
            "kind": self.kind,
            "facts": dict(self.facts),
            "blobs": {name: sha256(blob) for name, blob in self.blobs.items()},
        }
        if self.shards:
            whole["shards"] = {name: part.digests for name, part in self.shards.items()}
        return sha256(canonical_json(whole))


def _is_blob(field: dataclasses.Field[Any]) -> bool:
    return field.type in ("Blob", Blob)


def pack(artifact: Any) -> Packed:
    """Divide an artifact into JSON, blobs and shards. Raises TypeError for a field of no kind."""
    facts: dict[str, Json] = {}
    blobs, shards = {}, {}
    for field in dataclasses.fields(artifact):
        value = getattr(artifact, field.name)
        if _is_blob(field):
            blobs[field.name] = value
        elif isinstance(value, Shards):
            shards[field.name] = value
        else:
            facts[field.name] = json.loads(canonical_json(value))
    return Packed(type(artifact).__name__, facts, blobs, shards)


def unpack[A](cls: type[A], packed: Packed) -> A:
    """The artifact of a packed form.

    Raises ValueError for another class, and when a field is missing or unknown.
    """
    if packed.kind != cls.__name__:
        raise ValueError(f"expected an artifact of type {cls.__name__}, found {packed.kind}")
    values = {**packed.facts, **packed.blobs, **packed.shards}
    names = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if values.keys() != names:
        raise ValueError(f"{cls.__name__}: fields {sorted(values.keys() ^ names)} do not match")
    return cls(**values)
