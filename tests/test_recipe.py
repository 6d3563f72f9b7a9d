"""Recipes: defaults, overrides, bounds, edits, and one clear message for every mistake."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from edgekd.core.errors import EdgeKDError, RecipeError, UnknownName
from edgekd.settings import recipe, recipe_toml
from edgekd.settings.setting_types import Setting


def test_order_of_precedence(tmp_path: Path) -> None:
    """File, then --set, then the command line's own options."""
    file = tmp_path / "r.toml"
    file.write_text('seed = 3\n[data]\ninput_px = 64\nsource = "a"\n[distil]\nlr = 1\n')
    found = recipe.load(
        file, ["data.input_px=128", "distil.schedule=onecycle"], {"data.source": "b"}
    )
    assert (found.seed, found.data.input_px, found.data.source) == (3, 128, "b")
    assert found.distil.schedule == "onecycle"
    assert found.distil.lr == 1.0
    assert isinstance(found.distil.lr, float)


def test_round_trip(tmp_path: Path) -> None:
    """What `edgekd new` writes loads as the same recipe, hostile strings included."""
    odd = recipe.load(None, [], {"data.source": 'a "b" \\ c\nd', "seed": 7})
    file = tmp_path / "r.toml"
    file.write_text(recipe.to_toml(odd))
    assert recipe.load(file) == odd


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("distil.tempreature=2", "distil.temperature"),
        ("distill.lr=1", "distil"),
        ("data.fit=sqash", "squash"),
        ("teacher.mode=froozen", "frozen"),
    ],
)
def test_nearest_name(text: str, near: str) -> None:
    with pytest.raises(UnknownName, match=near) as found:
        recipe.load(None, [text])
    assert found.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("data.input_px=large", "a whole number"),
        ("distil.lr=true", "a number"),
        ("distil.lr=inf", "a number from 0 to 1,000"),
        ("distil.lr=nan", "a number from 0 to 1,000"),
        ("data.input_px=1", "a whole number from 32 to 1,024"),
        ("data.input_px=96.5", "a whole number"),
        ("data.labels=3", "a list of texts"),
        ("data.source=3", "a text"),
        ("data.input_px", "stage.key=value"),
        ("data=3", "section"),
        ("seed=-1", "from 0 to 4,294,967,295"),
        ("distil.alpha=1.5", "from 0 to 1"),
        ("data.val_share=0.9", "to 0.5"),
        ("data.limit=-1", "from 0"),
        ("distil.epochs=0", "from 1"),
        ("views.per_image=0", "from 1"),
        ("views.flip=7", "from 0 to 1"),
        ("distil.label_smoothing=3", "from 0 to 0.95"),
        ("distil.warmup=5", "from 0 to 1"),
        ("distil.drop=2", "from 0 to 0.95"),
    ],
)
def test_wrong_values(text: str, part: str) -> None:
    with pytest.raises(RecipeError) as found:
        recipe.load(None, [text])
    assert part in str(found.value)
    assert text.split("=")[0] in str(found.value)


@pytest.mark.parametrize(
    "content", [b"[data\n", b"\xff\xfe\x00", b"seed = 'x'\n", b"[data]\nnope = 1\n"]
)
def test_broken_files_are_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "my recipe.toml"
    file.write_bytes(content)
    with pytest.raises(EdgeKDError) as found:
        recipe.load(file)
    assert "my recipe.toml" in str(found.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="edgekd new"):
        recipe.load(tmp_path / "none.toml")


def test_withheld_labels_are_withheld_from_qat() -> None:
    with pytest.raises(RecipeError, match=r"qat\.alpha"):
        recipe.load(None, ['distil.labels="withheld"', "qat.alpha=0.9"])


def test_drawing_groups_evenly_needs_groups() -> None:
    with pytest.raises(RecipeError, match="the group of each image"):
        recipe.load(None, ["distil.balance=group"])
    assert (
        recipe.load(None, ["distil.balance=group", "distil.groups=g.csv"]).distil.groups == "g.csv"
    )


NUMBERS = [key for key, setting in recipe.SETTINGS.items() if setting.bounds]


@pytest.mark.parametrize("key", NUMBERS)
def test_every_number_has_two_bounds_and_its_default_lies_between_them(key: str) -> None:
    setting = recipe.SETTINGS[key]
    assert setting.bounds is not None
    low, high = setting.bounds
    assert math.isfinite(low)
    assert math.isfinite(high)
    assert low <= setting.default <= high
    for value in (low - 1, high + 1, math.nan, math.inf, True, "1"):
        with pytest.raises(RecipeError) as found:
            recipe.load(None, (), {key: value})
        assert key in str(found.value)
        assert setting.expected in str(found.value)
    assert (low if isinstance(setting.default, float) else int(low)) == setting.check(low)


def test_which_settings_are_numbers() -> None:
    """The test above covers all numbers: a setting whose default is a number has bounds."""
    numbers = {
        key
        for key, setting in recipe.SETTINGS.items()
        if isinstance(setting.default, int | float) and not isinstance(setting.default, bool)
    }
    assert set(NUMBERS) == numbers
    assert len(NUMBERS) > 60


@pytest.mark.parametrize("setting", recipe.SETTINGS.values(), ids=recipe.SETTINGS)
def test_every_setting_says_what_it_does(setting: Setting) -> None:
    assert setting.description.endswith(".")
    assert "\n" not in setting.description


def test_the_default_is_a_value_that_is_accepted() -> None:
    for setting in recipe.SETTINGS.values():
        assert setting.check(setting.default) == setting.default


@pytest.mark.parametrize("content", [b"\xef\xbb\xbfseed = 3\n", b"\xef\xbb\xbf[data]\nlimit = 3\n"])
def test_a_byte_order_mark_is_read_over(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "r.toml"
    file.write_bytes(content)
    found = recipe.load(file)
    assert 3 in (found.seed, found.data.limit)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", '[edits]\npooling = "mean"\n'),
        ("seed = 1\n", 'seed = 1\n\n[edits]\npooling = "mean"\n'),
        (
            '[edits]\n# why\npooling = "average_pool"  # slow\n[data]\n',
            '[edits]\n# why\npooling = "mean"  # slow\n[data]\n',
        ),
        (
            '[edits] # why\nhard_swish = "keep"\n',
            '[edits] # why\nhard_swish = "keep"\npooling = "mean"\n',
        ),
        ('edits = {hard_swish = "keep"}\n', 'edits = {hard_swish = "keep",pooling = "mean"}\n'),
        ('edits.hard_swish = "keep"\n', 'edits.hard_swish = "keep"\nedits.pooling = "mean"\n'),
        (
            '[card]\nlimits = """\n[edits]\n"""\n',
            '[card]\nlimits = """\n[edits]\n"""\n\n[edits]\npooling = "mean"\n',
        ),
        (
            "\ufeff# of the ward\r\n[data]\r\nlimit=1 # few\r\n",
            '\ufeff# of the ward\r\n[data]\r\nlimit=1 # few\r\n\n[edits]\npooling = "mean"\n',
        ),
    ],
)
def test_an_edit_leaves_the_other_lines_as_they_are(text: str, expected: str) -> None:
    assert recipe_toml.edited(text, {"edits.pooling": "mean"}) == expected


def test_an_edit_sets_keys_at_every_depth() -> None:
    values = {"distil.student": "x", "distil.losses.dkd.beta": 2, "seed": 3, "data.labels": ["a"]}
    assert recipe_toml.edited("[distil]\nepochs = 1 # few\n", values) == (
        "seed = 3\n"
        "\n"
        "[distil]\n"
        "epochs = 1 # few\n"
        'student = "x"\n'
        "\n"
        "[distil.losses.dkd]\n"
        "beta = 2\n"
        "\n"
        "[data]\n"
        'labels = ["a"]\n'
    )


def test_a_recipe_that_has_no_place_for_an_edit_says_what_to_write() -> None:
    with pytest.raises(RecipeError, match=r'write by hand: edits\.pooling = "mean"'):
        recipe_toml.edited("edits = 3\n", {"edits.pooling": "mean"})
