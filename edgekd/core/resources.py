"""Finds EdgeKD's own data folders: inside the package in a wheel, beside it in a checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from edgekd.core.errors import EdgeKDError

Kind = Literal["device_profiles", "models", "calib_data"]


def folder(kind: Kind) -> Path:
    """The folder of one kind of data: edgekd/_data/KIND, or KIND beside the package.

    Raises EdgeKDError when there is neither, which means that the installation is broken.
    """
    package = Path(__file__).resolve().parent.parent
    for place in (package / "_data" / kind, package.parent / kind):
        if place.is_dir():
            return place
    raise EdgeKDError(
        f"the folder {kind} of EdgeKD is missing beside {package}",
        "install edgekd again",
    )
