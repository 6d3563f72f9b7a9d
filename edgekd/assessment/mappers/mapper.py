"""The interface that the rules of every kind of device implement."""

from __future__ import annotations

import abc
from collections.abc import Sequence

from edgekd.assessment import memory_need, workload
from edgekd.assessment.check_record import Memory
from edgekd.assessment.compiler_answer import CompiledForDevice
from edgekd.assessment.edgetpu.edgetpu_cost import CacheUse
from edgekd.assessment.op_placement import OpPlacement
from edgekd.assessment.workload import Work
from edgekd.settings.device_profiles import DeviceProfile
from edgekd.tflite.flatbuffer import LiteGraph
from edgekd.tflite.runtime_ops import Runtime


class Mapper(abc.ABC):
    """The rules of one kind of device. Only `consumer` and `place` have to be written.

    A profile names its mapper by `mapper = "NAME"`. Another package adds one through the entry
    point `edgekd.device_rules`, whose name is NAME and whose object is a subclass of this class.
    """

    # The program that turns a .tflite into the device's own format, "" where there is none.
    compiler: str = ""
    # The custom operators that run on the device, beside those of every TFLite runtime.
    custom_ops: frozenset[str] = frozenset()

    @abc.abstractmethod
    def consumer(self, profile: DeviceProfile) -> str:
        """Who runs the operators, in words for a reader, such as "Edge TPU"."""

    @abc.abstractmethod
    def place(self, graph: LiteGraph, profile: DeviceProfile) -> list[OpPlacement]:
        """Where each operator of `graph` runs, in the order of the graph."""

    # Unused arguments of the two defaults below: a subclass uses them.
    def features(
        self,
        works: Sequence[Work],
        streamed_bytes: float = 0.0,  # noqa: ARG002
    ) -> dict[str, float]:
        """The features of these operators for the device's latency model: {feature: amount}.

        `streamed_bytes`: parameters that cross the link on every inference, in bytes.
        """
        return workload.features(works)

    def remarks(
        self,
        graph: LiteGraph,  # noqa: ARG002
        profile: DeviceProfile,  # noqa: ARG002
    ) -> list[str]:
        """What a user should know about running this graph on this kind of device."""
        return []

    def runtime(self, profile: DeviceProfile) -> Runtime | None:  # noqa: ARG002
        """What decides whether a file can be loaded; None for what the profile's `runtime` names.

        A device with a compiler loads what its compiler reads.
        """
        return None

    def memory(
        self,
        graph: LiteGraph,
        profile: DeviceProfile,  # noqa: ARG002
    ) -> Memory:
        """What the graph needs. By default the arena that TFLite's interpreter plans."""
        return memory_need.planned(graph)

    def memory_limit(self, profile: DeviceProfile) -> float:
        """How many bytes of RAM the profile allows for a model."""
        return memory_need.limit(profile)

    def memory_use(self, memory: Memory, file_bytes: int) -> int:
        """The bytes that `memory_limit` is about: by default the file and the arena together."""
        return file_bytes + memory.arena_bytes

    def too_large(self, memory: Memory, profile: DeviceProfile, file_bytes: int) -> list[str]:
        """The limits of memory that are exceeded, each in one sentence. `file_bytes`: the model."""
        return memory_need.too_large(memory, profile, file_bytes)

    # The two hooks below do nothing unless a subclass writes them.
    def cache(  # noqa: B027
        self, works: Sequence[Work], scratch_bytes: int, profile: DeviceProfile
    ) -> CacheUse | None:
        """How the operators that map use the accelerator's own memory, None where it has none.

        `scratch_bytes`: activations that are alive at the same time, in bytes.
        """

    def compile(  # noqa: B027
        self, model: bytes, profile: DeviceProfile
    ) -> CompiledForDevice | None:
        """Run the device's compiler on a `.tflite`; None where the compiler is not installed.

        Raises CompilerFailed when the compiler fails, DeviceError when it cannot be run.
        """
