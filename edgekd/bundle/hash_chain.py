"""The hash chain from the data to the bundle. The hash of a link covers what it made and the hashes
of its parents.

    stage links   a stage's key, digest and parents; with the payload, the digest can be
                  computed again
    model link    the certified .tflite without the bundle's metadata and ports
    bundle link   every file of the bundle except lineage.json and manifest.json

A change anywhere changes the hash of the last link. `edgekd build` prints that hash, and `edgekd
verify` computes it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgekd.bundle.lineage_record import ChainLink, LineageStage, Payload
from edgekd.core.artifacts import Json, canonical_json, sha256
from edgekd.core.packing import Packed
from edgekd.core.records import UNSET, UnsetType, to_json

# Files that the bundle link cannot cover: the first holds that link, and the second holds the hash
# of the first.
OUTSIDE = frozenset({"lineage.json", "manifest.json"})


def link(
    name: str,
    digest: str,
    parents: Mapping[str, str],
    key: str | UnsetType = UNSET,
    payload: Payload | UnsetType = UNSET,
) -> ChainLink:
    """One link, with its hash. `parents`: {name: hash of that link}."""
    bare = ChainLink(
        name=name, digest=digest, parents=dict(parents), key=key, payload=payload, hash=""
    )
    return ChainLink(
        name=name,
        digest=digest,
        parents=dict(parents),
        key=key,
        payload=payload,
        hash=link_hash(bare),
    )


def link_hash(row: ChainLink) -> str:
    """Hex sha256 of a link's canonical JSON without its field `hash`."""
    body: dict[str, Json] = to_json(row)
    del body["hash"]
    return sha256(canonical_json(body))


def stage_links(rows: Sequence[LineageStage], packed: Mapping[str, Packed]) -> list[ChainLink]:
    """Links of a build's stages. `rows`: parents before children.

    `packed`: the artifacts whose make-up is written into their links, so that their digests can be
    computed again.
    """
    links: dict[str, ChainLink] = {}
    for row in rows:
        parents = {name: links[name].hash for name in row.parents}
        made = payload(packed[row.stage]) if row.stage in packed else UNSET
        links[row.stage] = link(row.stage, row.digest, parents, row.key, made)
    return list(links.values())


def payload(item: Packed) -> Payload:
    """What an artifact consists of. sha256 of its canonical JSON is the artifact's digest
    (`Packed.digest`).
    """
    blobs = {name: sha256(blob) for name, blob in item.blobs.items()}
    return Payload(item.kind, dict(item.facts), blobs)


def contents(files: Mapping[str, bytes]) -> str:
    """One hash over a bundle's files, {path: bytes}, except those of OUTSIDE."""
    return sha256(
        canonical_json({name: sha256(data) for name, data in files.items() if name not in OUTSIDE})
    )


def walk(links: Sequence[ChainLink]) -> list[str]:
    """What is wrong with a chain, one sentence each; empty when nothing is.

    Checks every link's hash, that its parents stand before it, and that its digest is that of its
    payload.
    """
    wrong: list[str] = []
    known: dict[str, str] = {}
    for row in links:
        if link_hash(row) != row.hash:
            wrong.append(f"link {row.name}: its hash does not cover its contents")
        for name, parent in row.parents.items():
            if known.get(name) != parent:
                wrong.append(f"link {row.name}: its parent {name} is not the link before it")
        if (
            not isinstance(row.payload, UnsetType)
            and sha256(canonical_json(to_json(row.payload))) != row.digest
        ):
            wrong.append(f"link {row.name}: its digest is not that of its payload")
        known[row.name] = row.hash
    return wrong
