"""Every operator of a .tflite in each kernel family on some images, beside what it should give.

`kernel_check` describes the families and judges the differences.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.core.errors import DeviceError, ModelFileError
from edgekd.proof.exact_kernels import KERNELS
from edgekd.proof.failures import Failures
from edgekd.proof.operands import Operand
from edgekd.tflite.flatbuffer import LiteOp, LiteTensor
from edgekd.tflite.runtime import LiteRunner, as_int8, quantize_pixels

# name of the family -> the `kernels` argument of LiteRunner
FAMILIES: dict[str, str] = {"xnnpack": "default", "builtin": "builtin", "reference": "reference"}
HISTOGRAM_TOP = 3  # differences of this many LSB and more share the last bin
# A runtime that does not take the file, or fails on it.
Refusal = ModelFileError | DeviceError


@dataclasses.dataclass
class Differences:
    """Differences of one operator.

    `counts[k]` elements differ by k LSB; the last bin holds HISTOGRAM_TOP and more.
    """

    max_lsb: int
    counts: npt.NDArray[np.int64]

    @classmethod
    def none(cls) -> Differences:
        """Nothing counted yet."""
        return cls(0, np.zeros(HISTOGRAM_TOP + 1, np.int64))

    @classmethod
    def total(cls, parts: list[Differences]) -> Differences:
        """All of `parts` together."""
        counts = sum((part.counts for part in parts), cls.none().counts)
        return cls(max((part.max_lsb for part in parts), default=0), counts)

    def add(self, lsb: npt.NDArray[np.int32]) -> None:
        """Count the absolute differences of one image."""
        some = lsb[lsb > 0]
        self.max_lsb = max(self.max_lsb, int(some.max(initial=0)))
        self.counts[0] += lsb.size - some.size
        self.counts += np.bincount(np.minimum(some, HISTOGRAM_TOP), minlength=HISTOGRAM_TOP + 1)

    @property
    def share_exact(self) -> float:
        """Share of elements without a difference; 1.0 when nothing was counted."""
        return float(self.counts[0] / self.counts.sum()) if self.counts.sum() else 1.0


@dataclasses.dataclass
class Found:
    """What one family gave on some images: differences of each operator, and the answers, [n, ...].

    `refused`: operators that cannot be checked.
    """

    runner: LiteRunner
    differences: dict[str, Differences]
    answers: npt.NDArray[Any]
    refused: Failures


def joined(parts: list[Found | Refusal], failures: Failures) -> Found:
    """What one family gave on all images. Raises the error of a part that has one."""
    found: list[Found] = []
    for part in parts:
        if not isinstance(part, Found):
            raise part
        found.append(part)
        failures.extend(part.refused)
    labels = dict.fromkeys(label for part in found for label in part.differences)
    return Found(
        found[0].runner,
        {
            label: Differences.total(
                [part.differences[label] for part in found if label in part.differences]
            )
            for label in labels
        },
        np.concatenate([part.answers for part in found]),
        failures,
    )


class Part:
    """Some of the images, in every family.

    Families seldom differ. What an operator should give is therefore computed once for an image,
    and again only for a family whose inputs of that operator are others.
    """

    def __init__(self, data: bytes | memoryview, families: list[str], runtime: str | None) -> None:
        self.runners: dict[str, LiteRunner | ModelFileError | DeviceError] = {}
        for family in families:
            try:
                self.runners[family] = LiteRunner(
                    data, kernels=FAMILIES[family], keep="everything", runtime=runtime
                )
            except (ModelFileError, DeviceError) as error:
                self.runners[family] = error

    def checked(self, images: npt.NDArray[np.uint8], first: bool) -> dict[str, Found | Refusal]:
        """What each family gives. `first`: whether operators that cannot be checked are named."""
        differences: dict[str, dict[str, Differences]] = {family: {} for family in self.runners}
        answers: dict[str, list[npt.NDArray[Any]]] = {family: [] for family in self.runners}
        refused: dict[str, Failures] = {family: Failures() for family in self.runners}
        for number, image in enumerate(images):
            known = _Known()
            for family, runner in self.runners.items():
                if not isinstance(runner, LiteRunner):
                    continue
                try:
                    pixels = quantize_pixels(image[None], runner.input)
                    answers[family].append(runner.invoke(pixels))
                except (ModelFileError, DeviceError) as error:
                    self.runners[family] = error
                    continue
                named = refused[family] if first and number == 0 else Failures()
                for op in runner.graph.ops:
                    lsb = known.difference(op, runner, family, named)
                    if lsb is not None:
                        label = op.label(runner.graph.tensors)
                        differences[family].setdefault(label, Differences.none()).add(lsb)
        return {
            family: Found(
                runner,
                differences[family],
                as_int8(np.concatenate(answers[family])),
                refused[family],
            )
            if isinstance(runner, LiteRunner)
            else runner
            for family, runner in self.runners.items()
        }


class _Known:
    """What the operators should give for one image: by the operator's output, its inputs' codes and
    its own.
    """

    def __init__(self) -> None:
        self._seen: dict[int, tuple[list[Operand], npt.NDArray[np.int32]]] = {}

    def difference(
        self, op: LiteOp, runner: LiteRunner, family: str, failures: Failures
    ) -> npt.NDArray[np.int32] | None:
        """|found - expected| in LSB after an invoke; None, and a failure, when they cannot be
        compared.
        """
        tensors = runner.graph.tensors
        output = tensors[op.outputs[0]]
        if op.name not in KERNELS:
            failures.add(
                "op_local",
                "op",
                op.label(tensors),
                "an operator with exact arithmetic",
                "none",
                "choose a student that `edgekd models` lists",
            )
            return None
        found = runner.value(output.index).astype(np.int32)  # int64 takes twice the time
        operands = [
            Operand(tensors[index], _value(runner, tensors[index]))
            for index in op.inputs
            if index >= 0
        ]
        fits = found.shape == output.shape and all(
            part.codes.shape == part.tensor.shape for part in operands
        )
        expected = self._expected(op, operands, output) if fits else None
        if expected is None or expected.shape != found.shape:
            failures.add(
                "op_local",
                "op",
                op.label(tensors),
                list(output.shape),
                f"{list(found.shape)} in {family}",
                "convert again; the operator's options do not give the shape that the file states",
            )
            return None
        return np.abs(found - expected)

    def _expected(
        self, op: LiteOp, operands: list[Operand], output: LiteTensor
    ) -> npt.NDArray[np.int32]:
        before, codes = self._seen.get(output.index, ([], None))
        same = codes is not None and all(
            np.array_equal(one.codes, other.codes)
            for one, other in zip(operands, before, strict=True)
        )
        if codes is None or not same:
            codes = KERNELS[op.name](op, operands, output).astype(np.int32)
            self._seen[output.index] = operands, codes
        return codes


def _value(runner: LiteRunner, tensor: LiteTensor) -> npt.NDArray[Any]:
    return runner.value(tensor.index) if tensor.data is None else tensor.data
