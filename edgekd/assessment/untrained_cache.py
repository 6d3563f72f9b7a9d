"""The untrained .tflite of a student, kept between commands, because making it takes seconds.

The files lie in $EDGEKD_SKETCHES, or in edgekd/sketches in the user's cache folder. A file's name
holds two hashes: of everything that decides the file (student, size, rules, EdgeKD's own code, the
libraries), and of its bytes. A file that was changed is made again. A folder that cannot be written
costs time and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from edgekd.core import artifacts, atomic_files
from edgekd.core.frames import Frame
from edgekd.settings.model_specs import ModelSpec

FOLDER_VARIABLE = "EDGEKD_SKETCHES"
LIBRARIES = ("torch", "timm", "ai-edge-litert", "flatbuffers")  # the libraries that make the file
# Files that are kept; the oldest are deleted first. A student and a profile's rules make one file,
# of 1 to 20 MB.
MOST = 32


def default_folder() -> Path:
    """$EDGEKD_SKETCHES, or edgekd/sketches in the user's cache folder (XDG base directories)."""
    named = os.environ.get(FOLDER_VARIABLE)
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(named) if named else Path(cache).expanduser() / "edgekd" / "sketches"


def untrained_model(
    student: ModelSpec, px: int, classes: int, rules: dict[str, str], sides: Sequence[int] = ()
) -> bytes:
    """The .tflite of a student for images of `px` pixels a side, from the folder or newly made.

    `rules`: those of the device's profile, as the arguments of `Int8Rules`. `sides`: height and
    width of the frame in front of the student, if it has one. Raises what `untrained_tflite` of
    edgekd.export.untrained_model raises.
    """
    key = _key(student, px, classes, rules, sides)
    folder = default_folder()
    with contextlib.suppress(OSError):
        for path in folder.glob(f"{key}-*.tflite"):
            data = path.read_bytes()
            if path.name == _name(key, data):
                os.utime(path)
                return data
    from edgekd.export.untrained_model import untrained_tflite
    from edgekd.tflite.int8_rules import Int8Rules

    data = untrained_tflite(student, px, classes, Int8Rules(**rules), Frame.of(sides, px))
    with contextlib.suppress(OSError):
        _keep(folder, _name(key, data), data)
    return data


def _key(
    student: ModelSpec, px: int, classes: int, rules: dict[str, str], sides: Sequence[int]
) -> str:
    code = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        code.update(path.read_bytes())
    asked = {
        "arch": student.arch,
        "options": student.options,
        "mean": list(student.mean),
        "std": list(student.std),
        "px": px,
        "frame": list(sides),
        "classes": classes,
        "rules": rules,
        "code": code.hexdigest(),
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
    }
    return artifacts.sha256(artifacts.canonical_json(asked))[:32]


def _name(key: str, data: bytes) -> str:
    return f"{key}-{artifacts.sha256(data)}.tflite"


def _keep(folder: Path, name: str, data: bytes) -> None:
    atomic_files.replace(folder / name, data)
    for path in sorted(folder.glob("*.tflite"), key=lambda one: one.stat().st_mtime)[:-MOST]:
        path.unlink(missing_ok=True)
