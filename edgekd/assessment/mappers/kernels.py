"""The mapper "kernels": an operator runs where the profile's own list of operators holds it.

It serves CPUs (XNNPACK and the runtime's built-in kernels) and the GPU and NPU delegates of
LiteRT, which publish a list of operators and no further rules.
"""

from __future__ import annotations

import dataclasses
from typing import override

from edgekd.assessment.mappers.mapper import Mapper
from edgekd.assessment.op_placement import OpPlacement, Refusal, place_each
from edgekd.settings.device_profiles import DeviceProfile
from edgekd.tflite.flatbuffer import LiteGraph, LiteOp

NOT_LISTED = "not among the profile's operators"


class KernelList(Mapper):
    """The rules of a device whose profile lists the operators that it runs."""

    @override
    def consumer(self, profile: DeviceProfile) -> str:
        """The runtime that the profile names."""
        return profile.runtime

    @override
    def place(self, graph: LiteGraph, profile: DeviceProfile) -> list[OpPlacement]:
        """By the profile's [ops.legal], whose text is the status of an operator that runs."""

        def judge(_graph: LiteGraph, op: LiteOp) -> Refusal | None:
            if op.name in profile.ops:
                return None
            return NOT_LISTED, f"[ops.legal] has no {op.name}"

        return [
            dataclasses.replace(one, status=profile.ops[one.op]) if one.mapped else one
            for one in place_each(graph, judge, "")
        ]
