"""The mapper "nnapi": what TFLite's delegate hands to Android's Neural Networks API."""

from __future__ import annotations

from typing import override

from edgekd.assessment import nnapi_rules
from edgekd.assessment.mappers.mapper import Mapper
from edgekd.assessment.op_placement import OpPlacement, place_each
from edgekd.settings.device_profiles import DeviceProfile
from edgekd.tflite.flatbuffer import LiteGraph


class Nnapi(Mapper):
    """The rules of TFLite's NNAPI delegate at the profile's API level."""

    @override
    def consumer(self, profile: DeviceProfile) -> str:
        """NNAPI and the API level."""
        return f"NNAPI, API {profile.api_level}"

    @override
    def place(self, graph: LiteGraph, profile: DeviceProfile) -> list[OpPlacement]:
        """By the delegate's own validation rules."""
        judge = nnapi_rules.judge_for(profile.api_level, profile.accelerator)
        return place_each(graph, judge, nnapi_rules.MAPPED)
