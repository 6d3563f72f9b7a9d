"""The rules of a device that has no PAD operator."""

from __future__ import annotations

from typing import override

from edgekd.assessment.mappers.mapper import Mapper
from edgekd.assessment.op_placement import OpPlacement, Refusal, place_each
from edgekd.settings.device_profiles import DeviceProfile
from edgekd.tflite.flatbuffer import LiteGraph, LiteOp


class NoPad(Mapper):
    """Every operator runs, except PAD."""

    @override
    def consumer(self, profile: DeviceProfile) -> str:
        """The device's name."""
        return "example accelerator"

    @override
    def place(self, graph: LiteGraph, profile: DeviceProfile) -> list[OpPlacement]:
        """Where each operator runs."""

        def judge(_graph: LiteGraph, op: LiteOp) -> Refusal | None:
            return ("no PAD", "the example accelerator has no PAD") if op.name == "PAD" else None

        return place_each(graph, judge, "mapped by the example")
