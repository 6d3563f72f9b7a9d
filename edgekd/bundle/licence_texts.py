"""Reading licences from texts: whether one forbids commercial use or says nothing, its SPDX id, and
what an installed package states.

All of this is read from texts: it is not legal advice.
"""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

NON_COMMERCIAL = re.compile(
    r"\bNC\b|(?<![a-z])non[- ]?commercial|research[- ](purposes[- ])?only|academic[- ]use[- ]only"
    r"|\bCC[- ]BY[- ]NC|not for commercial",
    re.IGNORECASE,
)
UNKNOWN = re.compile(r"^\s*$|not stated|unknown|^other$|check before", re.IGNORECASE)
# Phrases that identify a licence by its text, most particular first, for packages whose metadata
# name none.
TEXTS = (
    ("Apache License", "Apache-2.0"),
    ("Neither the name of", "BSD-3-Clause"),
    ("Redistribution and use in source and binary forms", "BSD-2-Clause"),
    ("Permission is hereby granted, free", "MIT"),
)
LONGEST = 80  # characters of a package's licence field: some packages put the whole text there


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
