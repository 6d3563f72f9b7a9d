"""The size of images for which a student is built.

A CNN takes images of any size. A transformer with position embeddings or windows is built for one
size, which its builder takes as `img_size`.
"""

from __future__ import annotations

from edgekd.settings.model_specs import ModelSpec

OPTION = "img_size"
CNN_PATCH = 1  # the patch that the model file of a CNN states


def sized(spec: ModelSpec, px: int) -> ModelSpec:
    """A student's network, built for images of this side where its builder takes it.

    An `img_size` of the user's own stays.
    """
    if spec.patch == CNN_PATCH or OPTION in spec.options:
        return spec
    from edgekd.networks import timm_networks  # torch: only for a network without a file in models/

    return spec.with_options(timm_networks.size_option(spec.arch, px))
