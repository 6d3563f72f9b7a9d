"""The mapper "npu": what a vendor's plug-in of LiteRT's CompiledModel takes for its NPU."""

from __future__ import annotations

import dataclasses
from typing import override

from edgekd.assessment.compiler_answer import CompiledForDevice
from edgekd.assessment.mappers.mapper import Mapper
from edgekd.assessment.npu.compiled_model import answer_of
from edgekd.assessment.npu.vendor_types import PHONES, Vendor, refused_type
from edgekd.assessment.op_placement import OpPlacement, Refusal, place_each
from edgekd.core.errors import ProfileError
from edgekd.settings.device_profiles import DeviceProfile
from edgekd.tflite import aot_compiler
from edgekd.tflite.flatbuffer import LiteGraph, LiteOp, read

NOT_LISTED = "the vendor's plug-in does not take it"
DATA_TYPE = "data type not supported"
UNCOMPILED = (
    "the placement is predicted from the sources of LiteRT's plug-ins; the vendor's compiler was "
    "not run, and it may leave more operators to the CPU"
)


class Npu(Mapper):
    """The operators of the profile, and the data types of its vendor's plug-in.

    Where the vendor's compiler is installed, it decides.
    """

    compiler = f"{aot_compiler.PACKAGE} AOT"

    @override
    def consumer(self, profile: DeviceProfile) -> str:
        """The vendor, or that the part is what every phone's NPU takes."""
        vendor = vendor_of(profile)
        return f"the NPU's plug-in ({vendor})" if vendor else "the NPU plug-ins of all phones"

    @override
    def place(self, graph: LiteGraph, profile: DeviceProfile) -> list[OpPlacement]:
        """By the profile's operators, whose text is the status, and by the data types."""
        vendor = vendor_of(profile)
        vendors = (vendor,) if vendor else PHONES

        def judge(graph: LiteGraph, op: LiteOp) -> Refusal | None:
            if op.name not in profile.ops:
                return NOT_LISTED, f"[ops.legal] has no {op.name}"
            for index in (*op.inputs, *op.outputs):
                if index < 0:
                    continue
                for one in vendors:
                    why = refused_type(one, graph.tensors[index])
                    if why:
                        return DATA_TYPE, why
            return None

        return [
            dataclasses.replace(one, status=profile.ops[one.op]) if one.mapped else one
            for one in place_each(graph, judge, "")
        ]

    @override
    def remarks(self, graph: LiteGraph, profile: DeviceProfile) -> list[str]:
        """That the placement is a prediction, where no compiler is there to ask."""
        return [] if aot_compiler.has_compiler(vendor_of(profile) or "") else [UNCOMPILED]

    @override
    def compile(self, model: bytes, profile: DeviceProfile) -> CompiledForDevice | None:
        """Compile for the SoC that `accelerator` names, where the vendor's compiler is there."""
        vendor, soc = vendor_of(profile), profile.accelerator.partition(":")[2]
        if vendor is None or not soc or not aot_compiler.has_compiler(vendor):
            return None
        made = aot_compiler.compile_model(model, vendor, soc)
        return answer_of(read(model), made, f"model_{vendor}_{soc}.tflite")


def vendor_of(profile: DeviceProfile) -> Vendor | None:
    """The vendor that the profile's `accelerator` names, None where it names none.

    Raises ProfileError for another name.
    """
    name = profile.accelerator.partition(":")[0]
    if not name:
        return None
    try:
        return Vendor(name)
    except ValueError:
        raise ProfileError(
            f"{profile.name}: accelerator is {profile.accelerator!r}, which is no vendor of NPUs",
            f"write one of {', '.join(Vendor)}, or leave it empty for any phone",
        ) from None
