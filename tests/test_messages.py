"""Messages, help texts and docstrings name only what exists: extras, files, settings, commands.

The strings are read from the sources of the package, and from the files of profiles and networks.
The truth comes from pyproject.toml, the repository, the settings of a recipe, and the parser of the
command line.
"""

from __future__ import annotations

import argparse
import ast
import functools
import importlib
import re
import tomllib

import pytest

from edgekd.app import cli
from edgekd.core.errors import MissingExtra
from edgekd.settings import model_specs, recipe
from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "edgekd"
ELSEWHERE = (
    "device_profiles",
    "models",
    "calib_data",
    "tools",
    "tests",
    "docs",
    "examples",
    "edgekd",
)
# Entry points and schema ids look like modules. edgekd.phantom stands in the facts of the built-in
# data set, which are part of its digest.
NO_MODULE = re.compile(
    r"edgekd\.(data_sources|losses|device_rules|students|phantom|[a-z_-]+/\d+)\b"
)
# Files that speak of the options of other programs.
OTHER_PROGRAMS = ("edgekd/device/", "edgekd/training/processes.py")
# Keys of report.json that look like settings.
REPORT_KEYS = {"data.classes"}


def text_of(node: ast.expr) -> str | None:
    """The text of a string, with {} for each value of an f-string; None for another node."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            text_of(part) or "{}" if isinstance(part, ast.Constant) else "{}"
            for part in node.values
        )
    return None


@functools.cache
def strings() -> list[tuple[str, str]]:
    """(place, text) of every string in the package's sources, and of each profile and network."""
    found = [
        (str(path.relative_to(REPOSITORY)), path.read_text(encoding="utf-8"))
        for folder in ("device_profiles", "models")
        for path in sorted((REPOSITORY / folder).glob("*.toml"))
    ]
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inside = {
            id(part)
            for node in ast.walk(tree)
            if isinstance(node, ast.JoinedStr)
            for part in node.values
        }
        for node in ast.walk(tree):
            text = text_of(node) if isinstance(node, ast.expr) and id(node) not in inside else None
            if text is not None:
                found.append((f"{path.relative_to(REPOSITORY)}:{node.lineno}", text))
    return found


def matches(pattern: str) -> list[tuple[str, re.Match[str]]]:
    """(place, match) of a regular expression in the package's strings."""
    return [(place, match) for place, text in strings() for match in re.finditer(pattern, text)]


@functools.cache
def extras() -> set[str]:
    body = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    return set(body["project"]["optional-dependencies"])


@functools.cache
def options() -> dict[str, set[str]]:
    """{verb: its options}, from the parser itself."""
    parser = cli.make_parser()
    (verbs,) = (
        action for action in parser._actions if isinstance(action, argparse._SubParsersAction)
    )
    return {
        name: {flag for action in verb._actions for flag in action.option_strings}
        for name, verb in verbs.choices.items()
    }


def test_there_are_strings_to_look_at() -> None:
    """A pattern that matches nothing would let every test here pass."""
    assert len(strings()) > 5000
    assert options()["build"] >= {"--data", "--profile", "--set"}


def test_extras_exist() -> None:
    named = [(place, match[1]) for place, match in matches(r"edgekd\[([^\]{}]+)\]")]
    assert named
    assert [row for row in named if row[1] not in extras()] == []


def test_extras_of_missing_packages_exist() -> None:
    """An error takes the extra from its argument, or from the file of a network in models/."""
    calls = [
        (path, node)
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "MissingExtra"
    ]
    assert calls
    for path, call in calls:
        extra = text_of(call.args[1])
        assert extra is None or extra == "" or extra in extras(), path
    named = {model_specs.spec(name).extra for name in model_specs.names()}
    assert named - {""} <= extras()


def test_files_exist() -> None:
    folders = "|".join(ELSEWHERE)
    named = matches(rf"(?<![\w./-])(?:{folders})/[\w./-]*\w\.(?:py|toml|md|csv|json|txt)\b")
    assert named
    assert [
        (place, m[0])
        for place, m in named
        if "NAME" not in m[0] and not (REPOSITORY / m[0]).exists()
    ] == []


def test_modules_exist() -> None:
    """NAME.py is a file of the package, its tests or its tools."""
    known = {
        path.name
        for folder in (PACKAGE, REPOSITORY / "tests", REPOSITORY / "tools")
        for path in folder.rglob("*.py")
    }
    named = matches(r"(?<![\w./-])[a-z][a-z0-9_]*\.py\b")
    assert named
    assert [(place, m[0]) for place, m in named if m[0] not in known] == []


def exists(dotted: str) -> bool:
    """Whether a dotted name is a module of the package, or something in one."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def test_dotted_names_exist() -> None:
    named = [
        (place, m[0])
        for place, m in matches(
            r"(?<![\w./-])edgekd(?:\.[A-Za-z_][A-Za-z0-9_]*)+(?:(?:-[a-z]+)?/\d+)?"
        )
        if not NO_MODULE.match(m[0])
    ]
    assert named
    assert [row for row in named if not exists(row[1])] == []


def test_settings_exist() -> None:
    known = set(recipe.SETTINGS) | {"data.dicom_file"}  # a module
    sections = "|".join({key.partition(".")[0] for key in known if "." in key})
    endings = "json|toml|csv|py|npz|md|sh"
    named = matches(
        rf"(?<![\w./{{}}-])(?:{sections})\.(?!(?:{endings})\b)[a-z][a-z_0-9]*(?![\w/(.])"
    )
    assert len(named) > 50
    assert [(place, m[0]) for place, m in named if m[0] not in known | REPORT_KEYS] == []


def test_commands_exist() -> None:
    """In `edgekd VERB ...` the verb exists, and it has every option that follows."""
    verbs = options()
    unknown = [(place, m[0]) for place, m in matches(r"`edgekd ([a-z]+)") if m[1] not in verbs]
    assert unknown == []
    commands = matches(rf"\bedgekd ({'|'.join(verbs)})\b((?:[^`;,\n]|,(?=\S))*)")
    assert len(commands) > 50
    wrong = [
        (place, verb, flag)
        for place, m in commands
        for verb in [m[1]]
        for flag in re.findall(r"(?<!\S)\[?(--[a-z][a-z-]*)", m[2])
        if flag not in verbs[verb]
    ]
    assert wrong == []


def test_options_exist() -> None:
    """An option that stands alone belongs to some command."""
    known = {"--version"}.union(*options().values())
    launcher = re.compile(r"\b(?:torchrun|accelerate launch)\b[^`\n]*?-m (?=edgekd)")
    named = [
        (place, match)
        for place, text in strings()
        for match in re.finditer(r"(?<![\w-])--[a-z][a-z-]+", launcher.sub("", text))
    ]
    assert len(named) > 50
    assert [
        (place, m[0])
        for place, m in named
        if m[0] not in known and not place.startswith(OTHER_PROGRAMS)
    ] == []


def test_the_error_for_a_missing_package_names_its_extra_or_the_package() -> None:
    assert MissingExtra("medmnist", "medmnist", "x").next_step == "pip install 'edgekd[medmnist]'"
    assert MissingExtra("onnxruntime", "", "x").next_step == "pip install onnxruntime"


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("edgekd.core.errors.GateFailed", True),
        ("edgekd.core.errors.Nothing", False),
        ("edgekd.nothing", False),
    ],
)
def test_a_dotted_name_is_looked_up(name: str, there: bool) -> None:
    assert exists(name) is there
