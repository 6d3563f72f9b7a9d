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

import numpy as np
import numpy.typing as npt

from edgekd.core import cores
from edgekd.core.errors import DeviceError, ModelFileError
from edgekd.core.records import UNSET
from edgekd.proof.certificate_record import FamilyOps, OpDifferences, OpLocal, WorstOp
from edgekd.proof.failures import Failures
from edgekd.proof.kernel_runs import FAMILIES, Differences, Part, joined
from edgekd.proof.kernel_tolerances import tolerance
from edgekd.tflite.flatbuffer import LiteGraph, LiteOp, read
from edgekd.tflite.runtime import LiteRunner

# Operators that a family has no kernel for, so that it refuses every file with one of them:
# TFLite's BUILTIN_REF resolver does not register ELU (ai-edge-litert 2.1.2).
WITHOUT_KERNEL: dict[str, frozenset[str]] = {"reference": frozenset({"ELU"})}


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
    names = set(read(data).counts())
    wanted = [name for name in FAMILIES if not names & WITHOUT_KERNEL.get(name, frozenset())]
    parts = cores.in_order(
        lambda part: Part(data, wanted, runtime).checked(images[part], part.start == 0),
        cores.shares(len(images)),
    )
    families: dict[str, FamilyOps] = {}
    seen: dict[str, dict[str, Differences]] = {}
    graph: LiteGraph | None = None
    for family in wanted:
        try:
            found = joined([part[family] for part in parts], failures)
            whole = LiteRunner(data, kernels=FAMILIES[family], runtime=runtime).codes(images)
        except (ModelFileError, DeviceError) as error:
            label = f"{family}: the whole graph"
            expected = "a runtime that runs it"
            failures.add("op_local", "op", label, expected, error.what, error.next_step)
            continue
        if not np.array_equal(whole, found.answers):
            failures.add(
                "op_local",
                "op",
                f"{family}: the whole graph",
                "the same output run whole and operator by operator",
                "another output",
                "report the runtime's version; its delegate changes results by fusing operators",
            )
        graph = found.runner.graph
        seen[family] = found.differences
        families[family] = _family(found.differences, found.runner, family)
        _judge(graph, found.differences, family, failures, max_lsb)
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
