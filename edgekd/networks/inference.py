"""Forward passes without gradients: logits of a float network, in the precision that suits it and this CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn


def bfloat16_is_fast() -> bool:
    """Whether this CPU multiplies bfloat16 natively (AMX or AVX512-BF16); elsewhere autocast only costs time."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags


def precision(wanted: str, model: nn.Module) -> torch.dtype:
    """The dtype for inference: "float32", "bfloat16", or "auto" = bfloat16 for transformers where it is fast.

    CNNs stay in float32: measured, bfloat16 gained nothing for them.
    """
    if wanted != "auto":
        return torch.bfloat16 if wanted == "bfloat16" else torch.float32
    return torch.bfloat16 if hasattr(model, "patch_embed") and bfloat16_is_fast() else torch.float32


def autocast(dtype: torch.dtype) -> contextlib.AbstractContextManager[object]:
    """Autocast to `dtype`, or nothing for float32."""
    return torch.autocast("cpu", dtype) if dtype != torch.float32 else contextlib.nullcontext()


@torch.inference_mode()
def logits_of(
    model: nn.Module, batches: Iterable[Tensor], dtype: torch.dtype = torch.float32
) -> np.ndarray:
    """Logits float32 [n, k] of normalised batches [b, c, px, px]."""
    model.eval()
    with autocast(dtype):
        return torch.cat([model(batch).float() for batch in batches]).numpy()


@torch.inference_mode()
def logits_and_features(
    model: nn.Module, images: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Logits float32 [b, k] and the pooled features float32 [b, d] that the classifier saw."""
    with autocast(dtype):
        features = model.forward_head(model.forward_features(images), pre_logits=True)  # type: ignore[operator]
    features = (
        features.float()
    )  # the classifier runs in float32: bfloat16 would round its logits to 3 digits
    return model.get_classifier()(features), features  # type: ignore[operator]
