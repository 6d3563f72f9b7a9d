"""A teacher that answers about views of images, for the cache and during training.

On the CPU, cached and live answers are equal bit for bit. Answers are float16 for that reason, and
images go through the network in blocks of one size: libraries choose their kernels by the size of a
batch, and kernels round differently.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from edgekd.core.artifacts import Network
from edgekd.core.errors import RecipeError
from edgekd.networks import builders, watching
from edgekd.networks.compute import Compute, autocast
from edgekd.networks.inference import ON_CPU, classify, precision
from edgekd.training import views
from edgekd.training.adapters import resize_map, tokens_to_map
from edgekd.training.losses import explanation_losses
from edgekd.training.oracle_settings import OracleSettings

# Images in a forward pass. It is the student's default batch, so that live blocks need no filling.
BLOCK = 32
# On a GPU, where a block of 32 would not occupy it. Answers there are equal up to rounding.
GPU_BLOCK = 256
Answers = dict[str, Tensor]


class Oracle:
    """A teacher that answers about seeded views of one data set, `pixels` [n, c, h, w].

    Answers are float16: "logits" [b, k], "pooled" [b, d], with `grid_side` "grid" [b, d, side,
    side] (the map of the last tap), and with `cam_side` "cams" [b, k, side, side] (class activation
    maps).

    Raises RecipeError when class activation maps are asked for and the classifier is not one linear
    layer on the last map.
    """

    def __init__(
        self,
        teacher: Network,
        pixels: np.ndarray,
        settings: OracleSettings,
        compute: Compute = ON_CPU,
    ) -> None:
        self.net = compute.place(builders.restore(teacher))
        self.dtype = precision(settings.precision, self.net, compute)
        self.render = views.Renderer(pixels, teacher.px, teacher.mean, teacher.std, compute.device)
        self.block = BLOCK if compute.is_host else GPU_BLOCK
        self.prefix = getattr(self.net, "num_prefix_tokens", 0)
        self.tap = builders.taps(settings.model, self.net)[-1] if settings.grid_side else ""
        self.grid_side, self.cam_side = settings.grid_side, settings.cam_side

    def ask(self, rows: Tensor, drawn: views.Views) -> Answers:
        """Answers about the given view of images `rows`, int64 [b].

        They are computed in blocks; on the CPU the last one is filled with copies.
        """
        found = []
        for block in rows.split(self.block):
            short = 0 if self.block == GPU_BLOCK else self.block - len(block)
            filled = torch.cat([block, block[-1:].expand(short)])
            found.append(
                {name: value[: len(block)] for name, value in self._block(filled, drawn).items()}
            )
        return {name: torch.cat([part[name] for part in found]) for name in found[0]}

    @torch.inference_mode()
    def _block(self, rows: Tensor, drawn: views.Views) -> Answers:
        images = self.render.views(rows, drawn)
        with (
            watching.watch(self.net, [self.tap] if self.grid_side else []) as seen,
            autocast(self.dtype, images.device),
        ):
            last = self.net.forward_features(images)  # type: ignore[operator]
            pooled = self.net.forward_head(last, pre_logits=True)  # type: ignore[operator]
        # The classifier runs in float32: bfloat16 would round its logits to 3 digits.
        pooled = pooled.float()
        logits = classify(self.net, last.float(), pooled)
        answers = {"logits": logits, "pooled": pooled}
        if self.grid_side:
            answers["grid"] = resize_map(
                tokens_to_map(seen[self.tap].float(), self.prefix), self.grid_side
            )
        if self.cam_side:
            answers["cams"] = resize_map(
                self._cams(watching.channels_first(self.net, last.float())), self.cam_side
            )
        return {name: value.half() for name, value in answers.items()}

    def _cams(self, last: Tensor) -> Tensor:
        """Class activation maps [b, k, h, w] of the last features."""
        head = self.net.get_classifier()  # type: ignore[operator]
        norm = getattr(self.net, "fc_norm", None)
        if norm is not None and last.ndim == 3:
            last = norm(last)
        features = tokens_to_map(last, self.prefix)
        if not isinstance(head, nn.Linear) or features.shape[1] != head.in_features:
            raise RecipeError(
                f"{type(self.net).__name__} has no class activation maps: its classifier is not "
                "one linear layer on its last map",
                "leave distil.losses.cat and e2kd out, or name another teacher",
            )
        return explanation_losses.cams(features, head.weight)
