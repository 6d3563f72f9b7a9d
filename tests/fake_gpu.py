"""A GPU that does not exist: torch's fake tensors say where a real one would fail or wait.

Their device is "cuda:0", and they have shapes and no values. An operation that mixes devices raises
an error, and so does one for which the CPU would have to read a value. Backward passes need a real
device.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from edgekd.networks import compute
from edgekd.training import views

CUDA = torch.device("cuda", 0)


@contextlib.contextmanager
def fake_gpu() -> Iterator[None]:
    """A context in which tensors that are made on "cuda" are fake ones."""
    pin = compute.pinned
    views.pinned = lambda part, _device: part  # fake tensors cannot be pinned
    library = torch.library.Library("aten", "IMPL", "Meta")
    # torch does not know the shapes that this gives.
    library.impl("_fake_quantize_per_tensor_affine_cachemask_tensor_qparams", _quantized)
    try:
        with warnings.catch_warnings(), FakeTensorMode(allow_non_fake_inputs=True):
            warnings.simplefilter("ignore")
            yield
    finally:
        library._destroy()
        views.pinned = pin


def _quantized(x: Tensor, *_rest: object) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(x, dtype=torch.bool)


def on_gpu(part: Tensor) -> Tensor:
    """A fake tensor like a real one, on the GPU."""
    return torch.empty_strided(part.shape, part.stride(), dtype=part.dtype, device=CUDA)


def move(module: nn.Module) -> None:
    """Put fake parameters and buffers on the GPU in the place of a module's own."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(on_gpu(parameter), parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = on_gpu(buffer)
