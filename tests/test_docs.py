"""The documentation is true: links lead somewhere, commands parse, and settings exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from edgekd.app.cli import make_parser
from edgekd.settings.recipe import SECTIONS, SETTINGS
from tests.conftest import REPOSITORY

PAGES = sorted(
    [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")],
    key=lambda path: path.relative_to(REPOSITORY).as_posix(),
)
LONGEST_LINE = 100  # rows of tables and addresses cannot be broken


def name(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"https?://|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{name(page)} links to {target}"
        if anchor:
            assert anchor in anchors(found), f"{name(page)} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_lines_are_short(page: Path) -> None:
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        assert len(line) <= LONGEST_LINE or line.startswith("|"), f"{name(page)}:{number}"


def test_every_page_is_in_the_index() -> None:
    """docs/index.md links to every page, and a newcomer finds it from there."""
    index = REPOSITORY / "docs" / "index.md"
    linked = {
        (index.parent / target.partition("#")[0]).resolve()
        for target in re.findall(r"\]\(([^)\s]+)\)", index.read_text(encoding="utf-8"))
    }
    pages = {page for page in PAGES if page.is_relative_to(index.parent) and page != index}
    assert pages <= linked, sorted(name(page) for page in pages - linked)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_settings_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    sections = "|".join(SECTIONS)
    for section, key in re.findall(rf"(?<![\w./-])({sections})\.([a-z_]+)\b(?![\w(/])", text):
        setting = f"{section}.{key}"
        assert setting in SETTINGS or key in ("json", "losses", "sh"), (
            f"{name(page)} names {setting}"
        )


def test_every_setting_is_on_a_page() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    missing = [setting for setting in SETTINGS if "." in setting and setting not in text]
    assert not missing, f"no page names {missing}"


def commands(page: Path) -> list[list[str]]:
    """The `edgekd ...` commands in a page's code blocks, as arguments."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(r"^    (?:\.venv/bin/)?edgekd (.+)$", text, re.MULTILINE)
    plain = [line.partition(" > ")[0] for line in found if "|" not in line]
    return [shlex.split(line, comments=True) for line in plain]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_parse(page: Path) -> None:
    for arguments in commands(page):
        try:
            make_parser().parse_args(arguments)
        except SystemExit:
            pytest.fail(f"{name(page)}: edgekd {shlex.join(arguments)} does not parse")
