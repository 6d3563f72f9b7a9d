"""Files that are kept between commands, because making them takes seconds.

They lie in $EDGEKD_SKETCHES, or in edgekd/sketches in the user's cache folder. A file's name holds
two hashes: of everything that decides the file (what was asked, EdgeKD's own code, the libraries),
and of its bytes. A file that was changed is made again. A folder that cannot be written costs time
and nothing else.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from edgekd.core import artifacts, atomic_files
from edgekd.core.artifacts import Json

FOLDER_VARIABLE = "EDGEKD_SKETCHES"
LIBRARIES = ("torch", "timm", "ai-edge-litert", "flatbuffers")  # the libraries that make the files
# Files that are kept of each kind; the oldest are deleted first. A .tflite takes 1 to 20 MB, a
# sketch, whose weights are zeros, some 20 KB, and the forecasts of one network on one device 10 KB.
MOST = {".tflite": 32, ".sketch": 256, ".forecasts": 1024, ".edits": 1024}


def default_folder() -> Path:
    """$EDGEKD_SKETCHES, or edgekd/sketches in the user's cache folder (XDG base directories)."""
    named = os.environ.get(FOLDER_VARIABLE)
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(named) if named else Path(cache).expanduser() / "edgekd" / "sketches"


def key_of(asked: dict[str, Json]) -> str:
    """The hash of everything that decides a file. `asked`: what was asked for."""
    whole = {**asked, "code": _code(), "libraries": _libraries()}
    return artifacts.sha256(artifacts.canonical_json(whole))[:32]


@functools.cache
def _libraries() -> dict[str, str]:
    """The version of each of LIBRARIES."""
    return {name: metadata.version(name) for name in LIBRARIES}


@functools.cache
def _code() -> str:
    """The hash of EdgeKD's own code."""
    code = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        code.update(path.read_bytes())
    return code.hexdigest()


def kept(key: str, kind: str, make: Callable[[], bytes]) -> bytes:
    """The file of this key, from the folder or newly made.

    `kind`: a key of MOST, which is the end of its name. Raises what `make` raises.
    """
    found = read(key, kind)
    if found is None:
        found = make()
        write(key, kind, found)
    return found


def read(key: str, kind: str) -> bytes | None:
    """The file of this key, None where there is none, or where it was changed."""
    with contextlib.suppress(OSError):
        for path in default_folder().glob(f"{key}-*{kind}"):
            data = path.read_bytes()
            if path.name == _name(key, kind, data):
                os.utime(path)
                return data
    return None


def write(key: str, kind: str, data: bytes) -> None:
    """Keep a file, in place of another of this key."""
    folder, name = default_folder(), _name(key, kind, data)
    with contextlib.suppress(OSError):
        atomic_files.replace(folder / name, data)
        for path in folder.glob(f"{key}-*{kind}"):
            if path.name != name:
                path.unlink(missing_ok=True)
        newest = sorted(folder.glob(f"*{kind}"), key=lambda one: one.stat().st_mtime)
        for path in newest[: -MOST[kind]]:
            path.unlink(missing_ok=True)


def _name(key: str, kind: str, data: bytes) -> str:
    return f"{key}-{artifacts.sha256(data)}{kind}"
