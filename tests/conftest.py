"""What tests share: the repository's place, the shared data where it is present, one thread for torch."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest

os.environ["EDGEKD_SKETCHES"] = tempfile.mkdtemp(
    prefix="edgekd-sketches-"
)  # not the user's own cache
atexit.register(shutil.rmtree, os.environ["EDGEKD_SKETCHES"], ignore_errors=True)
os.environ.setdefault(
    "OMP_NUM_THREADS", "2"
)  # before torch is imported; more threads than cores only fight

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared"


@pytest.fixture
def xrays() -> Path:
    """The real chest X-rays, where this checkout has them beside it."""
    folder = SHARED / "data" / "chest-xray"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here: real X-rays are not part of the repository")
    return folder
