"""Which operators, in which versions, a TFLite runtime loads: the table of runtime_ops.toml.

A runtime that lacks one operator code of a file loads nothing of it, so the codes are compared with
the table before anything else is said about a file.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edgekd.tflite.flatbuffer import LiteGraph, builtin_name, custom_name

TABLE = Path(__file__).with_name("runtime_ops.toml")
CUSTOM_VERSION = 1  # of every custom operator: AddCustom of lite/mutable_op_resolver.h
MICRO = "TensorFlow Lite Micro"
ANY_VERSION = 2**31  # TensorFlow Lite Micro finds a kernel by the operator, whatever its version
FLEX = "Flex"  # how the names of TensorFlow's own operators begin: IsFlexOp of lite/util.cc


@dataclasses.dataclass(frozen=True, order=True)
class OpCode:
    """One operator code of a file. `custom`: a custom operator's name, "" for a builtin one."""

    name: str
    version: int
    custom: str = ""

    @property
    def label(self) -> str:
        """Its name for a reader."""
        return self.custom or self.name


def codes_of(graph: LiteGraph) -> list[OpCode]:
    """The operator codes that a runtime must have to load a file, each once.

    Builtin codes count even where no operator uses them; custom ones only where one does.
    """
    codes = graph.written.operatorCodes or []
    all_codes = [OpCode(builtin_name(code), int(code.version), custom_name(code)) for code in codes]
    used = {op.custom for op in graph.ops}
    return list(dict.fromkeys(code for code in all_codes if code.custom in used | {""}))


@dataclasses.dataclass(frozen=True)
class Runtime:
    """One runtime, or a compiler that reads files as one does.

    `newest`: operator -> newest version that it loads. `oldest`: operator -> oldest version, where
    that is not 1. `custom`: the custom operators that it brings.
    """

    package: str
    version: str
    newest: Mapping[str, int]
    oldest: Mapping[str, int]
    custom: frozenset[str]

    @property
    def name(self) -> str:
        """Package and version, such as "tflite-runtime 2.14"."""
        return f"{self.package} {self.version}"

    def lacks(self, code: OpCode) -> bool:
        """Whether it refuses a file for this operator code."""
        if code.custom:
            return code.custom not in self.custom or code.version != CUSTOM_VERSION
        newest = self.newest.get(code.name, 0)
        return not self.oldest.get(code.name, 1) <= code.version <= newest

    def lacking(self, codes: Iterable[OpCode]) -> list[OpCode]:
        """The operator codes that it lacks."""
        return [code for code in codes if self.lacks(code)]


@functools.cache
def _table() -> dict[str, Any]:
    return tomllib.loads(TABLE.read_text(encoding="utf-8"))


@functools.cache
def runtimes() -> tuple[Runtime, ...]:
    """All runtimes of the table, each package's from old to new."""
    table = _table()
    custom = frozenset(table["custom"])
    known: dict[str, int] = {}
    found = []
    for row in table["runtimes"]:
        known = {**known, **row["newest"]}
        found.append(Runtime(row["package"], row["version"], known, table["oldest"], custom))
    return tuple(found)


def compilers() -> list[str]:
    """The compilers of the table."""
    return [row["package"] for row in _table()["compilers"]]


def reads_like(package: str) -> str:
    """The version of TensorFlow whose interpreter a compiler uses."""
    row = next(row for row in _table()["compilers"] if row["package"] == package)
    return str(row["reads_like"]).partition(" ")[2]


@functools.cache
def compiler(package: str) -> Runtime:
    """The newest version of a compiler, which reads files as an older runtime does."""
    row = next(row for row in _table()["compilers"] if row["package"] == package)
    like = next(runtime for runtime in runtimes() if runtime.name == row["reads_like"])
    return dataclasses.replace(like, package=package, version=row["version"])


def packages() -> list[str]:
    """The packages of the table, in its order."""
    return list(dict.fromkeys(runtime.package for runtime in runtimes()))


def runtime(package: str, version: str = "") -> Runtime:
    """The runtime of a package at a version, "" for the newest that the table has.

    A version between two rows has what the older row has; one below all rows is taken for the
    oldest. The result carries the version that was asked for.
    """
    own = [one for one in runtimes() if one.package == package]
    if not version:
        return own[-1]
    older = [one for one in own if _number(one.version) <= _number(version)]
    return dataclasses.replace((older or own)[-1 if older else 0], version=version)


def micro(ops: Iterable[str]) -> Runtime:
    """TensorFlow Lite Micro in a firmware that has these operators."""
    known = dict.fromkeys(ops, ANY_VERSION)
    return Runtime(MICRO, "of October 2026", known, {}, frozenset())


def oldest_loading(package: str, codes: Iterable[OpCode]) -> str | None:
    """The oldest version of a package that has all these codes, None where no version has."""
    wanted = list(codes)
    own = [one for one in runtimes() if one.package == package]
    return next((one.version for one in own if not one.lacking(wanted)), None)


def _number(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, without zeros at the end: "2.5.0.post1" -> (2, 5)."""
    numbers = [int(part) for part in itertools.takewhile(str.isdigit, version.split("."))]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)
