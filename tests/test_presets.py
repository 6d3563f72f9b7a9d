"""Presets fill in what nobody gave, whatever is given wins, and "standard" changes nothing."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekd.app import build, build_settings, cli, search_command
from edgekd.app import settings as app_settings
from edgekd.app.arguments import Build
from edgekd.app.search_arguments import Search
from edgekd.core.errors import RecipeError, UnknownName
from edgekd.pipeline import runner
from edgekd.pipeline.stage_table import STAGES
from edgekd.settings import preset_record, presets, recipe
from edgekd.settings.preset_record import By
from edgekd.settings.recipe import Recipe, TeacherConfig, ViewsConfig
from edgekd.settings.recipe_tables import loss_named, value
from edgekd.training import answer_keys, view_places, views

INFONCE = "distil.losses.infonce"
PATIENT, QUICK = "distil.preset=patient", "distil.preset=quick"


def by(settings: Recipe) -> dict[str, By]:
    """Who chose each setting of the preset."""
    block = preset_record.block(settings)
    assert block is not None
    return {row.setting: row.by for row in block.settings}


@pytest.mark.parametrize(
    ("family", "name"),
    [(family, name) for family in presets.FAMILIES for name in family.presets],
    ids=str,
)
def test_every_value_of_a_preset_is_one_that_its_setting_takes(
    family: presets.Family, name: str
) -> None:
    assert set(recipe.SETTINGS[family.key].choices) == set(family.presets)
    assert recipe.SETTINGS[family.key].default == family.plain
    settings = recipe.load(None, [f"{family.key}={name}"])
    for choice in family.presets[name]:
        wanted = choice.value_for(settings.distil.epochs)
        if not loss_named(choice.key):
            checked = recipe.SETTINGS[choice.key].check(wanted)
            assert checked == wanted
            assert type(checked) is type(wanted), choice.key
        if presets.applies(choice, settings):
            assert value(settings, choice.key) == wanted


def test_standard_is_the_defaults() -> None:
    assert recipe.load(None, ["distil.preset=standard"]) == Recipe()
    assert preset_record.block(Recipe()) is None


def test_what_is_given_wins_one_by_one(tmp_path: Path) -> None:
    """In the recipe, by --set or by an option, and also where it is the default."""
    file = tmp_path / "r.toml"
    file.write_text('[distil]\npreset = "patient"\nepochs = 20\n')
    found = recipe.load(file, ["views.per_image=3"], {"distil.temperature": 3})
    assert (found.distil.epochs, found.views.per_image, found.distil.temperature) == (20, 3, 3)
    assert found.distil.pooled == 5
    chosen = by(found)
    mine = {"distil.epochs", "views.per_image"}
    assert {key for key, who in chosen.items() if who is By.USER} == mine
    assert {*chosen.values()} == {By.USER, By.PRESET}
    told = str(preset_record.block(found))
    assert told == (
        "preset patient: distil.pooled 5, distil.losses.infonce 0.8; yours: distil.epochs 20, "
        "views.per_image 3"
    )


def test_a_loss_of_a_preset_is_one_setting_among_others(tmp_path: Path) -> None:
    """It is added to the user's losses, gives way to a weight of the user's, and can be off."""
    weights = {"rkd": 25.0, "infonce": 0.8}
    beside = recipe.load(None, [PATIENT, "distil.losses.rkd=25"])
    assert {term.name: term.weight for term in beside.distil.losses} == weights
    more = recipe.load(None, [PATIENT, "distil.losses.infonce=2"])
    assert value(more, INFONCE) == 2
    assert by(more)[INFONCE] is By.USER
    wider = recipe.load(None, [PATIENT, "distil.losses.infonce.width=64"])
    assert [(term.weight, term.parameters["width"]) for term in wider.distil.losses] == [(0.8, 64)]
    off = recipe.load(None, [PATIENT, f"{INFONCE}=0"])
    assert not off.distil.losses
    assert by(off)[INFONCE] is By.USER
    file = tmp_path / "whole.toml"
    for settings in (beside, more, wider, off, recipe.load(None, [PATIENT])):
        file.write_text(recipe.to_toml(settings))
        assert recipe.load(file) == settings
        assert recipe.load(file, ["distil.lr=0.1"]) == recipe.extended(settings, ["distil.lr=0.1"])
    assert recipe.load(file, ["distil.preset=standard"]) == Recipe()  # of patient and no more


@pytest.mark.parametrize("unfit", ["teacher.name=none", "teacher.epochs=0", "distil.logs=a.csv"])
def test_a_loss_of_a_preset_stays_out_where_no_features_are_learned(unfit: str) -> None:
    assert not recipe.load(None, [PATIENT, unfit]).distil.losses


def test_another_preset_by_set_replaces_that_of_the_file(tmp_path: Path) -> None:
    """Also in a file that a build has written, which holds the values of its own preset."""
    short, whole = tmp_path / "short.toml", tmp_path / "whole.toml"
    short.write_text('[distil]\npreset = "patient"\nlr = 0.1\n[qat]\nepochs = 4\n')
    whole.write_text(recipe.to_toml(recipe.load(short)))
    assert recipe.load(whole) == recipe.load(short)
    for file in (short, whole):
        found = recipe.load(file, [QUICK])
        expected = recipe.load(None, [QUICK, "distil.lr=0.1", "qat.epochs=4"])
        assert found == expected
        back = recipe.load(file, ["distil.preset=standard"])
        assert back == recipe.load(None, ["distil.lr=0.1", "qat.epochs=4"])
    bare = tmp_path / "bare.toml"
    bare.write_text("[distil]\nepochs = 20\n")  # names no preset: its values are the user's
    assert recipe.load(bare, [PATIENT]).distil.epochs == 20


DPQ = "prune.preset=distil-prune-quantise"


def test_the_compression_keeps_its_proportion_to_float_training() -> None:
    """15 epochs behind 24, as where it was measured, in a quick and in a patient training, too."""
    for sets, epochs, after, qat in (
        ([], 20, 5, 3),
        ([QUICK], 5, 1, 1),
        ([PATIENT], 200, 50, 30),
        (["distil.epochs=24"], 24, 6, 4),
    ):
        found = recipe.load(None, [*sets, DPQ])
        assert (found.distil.epochs, found.prune.epochs, found.qat.epochs) == (epochs, after, qat)
        assert (found.prune.target_macs, found.prune.steps) == (0.62, 3)
    quick = recipe.load(None, [QUICK, DPQ])
    assert "qat.epochs" not in by(quick)  # the later family's
    block = preset_record.block(quick, presets.COMPRESSION)
    assert str(block) == (
        "preset distil-prune-quantise: prune.target_macs 0.62, prune.steps 3, prune.epochs 1, "
        "prune.lr 0.02, qat.epochs 1"
    )


@pytest.mark.parametrize("goal", ["prune.ratio=0.3", "prune.target_latency=9ms"])
def test_another_goal_of_pruning_takes_the_place_of_the_presets(goal: str) -> None:
    found = recipe.load(None, [DPQ, goal, "prune.epochs=2"])
    assert not found.prune.target_macs
    told = str(preset_record.block(found, presets.COMPRESSION))
    assert "target_macs" not in told
    assert told.endswith("; yours: prune.epochs 2")
    unpruned = recipe.load(None, [DPQ, "prune.target_macs=0"])
    assert unpruned.qat.epochs == 3
    assert recipe.load(None, [DPQ, "convert.model=net.onnx"]).prune.target_macs == 0


def test_a_file_of_both_families_gives_way_to_either(tmp_path: Path) -> None:
    """The epochs of the one follow those of the other."""
    whole = tmp_path / "whole.toml"
    whole.write_text(recipe.to_toml(recipe.load(None, [PATIENT, DPQ, "distil.lr=0.1"])))
    assert recipe.load(whole) == recipe.load(None, [PATIENT, DPQ, "distil.lr=0.1"])
    assert recipe.load(whole, [QUICK]) == recipe.load(None, [QUICK, DPQ, "distil.lr=0.1"])
    none = recipe.load(whole, ["prune.preset=none"])
    assert none == recipe.load(None, [PATIENT, "distil.lr=0.1"])


def test_one_option_names_a_preset_of_each_family() -> None:
    named = presets.of_names(["quick", "distil-prune-quantise"])
    assert named == {"distil.preset": "quick", "prune.preset": "distil-prune-quantise"}
    with pytest.raises(RecipeError, match="quick and patient"):
        presets.of_names(["quick", "patient"])
    with pytest.raises(UnknownName, match="quikc"):
        recipe.load(None, [], presets.of_names(["quikc"]))


def test_a_new_recipe_leaves_a_preset_its_settings(tmp_path: Path) -> None:
    assert cli.main(["new", str(tmp_path)]) == 0
    file = tmp_path / "recipe.toml"
    assert recipe.load(file) == Recipe()
    file.write_text(file.read_text().replace('preset = "standard"', 'preset = "patient"'))
    assert recipe.load(file) == recipe.load(None, [PATIENT])


def test_the_option_of_build_and_of_search_wins_over_the_recipe(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_text('[distil]\npreset = "patient"\n')
    asked = Build(file, preset="quick", settings=["qat.epochs=2"])
    found = app_settings.recipe_of(asked.recipe, asked.settings, build_settings.own(asked))
    assert found == recipe.load(None, [QUICK, "qat.epochs=2"])
    line = search_command.line(Search(file, max_size=2e6, preset="quick"))
    assert "--preset quick" in line


def test_a_build_says_what_its_preset_sets_before_it_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the terminal, in the log, in its report and in its recipe."""
    out, log = tmp_path / "out", tmp_path / "log"
    command = ["build", "--data", "phantom:100@32", "--until", "data", "--preset", "quick"]
    own = ["--set", "qat.epochs=2", "--out", str(out), "--log", str(log)]
    assert cli.main([*command, *own]) == 0
    words = (
        "preset quick: distil.epochs 5, views.per_image 2, teacher.epochs 3; yours: qat.epochs 2"
    )
    told = capsys.readouterr()
    assert f"edgekd: {words}" in told.err
    assert words in " ".join(told.out.split())
    assert words in json.loads(log.read_text().splitlines()[0])["text"]
    block = json.loads((out / "report.json").read_text())["preset"]
    assert {row["setting"]: row["by"] for row in block["settings"]} == {
        "distil.epochs": "preset",
        "views.per_image": "preset",
        "teacher.epochs": "preset",
        "qat.epochs": "user",
    }
    again = recipe.load(out / "recipe.toml")
    assert again == recipe.load(None, [QUICK, "qat.epochs=2", 'data.source="phantom:100@32"'])


def test_a_recipe_in_python_takes_a_preset() -> None:
    loaded = recipe.load(None, [PATIENT, "distil.epochs=20"])
    assert app_settings.recipe_of(loaded, (), {}) == loaded
    assert app_settings.recipe_of(loaded, [QUICK], {}) == recipe.load(
        None, [QUICK, "distil.epochs=20"]
    )
    edited = dataclasses.replace(loaded, distil=dataclasses.replace(loaded.distil, alpha=0.5))
    assert app_settings.recipe_of(edited, {"seed": 3}, {}).distil.alpha == 0.5
    made = Recipe(distil=recipe.DistilConfig(preset="patient", lr=0.1))
    assert app_settings.recipe_of(made, (), {}) == recipe.load(None, [PATIENT, "distil.lr=0.1"])


@pytest.mark.parametrize(
    ("sets", "pooled"),
    [
        ([], 5.0),
        (["distil.answers=live"], 5.0),
        (["distil.answers=corrected"], 1.0),
        (["teacher.name=none"], 1.0),
        (["distil.logs=answers.csv"], 1.0),
        (["federated.clients=2"], 1.0),
    ],
)
def test_patient_leaves_out_what_needs_a_teachers_features(sets: list[str], pooled: float) -> None:
    found = recipe.load(None, [PATIENT, *sets])
    assert (found.distil.epochs, found.views.per_image) == (200, 40)
    assert found.distil.pooled == pooled
    left = "left out: distil.pooled (only where a teacher shows its features)"
    assert (left in str(preset_record.block(found))) == (pooled == 1)


def test_a_setting_of_one_kind_of_teacher_is_set_for_it_alone() -> None:
    frozen, trained = ["teacher.mode=frozen"], ["teacher.mode=finetune"]
    assert recipe.load(None, [PATIENT, *frozen]).teacher.head_views == 8
    assert recipe.load(None, [PATIENT, *trained]).teacher == TeacherConfig()
    assert recipe.load(None, [QUICK, *trained]).teacher.epochs == 3
    assert recipe.load(None, [QUICK, *frozen]).teacher.epochs == TeacherConfig.epochs
    assert recipe.load(None, [QUICK, "teacher.epochs=0"]).teacher.as_it_is


def test_a_conversion_takes_the_views_of_a_preset_where_it_trains() -> None:
    given = ["convert.model=net.onnx", PATIENT]
    trained = recipe.load(None, [*given, "qat.epochs=2"])
    assert (trained.views.per_image, trained.distil.epochs) == (40, 20)
    untouched = recipe.load(None, [*given, "qat.epochs=0"])
    assert untouched.views == ViewsConfig()
    assert str(preset_record.block(untouched)) == "preset patient: sets nothing here"


def test_a_plan_that_changes_a_setting_is_told_apart_from_the_user() -> None:
    found = recipe.changed(recipe.load(None, [QUICK]), {"distil.epochs": 7})
    assert str(preset_record.block(found)).endswith("; planned: distil.epochs 7")


def test_a_preset_is_in_no_key_and_its_values_are() -> None:
    """Whoever gives the values: a build with the same ones finds its stages in the store."""
    common = ['data.source="phantom:100@32"', "prune.ratio=0.25", "distil.weights=none"]
    chosen = recipe.load(None, [*common, QUICK, DPQ])
    values = presets.filled(recipe.load(None, [*common, QUICK, DPQ]))
    assert len(values) == 7
    asked = [f"{key}={each}" for key, each in values.items()]
    given = recipe.load(None, common + asked)
    assert in_keys(chosen) == in_keys(given)
    assert "preset" not in json.dumps(in_keys(chosen), default=str)
    cropped = in_keys(recipe.changed(chosen, {"views.area": 0.3}))
    changed = {name for name, table in in_keys(chosen).items() if table != cropped[name]}
    assert changed >= {"teacher", "knowledge", "distil", "prune", "qat"}
    assert not changed & {"data", "inputs"}


def in_keys(settings: Recipe) -> dict[str, object]:
    """What stands of a recipe in the key of each stage."""
    made = build.job(settings, "pi4")
    return {
        stage.name: runner._without_later(dataclasses.asdict(stage.settings(made)))
        for stage in STAGES
        if stage.settings is not None and stage.name != "bench"
    }


MANY = np.arange(2000, dtype=np.uint64)
ROWS = torch.arange(2000)


def test_a_crop_lies_in_its_image_and_has_the_area_and_the_sides_that_are_asked_for() -> None:
    still = ViewsConfig(area=0.3, rotate=0, flip=0)
    drawn = view_places.affine(still, views.starts(0, 0, MANY))
    wide, high = drawn[:, 0, 0], drawn[:, 1, 1]
    assert (drawn[:, 0, 1] == 0).all()
    area, ratio = wide * high, wide / high
    assert area.min() == pytest.approx(0.3, abs=0.01)
    assert area.max() == pytest.approx(1, abs=0.01)
    assert abs(area.mean() - 0.65) < 0.02
    assert ratio.min() == pytest.approx(3 / 4, abs=0.01)
    assert ratio.max() == pytest.approx(4 / 3, abs=0.01)
    for side, middle in ((wide, drawn[:, 0, 2]), (high, drawn[:, 1, 2])):
        assert (np.abs(middle) + side <= 1 + 1e-12).all()
        assert abs(middle.mean()) < 0.02


def test_without_crops_views_and_their_keys_are_as_before() -> None:
    """The sum of what version 0.2.0 drew, and the key that it gave the first answer."""
    config = ViewsConfig(mixup=0.4)
    drawn = views.draw(config, 3, 1, MANY, ROWS)
    assert drawn.affine.double().sum().item() == 1968.297345437164
    keys = answer_keys.of_view(config, 3, 1, MANY, ROWS, drawn)
    assert int(keys[0]) == 4719836758359423954
    cropped = dataclasses.replace(config, area=0.3)
    other = views.draw(cropped, 3, 1, MANY, ROWS)
    assert torch.equal(other.partner, drawn.partner)
    assert not torch.equal(other.affine, drawn.affine)
    changed = answer_keys.of_view(cropped, 3, 1, MANY, ROWS, other)
    assert not np.intersect1d(keys, changed).size
