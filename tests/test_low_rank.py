"""Low-rank pairs: the plan by a device's prices, the least error, the same network again, a stage
that continues, and a certified file.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgekd.app import cli, search_start
from edgekd.app.terminal import check as terminal_check
from edgekd.assessment import layer_prices, student_check
from edgekd.assessment.prediction import pricing
from edgekd.assessment.workload import Work
from edgekd.core.artifacts import Network
from edgekd.core.context import Context, MemoryCheckpoint
from edgekd.core.errors import GateFailed, RecipeError
from edgekd.core.records import present, to_json
from edgekd.data import dataset_builder
from edgekd.data.phantom_source import PhantomSource
from edgekd.networks import (
    builders,
    factorising,
    low_rank,
    low_rank_plan,
    weight_files,
    widths,
)
from edgekd.networks.low_rank_plan import LayerPrices, Pointwise
from edgekd.pipeline import runner, stage_table
from edgekd.pipeline.jobs import Job
from edgekd.pipeline.stage_settings import PruneSettings
from edgekd.pipeline.stages import prune
from edgekd.proof.certificate import certify
from edgekd.reporting import pruning
from edgekd.settings import model_specs, recipe
from edgekd.settings.device_profiles import load_profile
from edgekd.settings.recipe import DataConfig, DistilConfig, PruneConfig, ViewsConfig
from tests import sample_report, small_networks, trained
from tests.routes import follow
from tests.small_build import STUDENT

PX = 32
# A device on which only multiply-adds and parameters cost.
PRICES = LayerPrices(1e-6, 1e-6, 1e-7, 0, 0)
WIDE = Pointwise("wide", 64, 256, 49, 49)


class Layers(nn.Module):
    """Pointwise layers of every kind that can be divided: with a stride, a bias, and of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 12, 1, stride=2)
        self.second = nn.Conv2d(12, 20, 1, bias=False)
        self.mixed = nn.Linear(20, 16)
        self.twice = nn.Linear(16, 16)
        self.classes = nn.Linear(16, 4)

    def get_classifier(self) -> nn.Module:
        return self.classes

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.second(torch.relu(self.first(x))).flatten(2).transpose(1, 2)
        mixed: Tensor = self.twice(self.twice(self.mixed(tokens))).mean(1)
        return self.classes(mixed)  # type: ignore[no-any-return]


def bases(net: nn.Module, names: list[str], seen: Tensor) -> dict[str, factorising.Basis]:
    with torch.no_grad(), factorising.watched(net, names) as found:
        net(seen)
    return {name: moments.basis() for name, moments in found.items()}


def images(count: int = 8, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, PX, PX, generator=torch.Generator().manual_seed(seed))


# The plan -----------------------------------------------------------------------------------------


def test_a_rank_follows_from_the_share_of_macs() -> None:
    plan = low_rank_plan.planned([WIDE], 0.5, 8, PRICES)
    assert plan.ranks == {"wide": 24}  # 0.5 * 64 * 256 / 320 = 25.6
    assert plan.divided[0].layer.macs_at(24) == 49 * 24 * 320 <= 0.5 * WIDE.macs
    told = low_rank_plan.table(plan, {"wide": 0.9876}, "prune")
    assert "64 -> 24 -> 256" in told
    assert "98.76%" in told


def test_a_layer_stays_whole_where_the_device_does_not_gain() -> None:
    slow_start = dataclasses.replace(PRICES, op=10.0)
    narrow = Pointwise("narrow", 8, 8, 49, 49)
    plan = low_rank_plan.planned([WIDE, narrow], 0.5, 8, slow_start)
    assert not plan.divided
    assert list(plan.whole.values()) == [("wide",), ("narrow",)]
    with pytest.raises(GateFailed, match=r"divides no layer: 1 would not be .*; 1 too narrow"):
        low_rank_plan.check_gains(plan)


def test_prices_are_those_of_the_check() -> None:
    """Of the layer as a build would write it, for a device of each kind of latency model."""
    macs, parameters, moved = WIDE.macs, 64 * 256 + 4 * 256, 49 * (64 + 256)
    work = Work(0, "CONV_2D", "pointwise", macs, parameters, moved, spatial=True, channels=256)
    for name in ("pi4", "coral-usb", "android-cpu"):
        profile = load_profile(name)
        known = pricing(profile, "int8")
        assert known is not None
        assert WIDE.ms(layer_prices.of(profile)) == pytest.approx(known.one(work))
    with pytest.raises(RecipeError, match=r"latency model of host.* profiles fit host"):
        layer_prices.of(load_profile("host"))


# The pair -----------------------------------------------------------------------------------------


def test_what_is_pointwise() -> None:
    found = {layer.name: layer for layer in factorising.pointwise_layers(Layers(), PX, 3)}
    assert found["first"] == Pointwise("first", 3, 12, 32 * 32, 16 * 16)
    assert found["mixed"] == Pointwise("mixed", 20, 16, 256, 256)
    whole = {name: layer.whole for name, layer in found.items() if layer.whole}
    assert whole == {"twice": factorising.REPEATED, "classes": factorising.CLASSES}
    branches = builders.create("mobileone_s0", {"num_classes": 2})
    of_branches = {
        layer.whole
        for layer in factorising.pointwise_layers(branches, PX, 3)
        if layer.name != "head.fc"
    }
    assert of_branches == {factorising.MERGED}


def test_at_full_rank_the_network_computes_the_same() -> None:
    torch.manual_seed(0)
    net, seen, other = Layers().eval(), images(), images(seed=1)
    before = net(other)
    ranks = {"first": 3, "second": 12, "mixed": 16}
    factorising.factorise(net, ranks, bases(net, list(ranks), seen), PX, 3)
    assert net.first.reduce.stride == (2, 2)  # type: ignore[union-attr]
    torch.testing.assert_close(net(other), before, rtol=1e-3, atol=1e-5)


def test_no_other_pair_has_a_smaller_error() -> None:
    """Than that of the outputs' directions; the plain singular values of the weights do worse."""
    torch.manual_seed(0)
    layer = nn.Conv2d(16, 24, 1)
    spread = torch.linspace(0.05, 3, 16).view(1, 16, 1, 1)
    seen = spread * torch.randn(8, 16, 9, 9) + spread
    net = nn.Sequential(layer)
    before, weight = net(seen).detach(), layer.weight.detach().flatten(1)
    basis = bases(net, ["0"], seen)["0"]
    pair = low_rank.pair(layer, 6)
    factorising._fill(pair, layer, basis)
    error = float((pair(seen).detach() - before).square().sum())
    total = float((before - before.mean((0, 2, 3), keepdim=True)).square().sum())
    assert error == pytest.approx((1 - basis.energy(6)) * total, rel=1e-3)
    left, values, right = torch.linalg.svd(weight)
    plain = (left[:, :6] * values[:6]) @ right[:6]
    answers = torch.einsum("oc,bchw->bohw", plain - weight, seen)
    assert error < 0.7 * float((answers - answers.mean((0, 2, 3), keepdim=True)).square().sum())


def test_the_same_network_again_from_its_options() -> None:
    torch.manual_seed(0)
    options = {"num_classes": 3, low_rank.KEY: {"blocks.3.0.conv_pwl": 16, "conv_head": 24}}
    net = builders.create(STUDENT, options)
    state = weight_files.to_bytes(net.state_dict())
    kept = json.loads(json.dumps(options))
    again = builders.restore(Network(STUDENT, kept, PX, [0.5] * 3, [0.5] * 3, [], {}, state))
    with torch.inference_mode():
        assert torch.equal(again(images()), net(images()))
    for name, rank, told in (
        ("conv_stem", 4, "no pointwise layer"),
        ("blocks.9", 4, "blocks.9"),
        ("conv_head", 999, "allow 1 to 64"),
    ):
        with pytest.raises(RecipeError, match=told):
            builders.create(STUDENT, {low_rank.KEY: {name: rank}})


def test_a_network_with_pairs_is_certified() -> None:
    more = {low_rank.KEY: {"blocks.3.0.conv_pwl": 16, "conv_head": 24}}
    qnet = trained.calibrated(STUDENT, PX, more=more)
    pixels, labels = small_networks.images(8, PX, seed=2)
    found = follow(qnet, lambda: builders.create(STUDENT, qnet.options), pixels, labels)
    body = to_json(certify(found.qnet, found.lite, pixels, found.logits))
    assert not [row for row in body["failures"] if row["check"] != "end_to_end"]
    assert body["op_local"]["max_lsb"] <= 1


# The stage ----------------------------------------------------------------------------------------


class Kept(MemoryCheckpoint):
    """A checkpoint that remembers everything that was saved."""

    def __init__(self, first: bytes | None = None) -> None:
        super().__init__()
        self.data, self.all = first, []

    def save(self, data: bytes) -> None:
        super().save(data)
        self.all.append(data)


def test_the_stage_continues_where_it_stopped() -> None:
    """From every checkpoint since the pairs were made behind a cut, to the same network."""
    dataset = dataset_builder.build_dataset(PhantomSource(100, 40), DataConfig())
    spec = model_specs.spec(STUDENT)
    options = {"num_classes": len(dataset.classes)}
    torch.manual_seed(0)
    state = weight_files.to_bytes(builders.create(STUDENT, options).state_dict())
    facts = {"name": STUDENT, "weights": "random", "licence": ""}
    student = Network(STUDENT, options, PX, [0.5] * 3, [0.5] * 3, [], facts, state)
    settings = PruneSettings(
        PruneConfig(ratio=0.3, steps=1, low_rank=0.5, epochs=1, batches=1),
        DistilConfig(student=STUDENT, weights="none", epochs=1, batch=16),
        spec,
        ViewsConfig(per_image=1),
        4,
        prices=PRICES,
    )

    def run(first: bytes | None = None) -> tuple[Network, Kept, list[str]]:
        kept, said = Kept(first), list[str]()
        context = Context(checkpoint=kept, say=said.append)
        made = prune.run(dataset, None, None, student, settings=settings, context=context)
        return made, kept, said

    whole, kept, said = run()
    assert any("prune: low ranks: " in text for text in said)
    facts = whole.facts
    assert [row["cut"] for row in facts["cuts"]] == [1, 2]
    assert facts["cuts"][1]["layers"] == len(facts["pairs"]) > 0
    assert all(0 < row["energy"] <= 1 and row["ms"] < row["ms_before"] for row in facts["pairs"])
    assert whole.options[low_rank.KEY] == {row["layer"]: row["rank"] for row in facts["pairs"]}
    assert whole.options[widths.KEY]
    assert {row["cut"] for row in whole.history} == {1, 2}
    assert builders.restore(whole)
    assert len(kept.all) == 6  # of either step: made, trained for an epoch, over
    for checkpoint in kept.all[3:]:
        again, _, told = run(checkpoint)
        assert not any("low ranks: " in text for text in told)  # the pairs are not made again
        assert (bytes(again.state), again.facts) == (bytes(whole.state), whole.facts)


def test_a_recipe_without_pairs_keeps_its_key() -> None:
    made = recipe.load(None, ["prune.ratio=0.3", 'data.source="phantom:80@32"'])
    job = Job(made, load_profile("pi4"), PhantomSource(80, 32))
    held = runner._without_later(dataclasses.asdict(stage_table._prune(job)))
    assert "prices" not in held
    assert "low_rank" not in held["config"]
    given = recipe.changed(made, {"prune.low_rank": 0.5})
    asked = dataclasses.asdict(stage_table._prune(dataclasses.replace(job, recipe=given)))
    held = runner._without_later(asked)
    assert held["prices"]["op"] > 0
    assert held["config"]["low_rank"] == 0.5


def test_a_build_knows_its_pairs_before_it_trains() -> None:
    sets = ["distil.student=mobilenetv2_050", "data.input_px=96", "prune.low_rank=0.5"]
    source, device = PhantomSource(80, 32), load_profile("pi4")
    known = Job(recipe.load(None, sets), device, source).low_rank
    assert str(known).startswith("prune.low_rank 0.5: 2 of 35 pointwise layers become two, predict")
    sets += ["prune.multiple=512"]
    with pytest.raises(GateFailed, match="divides no layer"):
        _ = Job(recipe.load(None, sets), device, source).low_rank
    sets += ["prune.ratio=0.3", "prune.scope=isomorphic"]  # trained weights decide
    assert Job(recipe.load(None, sets), device, source).low_rank is None


def test_a_device_without_measurements_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", "phantom:80@32", "--teacher", "none", "--profile", "host"]
    out = str(tmp_path / "out")
    assert cli.main(["build", *words, "--set", "prune.low_rank=0.5", "--out", out]) == 2
    assert "prune.low_rank needs a latency model of host" in capsys.readouterr().err
    assert cli.main(["build", *words, "--set", "prune.low_rank=1", "--out", out]) == 2
    assert "prune.low_rank is 1" in capsys.readouterr().err


def test_a_finished_network_is_not_pruned() -> None:
    with pytest.raises(RecipeError, match=r"some\.onnx is a finished network"):
        recipe.load(None, ["convert.model=some.onnx", "prune.low_rank=0.5"])


# What is told ------------------------------------------------------------------------------------


def test_the_check_predicts_what_the_plan_says() -> None:
    """The time of the whole network with pairs, predicted from its graph, falls by the plan's."""
    sets = ["distil.student=mobilenetv2_050", "data.input_px=96", "prune.low_rank=0.5"]
    check = student_check.check_recipe(recipe.load(None, sets), load_profile("pi4"))
    block = present(check.low_rank)
    assert block is not None
    before, after = block.before.latency_ms, block.after.latency_ms
    assert before is not None
    assert after is not None
    assert before == check.predicted.latency_ms
    assert [row.layer for row in block.pairs] == ["blocks.6.0.conv_pwl", "conv_head"]
    saved = sum(row.ms_before - row.ms for row in block.pairs)
    assert before - after == pytest.approx(saved, rel=1e-3)
    said = [f"{about} {text}" for about, text in terminal_check._lines(check)]
    assert any(line.startswith("low rank prune.low_rank 0.5: 2 of 35 pointwise") for line in said)
    # Nothing is wide enough at a multiple of 512, and no channels are cut either.
    alone = recipe.load(None, [*sets, "prune.multiple=512"])
    refused = student_check.check_recipe(alone, load_profile("pi4"))
    assert not refused.passed
    assert "divides no layer" in refused.failures[0]


def test_the_report_tells_of_the_pairs() -> None:
    row = {"layer": "conv_head", "inputs": 160, "rank": 64, "outputs": 1280}
    row |= {"macs_before": 1000, "macs": 450, "ms_before": 0.112, "ms": 0.0731, "energy": 0.98}
    body = sample_report.whole()
    pruned = {**body["models"]["student"], "pairs": [row], "kept_whole": {"gives the classes": 1}}
    body["models"]["pruned"] = pruned
    told = pruning.sentence(sample_report.report(body))
    assert "1 of 2 pointwise layers became low-rank pairs: -55% of their" in told
    assert "0.112 to 0.0731 ms" in told
    assert "98.0% of the variance" in told
    del body["models"]["pruned"]
    assert pruning.sentence(sample_report.report(body)) == ""


def test_a_search_refuses_pairs() -> None:
    with pytest.raises(RecipeError, match=r"build what the search recommends with --set prune"):
        search_start._check_prune(PruneConfig(low_rank=0.5))
    search_start._check_prune(PruneConfig())
