"""What the exact kernels compute with: operands, and real numbers rounded to codes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.tflite.flatbuffer import LiteOp, LiteTensor
from edgekd.tflite.int8_rules import INT8_MAX, INT8_MIN

Codes = npt.NDArray[np.int64]
Real = npt.NDArray[np.float64]

# schema.fbs: enum ActivationFunctionType
ACTIVATION_BOUNDS: dict[int, tuple[float, float]] = {
    0: (-np.inf, np.inf),
    1: (0.0, np.inf),
    2: (-1.0, 1.0),
    3: (0.0, 6.0),
}


@dataclasses.dataclass(frozen=True)
class Operand:
    """One input of an operator: its tensor, and its codes (int8, uint8 or int32, in its shape)."""

    tensor: LiteTensor
    codes: npt.NDArray[Any]

    @property
    def scale(self) -> float:
        """Per-tensor scale, as float64."""
        return float(self.tensor.scale[0])

    @property
    def zero_point(self) -> int:
        """Per-tensor zero point."""
        return int(self.tensor.zero_point[0])

    @property
    def centred(self) -> Real:
        """Codes minus zero point, float64."""
        return self.codes.astype(np.float64) - self.zero_point

    @property
    def real(self) -> Real:
        """Scale times centred codes, float64."""
        return self.centred * self.scale


# (the operator, its inputs, its output tensor) -> the output codes
Kernel = Callable[[LiteOp, Sequence[Operand], LiteTensor], Codes]


def to_codes(real: Real, output: LiteTensor, activation: int = 0) -> Codes:
    """Codes of real numbers in the range of `output`, after a fused activation.

    Rounds half to even, then saturates. `activation` is schema.fbs's ActivationFunctionType, as a
    number.
    """
    scale, zero_point = float(output.scale[0]), int(output.zero_point[0])
    low, high = (
        np.rint(bound / scale) + zero_point if np.isfinite(bound) else bound
        for bound in ACTIVATION_BOUNDS[int(activation)]
    )
    lowest, highest = (0, INT8_MAX - INT8_MIN) if output.dtype == "UINT8" else (INT8_MIN, INT8_MAX)
    codes = np.rint(real / scale) + zero_point
    return np.clip(codes, max(low, lowest), min(high, highest)).astype(np.int64)
