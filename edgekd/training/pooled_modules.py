"""Losses between pooled features as modules, each with the adapters that it needs.

See `loss_modules` for what a module of a loss is.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from edgekd.training import adapters
from edgekd.training.batches import Batch
from edgekd.training.loss_modules import Seen, Setting, said
from edgekd.training.losses import feature_losses


class Srd(nn.Module):
    """SRD: a batch-normalised projection, and the log of a high power of the difference."""

    def __init__(self, at: Setting, power: float) -> None:
        super().__init__()
        self.power = power
        self.adapter = adapters.Normed(at.shapes["pooled"][1], at.teacher["pooled"])

    def forward(self, seen: Seen, batch: Batch) -> Tensor:
        return feature_losses.srd(
            *self.adapter(seen.pooled, said(batch, "pooled")), power=self.power
        )


class Pefd(nn.Module):
    """PEFD: the cosine with the mean of several projections."""

    def __init__(self, at: Setting, projectors: float) -> None:
        super().__init__()
        self.project = adapters.Ensemble(
            at.shapes["pooled"][1], at.teacher["pooled"], int(projectors), at.signed
        )

    def forward(self, seen: Seen, batch: Batch) -> Tensor:
        return feature_losses.cosine(self.project(seen.pooled), said(batch, "pooled"))


class Cosine(nn.Module):
    """DistilBERT's cosine: with a linear projection of the pooled features."""

    def __init__(self, at: Setting) -> None:
        super().__init__()
        self.project = nn.Linear(at.shapes["pooled"][1], at.teacher["pooled"])

    def forward(self, seen: Seen, batch: Batch) -> Tensor:
        return feature_losses.cosine(self.project(seen.pooled), said(batch, "pooled"))


class Discriminated(nn.Module):
    """A discriminator learns to tell the networks' pooled features apart, and the student to fool
    it.

    MEAL (Shen et al. 2019, arXiv 1812.02425), in the minimax form: a reversed gradient lets the
    discriminator and the student learn in the same step. Both networks' features are
    layer-normalised, so that their scale gives nothing away.
    """

    def __init__(self, at: Setting, width: float) -> None:
        super().__init__()
        size = at.teacher["pooled"]
        self.project = nn.Linear(at.shapes["pooled"][1], size)
        self.discriminator = nn.Sequential(
            nn.Linear(size, int(width)), nn.LeakyReLU(0.2), nn.Linear(int(width), 1)
        )

    def forward(self, seen: Seen, batch: Batch) -> Tensor:
        own = functional.layer_norm(self.project(seen.pooled), (self.project.out_features,))
        teacher = said(batch, "pooled")
        fooling: Tensor = adapters.Reversed.apply(own)
        return feature_losses.told_apart(
            self.discriminator(fooling),
            self.discriminator(functional.layer_norm(teacher, teacher.shape[1:])),
        )


class Infonce(nn.Module):
    """InfoNCE between linear embeddings of both networks' pooled features."""

    def __init__(self, at: Setting, temperature: float, width: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.student = nn.Linear(at.shapes["pooled"][1], int(width))
        self.teacher = nn.Linear(at.teacher["pooled"], int(width))

    def forward(self, seen: Seen, batch: Batch) -> Tensor:
        return feature_losses.infonce(
            self.student(seen.pooled),
            self.teacher(said(batch, "pooled")),
            temperature=self.temperature,
            images=batch.rows,
        )
