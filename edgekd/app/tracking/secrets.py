"""Texts without secrets: what goes to a tracker, and what is printed about one."""

from __future__ import annotations

import os
import re

# The user and password of a URL, as in https://me:secret@host.
USER = re.compile(r"(?<=://)[^/@\s]+@")
# Query parameters that carry keys, as in signed URLs.
PARAMETER = re.compile(r"(?i)([?&][^=&\s]*(?:key|token|secret|signature|password)[^=&\s]*=)[^&\s]+")
# Environment variables with such a name hold a secret, and so does the text that equals one.
SECRET_NAME = re.compile(r"(?i)key|token|secret|password")
SHORTEST = 6  # characters; a shorter value would blank out ordinary words
HIDDEN = "***"


def hidden(text: str) -> str:
    """The text with its secrets replaced by HIDDEN."""
    text = PARAMETER.sub(rf"\1{HIDDEN}", USER.sub(f"{HIDDEN}@", text))
    for name, value in os.environ.items():
        if SECRET_NAME.search(name) and len(value) >= SHORTEST:
            text = text.replace(value, HIDDEN)
    return text
