"""The columns of a build's cached answers (`answer_cache.Column`): which network answers what."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgekd.core.artifacts import Dataset
from edgekd.networks import token_pooling
from edgekd.training import view_average
from edgekd.training.answer_cache import AnswerCache, Column
from edgekd.training.teacher_oracle import Answers, Backbone, Oracle
from edgekd.training.views import Views


def features(backbone: Backbone, head: nn.Module, dataset: Dataset, choice: str = "") -> Column:
    """The features of a frozen network, whatever its `head` is.

    `choice`: which tokens are its "pooled" features (`token_pooling.CHOICES`), for a backbone that
    gives tokens. Without a choice each of its features has its own name.
    """
    if choice:
        names = dict.fromkeys(token_pooling.CHOICES[choice], "pooled")
    else:
        names = {name: name for name in (token_pooling.PARTS if backbone.tokens else ("pooled",))}
    if backbone.tap:
        names["grid"] = "grid"
    return Column(
        {"features": backbone.what(dataset, head)},
        names,
        lambda rows, drawn, _number: backbone.ask(rows, drawn),
    )


def of_teachers(
    first: Oracle, others: Sequence[Oracle], dataset: Dataset, cache: AnswerCache, average: int = 1
) -> list[Column]:
    """The columns of all teachers of a build; the further ones give logits only.

    `average`: over how many views of an image the logits are averaged.
    """
    found = _of_frozen(first, dataset, cache) if _splits(first) else [whole(first, dataset)]
    found += [_logits(other, dataset) for other in others]
    return [part for column in found for part in _averaged(column, cache, average)]


def _averaged(column: Column, cache: AnswerCache, views: int) -> list[Column]:
    """A column with its logits averaged, in a column of their own, and the rest as it is."""
    rest = {field: name for field, name in column.names.items() if field != "logits"}
    if views == 1 or "logits" not in column.names:
        return [column]
    found = [view_average.averaged(column, cache, views, cache.shown.dataset.labels)]
    return found + ([dataclasses.replace(column, names=rest)] if rest else [])


def _splits(oracle: Oracle) -> bool:
    """Whether cached features are all that a teacher's answers need."""
    return oracle.frozen and not oracle.cam_side


def whole(oracle: Oracle, dataset: Dataset) -> Column:
    """All that a teacher answers."""
    names = ["logits"] if oracle.logits_alone else ["logits", "pooled"]
    names += ["grid"] if oracle.backbone.tap else []
    names += ["cams"] if oracle.cam_side else []
    return Column(
        {"answers": oracle.what(dataset)},
        {name: name for name in names},
        lambda rows, drawn, _number: oracle.ask(rows, drawn),
    )


def _logits(oracle: Oracle, dataset: Dataset) -> Column:
    """A further teacher's logits."""

    def ask(rows: Tensor, drawn: Views, number: int) -> Answers:
        del number
        return {"logits": oracle.ask(rows, drawn)["logits"]}

    return Column({"logits": oracle.what(dataset)}, {"logits": "others"}, ask)


def _of_frozen(oracle: Oracle, dataset: Dataset, cache: AnswerCache) -> list[Column]:
    """A frozen teacher's features, and the logits that its head makes of them."""
    head = oracle.net.get_classifier()  # type: ignore[operator]
    known = features(oracle.backbone, head, dataset, oracle.head_features)
    read = cache.answers(known)
    place = torch.full((len(dataset.images),), -1)
    place[cache.shown.rows] = torch.arange(len(cache.shown.rows))

    def ask(rows: Tensor, drawn: Views, number: int) -> Answers:
        del drawn
        return {"logits": oracle.head(read.take(number, place[rows])["pooled"])}

    logits = Column({"head": oracle.what(dataset)}, {"logits": "logits"}, ask, slow=False)
    return [logits, known]
