"""Losses and adapters: each one's defining property."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgekd import adapters, losses
from edgekd.errors import RecipeError
from edgekd.views import generator


def logits(k: int = 5, n: int = 7, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed)) * 3


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kd_is_zero_only_for_equal_distributions(temperature: float) -> None:
    teacher = logits()
    student = (teacher + 2.0).requires_grad_()  # a shift changes no probability
    value = losses.kd(student, teacher, temperature)
    value.backward()
    assert float(value.detach()) == pytest.approx(0, abs=1e-5)
    assert student.grad is not None
    assert float(student.grad.abs().max()) < 1e-5
    assert float(losses.kd(logits(seed=1), teacher, temperature)) > 0.1


def test_kd_gradient_keeps_its_size_as_temperature_grows() -> None:
    sizes = []
    for temperature in (4.0, 8.0, 16.0):
        student = (logits(seed=1) * 0.3).requires_grad_()
        losses.kd(student, logits() * 0.3, temperature).backward()
        assert student.grad is not None
        sizes.append(float(student.grad.norm()))
    assert max(sizes) / min(sizes) < 1.3


def test_soft_cross_entropy_equals_torchs_on_hard_labels() -> None:
    labels = torch.tensor([0, 1, 2, 3, 4, 0, 1])
    ours = losses.cross_entropy(logits(), losses.soften(labels, 5, 0.1))
    assert torch.allclose(ours, nn.functional.cross_entropy(logits(), labels, label_smoothing=0.1))


def test_mixed_targets_sum_to_one() -> None:
    own, other = losses.soften(torch.tensor([0, 1]), 3, 0), losses.soften(torch.tensor([2, 2]), 3, 0)
    mixed = losses.mixed(own, other, torch.tensor([0.75, 1.0]))
    assert torch.allclose(mixed, torch.tensor([[0.75, 0, 0.25], [0, 1, 0]]))


def test_standardised_logits_are_refused_for_two_classes() -> None:
    with pytest.raises(RecipeError, match="2"):
        losses.standardised(logits(2), 2)
    z = losses.standardised(logits(), 5)
    assert torch.allclose(z.mean(1), torch.zeros(7), atol=1e-5)
    assert torch.allclose(z.std(1), torch.ones(7), atol=1e-4)


def test_ofa_pulls_towards_teacher_and_label() -> None:
    teacher, targets = logits(), losses.soften(torch.zeros(7, dtype=torch.int64), 5, 0)
    ideal = (torch.softmax(teacher, 1) + targets).log()
    assert float(losses.ofa(ideal, teacher, targets)) < float(losses.ofa(logits(seed=3), teacher, targets))


@pytest.mark.parametrize(("d_in", "d_out"), [(40, 12), (12, 40), (16, 16)])
def test_orthogonal_stays_orthonormal_under_training(d_in: int, d_out: int) -> None:
    adapter = adapters.Orthogonal(d_in, d_out, generator("t"))
    optimiser = torch.optim.SGD(adapter.parameters(), lr=0.05, momentum=0.9)  # as the recipe trains
    x, y = (torch.randn(32, d, generator=torch.Generator().manual_seed(d + 1)) for d in (d_in, d_out))
    first = None
    for _ in range(20):
        loss = (adapter(x) - y).square().mean()
        first = first or float(loss.detach())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    w = adapter.weight()
    gram = w @ w.T if d_out <= d_in else w.T @ w
    assert torch.allclose(gram, torch.eye(len(gram)), atol=5e-3)
    assert float(loss.detach()) < first  # type: ignore[operator]


def test_pooled_loss_ignores_the_teachers_scale() -> None:
    student, teacher = torch.randn(4, 16), torch.randn(4, 16)
    assert torch.allclose(losses.pooled(student, teacher), losses.pooled(student, teacher * 100 + 5), atol=1e-4)


def test_grid_loss_sees_where() -> None:
    """Equal maps give zero at any scale; the same features at another place do not."""
    teacher = torch.randn(2, 8, 3, 3)
    assert float(losses.grid(teacher * 3, teacher)) == pytest.approx(0, abs=1e-4)
    assert float(losses.grid(teacher.flip(-1), teacher)) > 0.1


def test_tokens_become_a_map_without_class_and_register_tokens() -> None:
    patches = torch.arange(9.0).view(1, 9, 1).expand(2, 9, 4)
    tokens = torch.cat([torch.full((2, 5, 4), -1.0), patches], 1)
    grid = adapters.tokens_to_map(tokens, prefix=5)
    assert grid.shape == (2, 4, 3, 3)
    assert grid[0, 0].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert adapters.tokens_to_map(grid, 5) is grid
    for wrong in (torch.zeros(2, 5 + 8, 4), torch.zeros(2, 4)):
        with pytest.raises(RecipeError):
            adapters.tokens_to_map(wrong, 5)


def test_resized_maps_keep_their_mean() -> None:
    grid = torch.rand(1, 2, 12, 12)
    assert torch.allclose(adapters.resize_map(grid, 3).mean(), grid.mean(), atol=0.02)
    assert adapters.resize_map(grid, 3).shape[-2:] == (3, 3)
