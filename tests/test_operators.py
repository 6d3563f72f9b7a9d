"""Every operator of the int8 route has its row in every table that needs one, and the page on
adding one is true.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import edgekd
from edgekd.export.onnx_emitters import EMITTERS
from edgekd.quantization.fakequant_placement import RULES
from edgekd.tflite.operators import (
    Operator,
    OperatorTable,
    registered_groups,
    registered_tables,
)

PACKAGE = Path(edgekd.__file__).parent
PAGE = PACKAGE.parent / "docs" / "how_to" / "add_an_operator.md"
MANY = 3  # operator names in one literal: it is then a table, and must be registered


@pytest.fixture(scope="module", autouse=True)
def every_module() -> None:
    """Import the whole package, so that every table is registered."""
    for module in pkgutil.walk_packages(edgekd.__path__, "edgekd."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def places() -> list[str]:
    """The dotted path of every table and group."""
    return [place.name for place in [*registered_tables(), *registered_groups()]]


def test_every_operator_has_its_row_in_every_table() -> None:
    missing = [(table.name, str(op)) for table in registered_tables() for op in table.missing]
    assert missing == []
    assert len(registered_tables()) >= 11


def test_what_a_table_declares_absent_is_an_operator_and_absent() -> None:
    for table in registered_tables():
        assert table.contradictory == [], table.name
        assert table.absent.keys() <= set(Operator), table.name
        assert all(table.absent.values()), f"{table.name} gives no reason"


def test_a_missing_row_is_found_and_a_declared_one_is_not() -> None:
    rows = frozenset(Operator) - {Operator.ADD, Operator.MUL}
    assert OperatorTable("a", rows, {"MUL": "a reason"}).missing == [Operator.ADD]
    assert OperatorTable("a", rows, {"PAD": "a reason"}).contradictory == ["PAD"]


def test_every_registered_place_exists() -> None:
    for place in places():
        module, _, name = place.rpartition(".")
        assert hasattr(importlib.import_module(module), name), place


def tables_in(path: Path) -> Iterator[tuple[str, int]]:
    """(variable, line) of each literal that holds MANY operator names; "" for one that no variable
    holds.
    """
    for statement in ast.parse(path.read_text()).body:
        called = statement.value if isinstance(statement, ast.Expr) else None
        if isinstance(called, ast.Call) and ast.unparse(called.func).startswith("operator_"):
            continue
        targets = getattr(statement, "targets", [getattr(statement, "target", None)])
        variable = targets[0].id if isinstance(targets[0], ast.Name) else ""
        for node in ast.walk(statement):
            items = node.keys if isinstance(node, ast.Dict) else getattr(node, "elts", [])
            named = {
                item.value if isinstance(item, ast.Constant) else getattr(item, "attr", None)
                for item in items
            }
            if len(named & set(Operator)) >= MANY:
                yield variable, node.lineno


def test_no_table_of_operators_is_unregistered() -> None:
    known = set(places())
    unregistered = []
    for path in PACKAGE.rglob("*.py"):
        module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        unregistered += [
            f"{path.relative_to(PACKAGE.parent)}:{line} {variable}"
            for variable, line in tables_in(path)
            if f"{module}.{variable}" not in known
        ]
    assert unregistered == []


def test_each_aten_operator_with_a_rule_can_be_written_as_onnx() -> None:
    assert EMITTERS.keys() == RULES.keys()


# The page: what it names exists, and it names every table


def test_the_page_names_every_place() -> None:
    named = set(re.findall(r"`(edgekd[\w.]+\.[A-Z_0-9]+)`", PAGE.read_text()))
    assert named >= set(places())


def test_what_the_page_names_exists() -> None:
    text = PAGE.read_text()
    for place in re.findall(r"`(edgekd\.[\w.]+)`", text):
        module, _, name = place.rpartition(".")
        assert hasattr(importlib.import_module(module), name), place
    for path in re.findall(r"`((?:edgekd|tests|tools|docs)/[\w/.]+)`", text):
        assert (PACKAGE.parent / path).exists(), path
