"""The delegates of LiteRT's benchmark_model, by their names: who runs the operators."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from edgekd.core.errors import DeviceError, RecipeError
from edgekd.device.delegation import Delegation, Extent

NNAPI_ENDED = 35  # API level of Android 15, which deprecates NNAPI
NNAPI_NAMES = 29  # API level of Android 10, from which on accelerators have names
MAX_NOTES = 10  # warnings that are kept about one delegate; a log may have thousands of lines


class Kind(StrEnum):
    """The delegates that run over adb."""

    XNNPACK = "xnnpack"
    NONE = "none"
    GPU = "gpu"
    NNAPI = "nnapi"
    NPU = "npu"


ACCELERATORS = (Kind.GPU, Kind.NNAPI, Kind.NPU)


@dataclass(frozen=True)
class AndroidDelegate:
    """A delegate by its name on the command line: xnnpack, none, gpu, npu, or nnapi[:ACCELERATOR].

    Raises RecipeError for another name.
    """

    name: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"xnnpack|none|gpu|npu|nnapi(:[A-Za-z0-9_.-]+)?", self.name):
            raise RecipeError(
                f"the delegate {self.name!r} is not one that runs over adb",
                "give xnnpack, none, gpu, npu, nnapi or nnapi:ACCELERATOR",
            )

    @property
    def kind(self) -> Kind:
        """The delegate without its accelerator."""
        return Kind(self.name.partition(":")[0])

    @property
    def accelerator(self) -> str:
        """The name after "nnapi:", or an empty text."""
        return self.name.partition(":")[2]

    def flags(self) -> list[str]:
        """The flags of benchmark_model.

        NNAPI may not fall back to its own CPU kernels, because their times would pass for an
        accelerator's. `npu` is known to LiteRT's newer tool alone (benchmark_litert_model): it
        finds the vendor's libraries in its own folder.
        """
        named = [f"--nnapi_accelerator_name={self.accelerator}"] if self.accelerator else []
        return {
            Kind.XNNPACK: ["--use_xnnpack=true"],
            Kind.NONE: ["--use_xnnpack=false"],
            Kind.GPU: ["--use_gpu=true", "--use_xnnpack=false"],
            Kind.NNAPI: [
                "--use_nnapi=true",
                "--use_xnnpack=false",
                "--disable_nnapi_cpu=true",
                *named,
            ],
            Kind.NPU: [
                "--use_npu=true",
                "--dispatch_library_path=.",
                "--compiler_plugin_library_path=.",
            ],
        }[self.kind]

    def warnings(self, api_level: int | None) -> list[str]:
        """What to know about this delegate on an Android of that API level.

        Raises DeviceError where the delegate cannot work.
        """
        if self.kind != Kind.NNAPI or api_level is None:
            return []
        if self.accelerator and api_level < NNAPI_NAMES:
            raise DeviceError(
                f"this device has API level {api_level}; NNAPI accelerators have names from "
                f"{NNAPI_NAMES} on",
                "give --delegate nnapi without a name",
            )
        if api_level < NNAPI_ENDED:
            return []
        return ["NNAPI is deprecated since Android 15 (API level 35), which this device has"]

    def taken(self, found: Delegation) -> list[str]:
        """Warnings about the delegate's share of the graph.

        There are none when it took every operator.
        """
        notes = found.notes()
        if self.kind == Kind.NONE:
            return notes[:MAX_NOTES]
        extent = found.extent(self.kind)
        if extent == Extent.NOTHING:
            notes.insert(
                0, f"{self.kind} took no operator: these are times of the CPU's built-in kernels"
            )
        elif extent is None and self.kind in ACCELERATORS:
            notes.append(
                f"the log does not say that {self.kind} took any operator: these may be times of "
                "the CPU"
            )
        return notes[:MAX_NOTES]

    def used(self, found: Delegation) -> str:
        """The delegate that ran: this one, or "none" when the log says that it took nothing."""
        return Kind.NONE if found.extent(self.kind) == Extent.NOTHING else self.name
