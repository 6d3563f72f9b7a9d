"""What a setting is: type, default, bounds and description, read from the field's declaration.

A setting is a field of a frozen dataclass:

    flip: Annotated[float, Meta(ge=0, le=1, description="Probability of a mirror image.")] = 0.5

msgspec checks values against that type. Error messages and docs/reference/settings.md are made
from the same field.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, inspect

from edgekd.core.errors import RecipeError

# What a TOML file can hold.
type Toml = (
    bool | int | float | str | dt.date | dt.time | list[Toml] | tuple[Toml, ...] | dict[str, Toml]
)

LONGEST = 200  # characters of a wrong value in a message

# The types that several settings share. Upper bounds without a reason of their own catch slips of
# the keyboard.
Share = Annotated[float, Meta(ge=0, le=1)]
Weight = Annotated[float, Meta(ge=0, le=1_000_000)]
Epochs = Annotated[int, Meta(ge=1, le=10_000)]
Batch = Annotated[int, Meta(ge=1, le=65_536)]
LearningRate = Annotated[float, Meta(ge=0, le=1000)]
WeightDecay = Annotated[float, Meta(ge=0, le=10)]
Temperature = Annotated[float, Meta(ge=0.1, le=100)]
Optimiser = Literal["sgd", "adamw"]
OPTIMISER = "SGD with Nesterov momentum, or AdamW."
Seed = Annotated[int, Meta(ge=0, le=2**32 - 1)]


@dataclasses.dataclass(frozen=True)
class Setting:
    """One setting. `key`: its full name, such as "data.input_px". `hint`: its annotated type."""

    key: str
    hint: object
    default: object

    def check(self, value: Toml) -> Any:
        """The value as the setting's type: a whole number becomes a float, a list becomes a tuple.

        Raises msgspec.ValidationError for a value of another type or out of bounds. NaN and
        infinity are out of bounds.
        """
        if self.choices and type(value) is int and 0 <= value <= 9:
            value = str(value)  # `channels = 3` means the choice "3"
        try:
            return msgspec.convert(value, self.hint)
        # A number beyond float64, and a text that is not UTF-8 where a number is expected.
        except (OverflowError, UnicodeEncodeError) as error:
            raise msgspec.ValidationError(str(error)) from None

    def accepts(self, value: Toml) -> bool:
        """Whether `check` accepts a value."""
        try:
            self.check(value)
        except msgspec.ValidationError:
            return False
        return True

    @property
    def description(self) -> str:
        """What the setting does, in one line; "" when its type does not say."""
        return str(self._told().get("description", ""))

    def _told(self) -> dict[str, Any]:
        """What the setting's type says for readers: its description, and examples of values."""
        info = inspect.type_info(self.hint)
        schema = info.extra_json_schema if isinstance(info, inspect.Metadata) else None
        return schema or {}

    @property
    def choices(self) -> tuple[str, ...]:
        """The values to choose from, for a setting that has a fixed list of them; else empty."""
        bare = get_args(self.hint)[0] if get_origin(self.hint) is Annotated else self.hint
        return get_args(bare) if get_origin(bare) is Literal else ()

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The lowest and the highest value of a numeric setting; None for other types.

        An end without a bound is infinite.
        """
        kind = _bare(inspect.type_info(self.hint))
        if not isinstance(kind, inspect.IntType | inspect.FloatType):
            return None
        low = kind.ge if kind.ge is not None else float("-inf")
        high = kind.le if kind.le is not None else float("inf")
        return low, high

    @property
    def example(self) -> object:
        """A value that the setting takes, for messages: its default, or the first of a list."""
        if self.default == "" and (examples := self._told().get("examples")):
            return examples[0]
        if isinstance(self.default, tuple) and self.default:
            return "'[" + ", ".join(f'"{value}"' for value in self.default) + "]'"
        if self.default != ():
            return self.default
        kind = _bare(inspect.type_info(self.hint))
        item = _bare(kind.item_type) if isinstance(kind, inspect.VarTupleType) else None
        if isinstance(item, inspect.EnumType):
            return f"""'["{next(iter(item.cls)).value}"]'"""
        if isinstance(item, inspect.IntType):
            return f"'[{item.ge}, {item.ge}]'"
        return """'["A", "B"]'"""

    @property
    def expected(self) -> str:
        """What a value must be, in words: "a whole number from 32 to 1024"."""
        if self.choices:
            return " or ".join(f'"{choice}"' for choice in self.choices)
        if examples := self._told().get("examples"):
            return " or ".join(f'"{example}"' for example in examples)
        return words(inspect.type_info(self.hint))


def settings_of(table: type, within: str = "") -> dict[str, Setting]:
    """The settings that a dataclass declares, by name. `within` is put before each key."""
    hints = get_type_hints(table, include_extras=True)
    return {
        field.name: Setting(f"{within}{field.name}", hints[field.name], _default(field))
        for field in dataclasses.fields(table)
    }


def _default(field: dataclasses.Field[Any]) -> object:
    made = field.default_factory
    return field.default if made is dataclasses.MISSING else made()


def _bare(kind: inspect.Type) -> inspect.Type:
    return kind.type if isinstance(kind, inspect.Metadata) else kind


def number(value: float) -> str:
    """A bound as text: 0.01, 65,536, 1e+15."""
    return f"{value:g}" if abs(value) >= 1e12 else f"{value:,.12g}"


def spoken(value: object) -> str:
    """A wrong value as it stands in a message: its spelling in Python, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python prints no whole number of more than 4,300 digits
        return "a number with thousands of digits"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def words(kind: inspect.Type) -> str:
    """What a value of a type must be, in words that fit behind "expected"."""
    kind = _bare(kind)
    match kind:
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType() | inspect.FloatType():
            name = "a whole number" if isinstance(kind, inspect.IntType) else "a number"
            if kind.ge is not None and kind.le is not None:
                return f"{name} from {number(kind.ge)} to {number(kind.le)}"
            return name if kind.ge is None else f"{name} of at least {number(kind.ge)}"
        case inspect.StrType():
            return "a text" if kind.min_length is None else "a text that is not empty"
        case inspect.EnumType():
            return " or ".join(f'"{value.value}"' for value in kind.cls)
        case inspect.LiteralType():
            return " or ".join(f'"{value}"' for value in kind.values)
        case inspect.VarTupleType() | inspect.ListType():
            item = _bare(kind.item_type)
            told = "texts" if isinstance(item, inspect.StrType) else words(item)
            told = told.replace("a whole number", "whole numbers").replace("a number", "numbers")
            return f"a list of {told}"
        case inspect.UnionType():
            kinds = [_bare(part) for part in kind.types]
            if {type(part) for part in kinds} == {inspect.IntType, inspect.FloatType}:
                kinds = [part for part in kinds if isinstance(part, inspect.FloatType)]
            return ", or ".join(words(part) for part in kinds)
        case inspect.DictType():
            if isinstance(kind.value_type, inspect.AnyType):
                return "a table"
            return f"a table whose values are each {words(kind.value_type)}"
        case inspect.DataclassType() | inspect.StructType():
            return f"a table of any of {', '.join(field.encode_name for field in kind.fields)}"
    return "a value of another type"


def check_text(key: str, value: Any, where: str) -> None:
    """Raise RecipeError for a text that recipe.toml and report.json could not hold."""
    for text in value if isinstance(value, tuple) else (value,):
        if isinstance(text, str):
            if "\0" in text:
                raise RecipeError(
                    f"{where}: {key} is {spoken(text)}, which holds a NUL character",
                    "remove it: no name of a file has one",
                )
            try:
                text.encode()
            except UnicodeEncodeError:
                raise RecipeError(
                    f"{where}: {key} is {spoken(text)}, which is not UTF-8",
                    "rename the file or the folder: recipe.toml and report.json are UTF-8",
                ) from None
