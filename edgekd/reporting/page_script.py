"""The script of a page that has one. It stands in the page, which works without it too."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from pathlib import Path

# The package lies in a folder: its templates are read from there too.
FOLDER = Path(__file__).parent / "templates"


@dataclasses.dataclass(frozen=True)
class Script:
    """JavaScript text. The page's content security policy allows this text alone, by its digest."""

    text: str

    @property
    def digest(self) -> str:
        """The text's digest as a content security policy writes it: "sha256-" and base64."""
        return "sha256-" + base64.b64encode(hashlib.sha256(self.text.encode()).digest()).decode()


def load(name: str) -> Script:
    """The script in templates/ of a name such as "copy.js"."""
    return Script((FOLDER / name).read_text(encoding="utf-8"))
