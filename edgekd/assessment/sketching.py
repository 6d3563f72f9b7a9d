"""Makes a sketch: builds the student with random weights, converts it, and finds its channels."""

from __future__ import annotations

import zlib

from edgekd.assessment import untrained_cache
from edgekd.assessment.sketch import Asked, Sketch
from edgekd.core.frames import Frame
from edgekd.export.untrained_model import untrained_tflite
from edgekd.networks.float_facts import facts_of
from edgekd.tflite.flatbuffer import read, write
from edgekd.tflite.int8_rules import Int8Rules
from edgekd.training import threads


def made(asked: Asked) -> Sketch:
    """Capture a student. Raises what `untrained_tflite` raises."""
    student, px, classes, rules = asked.student, asked.px, asked.classes, dict(asked.rules)
    model = untrained_cache.known(student, px, classes, rules, asked.sides)
    with threads.alone():
        if model is None:
            frame = Frame.of(asked.sides, px)
            model = untrained_tflite(student, px, classes, Int8Rules(**rules), frame)
        found = facts_of(student, px, classes, asked.reads)
    small = zlib.compress(without_weights(model))
    return Sketch(small, found.padded_same, found.groups, found.layers, found.untraced)


def without_weights(data: bytes) -> bytes:
    """A .tflite of the same network and the same size, whose weights and biases are zeros."""
    graph = read(data)
    model = graph.model
    for tensor, written in zip(graph.tensors, model.subgraphs[0].tensors, strict=True):
        if tensor.data is not None and tensor.scale.size and tensor.data.size > 1:
            model.buffers[written.buffer].data = bytes(tensor.data.nbytes)
    return write(model)
