"""A teacher that is asked only when its last answer does not cover the student's (distil.answers).

This is the idea of speculative distillation (Xu et al. 2024, arXiv 2410.11325), applied to images.
When an image is shown for the first time, the teacher answers. Later the student's own answer is a
proposal. While it is among the k most likely classes of the teacher's last answer about that image,
that answer is used again, although it was about another view. Otherwise the teacher is asked about
the present view. Calls of the teacher become fewer as the student learns.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from edgekd.training.batches import Batch
from edgekd.training.teacher_oracle import Oracle


class Corrector(nn.Module):
    """The teacher's last answer about each of `count` images. All of it is part of a checkpoint.

    `answers`: logits, float16 [count, classes]. `known`: bool [count], whether there is an answer.
    `calls`, `shown`: int64 scalars, views that the teacher was asked about and views in all.
    """

    reads = True  # on the CPU, which images to ask the teacher about
    answers: Tensor
    known: Tensor
    calls: Tensor
    shown: Tensor

    def __init__(self, oracle: Oracle, count: int, classes: int, top_k: int) -> None:
        super().__init__()
        self.oracle, self.top_k = oracle, min(top_k, classes)
        self.register_buffer("answers", torch.zeros(count, classes, dtype=torch.float16))
        self.register_buffer("known", torch.zeros(count, dtype=torch.bool))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("shown", torch.zeros((), dtype=torch.int64))

    def forward(self, batch: Batch, proposed: Tensor) -> Batch:
        """The batch with the teacher's logits. `proposed`: the student's logits, [b, classes]."""
        assert batch.rows is not None
        assert batch.drawn is not None
        likely = self.answers[batch.rows].topk(self.top_k, dim=1).indices
        accepted = self.known[batch.rows] & (likely == proposed.detach().argmax(1)[:, None]).any(1)
        asked = batch.rows[~accepted].unique()
        if len(asked):
            self.answers[asked] = self.oracle.ask(asked, batch.drawn)["logits"].clone()
            self.known[asked] = True
        self.calls += len(asked)
        self.shown += len(batch.rows)
        return dataclasses.replace(batch, logits=self.answers[batch.rows].float())
