"""Which operators of a model run where a profile wants them, by the rules of its mapper."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from edgekd.assessment.check_record import FloatIsland, LoadBlock, MappedBlock, Origin
from edgekd.assessment.edgetpu import compiled_file, status
from edgekd.assessment.mappers.registry import mapper_for
from edgekd.assessment.op_placement import OpPlacement, partitions
from edgekd.assessment.workload import work
from edgekd.settings.device_profiles import DeviceProfile
from edgekd.tflite.flatbuffer import LiteGraph, LiteOp

# In a profile's [ops.legal], the text of an operator that runs, but outside the delegate.
BUILT_IN = "built-in"
NOT_LOADED = "the file cannot be loaded"  # of an operator that is in order itself
# These stand between two number formats, so they belong to no float island.
BETWEEN_FORMATS = frozenset({"QUANTIZE", "DEQUANTIZE"})


@dataclasses.dataclass(frozen=True)
class ModelPlacement:
    """Where the operators of one model run on one device.

    `consumer`: who runs the mapped operators. `share_of_macs`: share of the multiply-accumulates
    that map, None for a compiled file, which no longer says, and for a model that has none.
    `partitions`: parts that the delegate takes. `islands`: runs of float operators in an otherwise
    integer graph.
    """

    consumer: str
    origin: Origin
    placements: tuple[OpPlacement, ...]
    share_of_macs: float | None
    partitions: int
    islands: tuple[FloatIsland, ...]

    @property
    def fallback(self) -> list[OpPlacement]:
        """The operators that stay on the CPU, or that nothing runs."""
        return [one for one in self.placements if not one.mapped]

    @property
    def first(self) -> OpPlacement | None:
        """The operator that ends the mapping: the first refused for a reason of its own."""
        shared = (status.ANOTHER_SUBGRAPH, NOT_LOADED)
        return next((one for one in self.fallback if one.status not in shared), None)

    @property
    def share_of_ops(self) -> float:
        """The share of the operators that map; 1 for a model without operators."""
        count = len(self.placements)
        return 1 - len(self.fallback) / count if count else 1.0

    def block(self) -> MappedBlock:
        """The "mapped" block of check and report."""
        return MappedBlock(
            ops=len(self.placements),
            mapped=len(self.placements) - len(self.fallback),
            share_of_macs=self.share_of_macs,
            consumer=self.consumer,
            origin=self.origin,
            partitions=self.partitions,
            ends_at=None if self.first is None else self.first.row(),
            float_islands=list(self.islands),
            fallback=[one.row() for one in self.fallback],
        )


def place_model(graph: LiteGraph, profile: DeviceProfile) -> ModelPlacement:
    """Map a model by the profile's rules; a compiled Edge TPU file is read as it is.

    Raises UnknownName for a mapper that is not registered.
    """
    if compiled_file.is_compiled(graph):
        return _compiled(graph)
    mapper = mapper_for(profile)
    placements = mapper.place(graph, profile)
    delegated = [
        dataclasses.replace(one, mapped=one.mapped and not one.status.startswith(BUILT_IN))
        for one in placements
    ]
    return ModelPlacement(
        mapper.consumer(profile),
        Origin.PREDICTED,
        tuple(placements),
        share_of_macs(graph, placements),
        partitions(graph, delegated),
        tuple(float_islands(graph)),
    )


def share_of_macs(graph: LiteGraph, placements: Sequence[OpPlacement]) -> float | None:
    """The share of the multiply-accumulates that map, None for a model without any."""
    macs = [row.macs for row in work(graph)]
    on = sum(count for count, one in zip(macs, placements, strict=True) if one.mapped)
    return on / sum(macs) if sum(macs) else None


def place_nothing(graph: LiteGraph, profile: DeviceProfile, load: LoadBlock) -> ModelPlacement:
    """The placement of a file that the device cannot load: no operator runs."""
    refused = {(row.op, row.version): row for row in load.refused}
    placements = []
    for op in graph.ops:
        row = refused.get((op.custom or op.name, op.version))
        found, why = (NOT_LOADED, "") if row is None else (_refusal(op), row.why)
        placements.append(OpPlacement(op.index, op.custom or op.name, False, found, why))
    share = share_of_macs(graph, placements)
    consumer = mapper_for(profile).consumer(profile)
    islands = tuple(float_islands(graph))
    return ModelPlacement(consumer, Origin.PREDICTED, tuple(placements), share, 0, islands)


def _refusal(op: LiteOp) -> str:
    """What TFLite prints of an operator that it lacks: interpreter_builder.cc and subgraph.cc."""
    if op.custom:
        return f"Encountered unresolved custom op: {op.custom}"
    return f"Didn't find op for builtin opcode '{op.name}' version '{op.version}'"


def _compiled(graph: LiteGraph) -> ModelPlacement:
    """What the Edge TPU's compiler has decided already."""
    placements = [
        OpPlacement(
            op.index,
            op.custom or op.name,
            compiled_file.is_edgetpu_op(op),
            status.MAPPED if compiled_file.is_edgetpu_op(op) else status.LEFT_TO_CPU,
        )
        for op in graph.ops
    ]
    parts = partitions(graph, placements)
    return ModelPlacement("Edge TPU", Origin.COMPILED, tuple(placements), None, parts, ())


def float_islands(graph: LiteGraph) -> list[FloatIsland]:
    """Runs of operators that compute floats in a graph that also computes integers.

    Empty for a model that computes in float everywhere.
    """
    floats = [
        graph.tensors[op.outputs[0]].dtype.startswith("FLOAT") and op.name not in BETWEEN_FORMATS
        for op in graph.ops
    ]
    if all(floats):
        return []
    found: list[FloatIsland] = []
    for op, is_float in zip(graph.ops, floats, strict=True):
        if is_float and found and found[-1].last == op.index - 1:
            found[-1] = FloatIsland(found[-1].first, op.index, found[-1].ops + 1)
        elif is_float:
            found.append(FloatIsland(op.index, op.index, 1))
    return found
