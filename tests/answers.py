"""Cached answers in memory, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from edgekd.core.artifacts import Json, Knowledge
from edgekd.core.shard_folders import MemoryShards
from edgekd.training.cached_answers import CachedAnswers, knowledge_of


def told(
    answers: Mapping[str, Tensor],
    rows: Sequence[int] | None = None,
    facts: dict[str, Json] | None = None,
) -> Knowledge:
    """Knowledge of answers [views, n, ...] about the images `rows` (all n of them)."""
    logits = answers["logits"]
    half = {name: value.half() for name, value in answers.items()}
    about = range(logits.shape[1]) if rows is None else rows
    return knowledge_of(about, logits.shape[2], half, facts or {}, MemoryShards("told"))


def arrays(knowledge: Knowledge) -> dict[str, Tensor]:
    """All answers by name, float16 [views, n, ...]."""
    return CachedAnswers(knowledge).whole()
