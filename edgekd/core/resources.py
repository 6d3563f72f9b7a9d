"""Where the project's own data folders lie: inside the package when installed from a wheel, beside it in a checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from edgekd.core.errors import EdgeKDError

Kind = Literal["device_profiles", "models", "calib_data"]


def folder(kind: Kind) -> Path:
    """The folder of one kind of data: edgekd/_data/KIND (wheel), else KIND beside the package (checkout, editable).

    Raises EdgeKDError when neither is there, which means a broken installation.
    """
    package = Path(__file__).resolve().parent.parent
    for place in (package / "_data" / kind, package.parent / kind):
        if place.is_dir():
            return place
    raise EdgeKDError(
        f"the folder {kind} of EdgeKD is missing beside {package}", "install edgekd again"
    )
