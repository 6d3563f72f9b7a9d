"""docs/reference/ says what the code says."""

from __future__ import annotations

import pytest

from tests.conftest import REPOSITORY
from tools.write_reference import FOLDER, PAGES


@pytest.mark.parametrize("name", PAGES)
def test_the_reference_is_what_the_code_says(name: str) -> None:
    assert FOLDER == REPOSITORY / "docs" / "reference"
    assert (FOLDER / name).read_text(encoding="utf-8") == PAGES[name](), (
        "run python tools/write_reference.py"
    )


def test_the_folder_holds_nothing_else() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(PAGES)
