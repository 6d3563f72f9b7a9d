"""Records read from JSON: what is wrong is named, whatever a text holds."""

from __future__ import annotations

import enum

import pytest

from edgekd.core.errors import ModelFileError
from edgekd.core.records import Record, from_json


class Colour(enum.StrEnum):
    RED = "red"


class Painted(Record, frozen=True):
    colour: Colour


def test_an_unknown_value_of_an_enum_is_named() -> None:
    with pytest.raises(ModelFileError, match=r"file: colour: .*'blue'"):
        from_json(Painted, {"colour": "blue"}, "file")


def test_a_lone_surrogate_in_place_of_an_enum_is_a_fault_of_the_file() -> None:
    """A file name that is not UTF-8 has one, and msgspec cannot look it up among the values."""
    with pytest.raises(ModelFileError, match=r"^file: "):
        from_json(Painted, {"colour": "\udce9"}, "file")
