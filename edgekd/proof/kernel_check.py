"""Each op of a .tflite in each kernel family, fed with that family's own inputs, against exact arithmetic.

    xnnpack     what an app gets: the XNNPACK delegate. With every tensor preserved, the runtime cuts the graph into one
                delegate an op, so that each result can be read; that their chain gives the same output as the file run
                whole is checked. An op that the delegate does not take runs in the built-in kernels, and is named
                (ai-edge-litert 2.1.2 leaves HARD_SWISH, AVERAGE_POOL_2D, SOFTMAX, lone RELU, PADV2 and QUANTIZE there)
    builtin     TFLite's own optimised kernels, no delegate (what a runtime without XNNPACK, or a board's, falls back to)
    reference   TFLite's reference kernels: what TensorFlow's documents call the op's definition

The arithmetic of each, and why it may be off:

    CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED
        int32 sums are exact everywhere; only their rounding to int8 differs: `tests/requantize.py` has it to the bit
    ADD     xnnpack: 32-bit fixed-point multipliers of some 21 bits, one rounding. The others: inputs shifted left by 20
            bits, one fixed-point multiplier each, their sum a third one. Errors of 2^-20 and one rounding: 1 LSB
    MUL     the int32 product through the same rounding as a convolution's sum, broadcast or not: 1 LSB. What is not here:
            a clamp to [0, 1] (hard-sigmoid) is the saturation of its layer, and a lone batch norm a DEPTHWISE_CONV_2D
    MEAN    sums are exact; division and rescaling are one multiplier: float32 in xnnpack, fixed point with a shift in the
            others, whose two roundings meet many ties (a count of 9 or 16): off by 1 in up to 40 % of elements, never by 2
    AVERAGE_POOL_2D
            integer division, half away from zero, on the codes; 1 LSB for a runtime that divides in float32
    LOGISTIC, TANH
            builtin and xnnpack: a table of 256 float results. reference: gemmlowp's fixed-point logistic: 1 LSB
    SOFTMAX builtin and reference: fixed-point or table exponentials of 16 to 31 bits; one rounding to 1/256: 1 LSB
    HARD_SWISH
            16-bit fixed point against real numbers (to the bit in `tests/requantize.py`): x and relu6(x + 3) / 6 have 15 bits
            each, so their product, shifted down to a code and rounded once, is within 1 LSB up to s_in / s_out = 128,
            beyond which the kernel refuses the file (training keeps it under 64)
    RELU, RELU6 as ops
            a rescaling by one multiplier: 1 LSB
    MAX_POOL_2D, PAD, PADV2, RESHAPE, TRANSPOSE, SLICE, CONCATENATION of one range, QUANTIZE between uint8 and int8
            move codes: exact
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.core.artifacts import Json
from edgekd.core.errors import DeviceError, ModelFileError
from edgekd.proof.exact_kernels import KERNELS, Operand
from edgekd.proof.failures import Failures
from edgekd.tflite.flatbuffer import LiteGraph, LiteTensor
from edgekd.tflite.operators import operator_table
from edgekd.tflite.runtime import LiteRunner, quantize_pixels

FAMILIES: dict[str, str] = {
    "xnnpack": "default",
    "builtin": "builtin",
    "reference": "reference",
}  # -> LiteRunner's kernels
HISTOGRAM_TOP = 3  # differences of this many LSB and more share the last bin


# The block of a file that was not run.
NOT_RUN: dict[str, Json] = {
    "ops": 0,
    "max_lsb": 0,
    "share_exact": 1.0,
    "worst_op": None,
    "images": 0,
    "families": {},
    "by_op": [],
}


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """How many LSB an op may be off exact arithmetic, and why."""

    lsb: int
    why: str


MOVES_CODES = Tolerance(0, "moves codes: nothing is rounded")
ROUNDING = Tolerance(1, "one or two roundings of a product with a multiplier of 24 to 31 bits")
TOLERANCES: dict[str, Tolerance] = {
    "CONV_2D": ROUNDING,
    "DEPTHWISE_CONV_2D": ROUNDING,
    "FULLY_CONNECTED": ROUNDING,
    "MUL": ROUNDING,
    "RELU": ROUNDING,
    "RELU6": ROUNDING,
    "ADD": Tolerance(1, "two input multipliers and an output multiplier in fixed point of 20 bits"),
    "MEAN": Tolerance(1, "division and rescaling share one multiplier; ties are common"),
    "AVERAGE_POOL_2D": Tolerance(1, "integer division here, float division there"),
    "LOGISTIC": Tolerance(1, "a table of float results here, fixed-point exponentials there"),
    "SOFTMAX": Tolerance(1, "exponentials from a table or in fixed point"),
    "HARD_SWISH": Tolerance(1, "two factors of 15 bits and one rounding against real numbers"),
    "MAX_POOL_2D": MOVES_CODES,
    "PAD": MOVES_CODES,
    "PADV2": MOVES_CODES,
    "RESHAPE": MOVES_CODES,
    "TRANSPOSE": MOVES_CODES,
    "SQUEEZE": MOVES_CODES,
    "SLICE": MOVES_CODES,
    "CONCATENATION": MOVES_CODES,
    "QUANTIZE": Tolerance(0, "uint8 to int8 and back: the code less 128, and more"),
}
operator_table(f"{__name__}.TOLERANCES", TOLERANCES)
UNSTATED = Tolerance(1, "one rounding")  # an op with reference arithmetic and no row of its own


@dataclasses.dataclass
class Off:
    """How far one op was off: `counts[k]` elements by k LSB, the last bin by HISTOGRAM_TOP and more."""

    max_lsb: int
    counts: npt.NDArray[np.int64]

    @classmethod
    def none(cls) -> Off:
        """Nothing seen yet."""
        return cls(0, np.zeros(HISTOGRAM_TOP + 1, np.int64))

    def add(self, off: npt.NDArray[np.int64]) -> None:
        """Take in the absolute differences of one image."""
        self.max_lsb = max(self.max_lsb, int(off.max(initial=0)))
        self.counts += np.bincount(
            np.minimum(off, HISTOGRAM_TOP).reshape(-1), minlength=HISTOGRAM_TOP + 1
        )

    @property
    def share_exact(self) -> float:
        """Share of elements with no difference, 1.0 when there were none."""
        return float(self.counts[0] / self.counts.sum()) if self.counts.sum() else 1.0


def check_ops(
    data: bytes | memoryview,
    images: npt.NDArray[np.uint8],
    failures: Failures,
    max_lsb: int,
    runtime: str | None = None,
) -> dict[str, Json]:
    """Every op in every kernel family on `images`, uint8 [n, px, px, channels].

    `max_lsb` is the recipe's gate on ops that round; ops that move codes have none to loosen. `runtime` as LiteRunner's.
    Never raises for a runtime that refuses the file: that is a failure, named after the family.
    """
    families: dict[str, Json] = {}
    seen: dict[str, dict[str, Off]] = {}
    graph: LiteGraph | None = None
    for family, kernels in FAMILIES.items():
        try:
            runner = LiteRunner(data, kernels=kernels, keep="everything", runtime=runtime)
            graph = runner.graph
            offs = _run(runner, images, failures, family)
            whole = LiteRunner(data, kernels=kernels, runtime=runtime).codes(images)
        except (ModelFileError, DeviceError) as error:
            failures.add(
                "op_local",
                "op",
                f"{family}: the whole graph",
                "a runtime that runs it",
                error.what,
                error.next_step,
            )
            continue
        if not np.array_equal(whole, runner.codes(images)):
            failures.add(
                "op_local",
                "op",
                f"{family}: the whole graph",
                "the same output run whole and op by op",
                "another",
                "report the runtime's version; its delegate fuses ops in a way that changes results",
            )
        seen[family] = offs
        families[family] = {**_summary(offs), "histogram": _total(offs).counts.tolist()}
        if family == "xnnpack":
            families[family]["not_delegated"] = _not_delegated(runner)
        _judge(runner.graph, offs, family, failures, max_lsb)
    if graph is None:
        return dict(NOT_RUN)
    every: dict[str, Off] = {}
    for offs in seen.values():
        for label, off in offs.items():
            total = every.setdefault(label, Off.none())
            total.max_lsb, total.counts = max(total.max_lsb, off.max_lsb), total.counts + off.counts
    by_op = [
        {
            "op": op.label(graph.tensors),
            "allowed": _allowed(op.name, max_lsb),
            "why": _tolerance(op.name).why,
            **{
                family: offs[op.label(graph.tensors)].counts.tolist()
                for family, offs in seen.items()
                if op.label(graph.tensors) in offs
            },
        }
        for op in graph.ops
    ]
    return {**_summary(every), "images": len(images), "families": families, "by_op": by_op}


def _not_delegated(runner: LiteRunner) -> list[str] | None:
    """Labels of the ops that the delegate leaves to the built-in kernels; None where the runtime does not tell."""
    taken = runner.delegated()
    return (
        None
        if taken is None
        else [
            op.label(runner.graph.tensors) for op in runner.graph.ops if op.outputs[0] not in taken
        ]
    )


def _tolerance(op: str) -> Tolerance:
    return TOLERANCES.get(op, UNSTATED)


def _allowed(op: str, max_lsb: int) -> int:
    """The stated tolerance, with the recipe's gate in place of a plain 1."""
    stated = _tolerance(op).lsb
    return max_lsb if stated == 1 else stated


def _run(
    runner: LiteRunner, images: npt.NDArray[np.uint8], failures: Failures, family: str
) -> dict[str, Off]:
    graph = runner.graph
    offs: dict[str, Off] = {}
    for number, image in enumerate(images):
        runner.invoke(quantize_pixels(image[None], runner.input))
        for op in graph.ops:
            label, kernel = op.label(graph.tensors), KERNELS.get(op.name)
            output = graph.tensors[op.outputs[0]]
            if kernel is None:
                if number == 0:
                    failures.add(
                        "op_local",
                        "op",
                        label,
                        "an op with reference arithmetic",
                        "none",
                        "take a student of the models that `edgekd models` lists",
                    )
                continue
            found = runner.value(output.index).astype(np.int64)
            operands = [
                Operand(graph.tensors[index], _value(runner, graph.tensors[index]))
                for index in op.inputs
                if index >= 0
            ]
            fits = found.shape == output.shape and all(
                part.codes.shape == part.tensor.shape for part in operands
            )
            expected = kernel(op, operands, output) if fits else None
            if expected is None or expected.shape != found.shape:
                if number == 0:
                    failures.add(
                        "op_local",
                        "op",
                        label,
                        list(output.shape),
                        f"{list(found.shape)} in {family}",
                        "the op's options do not give the shape that the file states",
                    )
                continue
            offs.setdefault(label, Off.none()).add(np.abs(found - expected))
    return offs


def _value(runner: LiteRunner, tensor: LiteTensor) -> npt.NDArray[Any]:
    return runner.value(tensor.index) if tensor.data is None else tensor.data


def _judge(
    graph: LiteGraph, offs: dict[str, Off], family: str, failures: Failures, max_lsb: int
) -> None:
    for op in graph.ops:
        off = offs.get(op.label(graph.tensors))
        allowed = _allowed(op.name, max_lsb)
        if off is not None and off.max_lsb > allowed:
            failures.add(
                "op_local",
                "op",
                op.label(graph.tensors),
                f"at most {allowed} LSB ({_tolerance(op.name).why})",
                f"{off.max_lsb} LSB in {family}",
                "report the op and the runtime's version; a kernel of this runtime is off",
            )


def _total(offs: dict[str, Off]) -> Off:
    total = Off.none()
    for off in offs.values():
        total.max_lsb, total.counts = max(total.max_lsb, off.max_lsb), total.counts + off.counts
    return total


def _summary(offs: dict[str, Off]) -> dict[str, Json]:
    if not offs:
        return {"ops": 0, "max_lsb": 0, "share_exact": 1.0, "worst_op": None}
    label = max(offs, key=lambda name: (offs[name].max_lsb, 1 - offs[name].share_exact))
    return {
        "ops": len(offs),
        "max_lsb": offs[label].max_lsb,
        "share_exact": _total(offs).share_exact,
        "worst_op": {
            "op": label,
            "max_lsb": offs[label].max_lsb,
            "share_exact": offs[label].share_exact,
        },
    }
