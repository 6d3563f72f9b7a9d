"""The operators of an int8 network as units to be switched, and a batch that is computed again in
part.

An operator counts with its weights, its bias and the range of its output; operators that share a
range are one unit. The values of a batch are kept, so that only the nodes behind an operator are
computed again when it is switched between int8 and float.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx

from edgekd.quantization.fakequant import BiasFakeQuant
from edgekd.quantization.graphs import Node, nodes_of
from edgekd.quantization.qat_network import QatNetwork

Floats = npt.NDArray[np.float32]
Values = dict[Node, Any]  # of every node: tensors, and tuples of them


@dataclasses.dataclass(frozen=True)
class Unit:
    """One operator. `name` is its edge, `others` the edges that share its range.

    `range_path`, `weight_paths`: paths of its fake-quantizers. `fixed`: the operator fixes its
    range (a softmax), so no other range can be tried.
    """

    name: str
    op: str
    others: tuple[str, ...]
    range_path: str
    weight_paths: tuple[str, ...]
    fixed: bool

    @property
    def paths(self) -> tuple[str, ...]:
        """All its fake-quantizers."""
        return (self.range_path, *self.weight_paths)


def units(network: QatNetwork) -> list[Unit]:
    """The operators of a network in the order in which they run.

    The image is not among them, nor is an operator that keeps its range (a pad, a max pool): pixels
    are codes as they are.
    """
    sharing: dict[int, list[str]] = {}
    for name in network.edges:
        sharing.setdefault(id(network.edge(name)), []).append(name)
    found = []
    for names in sharing.values():
        first = names[0]
        if network.writers[first] == "INPUT":
            continue
        ops = dict.fromkeys(network.writers[name] for name in names)
        found.append(
            Unit(
                name=first,
                op=" + ".join(ops),
                others=tuple(names[1:]),
                range_path=network.edges[first],
                weight_paths=tuple(
                    layer.quantizer for layer in network.layers if layer.target in names
                ),
                fixed=network.edge(first).fixed is not None,
            )
        )
    return found


@contextmanager
def phase(network: QatNetwork, paths: Sequence[str], wanted: str) -> Iterator[None]:
    """Put some fake-quantizers in another phase than the rest while the block runs."""
    modules: list[Any] = [network.graph.get_submodule(path) for path in paths]
    before = [module.phase for module in modules]
    for module in modules:
        module.phase = wanted
    try:
        yield
    finally:
        for module, old in zip(modules, before, strict=True):
            module.phase = old


class Rerun:
    """Runs one batch through the graph, keeps every value, and then computes changed parts anew."""

    def __init__(self, network: QatNetwork, images: npt.NDArray[np.uint8]) -> None:
        """`images`: uint8 [n, px, px, channels]. Fake-quantizers keep their present phases."""
        self.graph = network.graph
        self.pixels = network.pixels(
            torch.from_numpy(np.array(images, order="C")).permute(0, 3, 1, 2)
        )
        self.values: Values = {}
        self.logits = self._run(frozenset())

    def after(self, dirty: frozenset[Node]) -> Floats:
        """Logits float32 [n, k] when the nodes in `dirty` are computed anew.

        `dirty` must hold every node that reads one of its nodes, as `affected` gives them.
        """
        return self._run(dirty)

    @torch.inference_mode()
    def _run(self, dirty: frozenset[Node]) -> Floats:
        kept = {node: value for node, value in self.values.items() if node not in dirty}
        interpreter = fx.Interpreter(self.graph, garbage_collect_values=bool(self.values))
        result: Tensor = interpreter.run(self.pixels, initial_env=kept if self.values else None)
        if not self.values:
            self.values = dict(interpreter.env)
        return np.asarray(result.numpy(), np.float32).copy()


def affected(network: QatNetwork, paths: Sequence[str]) -> frozenset[Node]:
    """The nodes whose values depend on these fake-quantizers.

    These are the fake-quantizers' own nodes, biases that are rounded with their scales, and every
    node behind those.
    """
    graph, modules = network.graph, {id(network.graph.get_submodule(path)) for path in paths}
    dirty: set[Node] = set()
    for node in nodes_of(graph.graph):
        if node.op == "call_module":
            module = graph.get_submodule(str(node.target))
            rounded_with_them = isinstance(module, BiasFakeQuant) and any(
                id(part) in modules for part in module.layer
            )
            if id(module) in modules or rounded_with_them:
                dirty.add(node)
        if node.op == "output" or any(source in dirty for source in node.all_input_nodes):
            dirty.add(node)
    return frozenset(dirty)
