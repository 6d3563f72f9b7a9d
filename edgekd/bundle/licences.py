"""The licence chain: what a model was made from and with, under which terms, and what follows for
the bundle.

A link is the training data, a network with its weights, EdgeKD's own code, or a package. A link
whose terms are non-commercial taints the bundle when it is part of the model. The chain names such
links, and links whose terms are unknown. All of this is read from texts: it is not legal advice.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from edgekd.bundle.licences_record import LicenceChain, LicenceLink, Part
from edgekd.core.errors import GateFailed, RecipeError, UnknownName
from edgekd.core.records import UNSET, UnsetType
from edgekd.settings.model_specs import ModelSpec
from edgekd.settings.recipe import CardConfig

SCHEMA = "edgekd.licences/1"
NON_COMMERCIAL = re.compile(
    r"\bNC\b|(?<![a-z])non[- ]?commercial|research[- ](purposes[- ])?only|academic[- ]use[- ]only"
    r"|\bCC[- ]BY[- ]NC|not for commercial",
    re.IGNORECASE,
)
UNKNOWN = re.compile(r"^\s*$|not stated|unknown|^other$|check before", re.IGNORECASE)
# Values of `output_terms` in a model file: whether another network may be trained on this one's
# outputs.
OUTPUT_TERMS = ("", "no-training")
# Packages whose code takes part in making or running the .tflite. The README says what each one
# does.
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
OWN_LICENCE = "Apache-2.0"  # EdgeKD's own, which the samples and templates in a bundle carry
# Phrases that identify a licence by its text, most particular first, for packages whose metadata
# name none.
TEXTS = (
    ("Apache License", "Apache-2.0"),
    ("Neither the name of", "BSD-3-Clause"),
    ("Redistribution and use in source and binary forms", "BSD-2-Clause"),
    ("Permission is hereby granted, free", "MIT"),
)
LONGEST = 80  # characters of a package's licence field: some packages put the whole text there


@dataclasses.dataclass(frozen=True)
class DataTerms:
    """The training images: their name, their licence as the source states it, and where they come
    from.
    """

    name: str
    licence: str
    source: str


@dataclasses.dataclass(frozen=True)
class NetworkTerms:
    """A network that takes part in the model.

    `role`: "student", "teacher", or "teacher2" and so on for further teachers. `origin`: where its
    weights come from.
    """

    role: str
    spec: ModelSpec
    origin: str


def non_commercial(licence: str) -> bool:
    """Whether a licence's text forbids commercial use."""
    return bool(NON_COMMERCIAL.search(licence))


def unknown(licence: str) -> bool:
    """Whether a licence's text is empty or says that the terms are not known."""
    return bool(UNKNOWN.search(licence))


def spdx_expression(licence: str) -> str | None:
    """The SPDX id or expression that a licence's text is, in SPDX's own spelling; None for any
    other text.

    A remark in brackets is left out: "Apache-2.0 (timm)" gives "Apache-2.0".
    """
    try:
        found = str(canonicalize_license_expression(licence.split(" (")[0]))
    except InvalidLicenseExpression:
        return None
    return None if "LicenseRef-" in found else found


def check_teacher(spec: ModelSpec, what: str = "teacher") -> None:
    """Check that a network may be used as a teacher.

    Raises RecipeError when its terms forbid training another network on its outputs, and
    UnknownName when its model file has an `output_terms` that is not known. `what` is the teacher's
    role in the message.
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
            "choose another teacher, or use --teacher none to train on the labels alone",
        )


def check_use(networks: Sequence[NetworkTerms], card: CardConfig) -> None:
    """Check, before any training, that the teachers' terms allow the use that `card.use` declares.

    Raises GateFailed that names every teacher with non-commercial terms when the declared use is
    commercial.
    """
    if card.use != "commercial":
        return
    forbidden = [
        f"{network.role} {network.spec.name} ({stated})"
        for network in networks
        if network.role != "student" and non_commercial(stated := stated_licence(network, card))
    ]
    if forbidden:
        raise GateFailed(
            f"licence: card.use is commercial, but the terms of {', '.join(forbidden)} are "
            "non-commercial",
            "choose another teacher, or --set card.use=non-commercial",
        )


def stated_licence(network: NetworkTerms, card: CardConfig) -> str:
    """A network's licence: `card.teacher_licence` for the first teacher where it is set, else the
    model file's.
    """
    if network.role == "teacher" and card.teacher_licence:
        return card.teacher_licence
    return network.spec.licence


def link(
    role: str,
    name: str,
    licence: str,
    source: str,
    part: Part = "model",
    version: str | UnsetType = UNSET,
) -> LicenceLink:
    """One link of the chain. `part`: "model" when it goes into the weights, "tool" when it only
    makes or runs them.
    """
    licence = licence.strip() or "not stated"
    return LicenceLink(
        role=role,
        name=name,
        licence=licence,
        source=source,
        part=part,
        non_commercial=non_commercial(licence),
        unknown=unknown(licence),
        version=version,
    )


def package_links(names: Iterable[str] = PACKAGES) -> list[LicenceLink]:
    """Links of those packages among `names` that are installed, from their own metadata."""
    links = []
    for name in names:
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        links.append(
            link("package", name, package_licence(found), "PyPI", "tool", version=found.version)
        )
    return links


def package_licence(found: importlib.metadata.Distribution) -> str:
    """A package's licence in one line; "" when it states none.

    The first of these that exists: its SPDX expression, its trove classifiers, its licence field,
    its licence file.
    """
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
        return str(stated["License"]).strip().split("\n")[0][:LONGEST]
    for file in found.files or []:
        path = Path(str(file.locate()))
        if path.name.upper().startswith(("LICENSE", "LICENCE", "COPYING")) and path.is_file():
            text = " ".join(path.read_text(encoding="utf-8", errors="replace").split())
            return next((name for phrase, name in TEXTS if phrase in text), "see its licence file")
    return ""


def chain(data: DataTerms, networks: Sequence[NetworkTerms], card: CardConfig) -> LicenceChain:
    """The licence chain of a build: the data, every network, EdgeKD itself, and the installed
    packages.
    """
    links = [link("data", data.name, card.data_licence or data.licence, data.source)]
    links += [
        link(
            f"{network.role} network and weights",
            network.spec.name,
            stated_licence(network, card),
            f"{network.spec.source or 'timm'}; weights: {network.origin}",
        )
        for network in networks
    ]
    links.append(
        link("code", "edgekd", OWN_LICENCE, "this build's tool, samples and templates", "tool")
    )
    links += package_links()
    tainted = [row for row in links if row.non_commercial and row.part == "model"]
    open_ends = [row for row in links if row.unknown and row.part == "model"]
    return LicenceChain(
        schema=SCHEMA,
        links=links,
        tainted_by=[f"{row.role} {row.name}: {row.licence}" for row in tainted],
        unknown=[f"{row.role} {row.name}: {row.licence}" for row in open_ends],
        result=result(card, bool(tainted), bool(open_ends)),
        note="read from what the parts say of themselves; not legal advice",
    )


def result(card: CardConfig, tainted: bool, open_ends: bool) -> str:
    """The bundle's own licence, in words that fit a metadata field."""
    if tainted:
        return "non-commercial use only: see licences.json"
    if card.licence:
        return card.licence
    return "not determined: see licences.json" if open_ends else OWN_LICENCE


def gates(body: LicenceChain, card: CardConfig) -> list[str]:
    """Why the chain forbids the use that `card.use` declares, one sentence a link; empty when it
    does not.
    """
    if card.use != "commercial":
        return []
    return [
        f"licence: card.use is commercial, but {row} is non-commercial; replace it, or set "
        "card.use=non-commercial"
        for row in body.tainted_by
    ] + [
        f"licence: card.use is commercial, but the terms of {row} are not known; state them with "
        "card.data_licence, with card.teacher_licence (first teacher), or with `licence` in "
        "models/NAME.toml"
        for row in body.unknown
    ]
