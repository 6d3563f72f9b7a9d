"""Forward passes without gradients, in the precision that suits the network and the device."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgekd.networks.compute import Compute, autocast, device_of, moved

ON_CPU = Compute()


def bfloat16_is_fast() -> bool:
    """Whether this CPU multiplies bfloat16 natively (AMX or AVX512-BF16).

    On other CPUs autocast to bfloat16 is slower than float32.
    """
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags


def precision(wanted: str, model: nn.Module, compute: Compute = ON_CPU) -> torch.dtype:
    """The dtype for inference on a device.

    `wanted`: "float32", "bfloat16", or "auto", which means bfloat16 for transformers where it is
    fast. CNNs stay in float32: in measurements on CPUs bfloat16 made them no faster.
    """
    if wanted != "auto":
        return torch.bfloat16 if wanted == "bfloat16" else torch.float32
    fast = bfloat16_is_fast() if compute.is_host else compute.training == torch.bfloat16
    return torch.bfloat16 if hasattr(model, "patch_embed") and fast else torch.float32


@torch.inference_mode()
def logits_of(
    model: nn.Module, batches: Iterable[Tensor], dtype: torch.dtype = torch.float32
) -> NDArray[np.float32]:
    """Logits float32 [n, classes] of normalised batches [b, c, px, px]. Sets eval mode.

    Batches are moved to where the model is.
    """
    model.eval()
    device = device_of(model)
    with autocast(dtype, device):
        found = [model(moved(batch, device)).float() for batch in batches]
        return torch.cat(found).cpu().numpy()


@torch.inference_mode()
def logits_and_features(
    model: nn.Module, images: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Logits float32 [b, classes], and the pooled features float32 [b, d] they come from."""
    with autocast(dtype, images.device):
        maps = model.forward_features(images)  # type: ignore[operator]
        features = model.forward_head(maps, pre_logits=True)  # type: ignore[operator]
    # The classifier runs in float32: bfloat16 would round its logits to 3 digits.
    features = features.float()
    return classify(model, maps.float(), features), features


def classify(model: nn.Module, maps: Tensor, features: Tensor) -> Tensor:
    """Logits float32 [b, classes] of a timm network from its last maps and its pooled features.

    A network with two classifiers, such as a DeiT that was distilled, feeds each from a token of
    its own and returns their average in eval mode, so it reads the maps again.
    """
    classifier = model.get_classifier()  # type: ignore[operator]
    if isinstance(classifier, nn.Module):
        return classifier(features)
    return model.forward_head(maps)  # type: ignore[operator]
