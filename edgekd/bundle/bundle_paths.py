"""Which paths are bundles, and where files about a bundle go: beside it, never into it.

A bundle's manifest lists every file, so a file that is added to an unpacked bundle breaks it.
"""

from __future__ import annotations

import json
from pathlib import Path

from edgekd.bundle.bundle_record import SCHEMA
from edgekd.core.errors import RecipeError
from edgekd.core.files import is_file, is_folder, resolved

MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 4 << 20  # of a file that may be a manifest: a bundle's has about 20 KB
BESIDE = "_measured"  # is added to a bundle's name, for the folder of its measurements


def is_bundle(path: Path) -> bool:
    """Whether a path is taken for a bundle: a .zip, or a folder with a manifest.json."""
    return (
        is_file(path / MANIFEST)
        if is_folder(path, "the folder or file")
        else path.suffix.lower() == ".zip"
    )


def measurements_of(bundle: Path) -> Path:
    """The folder beside a bundle that keeps its measurements: `chest_measured` for the folder
    `chest`, and for `chest.zip`.
    """
    named = bundle if bundle.name not in ("", "..") else resolved(bundle)
    return named.with_name(f"{named.name if named.is_dir() else named.stem}{BESIDE}")


def bundle_around(path: Path) -> Path | None:
    """The unpacked bundle that `path` is, or lies in; None for a path outside of any.

    The path itself need not exist. Another program's manifest.json does not make a bundle.
    """
    whole = resolved(path)
    return next((place for place in (whole, *whole.parents) if _unpacked_bundle(place)), None)


def check_outside(option: str, folder: Path) -> None:
    """Raise RecipeError when what is written to `folder` would break a bundle. `option`: where the
    folder was named.
    """
    around = bundle_around(folder)
    if around is not None:
        raise RecipeError(
            f"{option} {folder} lies in the bundle {around}, which a new file would break",
            f"name a folder elsewhere, such as {measurements_of(around)}",
        )


def _unpacked_bundle(folder: Path) -> bool:
    file = folder / MANIFEST
    try:
        if not file.is_file() or file.stat().st_size > MAX_MANIFEST_BYTES:
            return False
        body = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(body, dict) and body.get("schema") == SCHEMA
