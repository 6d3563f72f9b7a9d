"""The size of images for which a network of timm is built.

A CNN takes images of any size. A transformer with position embeddings or windows is built for one
size, which its builder takes as `img_size`.
"""

from __future__ import annotations

import functools
import inspect

from edgekd.core.errors import RecipeError
from edgekd.settings.model_specs import ModelSpec

OPTION = "img_size"
CNN_PATCH = 1  # the patch that the model file of a CNN states


def sized(spec: ModelSpec, px: int) -> ModelSpec:
    """A student's network, built for images of this side where its builder takes it.

    An `img_size` of the user's own stays.
    """
    if spec.patch == CNN_PATCH or OPTION in spec.options:
        return spec
    return spec.with_options(option(spec.arch, px))


@functools.cache
def option(arch: str, px: int) -> dict[str, int]:
    """The option with which the builder makes the network for images of this side; {} for none.

    A file of timm's that knows `img_size` may hold networks that do not take it, so the builder is
    asked.
    """
    import timm  # here, so that a CNN of models/ is checked without torch
    import torch

    from edgekd.networks import builders
    from edgekd.settings import model_specs

    model_specs.register(arch)
    model_specs.check_name(arch, "network", timm.list_models())
    module = inspect.getmodule(timm.model_entrypoint(arch))
    if module is None or OPTION not in inspect.getsource(module):
        return {}
    if timm.get_pretrained_cfg_value(arch, "input_size")[-1] == px:
        return {}
    asked = {OPTION: px}
    try:
        with torch.device("meta"):  # without memory for the weights
            builders.create(arch, asked)
    except RecipeError as error:
        if f"unexpected keyword argument '{OPTION}'" in error.what:
            return {}
    return asked
