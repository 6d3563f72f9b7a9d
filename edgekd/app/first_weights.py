"""Finds first weights that are missing or do not fit, before any stage runs."""

from __future__ import annotations

from edgekd.core.errors import WeightsError
from edgekd.networks.foreign.forms import is_foreign, split_weights
from edgekd.settings import model_specs
from edgekd.settings.recipe import Recipe


def check(settings: Recipe, classes: int) -> None:
    """Look for the hub's weights, and for the classifier of a teacher that is used as it is.

    `classes`: of the data. Raises WeightsError. torch is loaded only where there is such a network.
    """
    teachers = []
    if settings.teacher.name != "none":
        named = [
            (settings.teacher.name, settings.teacher.weights),
            *(split_weights(other) for other in settings.teacher.others),
        ]
        teachers = [row for row in named if not is_foreign(row[0])]
    for name, weights in [(settings.distil.student, settings.distil.weights), *teachers]:
        if weights == "hub":
            from edgekd.networks import timm_networks

            timm_networks.check_hub(model_specs.spec(name))
    for name, weights in teachers if settings.teacher.as_it_is else []:
        spec = model_specs.spec(name)
        if weights == "none" or (not weights and not spec.package):
            raise WeightsError(
                f"{name} has random weights, so it cannot teach as it is (teacher.epochs = 0)",
                f"give its weights, {name}@FILE.safetensors, or train it: --set teacher.epochs=8",
            )
        if weights != "hub":
            from edgekd.networks import timm_networks

            timm_networks.check_outputs(spec, weights, classes)
