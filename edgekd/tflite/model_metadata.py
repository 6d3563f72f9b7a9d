"""TFLite Metadata: what a model says about itself to apps, written into the .tflite and read back.

The metadata (`edgekd.tflite.metadata_codec`) are in a buffer that Model.metadata calls
TFLITE_METADATA. The files that they name (labels, score calibration) are appended to the .tflite as
an uncompressed zip. TFLite's interpreter reads neither. `attach` and `detach` undo each other byte
for byte, so that a certificate for the bare file can be checked on the file that carries metadata.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

from edgekd.core.errors import ModelFileError
from edgekd.tflite.flatbuffer import read, schema, write
from edgekd.tflite.metadata_codec import Table, pack, unpack
from edgekd.tflite.metadata_schema.AssociatedFileType import AssociatedFileType
from edgekd.tflite.metadata_schema.ColorSpaceType import ColorSpaceType

# The name that apps look for in Model.metadata; the first one counts.
ENTRY = "TFLITE_METADATA"
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # zip's first moment: equal files give equal bytes
# min_parser_version: the first version of the schema that has every field used here.
PARSER = "1.2.1"
MAX_FILE_BYTES = 1 << 20  # of one associated file; labels of 21,000 classes take 400 kB
MAX_FILES = 32

# The kinds of associated files and of colours that EdgeKD writes, by the schema's numbers.
DESCRIPTIONS = AssociatedFileType.DESCRIPTIONS
AXIS_LABELS = AssociatedFileType.TENSOR_AXIS_LABELS
AXIS_SCORE_CALIBRATION = AssociatedFileType.TENSOR_AXIS_SCORE_CALIBRATION
RGB, GRAYSCALE = ColorSpaceType.RGB, ColorSpaceType.GRAYSCALE


def attach(
    model: bytes | memoryview, metadata: Mapping[str, object], files: Mapping[str, bytes]
) -> bytes:
    """The .tflite with `metadata` in it and `files` behind it. Metadata that it had before are
    replaced.

    `files`: {name: bytes}, those that the associated_files of the metadata name. Equal input gives
    equal bytes.
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
    """The bare .tflite: the bytes that `attach` was given. A file without metadata is returned as
    it is.

    Raises ModelFileError for a file that cannot be read.
    """
    model = bytes(model)
    bare = model[: _flatbuffer_length(model)]
    graph = read(bare)
    own = [entry for entry in graph.written.metadata or [] if _name(entry) == ENTRY]
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
    """The ModelMetadata of a .tflite, None without one. Raises ModelFileError when damaged."""
    written = read(model).written
    for entry in written.metadata or []:
        if _name(entry) == ENTRY:
            if (
                not 0 <= entry.buffer < len(written.buffers)
                or written.buffers[entry.buffer].data is None
            ):
                raise ModelFileError(
                    "the TFLite Metadata of this file name a buffer that does not exist",
                    "build it again",
                )
            return unpack(bytes(bytearray(written.buffers[entry.buffer].data)))
    return None


def files_of(model: bytes | memoryview) -> dict[str, bytes]:
    """The files behind a .tflite as {name: bytes}. Raises ModelFileError when they are damaged."""
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
                    "a file behind this .tflite is compressed, which TFLite Metadata do not allow",
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
