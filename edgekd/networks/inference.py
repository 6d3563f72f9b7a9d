"""Forward passes without gradients, in the precision that suits the network and the device."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgekd.core import cores
from edgekd.core.artifacts import RECORDED, Network, canonical_json, sha256
from edgekd.core.pages import Resident
from edgekd.networks.builders import normalised, restore
from edgekd.networks.compute import Compute, autocast, device_of, moved

ON_CPU = Compute()
# Pixels of the images of one forward pass of a student on a CPU: 5 images at 224 px, 64 at 64 px.
# Blocks of more than 32 MiB are not kept by the C library (`edgekd.core.allocator`): with 32 images
# at 224 px, a third of the time went into clearing pages, and a pass took 1 GiB.
PIXELS = 2**18
# On a GPU.
BATCH = 64


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


def answers_of(
    network: Network, images: NDArray[np.uint8], on: Compute = ON_CPU
) -> NDArray[np.float32]:
    """`answers` of the network of an artifact, on a device.

    Of a network of the user's, the answers to the last two sets of images are kept: two stages ask
    for the same ones.
    """
    if network.arch != RECORDED:
        return _asked(network, images, on)
    state = sha256(network.state), sha256(np.ascontiguousarray(images).data.cast("B")), str(on)
    about = {"options": network.options, "mean": network.mean, "std": network.std, "state": state}
    key = sha256(canonical_json(about))
    found = _KEPT.pop(key, None)
    _KEPT[key] = _asked(network, images, on) if found is None else found
    for oldest in list(_KEPT)[:-2]:
        del _KEPT[oldest]
    return _KEPT[key]


_KEPT: dict[str, NDArray[np.float32]] = {}  # the newest last


def _asked(network: Network, images: NDArray[np.uint8], on: Compute) -> NDArray[np.float32]:
    return answers(on.place(restore(network)), images, network.mean, network.std)


def answers(
    model: nn.Module, images: NDArray[np.uint8], mean: list[float], std: list[float]
) -> NDArray[np.float32]:
    """Logits float32 [n, classes] of images uint8 [n, px, px, channels], where the model is.

    On a CPU several threads run some images each. Sets eval mode.
    """
    on_cpu = device_of(model).type == "cpu"
    count = max(1, PIXELS // images.shape[1] ** 2) if on_cpu else BATCH

    def some(start: int) -> NDArray[np.float32]:
        part = images[start : start + count]
        found = logits_of(model, [normalised(part, mean, std)])
        resident.used(len(part), part[0].nbytes)
        return found

    resident, starts = Resident(images), range(0, len(images), count)
    parts = cores.in_order(some, starts, torch.set_num_threads) if on_cpu else [*map(some, starts)]
    return np.concatenate(parts)


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
