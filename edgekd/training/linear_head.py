"""The linear head of a frozen network: balanced logistic regression on its features.

With few images, the weight decay determines how confident a teacher is, and with that what a
student learns about similar classes. With too little decay the head is correct about as often, but
never uncertain. The decay is therefore chosen by cross-entropy on held-out images, and not by
accuracy.
"""

from __future__ import annotations

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


class Head(NamedTuple):
    """`weight` float32 [k, d] and `bias` [k] for unscaled features, and the `decay` used."""

    weight: Tensor
    bias: Tensor
    decay: float


def fit(features: Tensor, labels: Tensor, classes: int, decay: float, seed: int) -> Head:
    """Fit a head on the features of n images, float32 [views, n, d].

    `labels`: int64 [n], or 0 and 1 for each of several labels, [n, k]. `decay`: L2 weight on
    features scaled to unit variance; 0 means that `best_decay` chooses it.
    """
    flat = features.flatten(0, 1)
    mean, std = flat.mean(0), flat.std(0).clamp(min=1e-6)
    scaled = (features - mean) / std
    decay = decay or best_decay(scaled, labels, classes, seed)
    weight, bias = _logistic(scaled, labels, classes, decay)
    return Head(weight / std, bias - (weight / std) @ mean, decay)


def best_decay(features: Tensor, labels: Tensor, classes: int, seed: int) -> float:
    """The decay of DECAYS with the lowest cross-entropy on held-out images, over FOLDS folds.

    All views of an image are in one fold, and only its plain view (the first) is judged. The
    stronger decay wins a tie, and a single image gets the strongest.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))[:TRIED]
    if labels.ndim == 1:
        # Sorted by class, so that every fold gets its share of each.
        order = order[labels[order].argsort(stable=True)]
    features, labels = features[:, order], labels[order]
    fold = torch.arange(len(order)) % FOLDS
    found = torch.zeros(len(DECAYS))
    for number in range(min(FOLDS, len(order))):
        held, start = fold == number, None
        if bool(held.all()):
            break
        # From strong to weak; each fit starts where the one before ended.
        for place, decay in enumerate(DECAYS):
            start = _logistic(features[:, ~held], labels[~held], classes, decay, start)
            said = F.linear(features[0, held], *start)
            found[place] += _loss(said, labels[held], _weights(labels[held], classes)) * held.sum()
    return DECAYS[int(found.argmin())]


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


def _logistic(
    features: Tensor,
    labels: Tensor,
    classes: int,
    decay: float,
    start: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """The minimum of cross-entropy + decay/2 |W|^2 over all views, by L-BFGS from `start` or 0."""
    x, y = features.flatten(0, 1), torch.cat([labels] * len(features))
    weights = _weights(y, classes)
    weight, bias = start or (torch.zeros(classes, x.shape[1]), torch.zeros(classes))
    weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = _loss(F.linear(x, weight, bias), y, weights) + decay / 2 * weight.square().sum()
        value.backward()
        return value

    optimiser.step(closure)
    return weight.detach(), bias.detach()
