"""The bundle's bill of materials in CycloneDX 1.6 JSON: the model, the data, the files, and the
packages that made them.

It has no time stamp, and its serial number is a hash of the contents: equal bundles have equal
bills.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping

import edgekd
from edgekd.bundle.licence_texts import spdx_expression
from edgekd.bundle.licences_record import LicenceChain, LicenceLink
from edgekd.core.artifacts import Json, canonical_json, sha256
from edgekd.core.records import UnsetType, present

SCHEMA_URL = "http://cyclonedx.org/schema/bom-1.6.schema.json"

# The document has the form that CycloneDX's JSON Schema defines; a test checks it against that
# schema.
Object = dict[str, Json]


def bill(
    name: str, version: str, files: Mapping[str, bytes], licences: LicenceChain, classes: int
) -> Object:
    """A CycloneDX document. `files`: the bundle's own {path: bytes}; `classes`: of the model's
    output.
    """
    components = [_component(row, number) for number, row in enumerate(licences.links)]
    made_of = sorted(str(row["bom-ref"]) for row in components)
    tool = {"type": "application", "name": "edgekd", "version": edgekd.__version__}
    body: Object = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": _model(name, version, files["model.tflite"], licences, classes),
            "tools": {"components": [tool]},
        },
        "components": [*components, *(_file(path, files[path]) for path in sorted(files))],
        "dependencies": [{"ref": "model", "dependsOn": made_of}],
    }
    serial = uuid.UUID(sha256(canonical_json(body))[:32], version=5)
    return {"$schema": SCHEMA_URL, **body, "serialNumber": f"urn:uuid:{serial}"}


def _model(name: str, version: str, model: bytes, licences: LicenceChain, classes: int) -> Object:
    """The component that the bill is about."""
    return {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": name,
        "version": version,
        "hashes": [{"alg": "SHA-256", "content": sha256(model)}],
        "licenses": [_licence(licences.result)],
        "modelCard": {
            "modelParameters": {
                "task": "image classification",
                "outputs": [{"format": f"{classes} class scores"}],
            }
        },
    }


def _component(row: LicenceLink, number: int) -> Object:
    """A part of the model, or a package that made it."""
    if row.part == "model" and row.role.endswith("data"):
        kind = "data"
    elif row.part == "model":
        kind = "machine-learning-model"
    else:
        kind = "library"
    found: Object = {
        "type": kind,
        "bom-ref": f"{number}:{row.name}",
        "name": row.name,
        "description": "; ".join(filter(None, [row.role, row.source, present(row.terms)])),
        "licenses": [_licence(row.licence)],
    }
    if not isinstance(row.version, UnsetType):
        found |= {"version": row.version, "purl": f"pkg:pypi/{row.name}@{row.version}"}
    return found


def _file(path: str, data: bytes) -> Object:
    """A file of the bundle."""
    return {
        "type": "file",
        "bom-ref": f"file:{path}",
        "name": path,
        "hashes": [{"alg": "SHA-256", "content": sha256(data)}],
    }


def _licence(text: str) -> Object:
    """A licence as CycloneDX writes it: an SPDX id, an SPDX expression, or any other text as a
    name.
    """
    spdx = spdx_expression(text)
    if spdx is None:
        return {"license": {"name": text}}
    return {"expression": spdx} if " " in spdx else {"license": {"id": spdx}}
