"""The recipe's table [run]: how a build runs. None of it is part of a stage's key."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from msgspec import Meta


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """What training runs on. The results of finished stages are kept when it changes."""

    device: Annotated[
        str,
        Meta(
            pattern=r"^(auto|cpu|cuda(:[0-9]{1,3})?|mps)$",
            examples=["auto", "cpu", "cuda", "cuda:N", "mps"],
            description="What networks are trained on, and teachers are asked on: the CPU, an "
            'NVIDIA GPU (`cuda`, or `cuda:1` for the second one) or an Apple GPU (`mps`). "auto": '
            "CUDA, then MPS, then the CPU.",
        ),
    ] = "auto"
    precision: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        Meta(
            description="Number format of the matrix products of float training. Everything else, "
            'and all of int8 training, is in float32. "auto": bfloat16 on NVIDIA GPUs that have '
            "it, float16 on older ones, float32 on other devices."
        ),
    ] = "auto"
    cuda_graphs: Annotated[
        bool,
        Meta(
            description="On an NVIDIA GPU: record a training step once and replay it, where the "
            "losses allow it."
        ),
    ] = True
