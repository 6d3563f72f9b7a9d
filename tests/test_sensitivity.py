"""The sensitivity run: what is spoiled on purpose is named the worst, and the remedy that undoes it
comes first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from edgekd.core.context import MemoryCheckpoint, silent
from edgekd.core.errors import RecipeError, UnknownName
from edgekd.pipeline.stages.sensitivity import reading
from edgekd.quantization import (
    qat_network,
    range_pinning,
    remedies,
    remedy_ranking,
    rerun,
    sensitivity,
)
from edgekd.quantization.qat_network import QatNetwork, predict, set_phase
from edgekd.quantization.remedies import Case
from edgekd.quantization.sensitivity_record import Divergence, OperatorSensitivity
from edgekd.settings import range_pins
from edgekd.settings.recipe import QatConfig
from edgekd.tflite.int8_rules import Int8Rules, Range
from tests import small_networks
from tests.small_networks import MEAN, PX, STD, normalised

COUNT = 20  # whole batches and a part of one
PICTURES, LABELS = small_networks.images(COUNT, PX, seed=5)
SPOILED = "stem.2"  # the first convolution: everything is made of it, and its range is its own


@pytest.fixture
def network() -> QatNetwork:
    """Two branches that are added and concatenated; calibrated, ranges frozen, not trained."""
    made, _, _ = small_networks.calibrated("Branches")
    set_phase(made, "frozen")
    return made


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return PICTURES


def batch(count: int, seed: int) -> torch.Tensor:
    return normalised(small_networks.images(count, PX, seed=seed)[0], MEAN, STD)


def case(network: QatNetwork, images: np.ndarray) -> Case:
    student = small_networks.SMALL["Branches"]().eval()
    return Case(network, student, images, [batch(16, 0), batch(16, 6)], [], QatConfig(lr=1e-3))


def table(network: QatNetwork, images: np.ndarray) -> list[OperatorSensitivity]:
    found = rerun.units(network)
    return sensitivity.table(
        found, sensitivity.measure(network, images, silent, MemoryCheckpoint()), LABELS, 0
    )


def unit(network: QatNetwork, name: str) -> rerun.Unit:
    return next(unit for unit in rerun.units(network) if unit.name == name)


def scaled(network: QatNetwork, name: str, by: float) -> None:
    edge = network.edge(name)
    edge.set_range(Range(float(np.float32(edge.range.scale * by)), edge.range.zero_point))


# The run ------------------------------------------------------------------------------------------


def test_every_fake_quantiser_belongs_to_one_op(network: QatNetwork) -> None:
    found = rerun.units(network)
    weights = [path for unit in found for path in unit.weight_paths]
    assert sorted(weights) == sorted(layer.quantizer for layer in network.layers)
    edges = {edge for unit in found for edge in (unit.name, *unit.others)}
    assert edges | {"input"} == set(network.edges)
    assert len({unit.range_path for unit in found}) == len(found)
    joined = unit(
        network, "relu"
    )  # the sum, the other branch and their concatenation have one range
    assert {"right.2", "cat"} == set(joined.others)
    assert joined.op == "ADD + CONV_2D + CONCATENATION"


def test_computing_only_what_follows_gives_what_computing_all_gives(
    network: QatNetwork, images: np.ndarray
) -> None:
    part = images[: sensitivity.BATCH]
    for everything, one in (("float", "frozen"), ("frozen", "float")):
        set_phase(network, everything)
        run = rerun.Rerun(network, part)
        assert np.array_equal(run.logits, predict(network, part))
        for found in rerun.units(network):
            paths = (found.range_path, *found.weight_paths)
            with rerun.phase(network, paths, one):
                assert np.array_equal(
                    run.after(rerun.affected(network, paths)), predict(network, part)
                ), found.name
        assert np.array_equal(predict(network, part), run.logits)  # the phases are as they were


def test_the_whole_and_the_float_network_are_the_networks(
    network: QatNetwork, images: np.ndarray
) -> None:
    whole = predict(
        network, images, sensitivity.BATCH
    )  # of the same batches: sums are rounded by their order
    runs = sensitivity.measure(network, images, silent, MemoryCheckpoint())
    assert np.array_equal(runs.whole, whole)
    assert np.array_equal(predict(network, images, sensitivity.BATCH), whole)
    set_phase(network, "float")
    assert np.array_equal(runs.float_, predict(network, images, sensitivity.BATCH))
    assert runs.alone.shape == runs.without.shape == (len(rerun.units(network)), COUNT, 3)


@pytest.mark.parametrize("by", [0.05, 40.0], ids=["far too tight", "far too wide"])
def test_a_spoiled_range_is_the_worst_op_and_its_remedy_the_first(
    network: QatNetwork, images: np.ndarray, by: float
) -> None:
    set_phase(network, "float")
    reference = predict(network, images)
    set_phase(network, "frozen")
    scaled(network, SPOILED, by)
    spoiled = predict(network, images)
    rows = table(network, images)
    assert rows[0].name == SPOILED
    assert rows[0].without.rank == 1
    assert rows[0].alone.kl > 3 * rows[1].alone.kl
    assert rows[0].alone.kl_ci95[0] > rows[1].alone.kl_ci95[1]
    parts = sensitivity.blame(network, images, [unit(network, SPOILED)], silent)[SPOILED]
    kl = {
        part: sensitivity.compare(logits, reference, LABELS, 0).kl for part, logits in parts.items()
    }
    assert kl["range"] > 2 * kl["weights"]
    trial = case(network, images)
    worst = [unit(network, row.name) for row in rows[:3]]
    before = network.edge(SPOILED).range
    found = remedies.ranges(trial, worst, range_pinning.observe(network, trial.calibration))
    assert network.edge(SPOILED).range == before
    best, tried = remedy_ranking.rank(found, spoiled, reference, LABELS, 0)
    assert len(tried) == len(found)
    assert (best[0].what, best[0].kind) == (
        SPOILED,
        "wider range" if by < 1 else "tighter range",
    )
    assert best[0].sure is True
    assert best[0].kl_after < 0.5 * best[0].kl_before
    assert f"qat.pin={SPOILED}=" in best[0].next_step


def test_one_scale_for_weights_of_unequal_channels_is_blamed_on_the_weights(
    images: np.ndarray,
) -> None:
    torch.manual_seed(0)
    model = small_networks.SMALL["Branches"]().eval()
    with torch.no_grad():
        model.head.fc.weight[0] *= 100  # the other rows are then left a code or two
    network = qat_network.prepare(model, PX, MEAN, STD, Int8Rules(classifier="per_tensor"))
    qat_network.calibrate(network, [batch(16, 1)])
    set_phase(network, "float")
    reference = predict(network, images)
    layer = next(layer for layer in network.layers if layer.op == "FULLY_CONNECTED")
    chosen = unit(network, layer.target)
    parts = sensitivity.blame(network, images, [chosen], silent)[chosen.name]
    (remedy,) = remedies.per_channel(case(network, images))
    coarse = predict(network, images)
    quantizer: Any = network.graph.get_submodule(layer.quantizer)
    assert quantizer.granularity == "per_tensor"  # left as it was
    off = {
        name: np.abs(logits - reference)[:, 1:].mean()
        for name, logits in {**parts, "coarse": coarse, "remedy": remedy.logits}.items()
    }
    assert off["weights"] > 0.2 * off["coarse"]
    assert off["remedy"] < off["coarse"]
    assert remedy.kind == "per-channel weights"


def test_an_interrupted_run_goes_on_after_the_last_batch(
    network: QatNetwork, images: np.ndarray
) -> None:
    expected = sensitivity.measure(network, images, silent, MemoryCheckpoint())
    checkpoint, units = MemoryCheckpoint(), len(rerun.units(network))

    def interrupt(_what: str, done: int, _total: int, **_: float) -> None:
        if done > 3 * units:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sensitivity.measure(network, images, interrupt, checkpoint)
    seen: list[int] = []
    set_phase(network, "frozen")
    runs = sensitivity.measure(
        network, images, lambda _what, done, _total, **_: seen.append(done), checkpoint
    )
    assert min(seen) > 2 * units  # the first batch was not computed again
    for name in ("float_", "whole", "alone", "without"):
        assert np.array_equal(getattr(runs, name), getattr(expected, name)), name


def test_a_torn_checkpoint_is_started_over(network: QatNetwork, images: np.ndarray) -> None:
    checkpoint = MemoryCheckpoint()
    sensitivity.measure(network, images[:16], silent, checkpoint)
    assert checkpoint.data is not None
    checkpoint.save(checkpoint.data[: len(checkpoint.data) // 2])
    assert len(sensitivity.measure(network, images[:16], silent, checkpoint).whole) == 16


# Remedies -----------------------------------------------------------------------------------------


def test_all_that_is_tried_is_measured_and_ranked(network: QatNetwork, images: np.ndarray) -> None:
    before = predict(network, images)
    worst = rerun.units(network)[:2]
    found = remedies.candidates(case(network, images), worst, {unit.name: before for unit in worst})
    assert {"calibrate again", "another op", "more QAT"} <= {candidate.kind for candidate in found}
    trained = next(candidate for candidate in found if candidate.kind == "more QAT")
    assert np.abs(trained.logits - before).max() > 0
    best, tried = remedy_ranking.rank(found, before, before, LABELS, 0)
    assert best == []  # nothing is nearer to itself
    assert all(row.kl_before == 0 and not row.sure for row in tried)


def test_a_remedy_whose_gain_may_be_chance_is_marked_and_comes_last() -> None:
    rng = np.random.default_rng(0)
    reference = rng.normal(0, 2, (60, 3)).astype(np.float32)
    before = reference + rng.normal(0, 0.5, reference.shape).astype(np.float32)
    labels = np.arange(60) % 3
    lucky = before.copy()
    lucky[0] = reference[0]
    made = [
        remedies.Candidate("tighter range", "a", "", "", lucky),
        remedies.Candidate("more QAT", "all ops", "", "", (before + reference) / 2),
        remedies.Candidate("wider range", "a", "", "", before + 1.0 * (before - reference)),
        remedies.Candidate("another op", "a", "", "", reference, bound=True),
        remedies.Candidate("another op", "b", "", "", reference, bound=True),
    ]
    best, tried = remedy_ranking.rank(made, before, reference, labels, 0)
    assert len(tried) == 5
    assert [(row.kind, row.sure, row.bound) for row in best] == [
        ("more QAT", True, False),
        ("tighter range", False, False),
        ("another op", True, True),
    ]
    assert best[-1].kl_after == pytest.approx(0, abs=1e-12)


def divergence(kl: float) -> Divergence:
    return Divergence(kl, [kl, kl], 0.0, None)


def test_what_the_divergences_say() -> None:
    assert "Look at the operators" in reading(divergence(0.2), divergence(0.01))
    assert "Look at the training" in reading(divergence(0.01), divergence(0.2))
    assert "close to nothing" in reading(divergence(1e-5), divergence(1e-4))


# Ranges -------------------------------------------------------------------------------------------


def test_percentiles_clip_the_tails_and_keep_the_mass_at_zero() -> None:
    values = np.concatenate([np.zeros(500), np.linspace(0, 1, 500)]).astype(np.float32)
    seen = range_pinning.Seen(np.append(values, 50).astype(np.float32), 0.0, 50.0)
    assert seen.range(100).scale == pytest.approx(50 / 255)
    assert seen.range(99).scale == pytest.approx(1 / 255, rel=0.02)
    assert seen.range(99).zero_point == -128


def test_what_passes_an_edge_is_seen_before_it_is_rounded(network: QatNetwork) -> None:
    scaled(network, SPOILED, 0.05)
    seen = range_pinning.observe(network, [batch(8, 3)])
    limit = network.edge(SPOILED).range.scale * 255
    assert seen[SPOILED].high - seen[SPOILED].low > 2 * limit
    assert len(seen[SPOILED].values) == 8 * range_pinning.VALUES_PER_IMAGE
    assert seen.keys() == network.edges.keys()
    assert np.array_equal(
        seen[SPOILED].values, range_pinning.observe(network, [batch(8, 3)])[SPOILED].values
    )


def test_a_pinned_range_does_not_follow_the_training(network: QatNetwork) -> None:
    seen = range_pinning.observe(network, [batch(8, 3)])
    range_pinning.pin(network, range_pins.parse(f"{SPOILED}=99"), seen)
    pinned, free = network.edge(SPOILED).range, network.edge("left.2").range
    assert pinned == seen[SPOILED].range(99)
    set_phase(network, "observe")
    network(batch(8, 4) * 4)
    assert network.edge(SPOILED).range == pinned
    assert network.edge("left.2").range != free
    fixed = network.edge("input").range
    range_pinning.pin(network, {range_pins.EVERY: 99.0}, seen)
    assert network.edge("input").range == fixed


@pytest.mark.parametrize("text", ["blocks", "blocks=", "=99", "a=0", "a=101", "a=x", "a=50"])
def test_a_pin_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match=r"qat\.pin"):
        range_pins.parse(text)


def test_pins_are_read_and_unknown_edges_named(network: QatNetwork) -> None:
    assert range_pins.parse("") == {}
    assert range_pins.parse("a.b=99.9, *=100") == {"a.b": 99.9, "*": 100.0}
    with pytest.raises(UnknownName, match="conv_stm"):
        range_pinning.pin(network, {"conv_stm": 99.0}, {})


def test_the_settings_told_keep_what_the_recipe_pins(
    network: QatNetwork, images: np.ndarray
) -> None:
    trial = Case(network, network, images, [], [], QatConfig(pin="a=99.9"))
    assert trial.pinned("b", 99.99) == '--set "qat.pin=a=99.9, b=99.99"'
    assert trial.pinned("a", 100) == '--set "qat.pin=a=100"'
