"""Every setting of a recipe refuses what it cannot use, by name, before a build's first stage."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest
from msgspec import inspect

from edgekd.app import cli
from edgekd.core.errors import UnknownName
from edgekd.device import edgebench
from edgekd.settings import device_profiles, loss_catalogue, model_specs, recipe
from edgekd.settings.profile_fields import CompilerOptions
from edgekd.settings.setting_types import Setting

# Spelled as after --set. "0xff..." is a number that Python does not print.
NO_NUMBERS = ("nan", "inf", "-inf", "1" + 400 * "0", "0x" + 5000 * "f", "word", '""', "true", "[1]")
NO_TEXTS = ("3", "nan", "true", '["a"]', "{a = 1}", "2026-01-01", '"a\\u0000b"', "\udcff")
NO_LISTS = ("3", '"a"', "true", "[1]", '["a", 2]', "{a = 1}", '["a\\u0000b"]')
NO_NUMBER_LISTS = ("3", '"a"', "true", '["a"]', "{a = 1}", "[nan]", "[inf]", "[-1e300]", "[1e300]")
NO_TABLES = ("3", '"a"', "true", "[1]", "nan", "{a = [1]}", "{a = 2026-01-01}")
NO_LOSSES = ("3", '"dkd"', "[1]", "{nosuch = 1}", '{dkd = "x"}', "{dkd = {weight = nan}}")

# Not looked at below: parameters of losses, which have a test of their own, and the arguments of a
# network's constructor, which each network checks itself.
NOT_HERE = (recipe.LOSSES, "distil.options")


def wrong_values(setting: Setting) -> tuple[str, ...]:
    """Values that this setting cannot take."""
    if setting.key == recipe.LOSSES:
        return NO_LOSSES
    if setting.bounds:
        low, high = setting.bounds
        return (f"{low - 1:.6f}", f"{high + 1:.6f}", str(int(high) + 1), *NO_NUMBERS)
    if setting.choices:
        return ("nosuch", "3.5", "true", '["a"]', *(() if "" in setting.choices else ('""',)))
    if isinstance(setting.default, bool):
        return ("1", "yes", '"true"', "[true]", "nan")
    if isinstance(setting.default, tuple):
        return NO_NUMBER_LISTS if numbers(setting.hint) else NO_LISTS
    return NO_TABLES if isinstance(setting.default, dict) else NO_TEXTS


@pytest.mark.parametrize("key", recipe.SETTINGS)
def test_wrong_values_are_refused_by_name(key: str) -> None:
    for value in wrong_values(recipe.SETTINGS[key]):
        with pytest.raises((recipe.RecipeError, UnknownName)) as found:
            recipe.load(None, [f"{key}={value}"])
        assert key in found.value.what, value[:80]
        assert found.value.next_step, value[:80]
        assert len(str(found.value)) < 1500, value[:80]


@pytest.mark.parametrize("key", ["data.input_px", "qat.pin", "distil.losses", "bench.threads"])
def test_nothing_is_written_before_a_wrong_value_is_found(
    key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert cli.main(["build", "--out", str(out), "--set", f"{key}=word"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("edgekd: error: ")
    assert key in said
    assert not out.exists()


@pytest.mark.parametrize("key", ["data.source", "distil.student", "teacher.name"])
def test_texts_that_may_not_be_empty(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["build", "--set", f'{key}=""']) == 2
    assert f"{key} is '', expected a text that is not empty" in capsys.readouterr().err


def test_every_parameter_of_a_loss_has_two_bounds() -> None:
    for name, method in loss_catalogue.METHODS.items():
        known = {
            "weight": loss_catalogue.WEIGHT,
            "ramp": loss_catalogue.RAMP,
            **method.parameters,
        }
        for option, parameter in known.items():
            assert math.isfinite(parameter.low), f"{name}.{option}"
            assert math.isfinite(parameter.high), f"{name}.{option}"
            assert parameter.low <= parameter.default <= parameter.high, f"{name}.{option}"
            for value in (parameter.low - 1, parameter.high + 1, math.nan, math.inf, True, "1"):
                with pytest.raises(recipe.RecipeError, match=rf"distil\.losses\.{name}"):
                    recipe.load(None, (), {f"distil.losses.{name}": {option: value}})


def numbers(hint: object) -> list[inspect.IntType | inspect.FloatType]:
    """The numeric types in a type, also inside lists, tables and unions."""
    found: list[inspect.IntType | inspect.FloatType] = []
    waiting = [inspect.type_info(hint)]
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, inspect.IntType | inspect.FloatType):
            found.append(kind)
        for name in ("type", "item_type", "key_type", "value_type"):
            inner = getattr(kind, name, None)
            if isinstance(inner, inspect.Type):
                waiting.append(inner)
        waiting += getattr(kind, "types", ())
    return found


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        *(
            (setting.key, setting.hint)
            for setting in recipe.SETTINGS.values()
            if setting.key not in NOT_HERE
        ),
        *((setting.key, setting.hint) for setting in device_profiles.FIELDS.values()),
        *((setting.key, setting.hint) for setting in model_specs.KEYS.values()),
        *((field.name, field.type) for field in msgspec.structs.fields(CompilerOptions)),
    ],
)
def test_every_number_in_a_file_has_two_bounds(key: str, hint: object) -> None:
    """Recipes, profiles and model files: numbers, and the numbers in their lists and tables."""
    for kind in numbers(hint):
        assert kind.ge is not None or kind.gt is not None, key
        assert kind.le is not None or kind.lt is not None, key


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("--seed", ("-1", "4294967296", "1" + 400 * "0", "three", "1.5", "nan")),
    ],
)
def test_numbers_on_the_command_line_of_build(
    option: str, values: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    for value in values:
        assert ended(["build", option, value]) == 2
        assert option.strip("-") in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "limit"),
    [
        ("--threads", "threads"),
        ("--runs", "runs"),
        ("--timeout", "timeout_s"),
        ("--soak", "soak_minutes"),
    ],
)
def test_numbers_on_the_command_line_of_bench(
    option: str, limit: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model.tflite"
    model.write_bytes(b"")
    low, high = edgebench.LIMITS[limit]
    for value in (low - 1, high * 2, "nan", "inf", "1" + 400 * "0", "word"):
        assert ended(["bench", str(model), option, str(value)]) == 2
        said = capsys.readouterr().err
        assert option.strip("-") in said, (value, said)


def ended(words: list[str]) -> int:
    """The exit code of a command; argparse leaves by SystemExit."""
    try:
        return cli.main(words)
    except SystemExit as exit_:
        return int(str(exit_.code))
