"""Pruning: the plan's arithmetic, cuts against a network with silenced channels, a whole build."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgekd.app import cli
from edgekd.core.artifacts import Network
from edgekd.core.errors import GateFailed, RecipeError, UnknownName
from edgekd.core.store import Store
from edgekd.networks import (
    builders,
    channel_groups,
    network_size,
    pruning_plan,
    watching,
    weight_files,
    widths,
)
from edgekd.networks.pruning_plan import Group, Layer, Limits, Member
from edgekd.settings import recipe
from edgekd.training.views import generator
from tests.small_build import TEACHER

PX = 64


def network(arch: str = "mobilenetv2_050", classes: int = 3, **options: Any) -> nn.Module:
    """A network with random statistics and scales in its batch norms; new ones hide mistakes."""
    torch.manual_seed(0)
    model = builders.create(arch, {"num_classes": classes, **options})
    stream = generator("norms", 1)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor, low in (
                (layer.weight, 0.5),
                (layer.bias, -0.5),
                (layer.running_mean, -0.2),
                (layer.running_var, 0.5),
            ):
                assert tensor is not None
                tensor.data.copy_(torch.rand(tensor.shape, generator=stream) + low)
    return model


def survey(
    model: nn.Module, importance: str = "magnitude", keep: dict[str, str] | None = None
) -> channel_groups.Survey:
    return channel_groups.survey(model, PX, 3, importance, keep or {})


def limits(found: channel_groups.Survey, scope: str = "local", multiple: int = 8) -> Limits:
    return Limits(scope, multiple, {group.name: group.width for group in found.groups})


def images(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, PX, PX, generator=generator("images", 0)).to(
        memory_format=torch.channels_last
    )


# The plan -----------------------------------------------------------------------------------------


def toy(*widths_: int) -> tuple[list[Group], list[Layer], Limits]:
    """A chain of 1x1 convolutions on one pixel.

    Group i is the output of layer i and the input of layer i + 1.
    """
    groups = [
        Group(
            f"g{i}",
            width,
            "same",
            (Member(f"l{i}", "out"), Member(f"l{i + 1}", "in")),
            tuple(float((7 * c + i) % width) for c in range(width)),
        )
        for i, width in enumerate(widths_)
    ]
    sides = [3, *widths_, 10]
    layers = [
        Layer(f"l{i}", a * b, b, a, False) for i, (a, b) in enumerate(itertools.pairwise(sides))
    ]
    return groups, layers, Limits("local", 8, {group.name: group.width for group in groups})


def test_a_plan_counts_what_is_left() -> None:
    groups, layers, bounds = toy(32, 64)
    plan = pruning_plan.by_ratio(groups, layers, bounds, 0.5)
    assert plan.macs_before == 3 * 32 + 32 * 64 + 64 * 10
    assert plan.macs == 3 * 16 + 16 * 32 + 32 * 10
    assert {name: len(cut) for name, cut in plan.cuts.items()} == {"g0": 16, "g1": 32}


def test_the_weakest_channels_go() -> None:
    groups, layers, bounds = toy(32)
    cut = pruning_plan.by_ratio(groups, layers, bounds, 0.25).cuts["g0"]
    gone = {groups[0].scores[c] for c in cut}
    assert max(gone) < min(set(groups[0].scores) - gone)


@pytest.mark.parametrize(
    ("wanted", "width", "full", "kept"),
    [
        (40.0, 64, 64, 40),
        (43.9, 64, 64, 40),
        (44.0, 64, 64, 48),
        (63.0, 64, 64, 64),  # the next multiple
        (1.0, 64, 64, 16),
        (1.0, 16, 16, 8),
        (1.0, 100, 100, 32),  # a quarter stays, in whole multiples
        (11.0, 12, 12, 8),
        (12.0, 12, 12, 12),
        (3.0, 6, 6, 6),  # widths that are no multiples
    ],
)
def test_widths_are_rounded(wanted: float, width: int, full: int, kept: int) -> None:
    assert pruning_plan.rounded(wanted, width, full, 8) == kept


def test_a_target_is_met_by_the_smallest_cut() -> None:
    groups, layers, bounds = toy(96, 160, 320)
    before = sum(layer.macs for layer in layers)
    plan = pruning_plan.by_macs(groups, layers, bounds, 0.6 * before)
    assert plan.macs <= 0.6 * before
    all_macs = {pruning_plan.by_ratio(groups, layers, bounds, r / 200).macs for r in range(1, 151)}
    assert plan.macs == max(macs for macs in all_macs if macs <= 0.6 * before)


def test_a_target_out_of_reach_is_refused() -> None:
    groups, layers, bounds = toy(96, 160)
    with pytest.raises(GateFailed, match="cannot be reached"):
        pruning_plan.by_macs(groups, layers, bounds, 100)


def test_isomorphic_takes_more_from_the_weaker_group() -> None:
    groups, layers, bounds = toy(64, 64)
    weak = dataclasses.replace(groups[0], scores=tuple(score * 0.5 for score in groups[0].scores))
    plan = pruning_plan.by_ratio(
        [weak, groups[1]], layers, dataclasses.replace(bounds, scope="isomorphic"), 0.4
    )
    lost = {name: len(cut) for name, cut in plan.cuts.items()}
    assert lost["g0"] > lost["g1"] > 0
    assert abs(sum(lost.values()) - 0.4 * 128) <= 8


# The cut ------------------------------------------------------------------------------------------


def silence(model: nn.Module, found: channel_groups.Survey, plan: pruning_plan.Plan) -> None:
    """Zero the weights that read a cut channel; the pruned network must compute the same."""
    for name, channels in plan.cuts.items():
        root = found.roots[name]
        for item in found.graph.get_pruning_group(root.layer, root.cut, list(channels)):
            layer = item.dep.target.module
            if (
                isinstance(layer, nn.Conv2d | nn.Linear)
                and not widths.depthwise(layer)
                and found.graph.is_in_channel_pruning_fn(item.dep.handler)
            ):
                with torch.no_grad():
                    dict(model.named_modules())[_name(found, layer)].weight[:, item.idxs] = 0


def _name(found: channel_groups.Survey, layer: nn.Module) -> str:
    return next(name for name, other in found.graph.model.named_modules() if other is layer)


@pytest.mark.parametrize(
    ("arch", "importance", "scope"),
    [
        ("mobilenetv2_050", "magnitude", "local"),
        ("mobilenetv2_050", "bn_scale", "isomorphic"),
        ("mobilenetv2_050", "taylor", "local"),
        ("resnet18", "magnitude", "local"),
        ("tf_efficientnet_lite0", "magnitude", "isomorphic"),
        (
            "mobilenetv3_small_100",
            "magnitude",
            "local",
        ),  # squeeze-excite; Torch-Pruning's issue 328
        ("ghostnet_100", "magnitude", "local"),  # concatenations, some of which are left whole
    ],
)
def test_a_cut_network_computes_what_is_left(arch: str, importance: str, scope: str) -> None:
    model, whole = network(arch), network(arch)
    if importance == "taylor":
        model(images()).square().sum().backward()
    found = survey(model, importance)
    plan = pruning_plan.by_ratio(found.groups, found.layers, limits(found, scope), 0.4)
    silence(whole, found, plan)
    channel_groups.cut(found, plan, model)
    assert network_size.size(model, PX)["macs"] == plan.macs < plan.macs_before
    with torch.inference_mode():
        torch.testing.assert_close(model(images()), whole(images()), rtol=1e-3, atol=1e-4)
    for group in plan.groups:
        lost = len(plan.cuts.get(group.name, ()))
        assert lost == 0 or (group.width - lost) % 8 == 0
    # and the same network again from plain JSON and safetensors
    options = {
        "num_classes": 3,
        widths.KEY: json.loads(json.dumps(widths.of(model, network(arch)))),
    }
    again = builders.restore(
        Network(
            arch,
            options,
            PX,
            [0.5] * 3,
            [0.5] * 3,
            [],
            {},
            weight_files.to_bytes(model.state_dict()),
        )
    )
    with torch.inference_mode():
        assert torch.equal(again(images()), model(images()))


def test_a_second_cut_goes_on_from_the_first() -> None:
    model = network()
    found = survey(model)
    bounds = limits(found)
    channel_groups.cut(found, pruning_plan.by_ratio(found.groups, found.layers, bounds, 0.2), model)
    found = survey(model)
    channel_groups.cut(found, pruning_plan.by_ratio(found.groups, found.layers, bounds, 0.4), model)
    at_once = network()
    found = survey(at_once)
    channel_groups.cut(
        found, pruning_plan.by_ratio(found.groups, found.layers, bounds, 0.4), at_once
    )
    assert widths.of(model, network()) == widths.of(at_once, network())


def test_what_must_stay_whole_stays() -> None:
    model = network()
    taps = ["blocks.2", "blocks.4"]
    found = survey(model, keep={**dict.fromkeys(taps, "read"), "classifier": "pooled"})
    whole = {group.name: group.whole for group in found.groups if group.whole}
    assert whole == {
        "conv_stem": channel_groups.FIRST,
        "classifier": channel_groups.OUTPUTS,
        "conv_head": "pooled",
        "blocks.2.0.conv_pwl": "read",
        "blocks.4.0.conv_pwl": "read",
    }
    channel_groups.cut(
        found, pruning_plan.by_ratio(found.groups, found.layers, limits(found), 0.5), model
    )
    with torch.inference_mode(), watching.watch(model, [*taps, "blocks.6"]) as seen:
        assert model(images()).shape == (2, 3)
    assert [seen[tap].shape[1] for tap in taps] == [16, 48]
    assert seen["blocks.6"].shape[1] == 80
    assert model.conv_stem.weight.shape[:2] == (16, 3)  # type: ignore[union-attr]
    assert model.conv_head.out_channels == 1280  # type: ignore[union-attr]
    with pytest.raises(UnknownName, match=r"blocks\.9"):
        survey(network(), keep={"blocks.9": "read"})


def test_a_grouped_convolution_stays_whole() -> None:
    """Such groups broke MobileNetV3 in Torch-Pruning (its issue 328). The plan names the reason."""
    found = survey(network("resnext26ts"))
    grouped = [group.whole for group in found.groups if "grouped convolution" in group.whole]
    assert grouped


def test_branches_that_are_merged_later_stay_whole() -> None:
    found = survey(network("mobileone_s0"))
    assert all(group.whole for group in found.groups)
    assert any("merged later" in group.whole for group in found.groups)


def test_widths_of_another_network_are_refused() -> None:
    for bad, told in (
        ({"blocks.9": [8, 8]}, "blocks.9"),
        ({"conv_head": [4000, 8]}, "conv_head"),
        ({"bn1": [0]}, "bn1"),
    ):
        with pytest.raises(RecipeError, match=told):
            builders.create("mobilenetv2_050", {"num_classes": 3, widths.KEY: bad})


# The recipe and the line --------------------------------------------------------------------------


def test_one_goal_at_a_time() -> None:
    with pytest.raises(RecipeError, match=r"prune.ratio and prune.target_macs"):
        recipe.load(None, ["prune.ratio=0.3", "prune.target_macs=0.5"])
    with pytest.raises(RecipeError, match=r"prune.ratio is 0.9"):
        recipe.load(None, ["prune.ratio=0.9"])


SMALL = [
    "build",
    "--profile",
    "pi4",
    "--data",
    "phantom:120@40",
    "--teacher",
    TEACHER,
    "--student",
    "mobilenetv2_050",
    *(
        part
        for text in (
            "data.input_px=32",
            "teacher.epochs=1",
            "distil.epochs=1",
            "qat.epochs=1",
            "views.per_image=2",
            "bench.runs=3",
            "bench.min_seconds=0.05",
            "data.golden=8",
            "data.calibration=32",
            "certify.max_drop=1",
            "certify.min_agreement=0",
            "distil.exits=0.2",
        )
        for part in ("--set", text)
    ),
]
PRUNED = ["--set", "prune.target_macs=0.65", "--set", "prune.steps=2", "--set", "prune.epochs=1"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pruned") / "out"
    assert cli.main([*SMALL, *PRUNED, "--out", str(out)]) == 0
    return out


def test_a_pruned_build_is_certified(built: Path) -> None:
    body = json.loads((built / "report.json").read_text())
    assert [row["stage"] for row in body["stages"]][4:7] == ["distil", "prune", "qat"]
    assert [row["stage"] for row in body["accuracy"]["waterfall"]] == [
        "teacher",
        "student",
        "pruned",
        "qat",
        "onnx",
        "tflite",
    ]
    pruned, student = body["models"]["pruned"], body["models"]["student"]
    assert pruned["macs"] <= 0.65 * student["macs"]
    assert pruned["params"] < student["params"]
    assert pruned["before"]["macs"] == student["macs"]
    assert [row["epoch"] for row in body["training"]["prune"]] == [1, 2]
    assert body["certificate"]["passed"] is True
    assert body["certificate"]["weights"]["total_codes"] < pruned["params"]
    cut = [row for row in pruned["groups"] if row["after"] < row["before"]]
    assert cut
    assert all(row["after"] % 8 == 0 for row in cut)
    whole = {row["group"]: row["whole"] for row in pruned["groups"] if row["whole"]}
    assert {
        "conv_stem",
        "classifier",
        "conv_head",
        "blocks.2.0.conv_pwl",
    } <= whole.keys()  # exits and pooled read them


def test_the_artifact_rebuilds_bit_equal(built: Path) -> None:
    """Answers of the build's own process, repeated from the artifact's JSON and safetensors."""
    store = Store(built)
    body = json.loads((built / "report.json").read_text())
    keys = {row["stage"]: row["key"] for row in body["stages"]}

    def artifact(stage: str, kind: type) -> Any:
        entry = store.find(stage, keys[stage])
        assert entry is not None
        return entry.load(kind)

    from edgekd.core.artifacts import Evaluation, Inputs
    from edgekd.data.datasets import input_images
    from edgekd.networks.inference import logits_of

    pruned, evaluation = artifact("prune", Network), artifact("evaluate", Evaluation)
    assert pruned.options[widths.KEY]
    test = input_images(artifact("inputs", Inputs), "test", 3)
    said = np.frombuffer(evaluation.logits, np.float32).reshape(
        len(evaluation.stages), len(test), -1
    )
    again = logits_of(
        builders.restore(pruned), [builders.normalised(test, pruned.mean, pruned.std)]
    )
    assert np.array_equal(said[evaluation.stages.index("pruned")], again)


def test_pruning_leaves_what_came_before_in_the_store(built: Path, tmp_path: Path) -> None:
    """Without [prune] the stage is absent; the stages before it are those of the pruned build."""
    plain = tmp_path / "plain"
    arguments = [*SMALL, "--store", str(built / "store"), "--until", "qat", "--out", str(plain)]
    assert cli.main([*arguments, "--set", "prune.lr=0.5"]) == 0  # a key of a stage that is off
    body = json.loads((plain / "report.json").read_text())
    rows = {row["stage"]: row for row in body["stages"]}
    assert list(rows) == ["data", "inputs", "teacher", "knowledge", "distil", "qat"]
    assert all(row["cached"] for name, row in rows.items() if name != "qat")
    before = rows["qat"]
    assert cli.main(arguments) == 0
    after = json.loads((plain / "report.json").read_text())["stages"][-1]
    assert (after["key"], after["cached"]) == (before["key"], True)


def test_nothing_to_take_fails_before_training(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        *SMALL,
        "--store",
        str(built / "store"),
        "--out",
        str(tmp_path / "out"),
        "--set",
        "prune.ratio=0.005",
    ]
    assert cli.main(arguments) == 1
    said = capsys.readouterr().err
    assert "MACs do not fall" in said
    assert "multiples of 8" in said
    assert "cut 1" not in said


def test_taylor_on_a_students_own_loss(built: Path, tmp_path: Path) -> None:
    """Taylor left MobileNetV2 unchanged in Torch-Pruning (its issue 303). Here MACs fall."""
    assert (
        cli.main(
            [
                *SMALL,
                "--store",
                str(built / "store"),
                "--until",
                "prune",
                "--out",
                str(tmp_path / "out"),
                *(
                    part
                    for text in (
                        "prune.ratio=0.4",
                        "prune.importance=taylor",
                        "prune.scope=isomorphic",
                        "prune.steps=1",
                        "prune.epochs=1",
                        "prune.batches=1",
                    )
                    for part in ("--set", text)
                ),
            ]
        )
        == 0
    )
    models = json.loads((tmp_path / "out" / "report.json").read_text())["models"]
    assert models["pruned"]["macs"] < 0.8 * models["student"]["macs"]
    lost = {row["group"]: 1 - row["after"] / row["before"] for row in models["pruned"]["groups"]}
    hidden = [
        share
        for name, share in lost.items()
        if name.endswith("conv_pw") and name != "blocks.0.0.conv_pw"
    ]
    assert len(set(hidden)) > 2  # ranked together, they lose unequal shares


def test_the_plan_is_printed_first_and_a_killed_build_goes_on(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build killed at its second cut resumes there; its network is that of a whole build."""
    from edgekd.pipeline.stages import prune

    made = prune.channel_groups.cut
    calls: list[str] = []

    def kill(found: Any, plan: Any, model: nn.Module) -> None:
        calls.append(capsys.readouterr().err)
        if len(calls) == 2:
            raise KeyboardInterrupt
        made(found, plan, model)

    source = built / "store"
    shared = tmp_path / "store"
    shared.mkdir()
    for entry in source.iterdir():
        if not entry.name.startswith(
            ("prune-", "qat-", "export-", "convert-", "evaluate-", "certify-", "bench-")
        ):
            (shared / entry.name).symlink_to(entry)
    arguments = [
        *SMALL,
        *PRUNED,
        "--store",
        str(shared),
        "--until",
        "prune",
        "--out",
        str(tmp_path / "out"),
    ]
    monkeypatch.setattr(prune.channel_groups, "cut", kill)
    assert cli.main(arguments) == 130
    assert "all 2 cuts together" in calls[0]
    assert "cut 1 of 2" in calls[0]
    assert "cut 2 of 2" in calls[1]
    monkeypatch.setattr(prune.channel_groups, "cut", made)
    assert cli.main(arguments) == 0
    told = capsys.readouterr().err
    assert "continues at cut 2 of 2" in told
    rows = [
        json.loads((out / "report.json").read_text())["models"]["pruned"]
        for out in (tmp_path / "out", built)
    ]
    assert rows[0]["groups"] == rows[1]["groups"]
    assert [
        row["epoch"]
        for row in json.loads((tmp_path / "out" / "report.json").read_text())["training"]["prune"]
    ] == [1, 2]
