"""Losses between the logits of student and teacher, float32 [b, k]; scalars, mean over the batch.

`targets`, [b, k], are the probabilities of the labels. A loss that needs one target class takes the
largest, which is a mixed image's own label, since its share is at least a half.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from edgekd.core.artifacts import Labels
from edgekd.core.errors import RecipeError
from edgekd.training.losses.label_losses import kd

# Added to a standard deviation, as Sun et al. do.
EPSILON = 1e-7
# Fewest classes. With two classes some losses are constant or not defined.
FEWEST = 3


def _enough(logits: Tensor, what: str, instead: str) -> None:
    if logits.shape[1] < FEWEST:
        raise RecipeError(f"{what} for {logits.shape[1]} classes", f"use {instead}")


def standardised(logits: Tensor) -> Tensor:
    """Logits with zero mean and unit deviation in each row (Sun et al. 2024, arXiv 2403.01427).

    Raises RecipeError for 2 classes: two standardised logits are always (+c, -c), so that only the
    sign is left.
    """
    _enough(logits, "logit standardisation keeps only the sign", "plain KD, distil.alpha")
    return (logits - logits.mean(1, keepdim=True)) / (logits.std(1, keepdim=True) + EPSILON)


def kd_standardised(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """T^2 KL between standardised logits.

    Shift and scale of either network's logits have no effect. Sun et al. 2024, arXiv 2403.01427.
    Raises RecipeError for 2 classes.
    """
    return kd(standardised(student), standardised(teacher), temperature)


def per_label(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """T^2 sum over labels of the KL between both networks' Bernoulli distributions of the label.

    MLD (Yang et al. 2023, arXiv 2308.06453) with a temperature. Each label is a question of its
    own, so that an image may have several. It is computed from logits, so that a certain teacher
    gives no infinity.
    """
    s, t = student / temperature, teacher / temperature
    p = torch.sigmoid(t)
    each = p * (F.logsigmoid(t) - F.logsigmoid(s)) + (1 - p) * (F.logsigmoid(-t) - F.logsigmoid(-s))
    return each.sum(1).mean() * temperature**2


def follow(student: Tensor, teacher: Tensor, temperature: float, labels: Labels) -> Tensor:
    """Plain KD. Where an image may have several labels, the KD of each label, mean over labels.

    `label_losses.binary_cross_entropy` is a mean over labels, too.
    """
    if labels == "many":
        return per_label(student, teacher, temperature=temperature) / student.shape[1]
    return kd(student, teacher, temperature)


def _target(targets: Tensor) -> Tensor:
    """Boolean [b, k], true at each row's largest target (the first of equal ones)."""
    return F.one_hot(targets.argmax(1), targets.shape[1]).bool()


def _others(logits: Tensor, target: Tensor) -> Tensor:
    """The logits of all classes but the target, [b, k - 1]."""
    return logits[~target].view(len(logits), -1)


def dkd(
    student: Tensor,
    teacher: Tensor,
    targets: Tensor,
    *,
    alpha: float,
    beta: float,
    temperature: float,
) -> Tensor:
    """Decoupled KD: alpha TCKD + beta NCKD, each T^2 KL.

    Zhao et al. 2022, arXiv 2203.08679, equation 7. TCKD compares two classes, the target and all
    others together. NCKD compares the distribution among the others. KD is the case alpha = 1 and
    beta = 1 - p_teacher(target), for each row. Raises RecipeError for 2 classes, where NCKD is
    always 0.
    """
    _enough(student, "DKD has no non-target distribution", "plain KD, distil.alpha")
    target = _target(targets)
    s, t = student / temperature, teacher / temperature

    def two(logits: Tensor) -> Tensor:
        """Logarithms of (p(target), 1 - p(target)), [b, 2]."""
        log_p = F.log_softmax(logits, 1)
        return torch.stack([log_p[target], torch.logsumexp(_others(log_p, target), 1)], 1)

    tckd = F.kl_div(two(s), two(t), reduction="batchmean", log_target=True)
    nckd = F.kl_div(
        F.log_softmax(_others(s, target), 1),
        F.log_softmax(_others(t, target), 1),
        reduction="batchmean",
        log_target=True,
    )
    return (alpha * tckd + beta * nckd) * temperature**2


def nkd(
    student: Tensor, teacher: Tensor, targets: Tensor, *, gamma: float, temperature: float
) -> Tensor:
    """Normalised KD: a term of the target class, and one of all others, normalised to sum 1.

    -p_teacher(target) log p_student(target)
    - gamma T^2 sum over the others of N(p_teacher^T) log N(p_student^T)

    N normalises over the classes beside the target. Yang et al. 2023, arXiv 2303.13005, equation 7.
    Raises RecipeError for 2 classes.
    """
    _enough(student, "NKD has no non-target distribution", "plain KD, distil.alpha")
    target = _target(targets)
    own = -(F.softmax(teacher, 1)[target] * F.log_softmax(student, 1)[target]).mean()
    s, t = _others(student, target) / temperature, _others(teacher, target) / temperature
    rest = -(F.softmax(t, 1) * F.log_softmax(s, 1)).sum(1).mean()
    return own + gamma * temperature**2 * rest


def _correlation(x: Tensor, y: Tensor, dim: int) -> Tensor:
    """Pearson's correlation along `dim`."""
    return F.cosine_similarity(
        x - x.mean(dim, keepdim=True), y - y.mean(dim, keepdim=True), dim, eps=1e-8
    )


def dist(
    student: Tensor, teacher: Tensor, *, beta: float, gamma: float, temperature: float
) -> Tensor:
    """DIST: T^2 (beta (1 - correlation of rows) + gamma (1 - correlation of columns)).

    Rows and columns are those of the softened probabilities. Huang et al. 2022, arXiv 2205.10536.
    It asks for equal relations and not for equal values, so that a student can follow a much
    stronger teacher. Raises RecipeError for 2 classes, where the correlation of rows is always +1
    or -1.
    """
    _enough(
        student, "the correlation of rows is always +1 or -1", "dist_batch, its part over the batch"
    )
    s, t = F.softmax(student / temperature, 1), F.softmax(teacher / temperature, 1)
    return (
        beta * (1 - _correlation(s, t, 1).mean()) + gamma * (1 - _correlation(s, t, 0).mean())
    ) * temperature**2


def dist_batch(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """T^2 (1 - correlation of columns): the probability of each class over the images of a batch.

    The intra-class term of DIST (arXiv 2205.10536), which is defined for 2 classes, too.
    """
    s, t = F.softmax(student / temperature, 1), F.softmax(teacher / temperature, 1)
    return (1 - _correlation(s, t, 0).mean()) * temperature**2


def dist_batch_many(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """`dist_batch` on sigmoids, for images that may have several labels."""
    s, t = torch.sigmoid(student / temperature), torch.sigmoid(teacher / temperature)
    return (1 - _correlation(s, t, 0).mean()) * temperature**2


def ofa(student: Tensor, teacher: Tensor, targets: Tensor, gamma: float = 1.0) -> Tensor:
    """OFA-KD: -sum_c ((p_teacher + target)^gamma) log p_student.

    Hao et al. 2023, arXiv 2310.19444. With the target added, the teacher's probabilities of other
    classes help without hiding the label. The paper uses gamma = 1.0 for small data sets.
    """
    target = (F.softmax(teacher, dim=1) + targets) ** gamma
    return -(target * F.log_softmax(student, dim=1)).sum(1).mean()


def odds(logits: Tensor) -> Tensor:
    """log(p / (1 - p)) of the softmax probability of each class, [b, k].

    For 2 classes it is the difference of the logits.
    """
    each = []
    for k in range(logits.shape[1]):
        rest = torch.cat([logits[:, :k], logits[:, k + 1 :]], 1)
        each.append(logits[:, k] - torch.logsumexp(rest, 1))
    return torch.stack(each, 1)


def rank(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """T^2 KL between the probabilities that image i ranks above image j, over all pairs of a batch.

    RankNet (Burges et al. 2005) with the teacher's order as its target: sigmoid((t_i - t_j) / T)
    against sigmoid((s_i - s_j) / T), for each class, mean over pairs. AUC is the share of pairs in
    the right order, so that this is a smooth substitute for it. Unlike cross-entropy it does not
    depend on a shift of the scores of a class. Scores are float32 [b, k]: `odds` of the logits, or
    the logits themselves where an image may have several labels.
    """
    first, second = torch.triu_indices(len(student), len(student), 1, device=student.device)
    return (
        per_label(
            student[first] - student[second],
            teacher[first] - teacher[second],
            temperature=temperature,
        )
        / student.shape[1]
    )
