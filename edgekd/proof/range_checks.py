"""Scale and zero point of every activation tensor in the file, against the learned ranges."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from edgekd.proof.certificate_record import Ranges, WorstRange
from edgekd.proof.expected_model import INNER_SUFFIX, MAY_VANISH, Claims
from edgekd.proof.failures import Failures
from edgekd.tflite.flatbuffer import LiteGraph, LiteOp
from edgekd.tflite.int8_rules import SAME_SCALE_OPS
from edgekd.tflite.operators import operator_group

# A uint8 port holds the same real numbers as the int8 tensor behind it, with codes that are 128
# higher.
CODE_SHIFT = {"UINT8": -128}
# Operators that the converter may put between an edge and its reader. Their output has the edge's
# range.
MOVES = frozenset({"PAD", "PADV2", "TRANSPOSE", "RESHAPE", "QUANTIZE"})
operator_group(f"{__name__}.MOVES", MOVES, "its output has a range of its own")
TINY = 1e-30  # keeps the logarithm of a scale of 0 finite


def edges_of(graph: LiteGraph, claims: Claims, correspondence: Mapping[str, str]) -> dict[int, str]:
    """{tensor index: the trained edge whose range the tensor holds}.

    A tensor is matched by its name, then by the converter's `correspondence` ({tensor name: edge}),
    and a tensor that an operator of MOVES writes belongs to the edge of that operator's input.
    """
    found: dict[int, str] = {}
    for index in graph.inputs:
        found[index] = correspondence.get(graph.tensors[index].name, graph.tensors[index].name)
    for op in graph.ops:
        for index in op.outputs:
            name = graph.tensors[index].name
            edge = next(
                (edge for edge in (name, name.removesuffix(INNER_SUFFIX)) if edge in claims.edges),
                correspondence.get(name),
            )
            if edge is None and op.name in MOVES:
                edge = found.get(op.inputs[0])
            if edge is not None:
                found[index] = edge
    return found


def check_ranges(
    claims: Claims, correspondence: Mapping[str, str], graph: LiteGraph, failures: Failures
) -> Ranges:
    """Check every activation tensor against the learned range of its edge.

    Every edge must have a tensor. Scales are compared bit for bit as float32.
    """
    edge_of = edges_of(graph, claims, correspondence)
    written = set(graph.inputs) | {index for op in graph.ops for index in op.outputs}
    identical, worst = 0, WorstRange()
    for index in sorted(written):
        tensor = graph.tensors[index]
        claim = claims.edges.get(edge_of.get(index, ""))
        if claim is None or tensor.scale.size != 1:
            failures.add("ranges", "tensor", tensor.name, "a learned range", "none")
            continue
        learned = claim.range
        delta = int(tensor.zero_point[0]) + CODE_SHIFT.get(tensor.dtype, 0) - learned.zero_point
        if tensor.scale[0].tobytes() == np.float32(learned.scale).tobytes() and delta == 0:
            identical += 1
            continue
        failures.add(
            "ranges",
            "tensor",
            tensor.name,
            {"scale": learned.scale, "zero_point": learned.zero_point},
            {"scale": float(tensor.scale[0]), "zero_point": int(tensor.zero_point[0])},
        )
        row = WorstRange(tensor.name, float(tensor.scale[0]) / learned.scale, delta)
        worst = max(worst, row, key=_distance)
    for op in graph.ops:
        if op.name in SAME_SCALE_OPS:
            _check_same_range(op, graph, failures)
    carried = set(edge_of.values())
    for name, claim in claims.edges.items():
        if name not in carried and claim.op not in MAY_VANISH:
            failures.add("ranges", "tensor", name, "a tensor in the file", "none")
    return Ranges(len(written), identical, worst)


def _distance(row: WorstRange) -> float:
    """How far a range is from the learned one: the logarithm of the scales' ratio, plus the codes
    of zero.
    """
    return abs(math.log(max(row.scale_ratio, TINY))) + abs(row.zero_point_delta)


def _check_same_range(op: LiteOp, graph: LiteGraph, failures: Failures) -> None:
    output = graph.tensors[op.outputs[0]]
    for index in op.inputs:
        source = graph.tensors[index]
        if source.data is None and (
            source.scale.tobytes() != output.scale.tobytes()
            or source.zero_point.tolist() != output.zero_point.tolist()
        ):
            failures.add(
                "ranges",
                "op",
                op.label(graph.tensors),
                "one range for inputs and output",
                {source.name: source.scale.tolist(), output.name: output.scale.tolist()},
            )
