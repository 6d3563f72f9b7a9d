"""A sketch: what one capture of a student says about it at every input size and width."""

from __future__ import annotations

import dataclasses
import functools
import zlib
from collections.abc import Mapping

from edgekd.assessment import kept_files, untrained_cache
from edgekd.assessment.derived_graph import Widths
from edgekd.core import artifacts
from edgekd.networks import pruning_plan
from edgekd.networks.pruning_plan import Group, Layer, Limits
from edgekd.settings.loss_reading import Place
from edgekd.settings.model_specs import ModelSpec
from edgekd.tflite.flatbuffer import LiteGraph, read


@dataclasses.dataclass(frozen=True)
class Asked:
    """What decides a sketch: the arguments of `untrained_model`, and the places in the student that
    losses read, whose channels stay whole.
    """

    student: ModelSpec
    px: int
    classes: int
    rules: Mapping[str, str]
    sides: tuple[int, ...] = ()
    reads: tuple[Place, ...] = ()

    @functools.cached_property
    def key(self) -> str:
        """The hash of all that decides the sketch."""
        rules, sides = dict(self.rules), list(self.sides)
        asked = untrained_cache.asked(self.student, self.px, self.classes, rules, sides)
        return kept_files.key_of(
            {**asked, "taps": list(self.student.taps), "reads": list(self.reads)}
        )


@dataclasses.dataclass(frozen=True)
class Sketch:
    """One capture of a student.

    `model`: its .tflite with zeros for weights, compressed by zlib. `padded_same`: the layers whose
    border follows TensorFlow's SAME at any size. `groups`, `layers`: the channels that pruning
    finds in the float network; empty where it cannot trace it, and `untraced` says why.
    """

    model: bytes
    padded_same: tuple[str, ...]
    groups: tuple[Group, ...]
    layers: tuple[Layer, ...]
    untraced: str = ""

    @functools.cached_property
    def graph(self) -> LiteGraph:
        """The captured graph."""
        return read(zlib.decompress(self.model))

    @functools.cached_property
    def digest(self) -> str:
        """Equal for students that become the same graph."""
        return artifacts.sha256(self.model)

    def widths(self, ratio: float, multiple: int) -> Widths:
        """{layer: (outputs, inputs)} after pruning takes `ratio` of every group; empty where it
        takes nothing. `multiple`: widths are rounded to it.
        """
        full = {group.name: group.width for group in self.groups}
        kept = pruning_plan.kept_widths(self.groups, Limits("local", multiple, full), ratio)
        lost = {group.name: group.width - kept[group.name] for group in self.groups}
        if not any(lost.values()):
            return {}
        return pruning_plan.layer_widths(self.groups, self.layers, lost)
