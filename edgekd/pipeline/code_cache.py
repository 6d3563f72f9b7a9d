"""What was found in EdgeKD's own source code, kept between commands.

To read and parse 200 files takes about a second, before the first stage. What is found is kept in
the user's cache folder, under the state of every source file: its size and the time of its last
change, by which Python, too, knows whether a compiled file still holds. A folder that cannot be
read or written costs this second and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from pathlib import Path

from edgekd.core import atomic_files

FOLDER_VARIABLE = "EDGEKD_CODE_CACHE"  # a folder; in place of the user's cache folder


class CodeCache:
    """Facts of each module of one package, {module: {what: text}}, for the package as it is now."""

    def __init__(self, package: Path) -> None:
        named = os.environ.get(FOLDER_VARIABLE)
        cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        folder = Path(named) if named else Path(cache).expanduser() / "edgekd" / "code"
        self._state = state(package)
        self._file = folder / f"{hashlib.sha256(str(package).encode()).hexdigest()[:16]}.json"
        self._facts: dict[str, dict[str, str]] = {}
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            kept = json.loads(self._file.read_text(encoding="utf-8"))
            if kept["state"] == self._state:
                self._facts = {str(name): dict(facts) for name, facts in kept["facts"].items()}

    def get(self, module: str, what: str) -> str | None:
        """A fact of a module, or None where it is not kept."""
        return self._facts.get(module, {}).get(what)

    def put(self, module: str, what: str, text: str) -> None:
        """Keep a fact of a module, and write all of them."""
        self._facts.setdefault(module, {})[what] = text
        whole = {"state": self._state, "facts": self._facts}
        with contextlib.suppress(OSError):
            atomic_files.replace(self._file, json.dumps(whole).encode())


def state(package: Path) -> str:
    """A digest of Python's version and of the path, the size and the time of each source file."""
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted(package.rglob("*.py")):
        about = path.stat()
        digest.update(f"{path}\0{about.st_size}\0{about.st_mtime_ns}\n".encode())
    return digest.hexdigest()
