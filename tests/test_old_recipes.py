"""Recipes that version 0.1.0 wrote are read as before, and build."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from edgekd.app import cli
from edgekd.settings import recipe

DATA = Path(__file__).parent / "data"


def values_of(found: recipe.Recipe) -> dict[str, object]:
    """Every setting of a recipe by key."""
    settings = {key: key.partition(".") for key in recipe.SETTINGS if key != "seed"}
    return {
        "seed": found.seed,
        **{key: getattr(getattr(found, part[0]), part[2]) for key, part in settings.items()},
    }


@pytest.mark.parametrize("name", ["recipe_0_1_0.toml", "recipe_0_1_0_full.toml"])
def test_a_recipe_of_version_0_1_0_means_what_it_meant(name: str) -> None:
    """Files that 0.1.0 wrote: a recipe near the defaults, and one that changes every setting."""
    path = DATA / name
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    found = recipe.load(path)
    told = {"seed": tables["seed"]} | {
        f"{section}.{key}": tuple(value) if isinstance(value, list) else value
        for section, table in tables.items()
        if section != "seed"
        for key, value in table.items()
        if key != "losses"
    }
    values = values_of(found)
    assert told.keys() <= values.keys()
    assert {key: values[key] for key in told} == told
    losses = tables["distil"]["losses"]
    assert [term.name for term in found.distil.losses] == list(losses)
    assert [term.weight for term in found.distil.losses] == [
        row["weight"] for row in losses.values()
    ]
    # Later versions have more keys; those of 0.1.0 are written as before, in the same order.
    written = iter(recipe.to_toml(found).splitlines())
    assert all(line in written for line in path.read_text(encoding="utf-8").splitlines())


def test_the_full_recipe_of_version_0_1_0_sets_every_key_of_that_version() -> None:
    near, full = (
        recipe.load(DATA / "recipe_0_1_0.toml"),
        recipe.load(DATA / "recipe_0_1_0_full.toml"),
    )
    kept = {
        "federated.clients",  # with clients there is no teacher, and other keys are then refused
        "federated.parts",
        "prune.target_macs",  # excludes prune.ratio
        "qat.alpha",  # excludes withheld labels
        "prune.lr",
        "certify.max_drop",
    }
    text = (DATA / "recipe_0_1_0_full.toml").read_text(encoding="utf-8")
    tables = tomllib.loads(text)
    old = {f"{name}.{key}" for name, table in tables.items() if name != "seed" for key in table} | {
        "seed"
    }
    same = {key for key, value in values_of(full).items() if value == values_of(near)[key]}
    assert same & old <= kept


def test_a_recipe_of_version_0_1_0_builds(tmp_path: Path) -> None:
    """With fewer images, and up to the .tflite."""
    command = ["build", str(DATA / "recipe_0_1_0.toml"), "--out", str(tmp_path / "out")]
    assert cli.main([*command, "--data", "phantom:120@64", "--until", "convert"]) == 0
    stages = {path.name.partition("-")[0] for path in (tmp_path / "out" / "store").iterdir()}
    assert stages >= {"data", "inputs", "distil", "qat", "export", "convert"}
