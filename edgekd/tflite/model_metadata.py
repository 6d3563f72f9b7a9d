"""TFLite Metadata: what a model says of itself to apps, written into the .tflite and read back. flatbuffers only.

The format is TFLite's metadata_schema.fbs (root ModelMetadata, file identifier M001) in a buffer that Model.metadata
names TFLITE_METADATA; the files it speaks of (labels, score calibration) are appended to the .tflite as an uncompressed
zip. TFLite's interpreter reads neither. `attach` and `detach` undo each other byte for byte, so that a certificate for
the bare file can be checked on the file that carries metadata.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

from edgekd.core.errors import ModelFileError
from edgekd.tflite.flatbuffer import LiteGraph, read, schema, write

ENTRY = "TFLITE_METADATA"  # the name consumers look for in Model.metadata; the first one wins
IDENTIFIER = b"M001"
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # zip's first moment: equal files give equal bytes
PARSER = (
    "1.2.1"  # min_parser_version: the schema version that every field used here has been in since
)
MAX_FILE_BYTES = 1 << 20  # of one associated file; labels of 21,000 classes take 400 kB
MAX_FILES = 32

# metadata_schema.fbs as data: each table's fields in order. A union takes two slots; names of other tables are tables.
Field = tuple[str, str]
TABLES: dict[str, tuple[Field, ...]] = {
    "ModelMetadata": (
        ("name", "text"),
        ("description", "text"),
        ("version", "text"),
        ("subgraph_metadata", "[SubGraphMetadata]"),
        ("author", "text"),
        ("license", "text"),
        ("associated_files", "[AssociatedFile]"),
        ("min_parser_version", "text"),
    ),
    "SubGraphMetadata": (
        ("name", "text"),
        ("description", "text"),
        ("input_tensor_metadata", "[TensorMetadata]"),
        ("output_tensor_metadata", "[TensorMetadata]"),
        ("associated_files", "[AssociatedFile]"),
    ),
    "TensorMetadata": (
        ("name", "text"),
        ("description", "text"),
        ("dimension_names", "[text]"),
        ("content", "Content"),
        ("process_units", "[ProcessUnit]"),
        ("stats", "Stats"),
        ("associated_files", "[AssociatedFile]"),
    ),
    "AssociatedFile": (
        ("name", "text"),
        ("description", "text"),
        ("type", "int8"),
        ("locale", "text"),
        ("version", "text"),
    ),
    "Content": (("content_properties", "FeatureProperties|ImageProperties"),),
    "FeatureProperties": (),
    "ImageProperties": (("color_space", "int8"), ("default_size", "ImageSize")),
    "ImageSize": (("width", "uint32"), ("height", "uint32")),
    "ProcessUnit": (
        ("options", "NormalizationOptions|ScoreCalibrationOptions|ScoreThresholdingOptions"),
    ),
    "NormalizationOptions": (("mean", "[float32]"), ("std", "[float32]")),
    "ScoreCalibrationOptions": (("score_transformation", "int8"), ("default_score", "float32")),
    "ScoreThresholdingOptions": (("global_score_threshold", "float32"),),
    "Stats": (("max", "[float32]"), ("min", "[float32]")),
}
# enum AssociatedFileType and ColorSpaceType
DESCRIPTIONS, AXIS_LABELS, AXIS_SCORE_CALIBRATION = 1, 2, 4
RGB, GRAYSCALE = 1, 2
Table = dict[str, Any]


# Writing ------------------------------------------------------------------------------------------------------------


def pack(metadata: Mapping[str, Any]) -> bytes:
    """A ModelMetadata as flatbuffer bytes. `metadata`: nested dicts as `TABLES` names the fields; a union's value is
    {"TableName": {...}}. Equal input gives equal bytes. Raises KeyError for a field the schema does not have.
    """
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(_table(builder, "ModelMetadata", metadata), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def _slots(name: str) -> dict[str, tuple[int, str]]:
    """{field: (slot of its value, kind)}: a union's type lies in the slot before its value."""
    slots, place = {}, 0
    for field, kind in TABLES[name]:
        place += "|" in kind
        slots[field] = (place, kind)
        place += 1
    return slots


def _table(builder: Any, name: str, values: Mapping[str, Any]) -> int:
    slots = _slots(name)
    for field in values:
        if field not in slots:
            raise KeyError(f"{name} has no field {field!r}")
    ready = {
        field: _value(builder, kind, values[field])
        for field, (_, kind) in slots.items()
        if values.get(field) is not None and kind not in _SCALARS
    }
    builder.StartObject(max((slot for slot, _ in slots.values()), default=-1) + 1)
    for field, (slot, kind) in slots.items():
        if values.get(field) is None:
            continue
        if kind in _SCALARS:
            getattr(builder, f"Prepend{_SCALARS[kind]}Slot")(slot, values[field], 0)
            continue
        if "|" in kind:
            builder.PrependUint8Slot(
                slot - 1, 1 + kind.split("|").index(next(iter(values[field]))), 0
            )
        builder.PrependUOffsetTRelativeSlot(slot, ready[field], 0)
    return int(builder.EndObject())


_SCALARS = {"int8": "Int8", "uint32": "Uint32", "float32": "Float32"}


def _value(builder: Any, kind: str, value: Any) -> int:
    if kind == "text":
        return int(builder.CreateString(value))
    if kind == "[float32]":
        builder.StartVector(4, len(value), 4)
        for number in reversed(value):
            builder.PrependFloat32(number)
        return int(builder.EndVector())
    if kind.startswith("["):
        offsets = [_value(builder, kind[1:-1], item) for item in value]
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return int(builder.EndVector())
    if "|" in kind:
        ((name, fields),) = value.items()
        return _table(builder, name, fields)
    return _table(builder, kind, value)


# Reading ------------------------------------------------------------------------------------------------------------


def unpack(data: bytes) -> Table:
    """The inverse of `pack`; fields that are absent are left out. Raises ModelFileError for bytes that are damaged."""
    import flatbuffers
    from flatbuffers.table import Table as Raw

    try:
        if len(data) < 8 or data[4:8] != IDENTIFIER:
            raise ValueError(f"bytes 4..8 are {data[4:8]!r} instead of {IDENTIFIER!r}")
        root = flatbuffers.encode.Get(flatbuffers.number_types.UOffsetTFlags.packer_type, data, 0)
        return _read_table(Raw(data, root), "ModelMetadata")
    except (
        Exception
    ) as error:  # struct, index, type and unicode errors: whatever a broken offset led to
        raise ModelFileError(
            f"the TFLite Metadata of this file is damaged ({type(error).__name__}: {error})",
            "copy the file again, or build it again",
        ) from None


def _read_table(raw: Any, name: str) -> Table:
    found: Table = {}
    for field, (slot, kind) in _slots(name).items():
        offset = raw.Offset(4 + 2 * slot)
        if offset:
            tag = raw.Offset(4 + 2 * (slot - 1)) if "|" in kind else 0
            found[field] = _read_value(raw, offset, kind, tag)
    return found


def _read_value(raw: Any, offset: int, kind: str, tag: int) -> Any:
    from flatbuffers import number_types

    flags = {
        "int8": number_types.Int8Flags,
        "uint32": number_types.Uint32Flags,
        "float32": number_types.Float32Flags,
    }
    if kind in flags:
        return raw.Get(flags[kind], offset + raw.Pos)
    if kind == "text":
        return raw.String(offset + raw.Pos).decode()
    if kind.startswith("["):
        start, count = raw.Vector(offset), raw.VectorLen(offset)
        if start + 4 * count > len(raw.Bytes):
            raise ValueError(f"a vector of {count} items lies outside")
        places = [start + 4 * number for number in range(count)]
        if kind == "[float32]":
            return [raw.Get(number_types.Float32Flags, place) for place in places]
        if kind == "[text]":
            return [raw.String(place).decode() for place in places]
        return [_read_table(_at(raw, raw.Indirect(place)), kind[1:-1]) for place in places]
    if "|" in kind:
        names = kind.split("|")
        number = raw.Get(number_types.Uint8Flags, tag + raw.Pos) if tag else 0
        if not 1 <= number <= len(names):
            return {}
        return {
            names[number - 1]: _read_table(
                _at(raw, raw.Indirect(offset + raw.Pos)), names[number - 1]
            )
        }
    return _read_table(_at(raw, raw.Indirect(offset + raw.Pos)), kind)


def _at(raw: Any, position: int) -> Any:
    if not 0 <= position < len(raw.Bytes):
        raise ValueError(f"a table lies at {position}")
    return type(raw)(raw.Bytes, position)


# In and out of the .tflite ------------------------------------------------------------------------------------------


def attach(
    model: bytes | memoryview, metadata: Mapping[str, Any], files: Mapping[str, bytes]
) -> bytes:
    """The .tflite with `metadata` in it and `files` behind it; metadata that it carried before are replaced.

    `files` {name: bytes} are what the metadata's associated_files name. Equal input gives equal bytes.
    """
    graph = read(detach(model))
    parts = schema()
    entry, buffer = parts.MetadataT(), parts.BufferT()
    entry.name, entry.buffer = ENTRY, len(graph.model.buffers)
    buffer.data = pack({"min_parser_version": PARSER, **metadata})
    graph.model.buffers.append(buffer)
    graph.model.metadata = [*(graph.model.metadata or []), entry]
    whole = io.BytesIO(write(graph.model))
    with zipfile.ZipFile(whole, "a", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, ZIP_EPOCH), data)
    return whole.getvalue()


def detach(model: bytes | memoryview) -> bytes:
    """The bare .tflite: what `attach` was given, byte for byte. A file without metadata is handed back as it is.

    Raises ModelFileError for a file that cannot be read.
    """
    model = bytes(model)
    bare = model[: _flatbuffer_length(model)]
    graph = read(bare)
    own = [entry for entry in graph.model.metadata or [] if _name(entry) == ENTRY]
    if not own:
        return bare
    graph.model.metadata = [entry for entry in graph.model.metadata if _name(entry) != ENTRY]
    for entry in sorted(own, key=lambda entry: -entry.buffer):
        if entry.buffer == len(graph.model.buffers) - 1:
            graph.model.buffers.pop()
        else:
            graph.model.buffers[entry.buffer].data = None  # other buffers keep their numbers
    return write(graph.model)


def metadata_of(model: bytes | memoryview) -> Table | None:
    """The ModelMetadata of a .tflite as nested dicts, or None when it has none. Raises ModelFileError when damaged."""
    graph: LiteGraph = read(model)
    for entry in graph.model.metadata or []:
        if _name(entry) == ENTRY:
            if (
                not 0 <= entry.buffer < len(graph.model.buffers)
                or graph.model.buffers[entry.buffer].data is None
            ):
                raise ModelFileError(
                    "the TFLite Metadata of this file name a buffer that is not there",
                    "build it again",
                )
            return unpack(bytes(bytearray(graph.model.buffers[entry.buffer].data)))
    return None


def files_of(model: bytes | memoryview) -> dict[str, bytes]:
    """The associated files behind a .tflite: {name: bytes}, {} when there are none. Raises ModelFileError when damaged."""
    try:
        with zipfile.ZipFile(io.BytesIO(bytes(model))) as archive:
            entries = archive.infolist()
            if len(entries) > MAX_FILES or any(
                entry.file_size > MAX_FILE_BYTES for entry in entries
            ):
                raise ModelFileError(
                    f"the files behind this .tflite are more than {MAX_FILES} or larger than "
                    f"{MAX_FILE_BYTES} bytes",
                    "take a file written by `edgekd build`",
                )
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise ModelFileError(
                    "a file behind this .tflite is compressed; TFLite Metadata want it as it is",
                    "take a file written by `edgekd build`",
                )
            return {entry.filename: archive.read(entry) for entry in entries}
    except zipfile.BadZipFile as error:
        if _looks_zipped(bytes(model)):
            raise ModelFileError(
                f"the files behind this .tflite are damaged: {error}", "copy it again"
            ) from None
        return {}


def _looks_zipped(model: bytes) -> bool:
    return model.rfind(b"PK\x05\x06", -(1 << 16)) >= 0


def _flatbuffer_length(model: bytes) -> int:
    """Where the appended zip starts; the whole length when there is none."""
    try:
        with zipfile.ZipFile(io.BytesIO(model)) as archive:
            return min((entry.header_offset for entry in archive.infolist()), default=len(model))
    except zipfile.BadZipFile:
        return len(model)


def _name(entry: Any) -> str:
    return entry.name.decode() if isinstance(entry.name, bytes) else str(entry.name or "")
