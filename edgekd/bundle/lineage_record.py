"""Records of the two lineages: lineage.json of an out folder, and lineage.json of a bundle, which
is a hash chain.

Version 0.1.0 wrote the id of the first into both. The reader of a bundle therefore accepts both
ids.
"""

from __future__ import annotations

from edgekd.core.artifacts import Json
from edgekd.core.records import UNSET, Record, UnsetType

SCHEMA = "edgekd.lineage/1"  # an out folder's
CHAIN_SCHEMA = "edgekd.bundle_lineage/1"
CHAIN_SCHEMAS = (CHAIN_SCHEMA, SCHEMA)  # those that `edgekd verify` reads in a bundle


class LineageSource(Record, frozen=True):
    """Where a build starts: the data or a network, and its licence as its source states it.

    `digest`: of a finished network of the user's, what its contents hash to: for a file its sha256.
    """

    name: str
    licence: str
    digest: str | UnsetType = UNSET


class LineageStage(Record, frozen=True):
    """A finished stage. `parents`: {stage: its digest}. Key and digest are those of
    `edgekd.core.artifacts`. `device`: what its networks ran on; absent for a stage that runs none.
    """

    stage: str
    key: str
    digest: str
    parents: dict[str, str]
    device: str | UnsetType = UNSET


class Lineage(Record, frozen=True):
    """lineage.json of an out folder (schema edgekd.lineage/1).

    `sources`: by role, "data", "student", "teacher", and "teacher2" and so on for further teachers.
    """

    schema: str
    sources: dict[str, LineageSource]
    stages: list[LineageStage]


class Payload(Record, frozen=True, forbid_unknown_fields=True):
    """What an artifact consists of, so that its digest can be computed again
    (`edgekd.core.packing.Packed`).

    `facts` are the artifact's own JSON, of whatever form its type has. `blobs`: {name: sha256}.
    """

    kind: str
    facts: dict[str, Json]
    blobs: dict[str, str]


class ChainLink(Record, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One link of a hash chain. `parents`: {name: hash of that link}.

    `hash` covers every other field.
    `key` is a stage's key; the last two links are no stages and have none.
    """

    name: str
    digest: str
    parents: dict[str, str]
    key: str | UnsetType = UNSET
    payload: Payload | UnsetType = UNSET
    hash: str


class BundleLineage(Record, frozen=True):
    """lineage.json of a bundle (schema edgekd.bundle_lineage/1).

    `head`: the last link's hash. `sources`: the parts that the model was made from, by role, as in
    licences.json, which the chain covers.
    """

    schema: str
    edgekd: str
    links: list[ChainLink]
    head: str
    sources: dict[str, LineageSource] | UnsetType = UNSET
