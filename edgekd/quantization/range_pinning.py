"""Activation ranges from percentiles of the calibration images, which int8 training then keeps.

One odd value sets a minimum or a maximum. A percentile clips it and gives all other values finer
steps (Migacz 2017, "8-bit inference with TensorRT", compares such choices). Which is better differs
from operator to operator: `edgekd report --why` measures it, and `[qat] pin` applies it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgekd.core.errors import UnknownName
from edgekd.quantization.qat_network import QatNetwork
from edgekd.settings.range_pins import EVERY
from edgekd.tflite.int8_rules import Range, range_from_minmax

# Values kept of each tensor of each image. Of 256 images, 26 values then lie beyond 99.99 %.
VALUES_PER_IMAGE = 1024


@dataclasses.dataclass(frozen=True)
class Seen:
    """The values that passed one edge: a random sample float32 [n], and the true minimum and
    maximum.
    """

    values: npt.NDArray[np.float32]
    low: float
    high: float

    def range(self, percentile: float) -> Range:
        """The range that clips (100 - percentile) % of the values, half at each end; 100 clips
        none.
        """
        if percentile >= 100:
            return range_from_minmax(self.low, self.high)
        tail = (100 - percentile) / 2
        # Where many values are 0, as after ReLU6, the end at 0 stays.
        low, high = np.percentile(self.values, [tail, 100 - tail])
        return range_from_minmax(float(low), float(high))


def observe(network: QatNetwork, batches: Iterable[Tensor], seed: int = 0) -> dict[str, Seen]:
    """Record what passes each edge before it is rounded, in the network's present phase.

    `batches`: as `QatNetwork.forward` takes them.
    """
    drawn: dict[str, list[Tensor]] = {}
    ends: dict[str, tuple[float, float]] = {}
    random = torch.Generator().manual_seed(seed)

    def keep(name: str, x: Tensor) -> None:
        low, high = (float(bound) for bound in torch.aminmax(x))
        before = ends.get(name, (low, high))
        ends[name] = min(low, before[0]), max(high, before[1])
        flat = x.flatten(1)
        chosen = torch.randint(flat.shape[1], (VALUES_PER_IMAGE,), generator=random)
        drawn.setdefault(name, []).append(flat[:, chosen].flatten())

    handles = []
    by_module: dict[int, str] = {}  # operators of one range share a fake-quantizer: watched once
    for name in network.edges:
        module = network.edge(name)
        if by_module.setdefault(id(module), name) == name:
            handles.append(
                module.register_forward_pre_hook(
                    lambda _module, inputs, name=name: keep(name, inputs[0])
                )
            )
    try:
        with torch.no_grad():
            for batch in batches:
                network(batch)
    finally:
        for handle in handles:
            handle.remove()
    seen = {
        name: Seen(torch.cat(parts).float().numpy(), *ends[name]) for name, parts in drawn.items()
    }
    return {name: seen[by_module[id(network.edge(name))]] for name in network.edges}


def pin(network: QatNetwork, wanted: Mapping[str, float], seen: Mapping[str, Seen]) -> None:
    """Set ranges to percentiles, and keep training from moving them.

    `wanted`: {edge or EVERY: percentile}. Ranges that an operator fixes stay. Raises UnknownName
    for an edge that the network does not have.
    """
    for name in wanted:
        if name != EVERY and name not in network.edges:
            raise UnknownName(
                "edge in qat.pin", name, network.edges, "`edgekd report --why` lists the edges"
            )
    for name in network.edges:
        percentile = wanted.get(name, wanted.get(EVERY))
        edge: Any = network.edge(name)
        if percentile is not None and edge.fixed is None:
            edge.fixed = seen[name].range(percentile)
            edge.set_range(edge.fixed)
