"""Kind, fused activation and inputs of every operator that writes an edge of the trained graph.

The ranges alone do not show a dropped activation: codes saturate at the ends of a range that
training observed after the activation. A clamp to [0, 1] has no activation in the file, so there
the range itself must lie in [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping

from edgekd.core.artifacts import Json
from edgekd.proof.certificate_record import CheckedOps
from edgekd.proof.expected_model import INNER_SUFFIX, MAY_VANISH, Claims, EdgeClaim
from edgekd.proof.failures import Failures
from edgekd.proof.range_checks import edges_of
from edgekd.tflite.flatbuffer import LiteGraph, LiteOp, LiteTensor
from edgekd.tflite.int8_rules import INT8_MAX, INT8_MIN, SATURATION
from edgekd.tflite.integer_graph import is_port_conversion

# schema.fbs, enum ActivationFunctionType
ACTIVATIONS = {0: "NONE", 1: "RELU", 2: "RELU_N1_TO_1", 3: "RELU6"}


def check_structure(
    claims: Claims, correspondence: Mapping[str, str], graph: LiteGraph, failures: Failures
) -> CheckedOps:
    """Check every operator that writes an edge of which `claims` knows the activation and the
    inputs, and the order of the file's outputs.
    """
    edge_of = edges_of(graph, claims, correspondence)
    carried = set(edge_of.values())
    checked = 0
    for op in graph.ops:
        claim = claims.edges.get(graph.tensors[op.outputs[0]].name.removesuffix(INNER_SUFFIX))
        if claim is None or claim.activation is None or claim.reads is None:
            continue
        if is_port_conversion(op, graph):
            continue
        checked += 1
        expected_reads = [_carried(edge, claims.edges, carried) for edge in claim.reads]
        for expected, found in _differences(op, claim, graph, edge_of, expected_reads):
            failures.add("structure", "op", op.label(graph.tensors), expected, found)
    given = [edge_of.get(index) for index in graph.outputs]
    if claims.outputs and given != list(claims.outputs):
        place = graph.tensors[graph.outputs[0]].name
        expected, found = ({"outputs": [*names]} for names in (claims.outputs, given))
        failures.add("structure", "tensor", place, expected, found)
    return CheckedOps(checked)


def _differences(
    op: LiteOp,
    claim: EdgeClaim,
    graph: LiteGraph,
    edge_of: Mapping[int, str],
    expected_reads: list[str],
) -> list[tuple[Json, Json]]:
    """(expected, found) of everything in which one operator differs from the trained graph."""
    if op.name != claim.op:
        return [({"op": claim.op}, {"op": op.name})]
    found: list[tuple[Json, Json]] = []
    target = graph.tensors[op.outputs[0]]
    fused = ACTIVATIONS.get(int(op.options.get("fusedActivationFunction", 0)))
    if fused != ("NONE" if claim.activation == SATURATION else claim.activation):
        found.append(({"activation": claim.activation}, {"activation": fused}))
    if claim.activation == SATURATION and not _holds_unit(target):
        found.append(
            (
                {"activation": SATURATION, "range": "0..1"},
                {"scale": target.scale.tolist(), "zero_point": target.zero_point.tolist()},
            )
        )
    read = [
        edge_of.get(index)
        for index in op.inputs
        if index >= 0 and graph.tensors[index].data is None
    ]
    if read != expected_reads:
        found.append(({"reads": expected_reads}, {"reads": read}))
    return found


def _holds_unit(tensor: LiteTensor) -> bool:
    """Whether a range starts at 0 and ends less than one step above 1: int8 then clamps
    to [0, 1].
    """
    if tensor.scale.size != 1 or tensor.zero_point.tolist() != [INT8_MIN]:
        return False
    return float(tensor.scale[0]) * (INT8_MAX - INT8_MIN) <= 1.0 + float(tensor.scale[0])


def _carried(edge: str, edges: Mapping[str, EdgeClaim], carried: set[str]) -> str:
    """The edge, or the edge before it where the file merged its operator into a neighbour."""
    while (
        edge not in carried and edge in edges and edges[edge].op in MAY_VANISH and edges[edge].reads
    ):
        edge = (edges[edge].reads or ("",))[0]
    return edge
