"""The bundle's bill of materials in CycloneDX 1.6 JSON: model, data, files and the packages that made them.

Deterministic: no time stamp, and a serial number that is a hash of the contents.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping

import edgekd
from edgekd.bundle.licences_record import LicenceChain, LicenceLink
from edgekd.core.artifacts import Json, canonical_json, sha256
from edgekd.core.records import UnsetType


def bill(
    name: str, version: str, files: Mapping[str, bytes], licences: LicenceChain, classes: int
) -> dict[str, Json]:
    """A CycloneDX document. `files`: the bundle's own {path: bytes}; `licences`: the body of licences.json."""
    model = {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": name,
        "version": version,
        "hashes": [{"alg": "SHA-256", "content": sha256(files["model.tflite"])}],
        "licenses": [_licence(licences.result)],
        "modelCard": {
            "modelParameters": {
                "task": "image classification",
                "outputs": [{"format": f"{classes} class scores"}],
            }
        },
    }
    components: list[dict[str, Json]] = [
        _component(row, number) for number, row in enumerate(licences.links)
    ]
    components += [
        {
            "type": "file",
            "bom-ref": f"file:{path}",
            "name": path,
            "hashes": [{"alg": "SHA-256", "content": sha256(data)}],
        }
        for path, data in sorted(files.items())
    ]
    body: dict[str, Json] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": model,
            "tools": {
                "components": [
                    {"type": "application", "name": "edgekd", "version": edgekd.__version__}
                ]
            },
        },
        "components": components,
        "dependencies": [
            {
                "ref": "model",
                "dependsOn": sorted(
                    str(row["bom-ref"]) for row in components if row["type"] != "file"
                ),
            }
        ],
    }
    serial = uuid.UUID(sha256(canonical_json(body))[:32], version=5)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        **body,
        "serialNumber": f"urn:uuid:{serial}",
    }


def _licence(text: str) -> dict[str, Json]:
    """CycloneDX wants an SPDX id as "id" and anything else as "name"."""
    one = text.split(" (")[0]
    return {"license": {"id": one} if one in KNOWN_IDS else {"name": text}}


# SPDX ids that occur here: a wrong "id" makes a document invalid, a "name" never does.
KNOWN_IDS = frozenset(
    {
        "Apache-2.0",
        "MIT",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "MIT-CMU",
        "HPND",
        "CC-BY-4.0",
        "CC0-1.0",
        "CC-BY-NC-SA-4.0",
        "CC-BY-NC-4.0",
        "PSF-2.0",
    }
)


def _component(row: LicenceLink, number: int) -> dict[str, Json]:
    if row.role == "data":
        kind = "data"
    elif "network" in row.role:
        kind = "machine-learning-model"
    else:
        kind = "library"
    found: dict[str, Json] = {
        "type": kind,
        "bom-ref": f"{number}:{row.name}",
        "name": row.name,
        "description": f"{row.role}; {row.source}",
        "licenses": [_licence(row.licence)],
    }
    if not isinstance(row.version, UnsetType):
        found |= {"version": row.version, "purl": f"pkg:pypi/{row.name}@{row.version}"}
    return found
