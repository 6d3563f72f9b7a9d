"""The licence chain: what a model was made from and with, under which terms, and what follows for the whole.

A link is data, a network's definition, weights, code, or a package. Non-commercial terms on any link that is part of the
model taint the bundle and are named; unknown terms are named too. This reads texts: it is no legal advice.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edgekd.core.artifacts import Json
from edgekd.core.errors import RecipeError, UnknownName
from edgekd.settings.model_specs import ModelSpec
from edgekd.settings.recipe import CardConfig

SCHEMA = "edgekd.licences/1"
NON_COMMERCIAL = re.compile(
    r"\bNC\b|(?<![a-z])non[- ]?commercial|research[- ](purposes[- ])?only|academic[- ]use[- ]only|\bCC[- ]BY[- ]NC|"
    r"not for commercial",
    re.IGNORECASE,
)
UNKNOWN = re.compile(r"^\s*$|not stated|unknown|^other$|check before", re.IGNORECASE)
OUTPUT_TERMS = (
    "",
    "no-training",
)  # a model file's `output_terms`: what may be done with what the model says
# Packages whose code takes part in making or running the file; what each is for stands in the README.
PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "safetensors",
    "onnx",
    "onnxruntime",
    "flatbuffers",
    "ai-edge-litert",
    "numpy",
    "pillow",
)
OWN_LICENCE = "Apache-2.0"  # EdgeKD's: samples and templates in a bundle carry it


def non_commercial(licence: str) -> bool:
    """Whether a licence's text forbids commercial use."""
    return bool(NON_COMMERCIAL.search(licence))


def unknown(licence: str) -> bool:
    """Whether a text says nothing that could be relied on."""
    return bool(UNKNOWN.search(licence))


def check_teacher(spec: ModelSpec, what: str = "teacher") -> None:
    """Raise RecipeError when the terms of a teacher forbid to train another network on what it says.

    Raises UnknownName for an `output_terms` in its file that is not known.
    """
    if spec.output_terms not in OUTPUT_TERMS:
        raise UnknownName(
            "output_terms",
            spec.output_terms,
            OUTPUT_TERMS,
            f'in models/{spec.name}.toml: "no-training", or leave the key out',
        )
    if spec.output_terms == "no-training":
        raise RecipeError(
            f"{what} {spec.name}: its terms forbid training another model on its outputs "
            f"({spec.licence or 'licence not stated'}; models/{spec.name}.toml says output_terms)",
            "take another teacher, or --teacher none to train on the labels alone",
        )


def link(role: str, name: str, licence: str, source: str, part: str = "model") -> dict[str, Json]:
    """One link. `part`: "model" when it goes into the weights, "tool" when it only made or runs them."""
    licence = licence.strip() or "not stated"
    return {
        "role": role,
        "name": name,
        "licence": licence,
        "source": source,
        "part": part,
        "non_commercial": non_commercial(licence),
        "unknown": unknown(licence),
    }


# Phrases by which a licence text is told where a package's metadata name none, most particular first.
TEXTS = (
    ("Apache License", "Apache-2.0"),
    ("Neither the name of", "BSD-3-Clause"),
    ("Redistribution and use in source and binary forms", "BSD-2-Clause"),
    ("Permission is hereby granted, free", "MIT"),
)


def package_links(names: Iterable[str] = PACKAGES) -> list[dict[str, Json]]:
    """Links of the installed packages among `names`, by their own metadata."""
    links = []
    for name in names:
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        links.append(
            {
                **link("package", name, package_licence(found), "PyPI", "tool"),
                "version": found.version,
            }
        )
    return links


def package_licence(found: importlib.metadata.Distribution) -> str:
    """A package's licence in one line: its SPDX expression, its trove classifiers, its licence field, or its licence file."""
    stated = found.metadata
    if stated.get("License-Expression"):
        return str(stated["License-Expression"])
    troves = [
        line.split(" :: ")[-1]
        for line in stated.get_all("Classifier") or []
        if line.startswith("License ::") and not line.endswith("OSI Approved")
    ]
    if troves:
        return ", ".join(troves)
    if stated.get("License"):
        return str(stated["License"]).strip().split("\n")[0][:80]
    for file in found.files or []:
        path = Path(str(file.locate()))
        if path.name.upper().startswith(("LICENSE", "LICENCE", "COPYING")) and path.is_file():
            text = " ".join(path.read_text(encoding="utf-8", errors="replace").split())
            return next((name for phrase, name in TEXTS if phrase in text), "see its licence file")
    return ""


def chain(
    data: Mapping[str, Any], networks: Mapping[str, tuple[ModelSpec, str]], card: CardConfig
) -> dict[str, Json]:
    """The licence chain of a build. `data`: {"name", "licence", "source"}; `networks`: {role: (spec, where its weights came
    from)}.
    """
    stated = str(data["licence"])
    links = [
        link(
            "data",
            str(data["name"]),
            card.data_licence if card.data_licence else stated,
            str(data["source"]),
        )
    ]
    for role, (spec, origin) in networks.items():
        given = card.teacher_licence if role == "teacher" and card.teacher_licence else spec.licence
        links.append(
            link(
                f"{role} network and weights",
                spec.name,
                given,
                f"{spec.source or 'timm'}; weights: {origin}",
            )
        )
    links.append(
        link("code", "edgekd", OWN_LICENCE, "this build's tool, samples and templates", "tool")
    )
    links += package_links()
    tainted = [row for row in links if row["non_commercial"] and row["part"] == "model"]
    open_ends = [row for row in links if row["unknown"] and row["part"] == "model"]
    return {
        "schema": SCHEMA,
        "links": links,
        "tainted_by": [f"{row['role']} {row['name']}: {row['licence']}" for row in tainted],
        "unknown": [f"{row['role']} {row['name']}: {row['licence']}" for row in open_ends],
        "result": result(card, bool(tainted), bool(open_ends)),
        "note": "read from what the parts say of themselves; not legal advice",
    }


def result(card: CardConfig, tainted: bool, open_ends: bool) -> str:
    """The bundle's own licence, in words that fit a metadata field."""
    if tainted:
        return "non-commercial use only: see licences.json"
    if card.licence:
        return card.licence
    return "not determined: see licences.json" if open_ends else OWN_LICENCE


def gates(body: Mapping[str, Any], card: CardConfig) -> list[str]:
    """What the chain fails for the declared use, one sentence each."""
    if card.use != "commercial":
        return []
    return [
        f"licence: card.use is commercial, but {row} is non-commercial; replace it, or set card.use=non-commercial"
        for row in body["tainted_by"]
    ] + [
        f"licence: card.use is commercial, but the terms of {row} are not known; state them with card.data_licence or "
        "card.teacher_licence"
        for row in body["unknown"]
    ]
