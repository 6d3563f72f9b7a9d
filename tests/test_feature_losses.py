"""Losses between features, relations and explanations, and their adapters: defining properties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from edgekd.core.errors import RecipeError
from edgekd.training import adapters, orthogonal
from edgekd.training.losses import explanation_losses, feature_losses, relation_losses
from edgekd.training.views import generator


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(d: int) -> torch.Tensor:
    return torch.linalg.qr(drawn(d, d, seed=9))[0]


@pytest.mark.parametrize(("d_in", "d_out"), [(40, 12), (12, 40), (16, 16)])
def test_orthogonal_stays_orthonormal_under_training(d_in: int, d_out: int) -> None:
    adapter = orthogonal.Orthogonal(d_in, d_out, generator("t"))
    optimiser = torch.optim.SGD(adapter.parameters(), lr=0.05, momentum=0.9)  # as the recipe trains
    x, y = (
        torch.randn(32, d, generator=torch.Generator().manual_seed(d + 1)) for d in (d_in, d_out)
    )
    first = None
    for _ in range(20):
        loss = (adapter(x) - y).square().mean()
        first = first or float(loss.detach())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    w = adapter(torch.eye(d_in)).T
    gram = w @ w.T if d_out <= d_in else w.T @ w
    assert torch.allclose(gram, torch.eye(len(gram)), atol=5e-3)
    assert float(loss.detach()) < first  # type: ignore[operator]


def test_pooled_loss_ignores_the_teachers_scale() -> None:
    student, teacher = drawn(4, 16).float(), drawn(4, 16, seed=1).float()
    assert torch.allclose(
        feature_losses.pooled(student, teacher),
        feature_losses.pooled(student, teacher * 100 + 5),
        atol=1e-4,
    )


def test_srd_is_its_formula_and_softens_as_the_difference_shrinks() -> None:
    s, t = drawn(6, 8), drawn(6, 8, seed=1)
    expected = np.log((np.abs(s.numpy() - t.numpy()) ** 4).sum())
    assert float(feature_losses.srd(s, t, power=4.0)) == pytest.approx(expected, rel=1e-12)
    half = feature_losses.srd((s + t) / 2, t, power=4.0)
    assert float(half) == pytest.approx(expected - 4 * np.log(2), rel=1e-9)
    assert bool(torch.isfinite(feature_losses.srd(t, t, power=4.0)))


def test_srds_adapter_holds_both_sides_to_unit_variance() -> None:
    adapter = adapters.Normed(8, 4).double().train()
    one, other = adapter(drawn(64, 8) * 30, drawn(64, 4, seed=1) * 1e-2 + 5)
    for side in (one, other):
        assert torch.allclose(side.mean(0), torch.zeros(4).double(), atol=1e-6)
        assert torch.allclose(side.var(0, unbiased=False), torch.ones(4).double(), atol=0.2)
    assert [name for name, _ in adapter.named_parameters()] == ["project.weight"]


def test_cosine_is_blind_to_length() -> None:
    s, t = drawn(5, 8), drawn(5, 8, seed=1)
    assert torch.allclose(feature_losses.cosine(s * 7, t * 0.1), feature_losses.cosine(s, t))
    assert float(feature_losses.cosine(t * 3, t)) == pytest.approx(0, abs=1e-12)
    assert float(feature_losses.cosine(-t, t)) == pytest.approx(2, abs=1e-12)


@pytest.mark.parametrize("signed", [True, False])
def test_the_ensemble_is_no_single_linear_map_and_reaches_the_teachers_sign(signed: bool) -> None:
    torch.manual_seed(0)
    adapter = adapters.Ensemble(8, 4, 3, signed).double()
    x = drawn(16, 8)
    mean = torch.stack(
        [F.leaky_relu(part(x), 0.1 if signed else 0.0) for part in adapter.each]
    ).mean(0)
    assert torch.allclose(adapter(x), mean)
    assert bool((adapter(x) < 0).any()) == signed
    assert not torch.allclose(adapter(-x), -adapter(x))


def test_infonce_is_its_formula_log_b_at_chance_and_bounded_by_it() -> None:
    s, t = drawn(6, 8), drawn(6, 8, seed=1)
    a, b = (x.numpy() / np.linalg.norm(x.numpy(), axis=1, keepdims=True) for x in (s, t))
    alike = np.exp(a @ b.T / 0.5)
    expected = -np.log(np.diag(alike) / alike.sum(1)).mean()
    assert float(feature_losses.infonce(s, t, temperature=0.5)) == pytest.approx(
        expected, rel=1e-10
    )
    same = t[:1].expand(6, 8)
    assert float(feature_losses.infonce(s, same, temperature=0.5)) == pytest.approx(
        np.log(6), rel=1e-10
    )
    assert float(feature_losses.infonce(t, t, temperature=0.01)) < 0.01


def test_a_second_draw_of_an_image_is_no_negative_of_the_first() -> None:
    t = drawn(4, 8)
    twice = torch.cat([t, t[:1]])
    numbers = torch.tensor([0, 1, 2, 3, 0])
    assert (
        float(feature_losses.infonce(twice, twice, temperature=0.01)) > 0.2
    )  # two of five rows cannot be told apart
    assert float(feature_losses.infonce(twice, twice, temperature=0.01, images=numbers)) < 0.01


def test_grid_loss_sees_where() -> None:
    """Equal maps give zero at any scale; the same features at another place do not."""
    teacher = drawn(2, 8, 3, 3).float()
    assert float(feature_losses.grid(teacher * 3, teacher)) == pytest.approx(0, abs=1e-4)
    assert float(feature_losses.grid(teacher.flip(-1), teacher)) > 0.1


@pytest.mark.parametrize(
    ("side", "weights"),
    [(7, {7: 1, 4: 0.5, 2: 0.25, 1: 0.125}), (3, {3: 1, 2: 0.5, 1: 0.25}), (1, {1: 1})],
)
def test_hcl_weighs_its_scales(side: int, weights: dict[int, float]) -> None:
    s, t = drawn(2, 8, side, side), drawn(2, 8, side, side, seed=1)
    one, other = (F.layer_norm(x.movedim(1, -1), (8,)).movedim(-1, 1) for x in (s, t))
    parts = [
        w * F.mse_loss(F.adaptive_avg_pool2d(one, k), F.adaptive_avg_pool2d(other, k))
        for k, w in weights.items()
    ]
    expected = sum(parts) / sum(weights.values())
    assert torch.allclose(feature_losses.hcl(s, t), expected)  # type: ignore[arg-type]
    assert float(feature_losses.hcl(t * 3, t)) == pytest.approx(0, abs=1e-4)


def test_attention_is_blind_to_channels_and_scale_and_sees_where() -> None:
    t = drawn(2, 8, 4, 4)
    shuffled = t[:, torch.randperm(8, generator=torch.Generator().manual_seed(0))]
    wide = torch.cat([t, t], 1) * 5
    for other in (shuffled, wide):
        assert float(feature_losses.attention(other, t)) == pytest.approx(0, abs=1e-12)
    assert float(feature_losses.attention(t.flip(-1), t)) > 1e-3


@pytest.mark.parametrize("side", [2, 8])
def test_attention_of_maps_that_share_no_place_is_2_at_every_size(side: int) -> None:
    here, there = torch.zeros(2, 1, 3, side, side)
    here[:, :, 0, 0], there[:, :, -1, -1] = 1, 1
    assert float(feature_losses.attention(here, there)) == pytest.approx(2)


def test_mmd_is_zero_for_one_distribution_and_grows_with_the_distance() -> None:
    a = drawn(40, 3)
    assert float(feature_losses.mmd(a, a)) == pytest.approx(0, abs=1e-12)
    values = [
        float(feature_losses.mmd(a, drawn(40, 3, seed=1) + shift)) for shift in (0.0, 1.0, 3.0)
    ]
    assert values[0] < 0.05 < values[1] < values[2]


def test_fair_falls_only_when_groups_of_a_class_look_alike() -> None:
    labels, groups = torch.arange(80) % 2, (torch.arange(80) // 2) % 2
    teacher = drawn(80, 4) + labels[:, None] * 4
    same = drawn(80, 4, seed=1) + labels[:, None] * 4
    apart = same + groups[:, None] * 3.0
    alike, unlike = (float(feature_losses.fair(x, teacher, labels, groups)) for x in (same, apart))
    assert alike < unlike / 3
    by_hand = sum(
        float(feature_losses.mmd(teacher[labels == c], apart[(labels == c) & (groups == g)]))
        for c in (0, 1)
        for g in (0, 1)
    )
    assert unlike == pytest.approx(by_hand)


def test_relations_are_blind_to_rotation_and_scale() -> None:
    s, t = drawn(6, 8), drawn(6, 5, seed=1)
    turned = s @ rotation(8) * 3
    for loss in (
        lambda x: relation_losses.rkd(x, t, distance=1.0, angle=2.0),
        lambda x: relation_losses.sp(x, t),
    ):
        assert torch.allclose(loss(s), loss(turned))
        assert float(loss(s)) > 1e-3
    assert torch.allclose(
        relation_losses.rkd(s + 7, t, distance=1, angle=2),
        relation_losses.rkd(s, t, distance=1, angle=2),
    )
    turned = t @ rotation(5)
    assert float(relation_losses.rkd(turned, t, distance=1, angle=2)) == pytest.approx(0, abs=1e-12)
    assert float(relation_losses.sp(turned, t)) == pytest.approx(0, abs=1e-12)


def test_rkd_and_sp_are_their_formulas() -> None:
    s, t = drawn(5, 4).numpy(), drawn(5, 3, seed=1).numpy()

    def huber(x: float) -> float:
        return 0.5 * x * x if abs(x) < 1 else abs(x) - 0.5

    def distances(x: np.ndarray) -> np.ndarray:
        d = np.linalg.norm(x[:, None] - x[None], axis=2)
        return d / d[d > 0].mean()

    def angle(x: np.ndarray, i: int, j: int, k: int) -> float:
        u, v = x[j] - x[i], x[k] - x[i]
        return float(u @ v / max(np.linalg.norm(u) * np.linalg.norm(v), 1e-30))

    apart = np.mean(
        [
            huber(float(a - b))
            for a, b in zip(distances(s).ravel(), distances(t).ravel(), strict=True)
        ]
    )
    angles = np.mean(
        [
            huber(angle(s, i, j, k) - angle(t, i, j, k))
            for i in range(5)
            for j in range(5)
            for k in range(5)
        ]
    )
    found = relation_losses.rkd(torch.from_numpy(s), torch.from_numpy(t), distance=1.0, angle=2.0)
    assert float(found) == pytest.approx(apart + 2 * angles, rel=1e-8)
    a, b = (x @ x.T / np.linalg.norm(x @ x.T, axis=1, keepdims=True) for x in (s, t))
    assert float(relation_losses.sp(torch.from_numpy(s), torch.from_numpy(t))) == pytest.approx(
        ((a - b) ** 2).sum() / 25
    )


def test_relations_of_an_image_drawn_twice_have_a_finite_gradient() -> None:
    features = drawn(4, 6)
    twice = torch.cat([features, features[:1]]).requires_grad_()
    relation_losses.rkd(twice, drawn(5, 3, seed=1), distance=1.0, angle=2.0).backward()
    assert twice.grad is not None
    assert bool(torch.isfinite(twice.grad).all())


def test_cams_average_to_the_logits() -> None:
    """The mean of a CAM is the logit of its class without the bias."""
    features, weight = drawn(2, 6, 3, 3), drawn(4, 6, seed=1)
    assert torch.allclose(
        explanation_losses.cams(features, weight).mean((2, 3)), features.mean((2, 3)) @ weight.T
    )


def test_gram_sees_which_channels_go_together_and_not_where() -> None:
    t = drawn(2, 6, 3, 3)
    shuffled = t.flatten(2)[:, :, torch.randperm(9, generator=generator("p"))].view_as(t)
    assert float(feature_losses.gram(shuffled, t)) == pytest.approx(0, abs=1e-12)
    assert float(feature_losses.gram(t.flip(1), t)) > 0.01


def test_gram_by_hand() -> None:
    """Two channels are (1, -1) or (-1, 1) after the layer norm, so a Gram matrix is ((1, -1), (-1,
    1)) for every map, and four channels (a, -a, b, -b) differ by how often they agree.
    """
    two = drawn(1, 2, 2, 2) * 100  # so that the layer norm's epsilon is nothing
    assert float(feature_losses.gram(two, two.flip(1))) == pytest.approx(0, abs=1e-6)
    same = torch.tensor([1.0, -1, 1, -1]).view(1, 4, 1, 1) * 1e3
    other = torch.tensor([1.0, 1, -1, -1]).view(1, 4, 1, 1) * 1e3
    # The products differ by 2 in 8 of 16 entries.
    assert float(feature_losses.gram(same, other)) == pytest.approx(2.0, rel=1e-4)


def test_a_discriminator_that_guesses_has_twice_log_2_and_one_that_knows_has_none() -> None:
    guess = torch.zeros(4, 1)
    assert float(feature_losses.told_apart(guess, guess)) == pytest.approx(2 * np.log(2))
    sure = torch.full((4, 1), 50.0)
    assert float(feature_losses.told_apart(-sure, sure)) == pytest.approx(0, abs=1e-6)


def test_a_reversed_gradient_lets_two_sides_pull_against_each_other() -> None:
    """One step on w * reversed(x): w goes down the loss, and x goes up."""
    w, x = torch.tensor(2.0, requires_grad=True), torch.tensor(3.0, requires_grad=True)
    loss = w * adapters.Reversed.apply(x)
    assert float(loss.detach()) == 6
    loss.backward()
    assert w.grad is not None
    assert x.grad is not None
    assert (float(w.grad), float(x.grad)) == (3, -2)


def test_cat_sees_where_and_not_how_strongly() -> None:
    t = drawn(2, 4, 4, 4)
    assert float(explanation_losses.cat(t * 5, t, side=2)) == pytest.approx(0, abs=1e-12)
    assert float(explanation_losses.cat(t.flip(-1), t, side=2)) > 0.01
    pools = [x.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2)).flatten(2) for x in (t.flip(-1), t)]
    one, other = (x / x.norm(dim=2, keepdim=True) for x in pools)
    assert torch.allclose(
        explanation_losses.cat(t.flip(-1), t, side=2), (one - other).square().mean()
    )


def test_e2kd_compares_the_evidence_for_the_teachers_answer_alone() -> None:
    t, answers = drawn(3, 4, 3, 3), torch.tensor([0, 2, 3])
    s = drawn(3, 4, 3, 3, seed=1)
    s[range(3), answers] = t[range(3), answers] * 2  # the same evidence; other classes differ
    assert float(explanation_losses.e2kd(s, t, answers)) == pytest.approx(0, abs=1e-9)
    assert float(explanation_losses.e2kd(s.flip(-1), t, answers)) > 0.1
    against = t.clone()
    against[range(3), answers] -= 1e3
    assert float(explanation_losses.e2kd(against, t, answers)) == pytest.approx(1)


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
