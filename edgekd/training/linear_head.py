"""Linear head of a frozen network: balanced logistic regression on its features, as strongly decayed as the images ask for.

With few images the decay decides how sure a teacher is, and so what a student hears of classes that are alike. Too weak, and
the head is right about as often, but never in doubt; hence it is chosen by held-out cross-entropy, not by accuracy.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from edgekd.training.fit import balanced
from edgekd.training.losses import label_losses

STEPS = 200  # L-BFGS iterations; a convex problem of a few thousand weights converges well before
DECAYS = (
    1.0,
    0.3,
    0.1,
    0.03,
    0.01,
    0.003,
    0.001,
)  # half a decade apart: finer than folds of few images can tell
FOLDS = 5
TRIED = 2000  # images that the decay is chosen on; with more than that it hardly matters


class Head(NamedTuple):
    """weight float32 [k, d] and bias [k], for features as they come; the decay in force."""

    weight: Tensor
    bias: Tensor
    decay: float


def fit(features: Tensor, labels: Tensor, classes: int, decay: float, seed: int) -> Head:
    """Fit a head on features float32 [views, n, d] of n images, labels int64 [n], or 0 or 1 for each of several [n, k].

    `decay`: L2 weight on features scaled to unit variance; 0 chooses it (`best_decay`).
    """
    flat = features.flatten(0, 1)
    mean, std = flat.mean(0), flat.std(0).clamp(min=1e-6)
    scaled = (features - mean) / std
    decay = decay or best_decay(scaled, labels, classes, seed)
    weight, bias = _logistic(scaled, labels, classes, decay)
    return Head(weight / std, bias - (weight / std) @ mean, decay)


def best_decay(features: Tensor, labels: Tensor, classes: int, seed: int) -> float:
    """The decay of DECAYS with the lowest cross-entropy on the plain views (the first) of images held out, over FOLDS folds.

    All views of an image lie in one fold; a tie goes to the stronger decay. A single image takes the strongest.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))[:TRIED]
    if labels.ndim == 1:
        order = order[labels[order].argsort(stable=True)]  # every fold has its share of each class
    features, labels = features[:, order], labels[order]
    fold = torch.arange(len(order)) % FOLDS
    found = torch.zeros(len(DECAYS))
    for number in range(min(FOLDS, len(order))):
        held, start = fold == number, None
        if bool(held.all()):
            break
        for place, decay in enumerate(
            DECAYS
        ):  # from strong to weak, each from where the one before ended
            start = _logistic(features[:, ~held], labels[~held], classes, decay, start)
            said = F.linear(features[0, held], *start)
            found[place] += _loss(said, labels[held], _weights(labels[held], classes)) * held.sum()
    return DECAYS[int(found.argmin())]


def _weights(labels: Tensor, classes: int) -> Tensor:
    """What gives every class, or each label's absence and presence, the same share of the loss."""
    return label_losses.label_weights(labels) if labels.ndim == 2 else balanced(labels, classes)


def _loss(said: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy of answers [n, k], weighted: of one softmax for labels [n], of each label's sigmoid for labels [n, k]."""
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
    """Minimise cross-entropy + decay/2 |W|^2 over all views, by L-BFGS from `start` or from zero."""
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
