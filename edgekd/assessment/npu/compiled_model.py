"""What an NPU's compiler made of a model, in the form of every compiler's answer."""

from __future__ import annotations

import collections

from edgekd.assessment.check_record import CompilerReport, CompilerRow
from edgekd.assessment.compiler_answer import CompiledForDevice
from edgekd.assessment.edgetpu.status import LEFT_TO_CPU
from edgekd.tflite.aot_compiler import PACKAGE, AotAnswer
from edgekd.tflite.flatbuffer import LiteGraph, read

# The custom operator of a part that the compiler has taken: litert/core/dispatch_op_schema.h.
DISPATCH = "DISPATCH_OP"
COMPILED = "compiled for the NPU"


def answer_of(graph: LiteGraph, made: AotAnswer, name: str) -> CompiledForDevice:
    """The answer about `graph`. `name`: of the compiled file in an out folder.

    An operator that stays on the CPU writes a tensor of the same name in the compiled file.
    """
    compiled = read(made.model)
    cpu = [op for op in compiled.ops if op.custom != DISPATCH]
    outputs = frozenset(compiled.tensors[index].name for op in cpu for index in op.outputs)
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    for op in graph.ops:
        stays = any(graph.tensors[index].name in outputs for index in op.outputs)
        counts[op.name, LEFT_TO_CPU if stays else COMPILED] += 1
    report = CompilerReport(
        program=f"{PACKAGE} AOT",
        version=made.version,
        succeeded=True,
        milliseconds=None,
        output_bytes=len(made.model),
        subgraphs=made.parts,
        on_cpu=made.total - made.taken,
        operations=made.total,
        mapped=made.taken,
        rows=[CompilerRow(op, count, status) for (op, status), count in counts.items()],
        errors=[],
        edgetpu_ops=0,
        executable_bytes=0,
        cpu_ops=[op.name for op in cpu],
        cpu_tail=[],
    )
    return CompiledForDevice({name: made.model}, report, outputs, COMPILED)
