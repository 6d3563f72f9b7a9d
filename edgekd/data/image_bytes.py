"""The bytes of an image's file."""

from __future__ import annotations

from pathlib import Path

from edgekd.core.errors import DataError
from edgekd.core.files import reason


def read(path: Path, name: str, place: str) -> bytes:
    """The bytes of the file at `path`.

    `name` and `place`: what a message calls the image, and where it says that the image lies.
    Raises DataError when the file cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{name}: cannot be read ({reason(error)})", f"check the file under {place}"
        ) from error
