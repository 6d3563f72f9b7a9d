"""The usual preprocessings, what a network does to its pixels itself, and how often it is right
under each preprocessing.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from edgekd.core.artifacts import Json, Network
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
# A standard deviation of usual pixels in 0..1, on which the ranges of first layers are measured.
USUAL_STD = 0.25
INSIDE = "normalised_inside"  # the key of `Inside` in a network's facts


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
        # A user gives numbers in the network's own order of colours.
        own = slice(None, None, -1 if order == "bgr" else 1)
        if self.reversed:
            order = "rgb" if order == "bgr" else "bgr"
        mean, std = (
            ",".join(f"{value:g}" for value in values[own]) for values in (self.mean, self.std)
        )
        return " ".join(
            (options.mean.format(mean), options.std.format(std), options.order.format(order))
        )


@dataclasses.dataclass(frozen=True)
class Inside:
    """A normalisation that a network did itself, and that was taken out of it: gain * x + offset
    for each channel. `asked`: what its author or its user says of the pixels before it.
    """

    asked: Way
    gain: tuple[float, ...]
    offset: tuple[float, ...]

    @property
    def joined(self) -> Way:
        """Both as one mean and one standard deviation for pixels in 0..1, to 7 digits: networks
        hold theirs in float32.
        """
        rows = list(zip(self.asked.mean, self.asked.std, self.gain, self.offset, strict=True))
        return Way(
            tuple(float(f"{mean - offset * std / gain:.7g}") for mean, std, gain, offset in rows),
            tuple(float(f"{std / gain:.7g}") for _, std, gain, _ in rows),
        )

    @property
    def plausible(self) -> bool:
        """Whether some pixel value means zero to the network's first layer."""
        mean = self.joined.mean
        return 0 <= sum(mean) / len(mean) <= 1

    def fact(self) -> dict[str, Json]:
        """The form in a network's facts."""
        return {
            "mean": [*self.asked.mean],
            "std": [*self.asked.std],
            "gain": [*self.gain],
            "offset": [*self.offset],
        }


def inside(facts: Mapping[str, Json]) -> Inside | None:
    """What a network did itself, from its facts; None where it did nothing."""
    body = facts.get(INSIDE)
    if body is None:
        return None
    mean, std, gain, offset = (tuple(body[key]) for key in ("mean", "std", "gain", "offset"))
    return Inside(Way(mean, std), gain, offset)


def likely(gain: tuple[float, ...], offset: tuple[float, ...]) -> Way:
    """The pixels that a network which normalises them itself was made for: those of 0..1 or of
    0..255, whichever gives its first layer zeros and values of a usual size.
    """
    count = len(gain)
    ways = [Way((0.0,) * count, (std,) * count) for std in (1.0, 1 / 255)]

    def strange(way: Way) -> tuple[bool, float]:
        found = Inside(way, gain, offset)
        std = sum(found.joined.std) / count
        return not found.plausible, abs(math.log(std / USUAL_STD))

    return min(ways, key=strange)


def assumed(model: str, did: Inside | None, options: Options, order: str) -> str:
    """What is assumed of a model where neither it nor its user says how pixels are normalised.

    `did`: what it does itself.
    """
    if did is None:
        mean, std = options.mean.format("R,G,B"), options.std.format("R,G,B")
        return (
            f"{model} does not say how its pixels are normalised: ImageNet's mean and standard "
            f"deviation are assumed; {mean} and {std} say otherwise"
        )
    return (
        f"{model} normalises its pixels itself, and does not say whether they are of 0..1 or of "
        f"0..255: {did.asked.flags(options, order)} is assumed, which fits what it does"
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
    did = inside(network.facts)
    asked = did.asked if did else Way(tuple(network.mean), tuple(network.std))
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
    net: nn.Module = builders.restore(network)
    if (did := inside(network.facts)) is not None:
        net = _Scaled(net, did)
    asked, *usual = ways(network)
    share = _share(net, shown, labels, asked)
    if share > 1 - MARGIN:  # nothing can be so much better
        return None
    shares = {way: _share(net, shown, labels, way) for way in usual}
    best = max(shares, key=lambda way: shares[way])
    if shares[best] - share < MARGIN:
        return None
    return Better(best, shares[best], asked, share, len(shown))


class _Scaled(nn.Module):
    """A network behind the normalisation that was taken out of it."""

    def __init__(self, network: nn.Module, did: Inside) -> None:
        super().__init__()
        self.network = network
        self.gain, self.offset = (
            torch.tensor(values).reshape(1, -1, 1, 1) for values in (did.gain, did.offset)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images."""
        found: Tensor = self.network(images * self.gain + self.offset)
        return found


def _share(net: nn.Module, shown: np.ndarray, labels: np.ndarray, way: Way) -> float:
    """The share of the images that is answered right under a preprocessing."""
    images = shown[..., ::-1].copy() if way.reversed else shown

    def batches() -> Iterator[Tensor]:
        for start in range(0, len(images), BATCH):
            part = images[start : start + BATCH]
            yield builders.normalised(part, list(way.mean), list(way.std))

    return float((logits_of(net, batches()).argmax(1) == labels).mean())
