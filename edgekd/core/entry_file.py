"""entry.json: what the store keeps of a finished stage beside its blobs."""

from __future__ import annotations

from edgekd.core.artifacts import Json
from edgekd.core.records import UNSET, Record, UnsetType


class EntryFile(Record, frozen=True, kw_only=True):
    """entry.json of a finished stage. `blobs`: the names of the files NAME.bin beside it.

    `shards`: for each part of the result that lies in folders of shards, the sha256 of each shard,
    by FOLDER/SHARD below the store.
    `device`: what the stage's networks ran on, as "cuda:0 (NVIDIA H100), bfloat16"; absent for a
    stage that runs none.
    """

    stage: str
    key: str
    digest: str
    kind: str
    seconds: float
    facts: dict[str, Json]
    blobs: list[str]
    device: str | UnsetType = UNSET
    shards: dict[str, dict[str, str]] | UnsetType = UNSET
