"""The usual preprocessings, and how often a network is right under each of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from torch import Tensor, nn

from edgekd.core.artifacts import Network
from edgekd.networks import builders
from edgekd.networks.foreign.model import Options
from edgekd.networks.inference import logits_of

# Of ImageNet's training images, with which most published classifiers are trained
# (https://docs.pytorch.org/vision/stable/models.html).
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH = 16  # images a forward pass
# Images that are tried: with 48, the standard error of a share is at most 7 points.
IMAGES = 48
# How much more often, as a share of the images, another preprocessing must be right before it is
# named: three standard errors.
MARGIN = 0.2


@dataclasses.dataclass(frozen=True)
class Way:
    """One preprocessing: mean and standard deviation for pixels in 0..1, and whether colours are
    reversed beside what was asked for.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    reversed: bool = False

    def flags(self, options: Options, order: str) -> str:
        """The options that ask for it. `order`: what was asked for."""
        if self.reversed:
            order = "rgb" if order == "bgr" else "bgr"
        mean, std = (",".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        return " ".join(
            (options.mean.format(mean), options.std.format(std), options.order.format(order))
        )


@dataclasses.dataclass(frozen=True)
class Better:
    """A preprocessing under which a network is right much more often than under the one that was
    asked for. `share`, `asked_share`: of `images` images.
    """

    way: Way
    share: float
    asked: Way
    asked_share: float
    images: int

    def told(self, options: Options, order: str) -> str:
        """What is wrong, in a sentence."""
        return (
            f"the preprocessing looks wrong. With {self.asked.flags(options, order)} the network "
            f"answers {self.asked_share:.0%} of {self.images} images right, and {self.share:.0%} "
            f"with {self.way.flags(options, order)}"
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


def better(network: Network, shown: np.ndarray, labels: np.ndarray) -> Better | None:
    """A usual preprocessing under which a network is right more often by MARGIN at least, or None.

    `shown`: uint8 [n, px, px, channels], in RGB order. `labels`: int64 [n].
    """
    net = builders.restore(network)
    asked, *usual = ways(network)
    share = _share(net, shown, labels, asked)
    if share > 1 - MARGIN:  # nothing can be so much better
        return None
    shares = {way: _share(net, shown, labels, way) for way in usual}
    best = max(shares, key=lambda way: shares[way])
    if shares[best] - share < MARGIN:
        return None
    return Better(best, shares[best], asked, share, len(shown))


def _share(net: nn.Module, shown: np.ndarray, labels: np.ndarray, way: Way) -> float:
    """The share of the images that is answered right under a preprocessing."""
    images = shown[..., ::-1].copy() if way.reversed else shown

    def batches() -> Iterator[Tensor]:
        for start in range(0, len(images), BATCH):
            part = images[start : start + BATCH]
            yield builders.normalised(part, list(way.mean), list(way.std))

    return float((logits_of(net, batches()).argmax(1) == labels).mean())
