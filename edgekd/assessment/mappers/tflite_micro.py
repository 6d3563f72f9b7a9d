"""The mapper "tflite-micro": TensorFlow Lite Micro on a microcontroller.

A microcontroller runs the model from flash, and everything else in a tensor arena of fixed size.
"""

from __future__ import annotations

import dataclasses
from typing import override

from edgekd.assessment import memory_need
from edgekd.assessment.check_record import Memory
from edgekd.assessment.mappers.mapper import Mapper
from edgekd.assessment.micro.kernel_scratch import KernelLibrary
from edgekd.assessment.micro.micro_arena import MicroArena, micro_arena
from edgekd.assessment.op_placement import OpPlacement, Refusal, place_each
from edgekd.settings.device_profiles import DeviceProfile
from edgekd.tflite import runtime_ops
from edgekd.tflite.flatbuffer import LiteGraph, LiteOp
from edgekd.tflite.runtime_ops import Runtime

KIB = 1024
NO_KERNEL = "no kernel in TensorFlow Lite Micro"
DATA_TYPE = "data type not supported"
# Kernels that take uint8 codes. The others take int8, int16 or float.
UINT8 = frozenset({"QUANTIZE", "DEQUANTIZE", "RESHAPE", "CAST", "SPLIT", "PACK", "UNPACK"})


class TfliteMicro(Mapper):
    """The operators of TensorFlow Lite Micro, its arena, and the flash."""

    @override
    def consumer(self, profile: DeviceProfile) -> str:
        """The runtime with the library of its kernels."""
        return f"TensorFlow Lite Micro ({library_of(profile)} kernels)"

    @override
    def runtime(self, profile: DeviceProfile) -> Runtime:
        """The firmware's runtime; it does not look at the versions of operators."""
        return runtime_ops.micro(profile.ops)

    @override
    def place(self, graph: LiteGraph, profile: DeviceProfile) -> list[OpPlacement]:
        """By the profile's operators, whose text is the status, and by the data type."""

        def judge(graph: LiteGraph, op: LiteOp) -> Refusal | None:
            if op.name not in profile.ops:
                return NO_KERNEL, f"[ops.legal] has no {op.name}"
            used = [graph.tensors[index] for index in (*op.inputs, *op.outputs) if index >= 0]
            if op.name not in UINT8 and any(one.dtype == "UINT8" for one in used):
                return DATA_TYPE, "its kernel takes int8, and not uint8"
            return None

        return [
            dataclasses.replace(one, status=profile.ops[one.op]) if one.mapped else one
            for one in place_each(graph, judge, "")
        ]

    @override
    def memory(self, graph: LiteGraph, profile: DeviceProfile) -> Memory:
        """The arena with 32-bit pointers, and its parts."""
        arena = arena_of(graph, profile)
        return Memory(
            arena_bytes=arena.bytes,
            parameter_bytes=memory_need.parameter_bytes(graph),
            busiest_op=arena.busiest_op,
            busiest_op_bytes=arena.busiest_bytes,
            micro_planned_bytes=max(arena.head, arena.temporary),
            micro_persistent_bytes=arena.tail,
            micro_kernel_buffer_bytes=arena.scratch,
            micro_arena_limit_bytes=profile.arena_kib * KIB,
            micro_flash_limit_bytes=round(flash_limit(profile)),
        )

    @override
    def memory_limit(self, profile: DeviceProfile) -> float:
        """The largest arena."""
        return profile.arena_kib * KIB

    @override
    def memory_use(self, memory: Memory, file_bytes: int) -> int:
        """The arena alone: the file stays in flash."""
        return memory.arena_bytes

    @override
    def too_large(self, memory: Memory, profile: DeviceProfile, file_bytes: int) -> list[str]:
        """The arena against `arena_kib`, and the model against its share of `flash_kib`."""
        failed = []
        if memory.arena_bytes > self.memory_limit(profile):
            failed.append(
                f"the tensor arena takes {memory.arena_bytes / KIB:.0f} KiB, most of it at op "
                f"#{memory.busiest_op}; the profile allows {profile.arena_kib} KiB (arena_kib)"
            )
        if file_bytes > flash_limit(profile):
            failed.append(
                f"the model takes {file_bytes / KIB:.0f} KiB of flash, the profile allows "
                f"{flash_limit(profile) / KIB:.0f} KiB ({profile.max_memory_share:.0%} of "
                f"{profile.flash_kib} KiB)"
            )
        return failed


def library_of(profile: DeviceProfile) -> KernelLibrary:
    """The kernels of a microcontroller's profile, the reference kernels where it names none."""
    return KernelLibrary(profile.micro_kernels or KernelLibrary.REFERENCE)


def arena_of(graph: LiteGraph, profile: DeviceProfile) -> MicroArena:
    """The arena of a graph on a profile's microcontroller."""
    return micro_arena(graph, library_of(profile))


def flash_limit(profile: DeviceProfile) -> float:
    """How many bytes of flash the model may take."""
    return profile.flash_kib * KIB * profile.max_memory_share
