"""What networks run on: the device and the number format that `[run]` of a recipe asks for.

Matrix products of float training may run in bfloat16 or float16. Everything else runs in full
float32: within `full_float32`, a GPU does not round the factors of a product to TensorFloat-32.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.core.context import Context, Hardware
from edgekd.core.errors import RecipeError

CPU = torch.device("cpu")
DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
# The first generation of NVIDIA GPUs that multiplies bfloat16 (Ampere).
BFLOAT16_CAPABILITY = (8, 0)


@dataclasses.dataclass(frozen=True)
class Compute:
    """A device, and the number format of the matrix products of float training on it.

    `cuda_graphs`: whether training steps may be captured as CUDA graphs.
    """

    device: torch.device = CPU
    training: torch.dtype = torch.float32
    cuda_graphs: bool = True

    def __str__(self) -> str:
        """For example "cpu", or "cuda:0 (NVIDIA H100 80GB HBM3), bfloat16"."""
        name = ""
        if self.device.type == "cuda":
            name = f" ({torch.cuda.get_device_name(self.device)})"
        number = "" if self.training == torch.float32 else f", {spelled(self.training)}"
        return f"{self.device}{name}{number}"

    @property
    def is_host(self) -> bool:
        """Whether the device is the CPU, where tensors need not be moved."""
        return self.device.type == "cpu"

    def exactly(self) -> Compute:
        """The same device in float32 and float64; the CPU where it has no float64 (Apple's GPU)."""
        device = CPU if self.device.type == "mps" else self.device
        return Compute(device, cuda_graphs=self.cuda_graphs)

    def place[M: nn.Module](self, net: M) -> M:
        """The network, moved to the device in place, where it is not there yet."""
        return net if self.is_host else net.to(self.device)


def spelled(dtype: torch.dtype) -> str:
    """A number format as a recipe spells it: "bfloat16"."""
    return str(dtype).removeprefix("torch.")


def autocast(
    dtype: torch.dtype, device: torch.device = CPU
) -> contextlib.AbstractContextManager[object]:
    """A context with autocast to `dtype` on a device, or without it for float32.

    It keeps no copies of weights between forward passes: a captured step must make its own.
    """
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype, cache_enabled=device.type == "cpu")


def of(context: Context) -> Compute:
    """What a stage computes on. The stage's result will say so.

    Raises RecipeError for a device that this machine does not have.
    """
    found = chosen(context.hardware)
    context.ran_on(str(found))
    return found


def exact_of(context: Context) -> Compute:
    """As `of`, for a stage that computes in float32 and float64 only."""
    found = chosen(context.hardware).exactly()
    context.ran_on(str(found))
    return found


@functools.cache
def chosen(hardware: Hardware) -> Compute:
    """The device and the number format for the settings `run.device` and `run.precision`.

    Raises RecipeError for a device that this machine does not have.
    """
    device = _device(hardware.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # streams, and random numbers without a device, are of it
    asked = hardware.precision
    dtype = _fastest(device) if asked == "auto" else DTYPES[asked]
    return Compute(device, dtype, hardware.cuda_graphs)


def _device(wanted: str) -> torch.device:
    """The device of a name as in `run.device`. "auto" takes CUDA, then MPS, then the CPU."""
    kind, _, number = wanted.partition(":")
    if kind == "auto":
        apple = "mps" if torch.backends.mps.is_available() else "cpu"
        kind = "cuda" if _cuda_devices() else apple
    if kind == "cpu":
        return CPU
    if kind == "mps":
        if not torch.backends.mps.is_available():
            raise _missing(wanted, "has no Metal GPU that torch can use")
        return torch.device("mps", 0)
    count = _cuda_devices()
    if not count:
        why = "was built without CUDA" if torch.version.cuda is None else "sees no CUDA GPU"
        raise _missing(wanted, why)
    # A launcher of several processes gives each on this machine its own number.
    index = int(number) if number else int(os.environ.get("LOCAL_RANK", "0")) % count
    if index >= count:
        raise _missing(wanted, f"sees {count} CUDA GPU{'s' if count > 1 else ''}, counted from 0")
    return torch.device("cuda", index)


def _cuda_devices() -> int:
    """The number of CUDA GPUs that can be used."""
    with warnings.catch_warnings():  # torch warns where a driver is missing or too old
        warnings.simplefilter("ignore")
        return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _missing(wanted: str, why: str) -> RecipeError:
    return RecipeError(
        f"run.device is {wanted!r}, but torch {torch.__version__} on this machine {why}",
        "leave --device out: it then takes what there is, and the CPU otherwise",
    )


def _fastest(device: torch.device) -> torch.dtype:
    """The number format that "auto" stands for.

    A CPU trains CNNs no faster in bfloat16. On Apple's GPUs neither format was tried.
    """
    if device.type != "cuda":
        return torch.float32
    if torch.version.hip or torch.cuda.get_device_capability(device) >= BFLOAT16_CAPABILITY:
        return torch.bfloat16
    return torch.float16


def free_bytes(device: torch.device) -> int:
    """Memory of a GPU that can still be taken, in bytes: what the driver has, and torch's own."""
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def device_of(net: nn.Module) -> torch.device:
    """Where a network's weights are; the CPU for one without weights."""
    return next((parameter.device for parameter in net.parameters()), CPU)


def moved(part: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device. Copies from pinned memory do not wait until they are finished."""
    return part if part.device == device else part.to(device, non_blocking=True)


def pinned(part: Tensor, device: torch.device) -> Tensor:
    """The tensor in memory that a CUDA GPU reads by itself; the tensor as it is for other devices.

    A copy from there neither waits for the GPU nor holds up the thread that asks for it.
    """
    if device.type != "cuda":
        return part
    with torch.cuda.device(device):  # a thread of its own would begin to use the first GPU, too
        return part.pin_memory()


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """A context in which products of float32 numbers are products of float32 numbers.

    By default cuDNN's convolutions round the factors to TensorFloat-32, whose 10 bits of mantissa
    are too few for what a certificate compares; a program that uses EdgeKD may have allowed it for
    matrix products, too. Both of torch's interfaces to these flags are set, the older one first:
    torch raises an error where it reads one and the two contradict each other.
    """
    flags: tuple[Any, ...] = (
        torch.backends.cuda.matmul,
        torch.backends.cudnn.conv,  # type: ignore[attr-defined]
        torch.backends.cudnn.rnn,
    )
    before = [flag.fp32_precision for flag in flags]
    try:
        products = torch.get_float32_matmul_precision()
    except RuntimeError:  # set through the newer interface alone
        products = "high" if before[0] == "tf32" else "highest"
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    for flag in flags:
        flag.fp32_precision = "ieee"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = before[1] == "tf32"
        for flag, value in zip(flags, before, strict=True):
            flag.fp32_precision = value


def in_full_float32[**P, R](stage: Callable[P, R]) -> Callable[P, R]:
    """A stage's function that runs within `full_float32`."""

    @functools.wraps(stage)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with full_float32():
            return stage(*args, **kwargs)

    return run
