"""From the name of a loss in a recipe ([distil.losses]) to the module that computes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from edgekd.core import plugins
from edgekd.core.artifacts import Labels
from edgekd.core.errors import RecipeError
from edgekd.settings.loss_catalogue import Term
from edgekd.training import adapters, loss_modules, pooled_modules
from edgekd.training.batches import Batch
from edgekd.training.loss_modules import Pure, Seen, Setting, said
from edgekd.training.losses import (
    explanation_losses,
    feature_losses,
    logit_losses,
    relation_losses,
)

# A function that makes the module of a loss from its setting and its parameters.
Maker = Callable[[Setting, Mapping[str, float]], nn.Module]

# Losses that compare places in a map. On a map with a single place they have nothing to compare.
PLACES = {"attention", "cat", "e2kd"}


def build(term: Term, at: Setting) -> nn.Module:
    """The module of a loss. Raises RecipeError for a student or a setting that it does not fit."""
    if term.name in PLACES and at.shapes["last"][-1] < 2:
        raise RecipeError(
            f"distil.losses.{term.name} compares places, but the student's last map has only one",
            "raise data.input_px: a MobileNet divides it by 32",
        )
    parameters = dict(term.parameters)
    if term.name in _MAKERS:
        return _MAKERS[term.name](at, parameters)
    if term.method.function:
        value = plugins.load(term.method.function, f"the loss {term.name!r}", term.provider)
        return Pure(lambda seen, batch: value(seen, batch, **parameters))
    raise RecipeError(f"distil.losses.{term.name} has no module")


def _on_logits(loss: Callable[..., Tensor]) -> Maker:
    """A loss(student's logits, teacher's logits, **parameters)."""
    return lambda _at, p: Pure(lambda seen, batch: loss(seen.logits, said(batch, "logits"), **p))


def _on_logits_and_targets(loss: Callable[..., Tensor]) -> Maker:
    """A loss(student's logits, teacher's logits, targets, **parameters), which reads the targets'
    places on the CPU.
    """
    return lambda _at, p: Pure(
        lambda seen, batch: loss(seen.logits, said(batch, "logits"), batch.targets, **p),
        reads=True,
    )


def _on_pooled(loss: Callable[..., Tensor], reads: bool = False) -> Maker:
    """A loss(student's pooled features, teacher's pooled features, **parameters)."""
    return lambda _at, p: Pure(
        lambda seen, batch: loss(seen.pooled, said(batch, "pooled"), **p), reads
    )


def _dist_batch(at: Setting, p: Mapping[str, float]) -> nn.Module:
    many = at.labels == "many"
    loss = logit_losses.dist_batch_many if many else logit_losses.dist_batch
    return _on_logits(loss)(at, p)


def _rank(at: Setting, p: Mapping[str, float]) -> nn.Module:
    def value(seen: Seen, batch: Batch) -> Tensor:
        student = _scores(seen.logits, at.labels)
        teacher = _scores(said(batch, "logits"), at.labels)
        return logit_losses.rank(student, teacher, temperature=p["temperature"])

    return Pure(value)


def _scores(logits: Tensor, labels: Labels) -> Tensor:
    """What the AUC of a class ranks images by, float32 [b, k]."""
    return logits if labels == "many" else logit_losses.odds(logits)


def _attention(at: Setting, _p: Mapping[str, float]) -> nn.Module:
    def value(seen: Seen, batch: Batch) -> Tensor:
        own = seen.taps[at.taps[-1]]
        return feature_losses.attention(
            own, adapters.resize_map(said(batch, "grid"), own.shape[-1])
        )

    return Pure(value)


def _cat(at: Setting, p: Mapping[str, float]) -> nn.Module:
    side = int(p["side"])
    return loss_modules.Maps(
        at,
        "cat",
        lambda own, batch: explanation_losses.cat(own, said(batch, "cams"), side=side),
    )


def _e2kd(own: Tensor, batch: Batch) -> Tensor:
    teacher = adapters.resize_map(said(batch, "cams"), own.shape[-1])
    return explanation_losses.e2kd(own, teacher, said(batch, "logits").argmax(1))


_MAKERS: dict[str, Maker] = {
    "kd_standardised": _on_logits(logit_losses.kd_standardised),
    "per_label": _on_logits(logit_losses.per_label),
    "dkd": _on_logits_and_targets(logit_losses.dkd),
    "nkd": _on_logits_and_targets(logit_losses.nkd),
    "dist": _on_logits(logit_losses.dist),
    "dist_batch": _dist_batch,
    "rank": _rank,
    "srd": lambda at, p: pooled_modules.Srd(at, **p),
    "pefd": lambda at, p: pooled_modules.Pefd(at, **p),
    "infonce": lambda at, p: pooled_modules.Infonce(at, **p),
    "cosine": lambda at, _p: pooled_modules.Cosine(at),
    "gan": lambda at, p: pooled_modules.Discriminated(at, **p),
    "gram": lambda at, _p: loss_modules.OnGrid(at, feature_losses.gram),
    "hcl": lambda at, _p: loss_modules.OnGrid(at, feature_losses.hcl),
    "attention": _attention,
    "rkd": _on_pooled(relation_losses.rkd, reads=True),  # which distances are not 0
    "sp": _on_pooled(relation_losses.sp),
    "cat": _cat,
    "e2kd": lambda at, _p: loss_modules.Maps(at, "e2kd", _e2kd),
    "self_exits": lambda at, p: loss_modules.SelfExits(at, **p),
    "mutual": lambda at, p: loss_modules.Mutual(at, **p),
    "robust": lambda at, p: loss_modules.Robust(at, **p),
    "fair": lambda at, _p: loss_modules.Fair(at),
}
