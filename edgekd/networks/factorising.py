"""A trained layer's weights as a low-rank pair, and what that needs to know about its outputs.

The pair keeps the directions in which the layer's outputs vary most on training images: the first
eigenvectors of their covariance. No other matrix of this rank has a smaller squared error on these
outputs (Zhang et al. 2016, "Accelerating very deep convolutional networks for classification and
detection", arXiv 1505.06798, section 3.1). The singular value decomposition of the weights alone
has the smallest error for inputs that are white, which those of a trained network are not.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.core.errors import UnsupportedNetwork
from edgekd.networks import low_rank
from edgekd.networks.channel_groups import merged_later
from edgekd.networks.compute import device_of
from edgekd.networks.low_rank_plan import Pointwise

# Least variance of a direction, as a share of the largest, by which a pair is balanced. A weaker
# direction would get weights so large that the int8 codes of the others became coarse.
FLOOR = 1e-6
# Reasons why a layer stays whole, as they stand behind a number of layers.
CLASSES = "gives the classes"
MERGED = "in training branches that are merged later"
REPEATED = "run more than once for an image"


@dataclasses.dataclass(frozen=True)
class Basis:
    """The directions of a layer's outputs, float64.

    `mean` [c]; `vectors` [c, c], a column for each direction, by falling variance; `variances` [c].
    """

    mean: Tensor
    vectors: Tensor
    variances: Tensor

    def energy(self, rank: int) -> float:
        """The share of the variance that the first `rank` directions hold."""
        total = float(self.variances.sum())
        return float(self.variances[:rank].sum()) / total if total else 1.0


@dataclasses.dataclass
class Moments:
    """Sums over the outputs of a layer at all positions of all images that it has seen.

    `count` [], `total` [c], `outer` [c, c], float64 on the CPU.
    """

    count: Tensor
    total: Tensor
    outer: Tensor

    @classmethod
    def none(cls, channels: int) -> Moments:
        """Those of no image."""
        zeros = torch.zeros(channels, channels, dtype=torch.float64)
        return cls(zeros.new_zeros(()), zeros[0].clone(), zeros)

    def add(self, rows: Tensor) -> None:
        """Add outputs [n, c]."""
        rows = rows.detach().float()
        self.count += len(rows)
        self.total += rows.sum(0).double().cpu()
        self.outer += (rows.T @ rows).double().cpu()

    def basis(self) -> Basis:
        """The directions of what was added."""
        mean = self.total / self.count
        variances, vectors = torch.linalg.eigh(self.outer / self.count - torch.outer(mean, mean))
        return Basis(mean, vectors.flip(1), variances.flip(0).clamp(min=0))


def pointwise_layers(model: nn.Module, px: int, channels: int) -> list[Pointwise]:
    """The pointwise layers that run for an image [channels, px, px], in their order."""
    layers = {layer: name for name, layer in model.named_modules() if low_rank.is_pointwise(layer)}
    seen: dict[nn.Module, list[tuple[int, int]]] = {}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        reads, gives = low_rank.widths(layer)
        seen.setdefault(layer, []).append((inputs[0].numel() // reads, output.numel() // gives))

    with _hooked(layers, note):
        _run(model, px, channels)
    classifier = model.get_classifier()  # type: ignore[operator]
    found = []
    for layer, calls in seen.items():
        whole = ""
        if layer is classifier:
            whole = CLASSES
        elif merged_later(model, layers[layer]):
            whole = MERGED
        elif len(calls) > 1:
            whole = REPEATED
        found.append(Pointwise(layers[layer], *low_rank.widths(layer), *calls[0], whole))
    return found


@contextlib.contextmanager
def watched(model: nn.Module, names: Iterable[str]) -> Iterator[dict[str, Moments]]:
    """A context in which the outputs of these layers are added up: {layer: moments}."""
    layers = {model.get_submodule(name): name for name in names}
    found = {name: Moments.none(low_rank.widths(layer)[1]) for layer, name in layers.items()}

    def add(layer: nn.Module, _inputs: Any, output: Tensor) -> None:
        rows = output.permute(0, 2, 3, 1) if isinstance(layer, nn.Conv2d) else output
        found[layers[layer]].add(rows.reshape(-1, rows.shape[-1]))

    with _hooked(layers, add):
        yield found


def factorise(
    model: nn.Module,
    ranks: Mapping[str, int],
    bases: Mapping[str, Basis],
    px: int,
    channels: int,
) -> None:
    """Replace layers by pairs that keep the first directions of their outputs, in place.

    Raises UnsupportedNetwork for a network that does not run for an image [channels, px, px] then.
    """
    for name, rank in ranks.items():
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        made = low_rank.pair(layer, rank)
        _fill(made, layer, bases[name])
        low_rank.put(model, name, made)
    try:
        _run(model, px, channels)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise UnsupportedNetwork(
            f"{type(model).__name__} does not run with pairs of layers: "
            f"{str(error).splitlines()[0]}",
            "its code reads the weights of a layer: choose another student, or leave "
            "prune.low_rank out",
        ) from error


def _run(model: nn.Module, px: int, channels: int) -> None:
    with torch.inference_mode():
        model(torch.zeros(1, channels, px, px, device=device_of(model)))


def _fill(made: nn.Sequential, layer: low_rank.Layer, basis: Basis) -> None:
    """Give a pair the weights that a layer's become.

    A channel between the two has the square root of its direction's standard deviation, so that
    both layers share what a direction contributes. What the other directions hold is replaced by
    its mean, which is in the bias.
    """
    reduce, expand = (made.get_submodule(name) for name in (low_rank.REDUCE, low_rank.EXPAND))
    assert isinstance(reduce, nn.Conv2d | nn.Linear)
    assert isinstance(expand, nn.Conv2d | nn.Linear)
    assert expand.bias is not None
    rank, weight = len(reduce.weight), layer.weight.detach().double().cpu().flatten(1)
    bias = basis.mean.new_zeros(len(weight))
    if layer.bias is not None:
        bias = layer.bias.detach().double().cpu()
    vectors, variances = basis.vectors[:, :rank], basis.variances[:rank]
    scale = variances.clamp(min=FLOOR * float(variances[0]) or 1.0).pow(-0.25)
    values = {
        reduce.weight: scale[:, None] * (vectors.T @ weight),
        expand.weight: vectors / scale,
        expand.bias: basis.mean + vectors @ (vectors.T @ (bias - basis.mean)),
    }
    with torch.no_grad():
        for parameter, value in values.items():
            parameter.copy_(value.reshape(parameter.shape))


@contextlib.contextmanager
def _hooked(layers: Iterable[nn.Module], hook: Any) -> Iterator[None]:
    """A context in which a forward hook is on these layers."""
    handles = [layer.register_forward_hook(hook) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
