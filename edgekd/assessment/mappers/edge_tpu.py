"""The mapper "edgetpu": Coral's Edge TPU, its compiler, and its 8 MiB of parameter memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import override

from edgekd.assessment.compiler_answer import CompiledForDevice
from edgekd.assessment.edgetpu import (
    compiled_file,
    edgetpu_compiler,
    edgetpu_cost,
    edgetpu_rules,
)
from edgekd.assessment.edgetpu.edgetpu_cost import CacheUse
from edgekd.assessment.mappers.mapper import Mapper
from edgekd.assessment.op_placement import OpPlacement
from edgekd.assessment.workload import Work
from edgekd.core.records import present
from edgekd.settings.device_profiles import DeviceProfile
from edgekd.tflite.flatbuffer import LiteGraph, read
from edgekd.tflite.operators import operator_group

MIB = 2**20
# Oldest versions that TensorFlow's converter writes for int8 kernels. ai-edge-quantizer writes
# lower ones.
INT8_VERSION = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "ADD": 2, "FULLY_CONNECTED": 4}
operator_group(f"{__name__}.INT8_VERSION", INT8_VERSION, "any of its versions may be int8")


class EdgeTpu(Mapper):
    """The rules of edgetpu_compiler, as far as they are published."""

    compiler = edgetpu_compiler.PROGRAM
    custom_ops = frozenset({compiled_file.CUSTOM_OP})

    @override
    def consumer(self, profile: DeviceProfile) -> str:
        """The accelerator's name."""
        return "Edge TPU"

    @override
    def place(self, graph: LiteGraph, profile: DeviceProfile) -> list[OpPlacement]:
        """By the compiler's published rules, in the compiler's own status strings."""
        many = present(profile.compiler.many_subgraphs) is True
        return edgetpu_rules.map_graph(graph, many_subgraphs=many)

    @override
    def features(self, works: Sequence[Work], streamed_bytes: float = 0.0) -> dict[str, float]:
        """MACs of the systolic array, depthwise MACs, and the bytes that move."""
        return edgetpu_cost.features(works, streamed_bytes)

    @override
    def cache(
        self, works: Sequence[Work], scratch_bytes: int, profile: DeviceProfile
    ) -> CacheUse | None:
        """Parameters that fit into the profile's `parameter_cache_mib`, and those that stream."""
        if not profile.parameter_cache_mib:
            return None
        return edgetpu_cost.cache(works, scratch_bytes, profile.parameter_cache_mib * MIB)

    @override
    def remarks(self, graph: LiteGraph, profile: DeviceProfile) -> list[str]:
        """A warning for operator versions that the compiler is known to refuse."""
        old = [
            op
            for op in graph.ops
            if op.name in INT8_VERSION
            and op.version < INT8_VERSION[op.name]
            and graph.tensors[op.outputs[0]].dtype == "INT8"
        ]
        if not old:
            return []
        first = old[0]
        remark = (
            f"{first.name} #{first.index} has version {first.version}. TensorFlow's converter "
            f"writes version {INT8_VERSION[first.name]} for int8. One report found that "
            "edgetpu_compiler mapped 4 of 68 ops of such a file, written by ai-edge-quantizer"
        )
        return [remark]

    @override
    def compile(self, model: bytes, profile: DeviceProfile) -> CompiledForDevice | None:
        """Run edgetpu_compiler where it is on PATH, with the profile's options."""
        program = edgetpu_compiler.find()
        if program is None:
            return None
        options = profile.compiler
        flags = edgetpu_compiler.Flags(
            runtime=present(options.runtime),
            many_subgraphs=present(options.many_subgraphs) is True,
            search=present(options.search) is True,
            timeout_s=present(options.timeout_s) or edgetpu_compiler.TIMEOUT_S,
        )
        done = edgetpu_compiler.compile_model(model, program, flags)
        graph = read(done.model)
        return CompiledForDevice(
            {"model_edgetpu.tflite": done.model, "model_edgetpu.log": done.log_text.encode()},
            done.log.report(compiled_file.read_back(graph)),
            compiled_file.cpu_outputs(graph),
        )
