"""The JSON files of a bundle, read from {path: bytes}."""

from __future__ import annotations

import json
from collections.abc import Mapping

from edgekd.bundle import lineage_record
from edgekd.bundle.lineage_record import BundleLineage
from edgekd.core.artifacts import Json
from edgekd.core.errors import ModelFileError
from edgekd.core.records import Record, from_json

AGAIN = "build the bundle again, or download it again"


def read_json(files: Mapping[str, bytes], name: str) -> Json:
    """A JSON object. Raises ModelFileError when the file is missing or is no JSON object."""
    try:
        body = json.loads(files[name])
    except KeyError:
        raise ModelFileError(f"the bundle has no {name}", AGAIN) from None
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"the bundle's {name} is not JSON: {error}", AGAIN) from None
    if not isinstance(body, dict):
        raise ModelFileError(f"the bundle's {name} is not a JSON object", AGAIN)
    return body


def read_record[R: Record](files: Mapping[str, bytes], name: str, cls: type[R]) -> R:
    """A JSON file as its record. Raises ModelFileError that names the file and the field."""
    return from_json(cls, read_json(files, name), f"the bundle's {name}")


def read_lineage(files: Mapping[str, bytes]) -> BundleLineage:
    """lineage.json, also as version 0.1.0 wrote it. Raises ModelFileError when it is broken."""
    found = read_record(files, "lineage.json", BundleLineage)
    if found.schema not in lineage_record.CHAIN_SCHEMAS:
        raise ModelFileError(
            f"the bundle's lineage.json has the schema {found.schema!r}; expected "
            f"{' or '.join(lineage_record.CHAIN_SCHEMAS)}",
            "use the version of edgekd that built the bundle",
        )
    return found
