"""Self-training: the linear head of a frozen network learns from images without labels, too.

The head answers about them, and is fitted again on these answers and on the labels, several times
over. The answers stay soft, so that a doubtful one teaches little. Each is the mean over an image's
views, which is right more often than one view. All classes count alike, in the answers as in the
labels. This is self-training (Scudder 1965) with soft pseudo-labels (Lee 2013) on varied views (Xie
et al. 2020, "Noisy Student", arXiv 1911.04252); each fit is a convex problem.

It takes no further pass of the network: the student learns from views of these images anyway.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from edgekd.core.artifacts import Labels
from edgekd.training import linear_head, view_average
from edgekd.training.linear_head import Head, Validated, Weights
from edgekd.training.losses import label_losses
from edgekd.training.view_features import Features, spread, standardised

# Share of the images without labels in the loss. With 0.5 the head gained less on each of three
# sets (docs/measured/distillation.md). Larger shares were not compared.
SHARE = 0.8
# L2 weight of the fit on many soft answers, for features of unit variance: what cross-validation
# chooses for thousands of labels. Others were not compared.
DECAY = 0.01
# Images without labels that are learned from. More of them would take minutes for each fit.
IMAGES = 20_000


@dataclasses.dataclass(frozen=True)
class SelfTraining:
    """Images with labels, `labelled` and `labels` as for `linear_head.fit`, and images without.

    `unlabelled`: features of at least one view. `rounds`: how often the head answers.
    """

    labelled: Features
    labels: Tensor
    unlabelled: Features
    kind: Labels
    classes: int
    rounds: int

    def fit(self, head: Head) -> Head:
        """A better head than `head`, which was fitted on the labels alone."""
        mean, std = spread(self.labelled, self.unlabelled)
        start = head.weight * std, head.bias + head.weight @ mean
        weight, bias = self._standardised(mean, std)._rounds(start)
        weight = weight / std
        return Head(weight, bias - weight @ mean, DECAY)

    def held_out_before(self, decay: float, seed: int) -> Validated:
        """The cross-validation on the same images of heads that are fitted on the labels alone."""
        candidates = {"": self.labelled}
        return linear_head.compare(candidates, self.labels, self.classes, decay, seed)[""]

    def held_out(self, decay: float, seed: int) -> Validated:
        """The cross-validation of `linear_head.cross_validated`, with self-training in each fold.

        `decay`: of the heads that it begins with. It learns from at most `linear_head.TRIED` of the
        images without labels.
        """
        few = self._few(linear_head.TRIED)
        few = few._standardised(*spread(few.labelled, few.unlabelled))
        order = linear_head.judged(self.labels, seed)
        known, labels = few.labelled.at(order), self.labels[order]
        said = torch.zeros(len(order), self.classes)
        for held in linear_head.folds(len(order)):
            part, told = Features.of(known[:, ~held]), labels[~held]
            start = linear_head.logistic(part, told, self.classes, decay)
            fold = dataclasses.replace(few, labelled=part, labels=told)
            said[held] = F.linear(known[0, held], *fold._rounds(start))
        return Validated(DECAY, linear_head.losses(said, labels, self.classes))

    def _few(self, images: int) -> SelfTraining:
        """The same with at most so many images without labels, and COMPARED views of the others."""
        count = min(images, self.unlabelled.count)
        views = min(linear_head.COMPARED, self.labelled.views)
        return dataclasses.replace(
            self,
            labelled=dataclasses.replace(self.labelled, views=views),
            unlabelled=dataclasses.replace(self.unlabelled, count=count),
        )

    def _standardised(self, mean: Tensor, std: Tensor) -> SelfTraining:
        return dataclasses.replace(
            self,
            labelled=standardised(self.labelled, mean, std),
            unlabelled=standardised(self.unlabelled, mean, std),
        )

    def _rounds(self, start: Weights) -> Weights:
        """The weights after all rounds, of features that are standardised already."""
        targets = label_losses.soften(self.labels, self.classes, 0.0)
        labelled = _Lesson(self.labelled, targets, self.kind, 1 - SHARE)
        found = start
        for _ in range(self.rounds):
            answered = _Lesson(self.unlabelled, self._answers(found), self.kind, SHARE)
            both = functools.partial(_pieces, (labelled, answered))
            found = linear_head.minimum(both, DECAY, found)
        return found

    def _answers(self, weights: Weights) -> Tensor:
        """Probabilities [n, k] of the images without labels: the mean over their views."""
        each = torch.stack(
            [
                F.linear(self.unlabelled.take(view, torch.arange(self.unlabelled.count)), *weights)
                for view in range(self.unlabelled.views)
            ]
        )
        mean = view_average.mean_logits(each, self.kind)
        return F.sigmoid(mean) if self.kind == "many" else F.softmax(mean, 1)


@dataclasses.dataclass(frozen=True)
class _Lesson:
    """Images and what the head shall answer about each of their views.

    `targets`: probabilities [n, k], with NaN where one of several labels is not known. `share`: of
    these images in the loss.
    """

    features: Features
    targets: Tensor
    kind: Labels
    share: float

    @functools.cached_property
    def parts(self) -> Iterable[tuple[Tensor, Tensor]]:
        """The images' features; see `Features.held`."""
        return self.features.held()

    @functools.cached_property
    def weights(self) -> Tensor:
        """By how much each image counts, [n], so that all classes count alike. It does not change
        what the image's own target is. For several labels: of their absence and presence, [2, k].
        """
        if self.kind == "many":
            return label_losses.label_weights(self.targets)
        count, classes = self.targets.shape
        return self.targets @ (1 / (classes * self.targets.mean(0).clamp(min=1 / count)))

    def pieces(self, head: Weights) -> Iterator[Tensor]:
        """Scalars that add up to the loss of a head."""
        rows = self.features.views * self.features.count
        for order, x in self.parts:
            said, wanted = F.linear(x, *head), self.targets[order]
            if self.kind == "many":
                loss = label_losses.binary_cross_entropy(said, wanted, self.weights)
            else:
                loss = label_losses.cross_entropy(said, wanted * self.weights[order, None])
            yield self.share * loss * (len(x) / rows)


def _pieces(lessons: Sequence[_Lesson], weight: Tensor, bias: Tensor) -> Iterator[Tensor]:
    for lesson in lessons:
        yield from lesson.pieces((weight, bias))
