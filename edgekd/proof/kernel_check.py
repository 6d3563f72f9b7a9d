"""Each operator of a .tflite in each kernel family, on that family's own inputs, against exact
arithmetic.

    xnnpack     The XNNPACK delegate, which an app gets by default. The runtime keeps every tensor
                here, so it makes one delegate for each operator, and each result can be read. A
                second run of the whole file shows that the chain of single operators gives the same
                output. Operators that the delegate does not take run in the built-in kernels and
                are listed (ai-edge-litert 2.1.2 leaves HARD_SWISH, AVERAGE_POOL_2D, SOFTMAX, lone
                RELU, PADV2 and QUANTIZE there).
    builtin     TFLite's own optimized kernels without a delegate. Boards whose runtime lacks
                XNNPACK use them.
    reference   TFLite's reference kernels, which TensorFlow's documentation calls the definition of
                each operator.

`exact_kernels` holds the exact arithmetic, and `kernel_tolerances` the differences that are
allowed.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.core.errors import DeviceError, ModelFileError
from edgekd.core.records import UNSET
from edgekd.proof.certificate_record import FamilyOps, OpDifferences, OpLocal, WorstOp
from edgekd.proof.exact_kernels import KERNELS
from edgekd.proof.failures import Failures
from edgekd.proof.kernel_tolerances import tolerance
from edgekd.proof.operands import Operand
from edgekd.tflite.flatbuffer import LiteGraph, LiteOp, LiteTensor, read
from edgekd.tflite.runtime import LiteRunner, quantize_pixels

# name of the family -> the `kernels` argument of LiteRunner
FAMILIES: dict[str, str] = {"xnnpack": "default", "builtin": "builtin", "reference": "reference"}
# Operators that a family has no kernel for, so that it refuses every file with one of them:
# TFLite's BUILTIN_REF resolver does not register ELU (ai-edge-litert 2.1.2).
WITHOUT_KERNEL: dict[str, frozenset[str]] = {"reference": frozenset({"ELU"})}
HISTOGRAM_TOP = 3  # differences of this many LSB and more share the last bin


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

    def add(self, lsb: npt.NDArray[np.int64]) -> None:
        """Count the absolute differences of one image."""
        self.max_lsb = max(self.max_lsb, int(lsb.max(initial=0)))
        self.counts += np.bincount(
            np.minimum(lsb, HISTOGRAM_TOP).reshape(-1), minlength=HISTOGRAM_TOP + 1
        )

    @property
    def share_exact(self) -> float:
        """Share of elements without a difference; 1.0 when nothing was counted."""
        return float(self.counts[0] / self.counts.sum()) if self.counts.sum() else 1.0


def check_ops(
    data: bytes | memoryview,
    images: npt.NDArray[np.uint8],
    failures: Failures,
    max_lsb: int,
    runtime: str | None = None,
) -> OpLocal:
    """Check every operator in every kernel family on `images`, uint8 [n, px, px, channels].

    `max_lsb` is the recipe's gate on operators that round. `runtime` is passed to LiteRunner. A
    runtime that refuses the file does not raise: it is a failure that names the family.
    """
    families: dict[str, FamilyOps] = {}
    seen: dict[str, dict[str, Differences]] = {}
    graph: LiteGraph | None = None
    names = set(read(data).counts())
    for family, kernels in FAMILIES.items():
        if names & WITHOUT_KERNEL.get(family, frozenset()):
            continue
        try:
            runner = LiteRunner(data, kernels=kernels, keep="everything", runtime=runtime)
            graph = runner.graph
            found = _run(runner, images, failures, family)
            whole = LiteRunner(data, kernels=kernels, runtime=runtime).codes(images)
        except (ModelFileError, DeviceError) as error:
            label = f"{family}: the whole graph"
            expected = "a runtime that runs it"
            failures.add("op_local", "op", label, expected, error.what, error.next_step)
            continue
        if not np.array_equal(whole, runner.codes(images)):
            failures.add(
                "op_local",
                "op",
                f"{family}: the whole graph",
                "the same output run whole and operator by operator",
                "another output",
                "report the runtime's version; its delegate changes results by fusing operators",
            )
        seen[family] = found
        families[family] = _family(found, runner, family)
        _judge(runner.graph, found, family, failures, max_lsb)
    if graph is None:
        return OpLocal(by_op=[])
    labels = dict.fromkeys(label for found in seen.values() for label in found)
    every = {
        label: Differences.total([found[label] for found in seen.values() if label in found])
        for label in labels
    }
    total = Differences.total(list(every.values()))
    return OpLocal(
        ops=len(every),
        max_lsb=total.max_lsb,
        share_exact=total.share_exact,
        worst_op=_worst(every),
        images=len(images),
        families=families,
        by_op=[_row(op, graph, seen, max_lsb) for op in graph.ops],
    )


def _family(found: dict[str, Differences], runner: LiteRunner, family: str) -> FamilyOps:
    total = Differences.total(list(found.values()))
    return FamilyOps(
        ops=len(found),
        max_lsb=total.max_lsb,
        share_exact=total.share_exact,
        worst_op=_worst(found),
        histogram=total.counts.tolist(),
        not_delegated=_not_delegated(runner) if family == "xnnpack" else UNSET,
    )


def _row(
    op: LiteOp, graph: LiteGraph, seen: dict[str, dict[str, Differences]], max_lsb: int
) -> OpDifferences:
    label = op.label(graph.tensors)
    stated = tolerance(op.name)
    histograms: dict[str, list[int]] = {
        family: found[label].counts.tolist() for family, found in seen.items() if label in found
    }
    return OpDifferences(
        op=label,
        allowed=stated.gated(max_lsb),
        why=stated.why,
        xnnpack=histograms.get("xnnpack", UNSET),
        builtin=histograms.get("builtin", UNSET),
        reference=histograms.get("reference", UNSET),
    )


def _worst(found: dict[str, Differences]) -> WorstOp | None:
    """The operator with the largest difference, then the fewest exact elements."""
    if not found:
        return None
    label = max(found, key=lambda name: (found[name].max_lsb, 1 - found[name].share_exact))
    return WorstOp(label, found[label].max_lsb, found[label].share_exact)


def _not_delegated(runner: LiteRunner) -> list[str] | None:
    """Labels of the operators that run in the built-in kernels; None if the runtime does
    not say.
    """
    taken = runner.delegated()
    if taken is None:
        return None
    graph = runner.graph
    return [op.label(graph.tensors) for op in graph.ops if op.outputs[0] not in taken]


def _run(
    runner: LiteRunner, images: npt.NDArray[np.uint8], failures: Failures, family: str
) -> dict[str, Differences]:
    """Differences of each operator.

    An operator that cannot be checked is a failure, on the first image.
    """
    graph = runner.graph
    seen: dict[str, Differences] = {}
    for number, image in enumerate(images):
        runner.invoke(quantize_pixels(image[None], runner.input))
        for op in graph.ops:
            lsb = _difference(op, runner, family, failures if number == 0 else Failures())
            if lsb is not None:
                seen.setdefault(op.label(graph.tensors), Differences.none()).add(lsb)
    return seen


def _difference(
    op: LiteOp, runner: LiteRunner, family: str, failures: Failures
) -> npt.NDArray[np.int64] | None:
    """|found - expected| in LSB after an invoke; None, and a failure, when they cannot be
    compared.
    """
    tensors, kernel = runner.graph.tensors, KERNELS.get(op.name)
    output = tensors[op.outputs[0]]
    if kernel is None:
        failures.add(
            "op_local",
            "op",
            op.label(tensors),
            "an operator with exact arithmetic",
            "none",
            "choose a student that `edgekd models` lists",
        )
        return None
    found = runner.value(output.index).astype(np.int64)
    operands = [
        Operand(tensors[index], _value(runner, tensors[index])) for index in op.inputs if index >= 0
    ]
    fits = found.shape == output.shape and all(
        part.codes.shape == part.tensor.shape for part in operands
    )
    expected = kernel(op, operands, output) if fits else None
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


def _value(runner: LiteRunner, tensor: LiteTensor) -> npt.NDArray[Any]:
    return runner.value(tensor.index) if tensor.data is None else tensor.data


def _judge(
    graph: LiteGraph,
    found: dict[str, Differences],
    family: str,
    failures: Failures,
    max_lsb: int,
) -> None:
    for op in graph.ops:
        differences, stated = found.get(op.label(graph.tensors)), tolerance(op.name)
        allowed = stated.gated(max_lsb)
        if differences is not None and differences.max_lsb > allowed:
            failures.add(
                "op_local",
                "op",
                op.label(graph.tensors),
                f"at most {allowed} LSB ({stated.why})",
                f"{differences.max_lsb} LSB in {family}",
                "report the operator and the runtime's version; this runtime's kernel is wrong",
            )
