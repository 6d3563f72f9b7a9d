"""Records: JSON objects with types, for the JSON that EdgeKD writes and reads.

A record is a `msgspec.Struct`. Its fields are the fields of the JSON object, in this order. A field
that may be absent has the type `T | UnsetType` and the default `UNSET`. A field that is always
there, but whose value may be unknown, has the type `T | None`. JSON Schemas come from the same
classes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from edgekd.core.artifacts import Json
from edgekd.core.errors import ModelFileError, nearest

__all__ = ["UNSET", "Record", "UnsetType", "from_json", "json_schema", "present", "to_json"]


class Record(msgspec.Struct, frozen=True):
    """Base class of all records. Fields cannot be assigned after construction.

    Subclasses do not inherit `frozen` and `kw_only` for mypy: `class Row(Record, frozen=True,
    kw_only=True)`. With `kw_only` a field with a default may stand before one without.

    Unknown fields are ignored when a record is read, so that an older EdgeKD can read a newer file.
    In a settings file an unknown field is a mistake; declare its record with
    `forbid_unknown_fields=True`.
    """


def to_json(record: Record) -> Json:
    """The record as plain JSON values, without the fields that are UNSET. Tuples stay tuples."""
    return msgspec.to_builtins(record, str_keys=True)


def from_json[R: Record](cls: type[R], body: Json, where: str) -> R:
    """The record of class `cls` that a JSON value describes.

    `where` names the file or the key for messages. Raises ModelFileError that names the field and
    what was expected; for an unknown field it offers the nearest name.
    """
    try:
        return msgspec.convert(body, cls)
    # UnicodeEncodeError: a lone surrogate, from a file name that is not UTF-8, in place of an enum.
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        raise ModelFileError(
            f"{where}: {explain(str(error), field_names(cls))}",
            "write the file again with this version of edgekd",
        ) from None


def present[T](value: T | UnsetType) -> T | None:
    """The value of a field that may be absent; None when it is absent."""
    return None if isinstance(value, UnsetType) else value


def field_names(cls: type[Record]) -> list[str]:
    """The names of a record's fields in JSON."""
    return [field.encode_name for field in msgspec.structs.fields(cls)]


def explain(message: str, known: Iterable[str]) -> str:
    """Explain msgspec's message in plain words, such as "accuracy.n: expected int, found str".

    `known`: the names from which the nearest is offered for an unknown field.
    """
    text, _, place = message.partition(" - at `$")
    path = place.rstrip("`").lstrip(".")
    unknown = re.search(r"unknown field `(.+?)`", text)
    if unknown:
        near = nearest(unknown[1], list(known))
        hint = f"; did you mean {near!r}?" if near else ""
        text = f"unknown field {unknown[1]!r}{hint}"
    text = re.sub(r"^Expected `(.+?)`, got `(.+?)`$", r"expected \1, found \2", text)
    text = re.sub(r"^Object missing required field `(.+?)`$", r"the field '\1' is missing", text)
    return f"{path}: {text}" if path else text


def json_schema(cls: type[Record], title: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a record."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **msgspec.json.schema(cls),
    }
