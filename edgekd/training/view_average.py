"""A teacher's answers, averaged over several views of the same image.

A network is less often wrong about the mean of several views than about one of them. The views of
an image that the student sees are answered anyway, so that their mean costs no pass. It can only be
taken of views that show one image each: a mixed view's partner is not in the image's next view.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from edgekd.core.artifacts import Labels
from edgekd.training.answer_cache import AnswerCache, Column
from edgekd.training.teacher_oracle import Answers
from edgekd.training.views import Views


def mean_logits(each: Tensor, labels: Labels) -> Tensor:
    """Logits float32 [..., k] of the mean of the probabilities that logits [views, ..., k] give.

    Of one label an image they keep the mean size of the views' own logits, which a loss on logits
    may read.
    """
    if labels == "many":
        return F.sigmoid(each).mean(0).clamp(1e-6, 1 - 1e-6).logit()
    together = torch.logsumexp(F.log_softmax(each, -1), 0) - math.log(len(each))
    return together + torch.logsumexp(each, -1, keepdim=True).mean(0)


def averaged(column: Column, cache: AnswerCache, views: int, labels: Labels) -> Column:
    """The logits of a column, each averaged with those of the image's next `views` - 1 views.

    After the last view comes the first one. The answers of the column itself are asked for where
    they are not there.
    """
    (name,) = (name for name in column.names.values() if name in ("logits", "others"))
    read, shown = cache.answers(column), cache.shown
    place = torch.full((len(shown.dataset.images),), -1)
    place[shown.rows] = torch.arange(len(shown.rows))

    def ask(rows: Tensor, _drawn: Views, number: int) -> Answers:
        order = place[rows.cpu()]
        each = [read.take(number + step, order)[name].float() for step in range(views)]
        return {"logits": mean_logits(torch.stack(each).flatten(2), labels).half()}

    what = {"averaged": views, "of": shown.count, "answers": column.what}
    return Column(what, {"logits": name}, ask, slow=False)
