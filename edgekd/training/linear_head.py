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


# Bytes of float32 features that are kept in memory. More of them are read again for every step of
# the fit.
HELD = 256 << 20
# Rows that are read at a time.
PART = 1 << 16


@dataclasses.dataclass(frozen=True)
class Features:
    """Features of `views` views of `count` images.

    `take(view, order)`: those of some images, float32 [b, d]; `order`: int64 [b].
    """

    views: int
    count: int
    take: Callable[[int, Tensor], Tensor]

    @classmethod
    def of(cls, features: Tensor) -> Features:
        """Features in memory, float32 [views, n, d]."""
        return cls(len(features), features.shape[1], lambda view, order: features[view, order])

    def at(self, order: Tensor) -> Tensor:
        """All views of some images, float32 [views, b, d]."""
        return torch.stack([self.take(view, order) for view in range(self.views)])

    def parts(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All rows, a part at a time: the image of each, int64 [b], and its features [b, d]."""
        for view in range(self.views):
            for order in torch.arange(self.count).split(PART):
                yield order, self.take(view, order)


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


def fit(features: Features, labels: Tensor, classes: int, decay: float, seed: int) -> Head:
    """Fit a head on the features of n images.

    `labels`: int64 [n], or 0 and 1 for each of several labels, [n, k]. `decay`: L2 weight on
    features scaled to unit variance; 0 means that `cross_validated` chooses it.
    """
    mean, std = _spread(features)
    scaled = _scaled(features, mean, std)
    decay = decay or cross_validated(scaled, labels, classes, seed).decay
    weight, bias = _logistic(scaled, labels, classes, decay)
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
        scaled = _scaled(few, *_spread(few))
        found[name] = cross_validated(scaled, labels, classes, seed, (decay,) if decay else DECAYS)
    return found


def better(compared: Mapping[str, Validated]) -> str:
    """The candidate with the lowest cross-entropy, or the first one where the gain may be chance.

    Another one has to gain more than one standard error of the difference on the same images (the
    rule of Breiman et al. 1984, Classification and Regression Trees, section 3.4.3).
    """
    first, *others = compared
    kept = compared[first].each
    gains = {first: 0.0}
    for name in others:
        gain = kept - compared[name].each
        error = float(gain.std()) / len(gain) ** 0.5 if len(gain) > 1 else float("inf")
        if float(gain.mean()) > error:
            gains[name] = float(gain.mean())
    return max(gains, key=lambda name: gains[name])


def _scaled(features: Features, mean: Tensor, std: Tensor) -> Features:
    """The features with mean 0 and unit variance."""
    return dataclasses.replace(
        features, take=lambda view, order: (features.take(view, order) - mean) / std
    )


def _spread(features: Features) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature, float32 [d], the latter at least 1e-6."""
    rows = features.views * features.count
    mean = sum(part.double().sum(0) for _, part in features.parts()) / rows
    squares = sum((part.double() - mean).square().sum(0) for _, part in features.parts())
    std = torch.as_tensor(squares / max(1, rows - 1)).sqrt()
    return torch.as_tensor(mean).float(), std.float().clamp(min=1e-6)


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
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))[:TRIED]
    if labels.ndim == 1:
        # Sorted by class, so that every fold gets its share of each.
        order = order[labels[order].argsort(stable=True)]
    known, labels = features.at(order), labels[order]
    fold = torch.arange(len(order)) % FOLDS
    found, said = torch.zeros(len(decays)), torch.zeros(len(decays), len(order), classes)
    for number in range(min(FOLDS, len(order))):
        held, start = fold == number, None
        if bool(held.all()):
            break
        # From strong to weak; each fit starts where the one before ended.
        for place, decay in enumerate(decays):
            start = _logistic(Features.of(known[:, ~held]), labels[~held], classes, decay, start)
            told = said[place, held] = F.linear(known[0, held], *start)
            found[place] += _loss(told, labels[held], _weights(labels[held], classes)) * held.sum()
    best, each = int(found.argmin()), torch.zeros(len(order))
    for held in (fold == number for number in range(FOLDS)):
        weights = _weights(labels[held], classes) if bool(held.any()) else torch.ones(0)
        each[held] = _each(said[best, held], labels[held], weights)
    return Validated(decays[best], each)


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


def _held(features: Features) -> Iterable[tuple[Tensor, Tensor]]:
    """The parts of all features: in memory if they are few, else read again each time."""
    width = features.take(0, torch.zeros(1, dtype=torch.long)).shape[1]
    if features.views * features.count * width * 4 > HELD:
        return _Again(features.parts)
    orders, parts = zip(*features.parts(), strict=True)
    return [(torch.cat(orders), torch.cat(parts))]


@dataclasses.dataclass(frozen=True)
class _Again[T]:
    """An iterable that calls `start` for every pass over it."""

    start: Callable[[], Iterator[T]]

    def __iter__(self) -> Iterator[T]:
        return self.start()


def _logistic(
    features: Features,
    labels: Tensor,
    classes: int,
    decay: float,
    start: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """The minimum of cross-entropy + decay/2 |W|^2 over all views, by L-BFGS from `start` or 0."""
    parts, rows = _held(features), features.views * features.count
    # Every view has the same labels, so that the weights of the first hold for all.
    weights = _weights(torch.cat([labels] * features.views), classes)
    width = next(iter(parts))[1].shape[1]
    weight, bias = start or (torch.zeros(classes, width), torch.zeros(classes))
    weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = decay / 2 * weight.square().sum()
        value.backward()
        for order, x in parts:
            own = weights if labels.ndim == 2 else weights[order]
            part = _loss(F.linear(x, weight, bias), labels[order], own)
            part = part * (len(x) / rows)
            part.backward()
            value = value + part.detach()
        return value.detach()

    optimiser.step(closure)
    return weight.detach(), bias.detach()
