"""lineage.json as a hash chain from data to bundle: each link's hash covers what it made and the hashes of its parents.

    stage links     a stage's key and digest, its parents; where the payload's make-up is known, the digest is worked out anew
    model link      the certified .tflite, bare
    bundle link     every file of the bundle but lineage.json and manifest.json

Changing anything on the way changes the hash of the last link, which `edgekd build` prints and `verify` walks to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekd.core.artifacts import Json, Packed, canonical_json, sha256

SCHEMA = "edgekd.lineage/1"
OUTSIDE = frozenset(
    {"lineage.json", "manifest.json"}
)  # what the bundle link cannot cover: it is inside the first


def link(name: str, digest: str, parents: Mapping[str, str], **facts: Json) -> dict[str, Json]:
    """One link. `parents`: {name: hash of that link}. The hash covers everything else in it."""
    body = {"name": name, "digest": digest, "parents": dict(parents), **facts}
    return {**body, "hash": sha256(canonical_json(body))}


def stage_links(rows: list[dict[str, Any]], packed: Mapping[str, Packed]) -> list[dict[str, Json]]:
    """Links of a build's stages. `rows`: {"stage", "key", "digest", "parents": {name: digest}}, parents first.

    `packed`: artifacts whose blobs' hashes are written down with them, so that their digest can be worked out anew.
    """
    links: dict[str, dict[str, Json]] = {}
    for row in rows:
        facts: dict[str, Json] = {"key": row["key"]}
        if row["stage"] in packed:
            item = packed[row["stage"]]
            facts["payload"] = {
                "kind": item.kind,
                "facts": dict(item.facts),
                "blobs": {name: sha256(blob) for name, blob in item.blobs.items()},
            }
        links[row["stage"]] = link(
            row["stage"],
            row["digest"],
            {name: links[name]["hash"] for name in row["parents"]},
            **facts,
        )
    return list(links.values())


def contents(files: Mapping[str, bytes]) -> str:
    """One hash over a bundle's files, {path: bytes}, without those that cannot be covered."""
    return sha256(
        canonical_json({name: sha256(data) for name, data in files.items() if name not in OUTSIDE})
    )


def walk(links: list[dict[str, Any]]) -> list[str]:
    """What is wrong with a chain, one sentence each: a hash, a parent that is not there, a digest that does not follow."""
    wrong: list[str] = []
    known: dict[Any, Any] = {}
    for row in links:
        body = {key: value for key, value in row.items() if key != "hash"}
        if sha256(canonical_json(body)) != row.get("hash"):
            wrong.append(f"link {row.get('name')}: its hash does not cover what it says")
        for name, parent in row.get("parents", {}).items():
            if known.get(name) != parent:
                wrong.append(f"link {row.get('name')}: its parent {name} is not the link before it")
        payload = row.get("payload")
        if payload is not None and sha256(canonical_json(payload)) != row.get("digest"):
            wrong.append(f"link {row.get('name')}: its digest does not follow from its payload")
        known[row.get("name")] = row.get("hash")
    return wrong
