"""The usual preprocessings, and how often a network is right under each of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from torch import Tensor, nn

from edgekd.core.artifacts import Network
from edgekd.networks import builders
from edgekd.networks.inference import logits_of

# Of ImageNet's training images, with which most published classifiers are trained
# (https://docs.pytorch.org/vision/stable/models.html).
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH = 16  # images a forward pass


@dataclasses.dataclass(frozen=True)
class Way:
    """One preprocessing: mean and standard deviation for pixels in 0..1, and whether colours are
    reversed beside what was asked for.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    reversed: bool = False

    def flags(self, order: str) -> str:
        """The options of `edgekd convert` that ask for it. `order`: what was asked for."""
        if self.reversed:
            order = "rgb" if order == "bgr" else "bgr"
        return (
            f"--mean {','.join(f'{value:g}' for value in self.mean)} "
            f"--std {','.join(f'{value:g}' for value in self.std)} --order {order}"
        )


def ways(network: Network) -> list[Way]:
    """What was asked for, and then the usual ones."""
    channels = len(network.mean)
    asked = Way(tuple(network.mean), tuple(network.std))
    usual = [
        Way(IMAGENET_MEAN, IMAGENET_STD),
        Way((0.5,) * 3, (0.5,) * 3),
        Way((0.0,) * 3, (1.0,) * 3),
        Way((0.0,) * 3, (1 / 255,) * 3),
    ]
    usual = [Way(way.mean[:channels], way.std[:channels]) for way in usual]
    both = [asked, *usual]
    if channels == 3:
        both += [dataclasses.replace(way, reversed=True) for way in both]
    return list(dict.fromkeys(both))


def shares_right(network: Network, shown: np.ndarray, labels: np.ndarray) -> dict[Way, float]:
    """The share of images that a network answers right under each way, what was asked for first.

    `shown`: uint8 [n, px, px, channels]. `labels`: int64 [n].
    """
    net = builders.restore(network)
    return {way: _share(net, shown, labels, way) for way in ways(network)}


def _share(net: nn.Module, shown: np.ndarray, labels: np.ndarray, way: Way) -> float:
    """The share of the images that is answered right under a preprocessing."""
    images = shown[..., ::-1].copy() if way.reversed else shown

    def batches() -> Iterator[Tensor]:
        for start in range(0, len(images), BATCH):
            part = images[start : start + BATCH]
            yield builders.normalised(part, list(way.mean), list(way.std))

    return float((logits_of(net, batches()).argmax(1) == labels).mean())
