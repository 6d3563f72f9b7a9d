"""The linear head of a frozen network: balanced logistic regression on its features.

With few images, the weight decay determines how confident a teacher is, and with that what a
student learns about similar classes. With too little decay the head is correct about as often, but
never uncertain. The decay is therefore chosen by cross-entropy on held-out images, and not by
accuracy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from edgekd.training.fit import balanced
from edgekd.training.losses import label_losses
from edgekd.training.view_features import Features, spread, standardised

# Iterations of L-BFGS. A convex problem of a few thousand weights converges well before that.
STEPS = 200
# Half a decade apart, which is finer than folds of few images can distinguish.
DECAYS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
FOLDS = 5
# Images that the decay is chosen on. With more images it hardly matters.
TRIED = 2000
# Views of each image by which kinds of features are compared. The views of one image are so much
# alike that more of them would change the order of two kinds no more than chance does.
COMPARED = 2


Weights = tuple[Tensor, Tensor]  # weight float32 [k, d] and bias [k]


class Head(NamedTuple):
    """`weight` float32 [k, d] and `bias` [k] for unscaled features, and the `decay` used."""

    weight: Tensor
    bias: Tensor
    decay: float


class Validated(NamedTuple):
    """What cross-validation found: the `decay` with the lowest cross-entropy on held-out images.

    `each`: the cross-entropy of each image, float32 [n], weighted so that all classes count alike.
    """

    decay: float
    each: Tensor

    @property
    def loss(self) -> float:
        """The mean cross-entropy."""
        return float(self.each.mean())

    def gain(self, over: Validated) -> tuple[float, float]:
        """By how much the loss is lower than another one's on the same images, and the standard
        error of that, which is infinite for a single image.
        """
        gain = over.each - self.each
        error = float(gain.std()) / len(gain) ** 0.5 if len(gain) > 1 else float("inf")
        return float(gain.mean()), error

    def worse_than(self, other: Validated) -> bool:
        """Whether the loss on the same images is higher by more than one standard error."""
        gain, error = self.gain(other)
        return gain < -error


def fit(features: Features, labels: Tensor, classes: int, decay: float, seed: int) -> Head:
    """Fit a head on the features of n images.

    `labels`: int64 [n], or 0 and 1 for each of several labels, [n, k]. `decay`: L2 weight on
    features scaled to unit variance; 0 means that `cross_validated` chooses it.
    """
    mean, std = spread(features)
    known = standardised(features, mean, std)
    decay = decay or cross_validated(known, labels, classes, seed).decay
    weight, bias = logistic(known, labels, classes, decay)
    return Head(weight / std, bias - (weight / std) @ mean, decay)


def compare(
    candidates: Mapping[str, Features], labels: Tensor, classes: int, decay: float, seed: int
) -> dict[str, Validated]:
    """Cross-validate heads on several kinds of features of the same images, by name; see `fit`.

    The first COMPARED views of each image stand for all.
    """
    found = {}
    for name, features in candidates.items():
        few = dataclasses.replace(features, views=min(COMPARED, features.views))
        known = standardised(few, *spread(few))
        found[name] = cross_validated(known, labels, classes, seed, (decay,) if decay else DECAYS)
    return found


def better(compared: Mapping[str, Validated]) -> str:
    """The candidate with the lowest cross-entropy, or the first one where the gain may be chance.

    Another one has to gain more than one standard error of the difference on the same images (the
    rule of Breiman et al. 1984, Classification and Regression Trees, section 3.4.3).
    """
    first, *others = compared
    gains = {first: 0.0}
    for name in others:
        gain, error = compared[name].gain(compared[first])
        if gain > error:
            gains[name] = gain
    return max(gains, key=lambda name: gains[name])


def cross_validated(
    features: Features,
    labels: Tensor,
    classes: int,
    seed: int,
    decays: Sequence[float] = DECAYS,
) -> Validated:
    """The decay with the lowest cross-entropy on held-out images, over FOLDS folds.

    `decays`: from strong to weak. All views of an image are in one fold, and only its first view is
    judged. The stronger decay wins a tie, and a single image gets the strongest.
    """
    order = judged(labels, seed)
    known, labels = features.at(order), labels[order]
    found, said = torch.zeros(len(decays)), torch.zeros(len(decays), len(order), classes)
    for held in folds(len(order)):
        start = None
        # From strong to weak; each fit starts where the one before ended.
        for place, decay in enumerate(decays):
            start = logistic(Features.of(known[:, ~held]), labels[~held], classes, decay, start)
            told = said[place, held] = F.linear(known[0, held], *start)
            found[place] += _loss(told, labels[held], _weights(labels[held], classes)) * held.sum()
    best = int(found.argmin())
    return Validated(decays[best], losses(said[best], labels, classes))


def judged(labels: Tensor, seed: int) -> Tensor:
    """The images of a cross-validation, int64 [m]: at most TRIED of those with `labels`."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))[:TRIED]
    # Sorted by class, so that every fold gets its share of each.
    return order[labels[order].argsort(stable=True)] if labels.ndim == 1 else order


def folds(count: int) -> Iterator[Tensor]:
    """Which of `count` images each fold holds out, bool [count]. A single image has no fold."""
    fold = torch.arange(count) % FOLDS
    for number in range(min(FOLDS, count)):
        if not bool((fold == number).all()):
            yield fold == number


def losses(said: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The cross-entropy of each image, float32 [n], from the logits [n, k] about it in its fold.

    In each fold all classes count alike.
    """
    each, fold = torch.zeros(len(labels)), torch.arange(len(labels)) % FOLDS
    for number in range(min(FOLDS, len(labels))):
        held = fold == number
        each[held] = _each(said[held], labels[held], _weights(labels[held], classes))
    return each


def _weights(labels: Tensor, classes: int) -> Tensor:
    """Weights that give every class, or absence and presence of each label, the same share."""
    return label_losses.label_weights(labels) if labels.ndim == 2 else balanced(labels, classes)


def _loss(said: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """The weighted cross-entropy of logits [n, k].

    It is that of one softmax for labels [n], and of each label's sigmoid for labels [n, k].
    """
    if labels.ndim == 2:
        return label_losses.binary_cross_entropy(said, labels.float(), weights)
    return (F.cross_entropy(said, labels, reduction="none") * weights).mean()


def _each(said: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """The terms of `_loss`, float32 [n], one for each image."""
    if labels.ndim == 1:
        return F.cross_entropy(said, labels, reduction="none") * weights
    rows = zip(said.split(1), labels.split(1), strict=True)
    each = [_loss(one, known, weights) for one, known in rows]
    return torch.stack(each) if each else torch.zeros(0)


def logistic(
    features: Features,
    labels: Tensor,
    classes: int,
    decay: float,
    start: Weights | None = None,
) -> Weights:
    """The minimum of cross-entropy + decay/2 |W|^2 over all views, by L-BFGS from `start` or 0."""
    parts, rows = features.held(), features.views * features.count
    # Every view has the same labels, so that the weights of the first hold for all.
    weights = _weights(torch.cat([labels] * features.views), classes)

    def pieces(weight: Tensor, bias: Tensor) -> Iterator[Tensor]:
        for order, x in parts:
            own = weights if labels.ndim == 2 else weights[order]
            yield _loss(F.linear(x, weight, bias), labels[order], own) * (len(x) / rows)

    width = next(iter(parts))[1].shape[1]
    return minimum(pieces, decay, start or (torch.zeros(classes, width), torch.zeros(classes)))


def minimum(
    pieces: Callable[[Tensor, Tensor], Iterable[Tensor]], decay: float, start: Weights
) -> Weights:
    """The weight [k, d] and bias [k] with the least loss + decay/2 |W|^2, by L-BFGS from `start`.

    `pieces(weight, bias)`: scalars that add up to the loss; one is held in memory at a time.
    """
    weight, bias = (each.clone().requires_grad_() for each in start)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = decay / 2 * weight.square().sum()
        value.backward()
        for piece in pieces(weight, bias):
            piece.backward()
            value = value + piece.detach()
        return value.detach()

    optimiser.step(closure)
    return weight.detach(), bias.detach()
