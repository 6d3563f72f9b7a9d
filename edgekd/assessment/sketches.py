"""The graph of a student at any input size and width, from its sketch.

`derived_graph` derives it without torch, in milliseconds. A network that cannot be derived is
captured again at each size and width, so that the answer is the same and takes longer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable

import msgspec

from edgekd.assessment import kept_files
from edgekd.assessment.derived_graph import NotDerivable, derived
from edgekd.assessment.sketch import Asked, Sketch
from edgekd.core import artifacts
from edgekd.core.artifacts import Json
from edgekd.core.errors import UnsupportedNetwork
from edgekd.export.graph_size import file_bytes
from edgekd.networks import input_size
from edgekd.settings.compression_settings import PruneConfig
from edgekd.tflite.flatbuffer import LiteGraph

KIND = ".sketch"
# The side at which a student is captured for all sizes: the default of data.input_px.
PX = 96
KEPT = 2  # sketches in memory; candidates of one network follow each other


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A student at one size and width.

    `graph`: as a build would write it, with zeros for weights. `file_bytes`: of its .tflite.
    `identity`: equal for two students exactly if they are the same network.
    """

    graph: LiteGraph
    file_bytes: int
    identity: str


class Sketchbook:
    """Draws students. Sketches and sizes of files are remembered while it lives."""

    def __init__(self) -> None:
        self._sketches: dict[str, Sketch] = {}
        self._sizes: dict[Hashable, int] = {}

    def draw(self, asked: Asked, ratio: float = 0.0, multiple: int = 1) -> Drawn:
        """The student at the size `asked.px`, after pruning takes `ratio` of its channels.

        `multiple`: widths are rounded to it. Raises UnsupportedNetwork where the student has no
        int8 form, or cannot be pruned.
        """
        base = self._base(asked)
        if ratio and base.untraced:
            raise UnsupportedNetwork(base.untraced)
        widths = base.widths(ratio, multiple) if ratio else {}
        identity = [base.digest, asked.px, sorted((name, *pair) for name, pair in widths.items())]
        try:
            graph = derived(base.graph, asked.px, widths, base.padded_same)
        except NotDerivable:
            return self._captured(asked, ratio if widths else 0.0, multiple)
        return Drawn(graph, self._size(graph), _hash(identity))

    def _base(self, asked: Asked) -> Sketch:
        """The sketch at PX where the student takes any size, else the one at its own size."""
        if not asked.sides and input_size.OPTION not in asked.student.options:
            try:
                return self._sketch(dataclasses.replace(asked, px=PX))
            except UnsupportedNetwork:
                if asked.px == PX:
                    raise
        return self._sketch(asked)

    def _sketch(self, asked: Asked) -> Sketch:
        if asked.key not in self._sketches:
            while len(self._sketches) >= KEPT:
                del self._sketches[next(iter(self._sketches))]
            self._sketches[asked.key] = _kept(asked)
        return self._sketches[asked.key]

    def _captured(self, asked: Asked, ratio: float, multiple: int) -> Drawn:
        """The same by a capture of its own."""
        if ratio:
            from edgekd.networks import planned_widths  # torch

            config = PruneConfig(ratio=ratio)
            narrow = planned_widths.narrowed(
                asked.student, config, multiple, asked.classes, asked.px, asked.reads
            )
            asked = dataclasses.replace(asked, student=narrow)
        own = self._sketch(asked)
        return Drawn(own.graph, len(own.graph.data), _hash([own.digest]))

    def _size(self, graph: LiteGraph) -> int:
        """Bytes of a graph's file, which depend on its names and constants, and not on its maps."""
        key = (
            tuple(op.name for op in graph.ops),
            tuple(tensor.name for tensor in graph.tensors),
            tuple(tensor.shape for tensor in graph.tensors if tensor.data is not None),
        )
        if key not in self._sizes:
            self._sizes[key] = file_bytes(graph)
        return self._sizes[key]


def _kept(asked: Asked) -> Sketch:
    """The sketch from the folder of kept files, or newly made."""

    def make() -> bytes:
        from edgekd.assessment.sketching import made  # torch

        return msgspec.msgpack.encode(made(asked))

    return msgspec.msgpack.decode(kept_files.kept(asked.key, KIND, make), type=Sketch)


def _hash(of: Json) -> str:
    return artifacts.sha256(artifacts.canonical_json(of))
