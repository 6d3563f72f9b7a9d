"""docs/schemas: every published record has its JSON Schema, written from the record."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator

import jsonschema
import pytest

import edgekd
from edgekd.assessment.graph_check import check_graph
from edgekd.core.records import Record, field_names, to_json
from edgekd.settings.device_profiles import load_profile, profile_names
from tests.conftest import REPOSITORY
from tests.lite_graphs import separable
from tools import write_schemas

FOLDER = REPOSITORY / "docs" / "schemas"


def below(record: type[Record]) -> Iterator[type[Record]]:
    for child in record.__subclasses__():
        yield child
        yield from below(child)


def fields(schema: object) -> object:
    """A schema without its descriptions: a docstring may be reworded without a new file."""
    if isinstance(schema, dict):
        return {
            key: fields(value)
            for key, value in schema.items()
            if not (key == "description" and isinstance(value, str))
        }
    return [fields(item) for item in schema] if isinstance(schema, list) else schema


def test_the_files_have_the_fields_of_the_records() -> None:
    files = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    expected = write_schemas.texts()
    assert files.keys() == expected.keys(), "run tools/write_schemas.py"
    for name, text in expected.items():
        assert fields(json.loads(files[name])) == fields(json.loads(text)), (
            f"{name}: run tools/write_schemas.py"
        )


@pytest.mark.parametrize("name", write_schemas.SCHEMAS)
def test_each_file_is_a_schema_and_names_its_id(name: str) -> None:
    body = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(body)
    assert body["title"] == write_schemas.SCHEMAS[name][1]
    assert len(body["$defs"]) > 0


def test_every_record_with_a_schema_id_has_its_file() -> None:
    """A record that is written by itself has a field `schema`."""
    for module in pkgutil.walk_packages(edgekd.__path__, "edgekd."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    written = {record for record, _ in write_schemas.SCHEMAS.values()}
    missing = [
        record.__name__
        for record in below(Record)
        if "schema" in field_names(record)
        and record.__module__.startswith("edgekd.")
        and record not in written
        and record not in write_schemas.BASES
    ]
    assert missing == ["BenchRun"], "BenchRun reads a part of a bench JSON and is never written"


@pytest.mark.parametrize("profile", profile_names())
def test_checks_follow_their_schema(profile: str) -> None:
    schema = json.loads((FOLDER / "check.json").read_text(encoding="utf-8"))
    found = check_graph(separable(hard_swish=True).read(), load_profile(profile), "x")
    jsonschema.validate(to_json(found), schema)


def test_a_schema_refuses_what_is_wrong() -> None:
    schema = json.loads((FOLDER / "check.json").read_text(encoding="utf-8"))
    body = to_json(check_graph(separable().read(), load_profile("pi4"), "x"))
    del body["mapped"]["ops"]
    with pytest.raises(jsonschema.ValidationError, match="'ops' is a required property"):
        jsonschema.validate(body, schema)
