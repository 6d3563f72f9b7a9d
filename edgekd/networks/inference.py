"""Forward passes without gradients, in the precision that suits the network and this CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


def bfloat16_is_fast() -> bool:
    """Whether this CPU multiplies bfloat16 natively (AMX or AVX512-BF16).

    On other CPUs autocast to bfloat16 is slower than float32.
    """
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags


def precision(wanted: str, model: nn.Module) -> torch.dtype:
    """The dtype for inference.

    `wanted`: "float32", "bfloat16", or "auto", which means bfloat16 for transformers where it is
    fast. CNNs stay in float32: in measurements bfloat16 made them no faster.
    """
    if wanted != "auto":
        return torch.bfloat16 if wanted == "bfloat16" else torch.float32
    return torch.bfloat16 if hasattr(model, "patch_embed") and bfloat16_is_fast() else torch.float32


def autocast(dtype: torch.dtype) -> contextlib.AbstractContextManager[object]:
    """A context with autocast to `dtype`, or without it for float32."""
    return torch.autocast("cpu", dtype) if dtype != torch.float32 else contextlib.nullcontext()


@torch.inference_mode()
def logits_of(
    model: nn.Module, batches: Iterable[Tensor], dtype: torch.dtype = torch.float32
) -> NDArray[np.float32]:
    """Logits float32 [n, classes] of normalised batches [b, c, px, px]. Sets eval mode."""
    model.eval()
    with autocast(dtype):
        return torch.cat([model(batch).float() for batch in batches]).numpy()


@torch.inference_mode()
def logits_and_features(
    model: nn.Module, images: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Logits float32 [b, classes], and the pooled features float32 [b, d] they come from."""
    with autocast(dtype):
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
