"""TFLite's model metadata as nested dictionaries, to and from flatbuffer bytes.

The format itself is generated code (`edgekd.tflite.metadata_schema`). A dictionary has the schema's
field names as keys. The value of a union is a dictionary with one key, the name of its table:
{"content_properties": {"ImageProperties": {"color_space": 1}}}.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import Any

from edgekd.core.errors import ModelFileError

IDENTIFIER = b"M001"  # file_identifier of the schema, at bytes 4..8
PACKAGE = "edgekd.tflite.metadata_schema"
ROOT = "ModelMetadata"
# Field -> the table of its value, or of each item of its list.
CHILDREN = {
    "associated_files": "AssociatedFile",
    "content": "Content",
    "default_size": "ImageSize",
    "input_tensor_metadata": "TensorMetadata",
    "output_tensor_metadata": "TensorMetadata",
    "process_units": "ProcessUnit",
    "stats": "Stats",
    "subgraph_metadata": "SubGraphMetadata",
}
# Field -> its union.
UNIONS = {"content_properties": "ContentProperties", "options": "ProcessUnitOptions"}
# One table: its values are numbers, texts, tables, or lists of these. Which they are, the schema
# says.
type Table = dict[str, Any]


def pack(metadata: Mapping[str, object]) -> bytes:
    """A ModelMetadata as flatbuffer bytes. Equal input gives equal bytes.

    Raises KeyError for a field that the schema does not have.
    """
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    root = _object(ROOT, metadata).Pack(builder)
    builder.Finish(root, file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def unpack(data: bytes) -> Table:
    """The inverse of `pack`, without absent fields. Raises ModelFileError for damaged bytes."""
    try:
        if data[4:8] != IDENTIFIER:
            raise ValueError(f"bytes 4..8 are {data[4:8]!r} instead of {IDENTIFIER!r}")
        root = getattr(_module(ROOT), ROOT).GetRootAs(data, 0)
        return _table(getattr(_module(ROOT), f"{ROOT}T").InitFromObj(root))
    except Exception as error:  # a broken offset leads to struct, index, type and unicode errors
        raise ModelFileError(
            f"the TFLite Metadata of this file is damaged ({type(error).__name__}: {error})",
            "copy the file again, or build it again",
        ) from None


def _module(name: str) -> Any:
    """The generated module of a table or union."""
    return importlib.import_module(f"{PACKAGE}.{name}")


def _attribute(field: str) -> str:
    """The generated code's name of a field: "license", "subgraphMetadata"."""
    return re.sub(r"_(\w)", lambda match: match[1].upper(), field)


def _field(attribute: str) -> str:
    """The schema's name of a generated attribute: the inverse of `_attribute`."""
    return re.sub(r"[A-Z]", lambda match: f"_{match[0].lower()}", attribute)


def _object(name: str, values: Mapping[str, Any]) -> Any:
    """The generated object of a table."""
    made = getattr(_module(name), f"{name}T")()
    for field, value in values.items():
        if not hasattr(made, _attribute(field)):
            raise KeyError(f"{name} has no field {field!r}")
        if value is None:
            continue
        if field in UNIONS:
            ((member, fields),) = value.items()
            members = getattr(_module(UNIONS[field]), UNIONS[field])
            setattr(made, f"{_attribute(field)}Type", getattr(members, member))
            value = _object(member, fields)
        elif isinstance(value, Mapping):
            value = _object(CHILDREN[field], value)
        elif field in CHILDREN:
            value = [_object(CHILDREN[field], item) for item in value]
        setattr(made, _attribute(field), value)
    return made


def _table(made: Any) -> Table:
    """The dictionary of a generated object. A number that is 0 is the schema's default and so
    absent.
    """
    table: Table = {}
    for attribute, value in vars(made).items():
        field = _field(attribute)
        if value is None or (field.removesuffix("_type") in UNIONS and field not in UNIONS):
            continue
        if field in UNIONS:
            table[field] = {type(value).__name__.removesuffix("T"): _table(value)}
        elif isinstance(value, int | float):
            if value:
                table[field] = value
        else:
            table[field] = _value(value)
    return table


def _value(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if hasattr(value, "tolist"):
        return value.tolist()  # a vector of numbers comes as a NumPy array
    if isinstance(value, list):
        return [_value(item) for item in value]
    return value if isinstance(value, int | float | str) else _table(value)
