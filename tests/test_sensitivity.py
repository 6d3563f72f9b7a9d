"""The sensitivity run: what is spoiled on purpose is named the worst, and the remedy that undoes it comes first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from edgekd import clipping, networks, quantnet, remedies, sensitivity
from edgekd.context import MemoryCheckpoint, silent
from edgekd.errors import RecipeError, UnknownName
from edgekd.explaining import reading
from edgekd.int8 import Int8Rules, Range
from edgekd.quantnet import QatNetwork, predict, set_phase
from edgekd.recipe import QatConfig
from edgekd.remedies import Case
from tests.trained import HALF, calibrated

PX = 32
COUNT = 24  # a whole batch and a part of one
LABELS = np.arange(COUNT) % 3
SPOILED = "blocks.1.1.conv_pwl"  # an op in the middle of the network


def pictures(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, PX, PX, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def artifact() -> Any:
    return calibrated("mobilenetv2_035", PX)


@pytest.fixture
def network(artifact: Any) -> QatNetwork:
    return quantnet.restore(artifact, networks.create(artifact.arch, artifact.options))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return pictures(COUNT, 5)


def case(network: QatNetwork, images: np.ndarray, **changes: Any) -> Case:
    batches = [networks.normalised(pictures(32, 6)[start : start + 16], HALF, HALF) for start in (0, 16)]
    student = networks.create("mobilenetv2_035", {"num_classes": 3})
    return Case(network, student, images, batches, [], QatConfig(lr=1e-5), **changes)


def table(network: QatNetwork, images: np.ndarray) -> list[dict[str, Any]]:
    found = sensitivity.units(network)
    return sensitivity.table(found, sensitivity.measure(network, images, silent, MemoryCheckpoint()), LABELS, 0)


def unit(network: QatNetwork, name: str) -> sensitivity.Unit:
    return next(unit for unit in sensitivity.units(network) if unit.name == name)


def scaled(network: QatNetwork, name: str, by: float) -> None:
    edge = network.edge(name)
    edge.set_range(Range(float(np.float32(edge.range.scale * by)), edge.range.zero_point))


# The run --------------------------------------------------------------------------------------------------------------

def test_every_fake_quantiser_belongs_to_one_op(network: QatNetwork) -> None:
    found = sensitivity.units(network)
    weights = [path for unit in found for path in unit.weight_paths]
    assert sorted(weights) == sorted(layer.quantiser for layer in network.layers)
    edges = {edge for unit in found for edge in (unit.name, *unit.others)}
    assert edges | {name for name, op in network.writers.items() if op in ("INPUT", "PAD")} == set(network.edges)
    assert len({unit.range_path for unit in found}) == len(found)


def test_computing_only_what_follows_gives_what_computing_all_gives(network: QatNetwork, images: np.ndarray) -> None:
    batch = images[: sensitivity.BATCH]
    for everything, one in (("float", "frozen"), ("frozen", "float")):
        set_phase(network, everything)
        run = sensitivity.Rerun(network, batch)
        assert np.array_equal(run.logits, predict(network, batch))
        for found in sensitivity.units(network)[::7]:
            paths = (found.range_path, *found.weight_paths)
            with sensitivity.phase(network, paths, one):
                assert np.array_equal(run.after(sensitivity.affected(network, paths)), predict(network, batch)), found.name
        assert np.array_equal(predict(network, batch), run.logits)  # the phases are as they were


def test_the_whole_and_the_float_network_are_the_networks(network: QatNetwork, images: np.ndarray) -> None:
    whole = predict(network, images, sensitivity.BATCH)  # of the same batches: sums are rounded by their order
    runs = sensitivity.measure(network, images, silent, MemoryCheckpoint())
    assert np.array_equal(runs.whole, whole)
    assert np.array_equal(predict(network, images, sensitivity.BATCH), whole)
    set_phase(network, "float")
    assert np.array_equal(runs.float_, predict(network, images, sensitivity.BATCH))
    assert runs.alone.shape == runs.without.shape == (len(sensitivity.units(network)), COUNT, 3)


@pytest.mark.parametrize("by", [0.05, 40.0], ids=["far too tight", "far too wide"])
def test_a_spoiled_range_is_the_worst_op_and_its_remedy_the_first(network: QatNetwork, images: np.ndarray, by: float
                                                                  ) -> None:
    set_phase(network, "float")
    reference = predict(network, images)
    set_phase(network, "frozen")
    scaled(network, SPOILED, by)
    spoiled = predict(network, images)
    rows = table(network, images)
    assert rows[0]["name"] == SPOILED
    assert rows[0]["without"]["rank"] == 1
    assert rows[0]["alone"]["kl"] > 3 * rows[1]["alone"]["kl"]
    parts = sensitivity.blame(network, images, [unit(network, SPOILED)], silent)[SPOILED]
    kl = {part: sensitivity.compare(logits, reference, LABELS, 0)["kl"] for part, logits in parts.items()}
    assert kl["range"] > 2 * kl["weights"]
    trial = case(network, images)
    worst = [unit(network, row["name"]) for row in rows[:3]]
    before = network.edge(SPOILED).range
    found = remedies.ranges(trial, worst, clipping.observe(network, trial.calibration))
    assert network.edge(SPOILED).range == before
    best, tried = remedies.rank(found, spoiled, reference, LABELS, 0)
    assert len(tried) == len(found)
    assert (best[0]["what"], best[0]["kind"]) == (SPOILED, "wider range" if by < 1 else "tighter range")
    assert best[0]["sure"] is True
    assert best[0]["kl_after"] < 0.5 * best[0]["kl_before"]
    assert f"qat.pin={SPOILED}=" in best[0]["next_step"]


def test_one_scale_for_weights_of_unequal_channels_is_blamed_on_the_weights(artifact: Any, images: np.ndarray) -> None:
    model = networks.create(artifact.arch, artifact.options)
    with torch.no_grad():
        model.classifier.weight[0] *= 200  # the other rows are then left three codes
    network = quantnet.prepare(model, PX, HALF, HALF, Int8Rules(classifier="per_tensor"))
    quantnet.calibrate(network, [networks.normalised(pictures(16, 1), HALF, HALF)])
    set_phase(network, "float")
    reference = predict(network, images)
    layer = next(layer for layer in network.layers if layer.op == "FULLY_CONNECTED")
    parts = sensitivity.blame(network, images, [unit(network, layer.target)], silent)[layer.target]
    off = {part: np.abs(logits - reference)[:, 1:].mean() for part, logits in parts.items()}
    assert off["weights"] > 0
    (remedy,) = remedies.per_channel(case(network, images))
    assert remedy.kind == "per-channel weights"
    coarse = predict(network, images)
    assert np.abs(remedy.logits - coarse).max() > 0
    quantiser: Any = network.graph.get_submodule(layer.quantiser)
    assert quantiser.granularity == "per_tensor"  # left as it was


def test_an_interrupted_run_goes_on_after_the_last_batch(network: QatNetwork, images: np.ndarray) -> None:
    expected = sensitivity.measure(network, images, silent, MemoryCheckpoint())
    checkpoint, units = MemoryCheckpoint(), len(sensitivity.units(network))

    def interrupt(_what: str, done: int, _total: int, **_: float) -> None:
        if done > 3 * units:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sensitivity.measure(network, images, interrupt, checkpoint)
    seen: list[int] = []
    set_phase(network, "frozen")
    runs = sensitivity.measure(network, images, lambda _what, done, _total, **_: seen.append(done), checkpoint)
    assert min(seen) > 2 * units  # the first batch was not computed again
    for name in ("float_", "whole", "alone", "without"):
        assert np.array_equal(getattr(runs, name), getattr(expected, name)), name


def test_a_torn_checkpoint_is_started_over(network: QatNetwork, images: np.ndarray) -> None:
    checkpoint = MemoryCheckpoint()
    sensitivity.measure(network, images[:16], silent, checkpoint)
    assert checkpoint.data is not None
    checkpoint.save(checkpoint.data[: len(checkpoint.data) // 2])
    assert len(sensitivity.measure(network, images[:16], silent, checkpoint).whole) == 16


# Remedies -------------------------------------------------------------------------------------------------------------

def test_all_that_is_tried_is_measured_and_ranked(network: QatNetwork, images: np.ndarray) -> None:
    before = predict(network, images)
    worst = sensitivity.units(network)[3:5]
    found = remedies.candidates(case(network, images), worst, {unit.name: before for unit in worst})
    assert {"calibrate again", "another op", "more QAT"} <= {candidate.kind for candidate in found}
    trained = next(candidate for candidate in found if candidate.kind == "more QAT")
    assert np.abs(trained.logits - before).max() > 0
    best, tried = remedies.rank(found, before, before, LABELS, 0)
    assert best == []  # nothing is nearer to itself
    assert all(row["kl_before"] == 0 and not row["sure"] for row in tried)


def test_a_remedy_whose_gain_may_be_chance_is_marked_and_comes_last() -> None:
    rng = np.random.default_rng(0)
    reference = rng.normal(0, 2, (60, 3)).astype(np.float32)
    before = reference + rng.normal(0, 0.5, reference.shape).astype(np.float32)
    labels = np.arange(60) % 3
    lucky = before.copy()
    lucky[0] = reference[0]
    made = [remedies.Candidate("tighter range", "a", "", "", lucky),
            remedies.Candidate("more QAT", "all ops", "", "", (before + reference) / 2),
            remedies.Candidate("wider range", "a", "", "", before + 1.0 * (before - reference)),
            remedies.Candidate("another op", "a", "", "", reference, bound=True),
            remedies.Candidate("another op", "b", "", "", reference, bound=True)]
    best, tried = remedies.rank(made, before, reference, labels, 0)
    assert len(tried) == 5
    assert [(row["kind"], row["sure"], row["bound"]) for row in best] == [
        ("more QAT", True, False), ("tighter range", False, False), ("another op", True, True)]
    assert best[-1]["kl_after"] == pytest.approx(0, abs=1e-12)


def test_what_the_divergences_say() -> None:
    assert "look at the ops" in reading({"kl": 0.2}, {"kl": 0.01})
    assert "look at the training" in reading({"kl": 0.01}, {"kl": 0.2})
    assert "next to nothing" in reading({"kl": 1e-5}, {"kl": 1e-4})


# Ranges ---------------------------------------------------------------------------------------------------------------

def test_percentiles_clip_the_tails_and_keep_the_mass_at_zero() -> None:
    values = np.concatenate([np.zeros(500), np.linspace(0, 1, 500)]).astype(np.float32)
    seen = clipping.Seen(np.append(values, 50).astype(np.float32), 0.0, 50.0)
    assert seen.range(100).scale == pytest.approx(50 / 255)
    assert seen.range(99).scale == pytest.approx(1 / 255, rel=0.02)
    assert seen.range(99).zero_point == -128


def test_what_passes_an_edge_is_seen_before_it_is_rounded(network: QatNetwork) -> None:
    batch = networks.normalised(pictures(8, 3), HALF, HALF)
    scaled(network, SPOILED, 0.05)
    seen = clipping.observe(network, [batch])
    limit = network.edge(SPOILED).range.scale * 255
    assert seen[SPOILED].high - seen[SPOILED].low > 2 * limit
    assert len(seen[SPOILED].values) == 8 * clipping.VALUES_PER_IMAGE
    assert seen.keys() == network.edges.keys()
    again = clipping.observe(network, [batch])
    assert np.array_equal(seen[SPOILED].values, again[SPOILED].values)


def test_a_pinned_range_does_not_follow_the_training(network: QatNetwork) -> None:
    batch = networks.normalised(pictures(8, 3), HALF, HALF)
    seen = clipping.observe(network, [batch])
    clipping.pin(network, clipping.parse(f"{SPOILED}=99"), seen)
    pinned = network.edge(SPOILED).range
    assert pinned == seen[SPOILED].range(99)
    free = network.edge("conv_stem").range if "conv_stem" in network.edges else network.edge("output").range
    set_phase(network, "observe")
    network(4 * batch)
    assert network.edge(SPOILED).range == pinned
    assert network.edge("conv_stem" if "conv_stem" in network.edges else "output").range != free
    fixed = network.edge("input").range
    clipping.pin(network, {clipping.EVERY: 99.0}, seen)
    assert network.edge("input").range == fixed


@pytest.mark.parametrize("text", ["blocks", "blocks=", "=99", "a=0", "a=101", "a=x", "a=50"])
def test_a_pin_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match=r"qat\.pin"):
        clipping.parse(text)


def test_pins_are_read_and_unknown_edges_named(network: QatNetwork) -> None:
    assert clipping.parse("") == {}
    assert clipping.parse("a.b=99.9, *=100") == {"a.b": 99.9, "*": 100.0}
    with pytest.raises(UnknownName, match="conv_stm"):
        clipping.pin(network, {"conv_stm": 99.0}, {})


def test_the_settings_told_keep_what_the_recipe_pins(network: QatNetwork, images: np.ndarray) -> None:
    trial = Case(network, network, images, [], [], QatConfig(pin="a=99.9"))
    assert trial.pinned("b", 99.99) == '--set "qat.pin=a=99.9, b=99.99"'
    assert trial.pinned("a", 100) == '--set "qat.pin=a=100"'
