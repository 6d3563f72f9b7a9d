"""The border of a convolution or a pool at another size of its input."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Self

from edgekd.tflite.flatbuffer import LiteOp
from edgekd.tflite.int8_rules import PADDING_SAME, windows

Pair = tuple[int, int]  # pixels before and after a map, along one axis


@dataclasses.dataclass(frozen=True)
class Window:
    """A window over a map; every pair is for height and width.

    `has_border`: whether the captured operator itself has one, which is TFLite's SAME.
    `follows_size`: whether the network chooses the border by the size of its input, as TensorFlow
    does.
    """

    kernel: Pair
    strides: Pair
    dilations: Pair
    has_border: bool
    follows_size: bool

    @classmethod
    def of(cls, op: LiteOp, kernel: Sequence[int], *, follows_size: bool) -> Self:
        """The window of a captured operator."""
        options = op.options
        return cls(
            (kernel[0], kernel[1]),
            (int(options["strideH"]), int(options["strideW"])),
            (int(options.get("dilationHFactor", 1)), int(options.get("dilationWFactor", 1))),
            options["padding"] == PADDING_SAME,
            follows_size,
        )

    def same(self, shape: Sequence[int]) -> list[Pair]:
        """The border that SAME means on a map of this shape (NHWC)."""
        found = []
        for axis in (0, 1):
            kernel, stride, dilation = self.kernel[axis], self.strides[axis], self.dilations[axis]
            _, before, after = windows(shape[1 + axis], kernel, stride, dilation, PADDING_SAME)
            found.append((before, after))
        return found

    def pads(
        self, own: list[Pair] | None, captured: Sequence[int], new: Sequence[int]
    ) -> list[Pair]:
        """The border on a map of the shape `new`.

        `own`: that of the PAD before the window in the capture, None where there is none.
        `captured`: the shape of the map there. Raises ValueError where the capture does not show
        the network's rule: torch's own border is as wide before the map as after it, so an uneven
        one was computed.
        """
        if self.follows_size:
            return self.same(new)
        if own is not None:
            return own
        if not self.has_border:
            return [(0, 0), (0, 0)]
        pads = self.same(captured)
        # With a stride of 1, SAME is as wide at every size.
        if max(self.strides) > 1 and any(before != after for before, after in pads):
            raise ValueError("a border that may depend on the size")
        return pads

    def pool_pads(
        self,
        own: list[Pair] | None,
        captured: Sequence[int],
        outputs: Sequence[int],
        new: Sequence[int],
    ) -> list[Pair]:
        """As `pads`, of a max pool, which pads no pixel behind the map that it does not read.

        `outputs`: the shape of its output in the capture. Raises ValueError where the capture does
        not show whether the pool rounds the size of its output up or down.
        """
        found = []
        seen = own or (self.same(captured) if self.has_border else [(0, 0), (0, 0)])
        for axis in (0, 1):
            before = seen[axis][0]
            sizes = {
                up: self._outputs(captured[1 + axis], axis, before, up) for up in (False, True)
            }
            sides = {
                self._outputs(new[1 + axis], axis, before, up)
                for up, size in sizes.items()
                if size == outputs[1 + axis]
            }
            if len(sides) != 1:
                raise ValueError("a pool whose rounding the capture does not show")
            reach = (sides.pop() - 1) * self.strides[axis] + self.kernel[axis]
            found.append((before, max(reach - new[1 + axis] - before, 0)))
        return found

    def _outputs(self, size: int, axis: int, pad: int, up: bool) -> int:
        """Outputs of torch's pool along one axis. `up`: with ceil_mode."""
        steps, left = divmod(size + 2 * pad - self.kernel[axis], self.strides[axis])
        more = up and left > 0 and (steps + 1) * self.strides[axis] < size + pad
        return steps + 1 + more
