"""The modules of a student whose outputs losses read, by the place that each loss names."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from edgekd.networks import builders
from edgekd.settings.loss_reading import Place
from edgekd.settings.model_specs import ModelSpec


def why_whole(spec: ModelSpec, model: nn.Module, reads: Iterable[Place]) -> dict[str, str]:
    """{module whose channels stay whole: why}, as `channel_groups.survey` takes it."""
    places = set(reads)
    found: dict[str, str] = {}
    if places & {Place.LAST, Place.TAPS}:
        taps = builders.taps(spec, model)
        found |= dict.fromkeys(taps if Place.TAPS in places else taps[-1:], "read by a loss")
    if Place.POOLED in places:
        classifier = model.get_classifier()  # type: ignore[operator]
        name = next(name for name, module in model.named_modules() if module is classifier)
        found[name] = "read by a loss"
    return found
