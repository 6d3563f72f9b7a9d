"""The student proposes, the teacher corrects: the teacher is asked only where its last answer does not cover the student's.

The idea of speculative distillation (Xu et al. 2024, arXiv 2410.11325), for images: the first time an image is shown the
teacher answers. Later the student's own answer is taken as a proposal: while it lies among the k most likely classes of
the teacher's last answer about that image, that answer is used again, although it was about another view; where it does
not, the teacher is asked about the view at hand. Teacher calls fall as the student learns.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from edgekd.training.batches import Batch
from edgekd.training.teacher_oracle import Oracle


class Corrector(nn.Module):
    """Keeps the teacher's last answer about each of `count` images; its memory is part of a checkpoint."""

    answers: Tensor  # float16 [count, classes]
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
        """The batch with the teacher's logits, given the student's logits `proposed` [b, k]."""
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
