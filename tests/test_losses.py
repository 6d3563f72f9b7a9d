"""Losses on labels and between logits: the defining property of each, and its float64 formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgekd.core.errors import RecipeError
from edgekd.training.losses import label_losses, logit_losses


def logits(k: int = 5, n: int = 7, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed)) * 3


def softmax(z: np.ndarray, axis: int = 1) -> np.ndarray:
    e = np.exp(z - z.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def both(k: int = 5, n: int = 7) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Student, teacher and one-hot targets in float64."""
    labels = torch.arange(n) % k
    return (
        logits(k, n, 1).double(),
        logits(k, n).double(),
        label_losses.soften(labels, k, 0).double(),
    )


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kd_is_zero_only_for_equal_distributions(temperature: float) -> None:
    teacher = logits()
    student = (teacher + 2.0).requires_grad_()  # a shift changes no probability
    value = label_losses.kd(student, teacher, temperature)
    value.backward()
    assert float(value.detach()) == pytest.approx(0, abs=1e-5)
    assert student.grad is not None
    assert float(student.grad.abs().max()) < 1e-5
    assert float(label_losses.kd(logits(seed=1), teacher, temperature)) > 0.1


def test_kd_gradient_keeps_its_size_as_temperature_grows() -> None:
    sizes = []
    for temperature in (4.0, 8.0, 16.0):
        student = (logits(seed=1) * 0.3).requires_grad_()
        label_losses.kd(student, logits() * 0.3, temperature).backward()
        assert student.grad is not None
        sizes.append(float(student.grad.norm()))
    assert max(sizes) / min(sizes) < 1.3


def test_soft_cross_entropy_equals_torchs_on_hard_labels() -> None:
    labels = torch.tensor([0, 1, 2, 3, 4, 0, 1])
    ours = label_losses.cross_entropy(logits(), label_losses.soften(labels, 5, 0.1))
    assert torch.allclose(ours, nn.functional.cross_entropy(logits(), labels, label_smoothing=0.1))


def test_binary_cross_entropy_weighs_labels() -> None:
    targets = (logits(seed=2) > 0).float()
    plain = label_losses.binary_cross_entropy(logits(), targets)
    assert torch.allclose(plain, nn.functional.binary_cross_entropy_with_logits(logits(), targets))
    only = label_losses.binary_cross_entropy(
        logits(), targets, torch.tensor([[5.0, 0, 0, 0, 0]] * 2)
    )
    assert torch.allclose(
        only, nn.functional.binary_cross_entropy_with_logits(logits()[:, 0], targets[:, 0])
    )


def test_label_weights_give_present_and_absent_the_same_share() -> None:
    labels = (
        torch.rand(400, 3, generator=torch.Generator().manual_seed(0))
        < torch.tensor([0.02, 0.3, 0.9])
    ).long()
    absent, present = label_losses.label_weights(labels)
    weight = torch.where(labels == 1, present, absent)
    assert torch.allclose(weight.mean(0), torch.ones(3))
    assert torch.allclose((weight * labels).sum(0), (weight * (1 - labels)).sum(0))


def test_mixed_targets_sum_to_one() -> None:
    own, other = (
        label_losses.soften(torch.tensor([0, 1]), 3, 0),
        label_losses.soften(torch.tensor([2, 2]), 3, 0),
    )
    mixed = label_losses.mixed(own, other, torch.tensor([0.75, 1.0]))
    assert torch.allclose(mixed, torch.tensor([[0.75, 0, 0.25], [0, 1, 0]]))


def test_standardised_logits_are_refused_for_two_classes() -> None:
    with pytest.raises(RecipeError, match="2"):
        logit_losses.standardised(logits(2))
    z = logit_losses.standardised(logits())
    assert torch.allclose(z.mean(1), torch.zeros(7), atol=1e-5)
    assert torch.allclose(z.std(1), torch.ones(7), atol=1e-4)


def test_standardised_kd_is_blind_to_shift_and_scale() -> None:
    value = logit_losses.kd_standardised(logits(seed=1), logits(), temperature=2.0)
    moved = logit_losses.kd_standardised(
        logits(seed=1) * 7 - 3, logits() * 0.2 + 9, temperature=2.0
    )
    assert torch.allclose(value, moved, atol=1e-4)
    assert float(
        logit_losses.kd_standardised(logits() * 5, logits(), temperature=2.0)
    ) == pytest.approx(0, abs=1e-5)


def test_per_label_is_the_sum_of_binary_kls_and_survives_a_sure_teacher() -> None:
    s, t, _ = both()
    p, q = 1 / (1 + np.exp(-t.numpy() / 2)), 1 / (1 + np.exp(-s.numpy() / 2))
    expected = 4 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).sum(1).mean()
    assert float(logit_losses.per_label(s, t, temperature=2.0)) == pytest.approx(
        expected, rel=1e-12
    )
    assert float(logit_losses.per_label(t, t, temperature=1.0)) == pytest.approx(0, abs=1e-12)
    sure = logit_losses.per_label(logits() * 0, logits().sign() * 1e4, temperature=1.0)
    assert float(sure) == pytest.approx(5 * np.log(2), rel=1e-5)


def test_dkd_is_its_formula_and_contains_kd() -> None:
    s, t, targets = both()
    p, q, rows, label = (
        softmax(t.numpy() / 4),
        softmax(s.numpy() / 4),
        np.arange(7),
        targets.argmax(1).numpy(),
    )
    pt, qt = p[rows, label], q[rows, label]
    others = targets.numpy() == 0
    tckd = pt * np.log(pt / qt) + (1 - pt) * np.log((1 - pt) / (1 - qt))
    ph, qh = (x[others].reshape(7, 4) / (1 - y)[:, None] for x, y in ((p, pt), (q, qt)))
    nckd = (ph * np.log(ph / qh)).sum(1)
    for alpha, beta in ((1.0, 8.0), (1.0, 0.0), (0.0, 1.0)):
        found = logit_losses.dkd(s, t, targets, alpha=alpha, beta=beta, temperature=4.0)
        assert float(found) == pytest.approx(16 * (alpha * tckd + beta * nckd).mean(), rel=1e-10)
    kd = float(label_losses.kd(s, t, 4.0))
    assert kd == pytest.approx(
        16 * (tckd + (1 - pt) * nckd).mean(), rel=1e-10
    )  # equation 5 of the paper
    assert float(logit_losses.dkd(t, t, targets, alpha=1, beta=8, temperature=4)) == pytest.approx(
        0, abs=1e-12
    )


def test_nkd_is_its_formula_and_is_least_at_the_teacher() -> None:
    s, t, targets = both()
    p, q, label, others = (
        softmax(t.numpy()),
        softmax(s.numpy()),
        targets.argmax(1).numpy(),
        targets.numpy() == 0,
    )
    own = -(p[np.arange(7), label] * np.log(q[np.arange(7), label])).mean()
    ph, qh = (softmax(x.numpy()[others].reshape(7, 4) / 2) for x in (t, s))
    expected = own - 1.5 * 4 * (ph * np.log(qh)).sum(1).mean()
    assert float(logit_losses.nkd(s, t, targets, gamma=1.5, temperature=2.0)) == pytest.approx(
        expected, rel=1e-10
    )
    student = t.clone().requires_grad_()
    rest = logit_losses.nkd(student, t, targets, gamma=1.0, temperature=1.0) - logit_losses.nkd(
        student, t, targets, gamma=0.0, temperature=1.0
    )
    (gradient,) = torch.autograd.grad(rest, student)
    assert float(gradient.abs().max()) < 1e-9  # the non-target part is at its minimum


@pytest.mark.parametrize("name", ["dkd", "nkd"])
def test_without_a_third_class_there_is_no_non_target_distribution(name: str) -> None:
    s, t, targets = both(k=2)
    with pytest.raises(RecipeError, match="2 classes"):
        getattr(logit_losses, name)(
            s,
            t,
            targets,
            **({"alpha": 1, "beta": 8} if name == "dkd" else {"gamma": 1.5}),
            temperature=1.0,
        )


def test_dist_asks_for_relations_and_not_for_values() -> None:
    s, t, _ = both()
    p, q = softmax(t.numpy() / 4), softmax(s.numpy() / 4)
    rows = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(p, q, strict=True)])
    columns = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T, strict=True)])
    found = logit_losses.dist(s, t, beta=1.0, gamma=2.0, temperature=4.0)
    assert float(found) == pytest.approx(16 * (1 - rows + 2 * (1 - columns)), rel=1e-6)
    assert float(logit_losses.dist(t, t, beta=1, gamma=1, temperature=1)) == pytest.approx(
        0, abs=1e-6
    )
    assert float(logit_losses.dist_batch(s, t, temperature=4.0)) == pytest.approx(
        16 * (1 - columns), rel=1e-6
    )


def test_for_two_classes_only_dists_batch_term_is_left() -> None:
    s, t, _ = both(k=2)
    with pytest.raises(RecipeError, match="dist_batch"):
        logit_losses.dist(s, t, beta=1, gamma=1, temperature=1)
    p, q = softmax(t.numpy())[:, 1], softmax(s.numpy())[:, 1]
    assert float(logit_losses.dist_batch(s, t, temperature=1.0)) == pytest.approx(
        1 - np.corrcoef(p, q)[0, 1], rel=1e-6
    )
    p, q = (1 / (1 + np.exp(-x.numpy())) for x in (t, s))
    expected = 1 - np.mean([np.corrcoef(p[:, k], q[:, k])[0, 1] for k in range(2)])
    assert float(logit_losses.dist_batch_many(s, t, temperature=1.0)) == pytest.approx(
        expected, rel=1e-6
    )


def test_ofa_pulls_towards_teacher_and_label() -> None:
    teacher, targets = logits(), label_losses.soften(torch.zeros(7, dtype=torch.int64), 5, 0)
    ideal = (torch.softmax(teacher, 1) + targets).log()
    assert float(logit_losses.ofa(ideal, teacher, targets)) < float(
        logit_losses.ofa(logits(seed=3), teacher, targets)
    )


def test_odds_are_log_p_over_the_rest() -> None:
    s, _, _ = both()
    p = softmax(s.numpy())
    assert np.allclose(logit_losses.odds(s).numpy(), np.log(p / (1 - p)))
    two = logits(2)
    assert torch.allclose(logit_losses.odds(two)[:, 1], two[:, 1] - two[:, 0])


def test_rank_sees_order_and_no_threshold() -> None:
    s, t, _ = both()
    expected = np.mean(
        [
            p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
            for i in range(7)
            for j in range(i + 1, 7)
            for k in range(5)
            for p, q in [tuple(1 / (1 + np.exp(-float(x[i, k] - x[j, k]) / 2)) for x in (t, s))]
        ]
    )
    assert float(logit_losses.rank(s, t, temperature=2.0)) == pytest.approx(4 * expected, rel=1e-9)
    moved = logit_losses.rank(
        s + torch.arange(5.0), t - 3, temperature=2.0
    )  # other thresholds, the same order
    assert torch.allclose(moved, logit_losses.rank(s, t, temperature=2.0))
    assert float(logit_losses.rank(t + 4, t, temperature=1.0)) == pytest.approx(0, abs=1e-12)


def test_rank_raises_auc_to_the_teachers() -> None:
    """Scores that only rank pairs as the teacher does reach its AUC."""
    from edgekd.evaluation.metrics import binary_auc

    stream = torch.Generator().manual_seed(0)
    labels = torch.arange(64) % 2
    teacher = (labels * 2.0 + torch.randn(64, generator=stream))[:, None]
    student = torch.randn(64, 1, generator=stream).requires_grad_()
    before = binary_auc(student.detach().numpy()[:, 0], labels.numpy() == 1)
    optimiser = torch.optim.Adam([student], lr=0.1)
    for _ in range(150):
        optimiser.zero_grad()
        logit_losses.rank(student, teacher, temperature=1.0).backward()
        optimiser.step()
    after = binary_auc(student.detach().numpy()[:, 0], labels.numpy() == 1)
    assert after == pytest.approx(binary_auc(teacher.numpy()[:, 0], labels.numpy() == 1), abs=0.01)
    assert after > before + 0.2
