"""The code of the loss. It is imported when a training begins."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from edgekd.training.batches import Batch
from edgekd.training.loss_modules import Seen


def logit_l1(seen: Seen, batch: Batch, scale: float) -> Tensor:
    """Mean absolute difference between the student's logits and the teacher's, float32 [b, k]."""
    assert batch.logits is not None
    return F.l1_loss(seen.logits, scale * batch.logits)
