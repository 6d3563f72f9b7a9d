"""The recipe's table [distil.losses]: spelling, refused losses, round trip."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekd.app import build
from edgekd.core.errors import RecipeError, UnknownName
from edgekd.data import source_registry
from edgekd.pipeline import runner
from edgekd.settings import loss_catalogue, recipe
from edgekd.settings.loss_catalogue import METHODS, Term
from edgekd.settings.recipe import DistilConfig
from edgekd.training import objective


def test_a_weight_a_table_and_an_override(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_text("[distil.losses]\nsp = 10\ndkd = {beta = 2, ramp = 0.5}\nrkd = 25\n")
    found = recipe.load(
        file, ["distil.losses.dkd.alpha=3", "distil.losses.rkd=0", "distil.losses.hcl={}"]
    ).distil.losses
    assert [(term.name, term.weight, term.ramp) for term in found] == [
        ("dkd", 1, 0.5),
        ("hcl", 1, None),
        ("sp", 10, None),
    ]
    assert found[0].parameters == {"alpha": 3, "beta": 2, "temperature": 4}
    file.write_text(recipe.to_toml(recipe.load(file)))
    assert {term.name for term in recipe.load(file).distil.losses} == {"dkd", "rkd", "sp"}


def test_every_method_reads_and_round_trips() -> None:
    terms = loss_catalogue.read(dict.fromkeys(METHODS, 1), "x")
    assert [term.name for term in terms] == list(METHODS)
    assert loss_catalogue.read(loss_catalogue.plain(terms), "x") == terms
    assert all(method.paper and method.title for method in METHODS.values())


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("distil.losses.dkdd=1", "dkd"),
        ("distil.losses.vkd=1", "distil.pooled"),
        ("distil.losses.kd=1", "distil.alpha"),
        ("distil.losses.dkd.betta=1", "distil.losses.dkd.beta"),
        ("distil.losses=1", "a table"),
        ("distil.losses.dkd=x", "a number"),
        ("distil.losses.dkd.temperature=0", "from 0.01 to 100"),
        ("distil.losses.pefd.projectors=2.5", "whole"),
        ("distil.losses.sp=-1", "from 0 to"),
        ("distil.losses.sp.ramp=2", "from 0 to 1"),
        ("distil.losses.sp=inf", "a number"),
        ("distil.losses.sp=nan", "a number"),
        (f"distil.losses.sp=1{'0' * 400}", "a number"),
        ("distil.lossess.sp=1", "losses"),
    ],
)
def test_wrong_tables(text: str, part: str) -> None:
    with pytest.raises((RecipeError, UnknownName)) as found:
        recipe.load(None, [text])
    assert part in str(found.value)


@pytest.mark.parametrize("name", ["kd_standardised", "dkd", "nkd", "dist"])
def test_what_two_classes_leave_undefined_is_refused_and_says_what_to_use(name: str) -> None:
    with pytest.raises(RecipeError, match="2 classes") as found:
        loss_catalogue.check((Term(name, 1.0),), 2)
    assert "use " in str(found.value)
    loss_catalogue.check((Term(name, 1.0),), 3)


def test_the_replacements_are_defined_where_they_are_named() -> None:
    loss_catalogue.check(tuple(Term(name, 1.0) for name in ("dist_batch", "rank", "per_label")), 2)
    loss_catalogue.check((Term("per_label", 1.0), Term("cat", 1.0), Term("rank", 1.0)), 14, "many")


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.not_many])
def test_what_several_labels_leave_undefined_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match="several labels"):
        loss_catalogue.check((Term(name, 1.0),), 14, "many")


def test_a_build_is_refused_before_anything_is_read_or_trained(tmp_path: Path) -> None:
    for name in ("train/cat/1.png", "train/dog/1.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"not read")
    with pytest.raises(RecipeError, match=r"distil\.losses\.dkd is not defined for 2 classes"):
        build.job(recipe.load(None, ["distil.losses.dkd=1"], {"data.source": str(tmp_path)}), "pi4")


def test_the_plan_says_what_it_leaves_out() -> None:
    config = DistilConfig(losses=(Term("mutual", 1.0), Term("sp", 5.0)))
    alone = objective.plan(config, (), 3)
    assert alone.weights() == {"labels": 1.0, "mutual": 1.0}
    assert len(alone.notes) == 1
    assert "there is no teacher" in alone.notes[0]
    whole = objective.plan(config, ("logits", "pooled"), 3)
    assert whole.weights() == {
        "labels": pytest.approx(0.1),
        "logits": 0.9,
        "pooled": 1.0,
        "mutual": 1.0,
        "sp": 5.0,
    }
    assert [each.ramp for each in whole.terms] == [0.0, config.ramp]
    logged = objective.plan(DistilConfig(), ("logits",), 3)
    assert "pooled" not in logged.weights()
    assert "distil.pooled was left out" in logged.notes[0]
    with pytest.raises(RecipeError, match="pooled"):
        objective.plan(config, ("logits",), 3)


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        ([], {"teacher": ("data",), "knowledge": ("data", "teacher")}),
        (
            ['teacher.others=["resnet34", "resnet18@none"]'],
            {
                "teacher": ("data",),
                "teacher2": ("data",),
                "teacher3": ("data",),
                "knowledge": ("data", "teacher", "teacher2", "teacher3"),
            },
        ),
        (["distil.answers=live"], {"teacher": ("data",)}),
        (["distil.answers=corrected"], {"teacher": ("data",)}),
        (["distil.logs=log.csv"], {"knowledge": ("data",)}),
        (["teacher.name=none"], {}),
    ],
)
def test_each_mode_runs_the_stages_it_needs(
    sets: list[str],
    expected: dict[str, tuple[str, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    items = source_registry.open_source("phantom:120@40").items()
    train = next(item.name for item in items if item.split == "train")
    Path("log.csv").write_text(f"image,class_1,p_1\n{train},normal,0.5\n")
    job = build.job(recipe.load(None, sets, {"data.source": "phantom:120@40"}), "pi4")
    found = {
        stage.name: stage.parents
        for stage in runner.stages(job)
        if stage.name.startswith(("teacher", "knowledge"))
    }
    assert found == expected


def test_several_teachers_are_heard_from_the_cache_alone() -> None:
    asked = recipe.load(
        None,
        ['teacher.others=["resnet34"]', "distil.answers=live"],
        {"data.source": "phantom:120@40"},
    )
    with pytest.raises(RecipeError, match=r"teacher\.others"):
        build.job(asked, "pi4")


def test_further_teachers_leave_the_first_as_it_is() -> None:
    """Its settings do not change, so it is not trained again. Another teacher has its own name."""
    made = [
        build.job(recipe.load(None, sets, {"data.source": "phantom:120@40"}), "pi4")
        for sets in ([], ['teacher.others=["resnet34@none"]'])
    ]
    rows = [
        {
            stage.name: stage.settings(job)
            for stage in runner.stages(job)
            if stage.name.startswith("teacher")
        }
        for job in made
    ]
    assert rows[0]["teacher"] == rows[1]["teacher"]
    other = rows[1]["teacher2"]
    assert (other.model.name, other.config.name, other.config.weights) == (
        "resnet34",
        "resnet34",
        "none",
    )


def test_lists_of_teachers_round_trip(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    odd = recipe.load(None, [], {"teacher.others": ('a "b"', "resnet34@x.safetensors")})
    file.write_text(recipe.to_toml(odd))
    assert recipe.load(file) == odd
    with pytest.raises(RecipeError, match="a list of texts"):
        recipe.load(None, ["teacher.others=resnet34"])


def test_with_several_labels_kd_is_replaced_and_says_so() -> None:
    found = objective.plan(DistilConfig(exits=1.0, pooled=0.0), ("logits", "pooled"), 5, "many")
    assert found.weights("many") == {"labels": pytest.approx(0.1), "per_label": 0.9}
    assert len(found.notes) == 2
    assert "OFA" in found.notes[0]
    assert "per_label" in found.notes[1]
