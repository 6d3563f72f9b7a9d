"""What decides a stage's result besides its settings: the code that it runs, and the libraries that
this code uses.

A stage's key holds `source_digest` of the stage's module. The digest changes when the code changes,
and when another version of a library is installed. It does not change with comments, docstrings or
the layout of the text.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path

from edgekd.core.artifacts import canonical_json, sha256
from edgekd.pipeline.code_cache import CodeCache

PACKAGE = Path(__file__).resolve().parent.parent

# Rooms whose code stays out of a stage's key. What a stage takes from `settings` is in its
# settings, and `core` holds the formats that artifacts are stored in, which the stages' versions
# stand for.
NOT_HASHED = frozenset({"core", "settings"})
# The distribution on PyPI that provides a top-level module, where their names differ by more than
# "-" for "_".
DISTRIBUTIONS = {
    "PIL": "pillow",
    "libjpeg": "pylibjpeg-libjpeg",
    "openjpeg": "pylibjpeg-openjpeg",
    "rle": "pylibjpeg-rle",
}
# Libraries that a module imports by a computed name, where the source does not show them.
IMPORTED_BY_NAME = {
    "data.dicom_file": frozenset({"pylibjpeg", "libjpeg", "openjpeg", "rle"}),  # by pydicom
    "device.edgebench": frozenset({"ai_edge_litert", "tflite_runtime", "tensorflow"}),
    "tflite.runtime": frozenset({"ai_edge_litert", "tflite_runtime", "tensorflow"}),
}


@functools.cache
def _tree(module: str) -> ast.Module:
    """The parsed source of a module, without docstrings. Names are without "edgekd."."""
    tree = ast.parse(_path(module).read_text(encoding="utf-8"))
    for node in (tree, *_statements(tree)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [part for part in node.body if not _is_text(part)]
    return tree


def _statements(node: ast.AST) -> Iterator[ast.stmt]:
    """The statements below a node, at any depth. `ast.walk` would visit ten times as many nodes."""
    for block in ("body", "orelse", "finalbody", "handlers", "cases"):
        parts = getattr(node, block, ())
        for part in parts if isinstance(parts, list) else ():  # a lambda's body is an expression
            if isinstance(part, ast.stmt):
                yield part
            yield from _statements(part)


def _is_text(node: ast.stmt) -> bool:
    """Whether a statement is nothing but a string: a docstring, or a text below an attribute."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _path(module: str) -> Path:
    path = PACKAGE.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _is_module(module: str) -> bool:
    return _path(module).is_file()


@functools.cache
def imports(module: str) -> tuple[frozenset[str], frozenset[str]]:
    """What a module imports anywhere: the package's own modules (without "edgekd."), and top-level
    libraries.
    """
    own, libraries = set(), set()
    for node in _statements(_tree(module)):
        if isinstance(node, ast.Import):
            libraries |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            first, _, rest = node.module.partition(".")
            if first != "edgekd":
                libraries.add(first)
            elif _is_module(rest) and not _path(rest).name.startswith("__init__"):
                own.add(rest)
            else:
                inside = {f"{rest}.{alias.name}".lstrip(".") for alias in node.names}
                own |= {name for name in inside if _is_module(name)}
    return frozenset(own), frozenset(libraries - set(sys.stdlib_module_names) - {"edgekd"})


@functools.cache
def code(module: str) -> frozenset[str]:
    """The modules whose code decides what a stage in `module` makes: `module` and all that it
    imports, at any depth.

    Found by reading the source, since importing these modules would load torch. Names are without
    "edgekd.".
    """
    found: set[str] = set()
    waiting = {module}
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting |= {other for other in imports(name)[0] if _room(other) not in NOT_HASHED}
        waiting -= found
    return frozenset(found)


def _room(module: str) -> str:
    return module.partition(".")[0]


@functools.cache
def libraries(module: str) -> frozenset[str]:
    """The distributions that the `code` of a stage's module imports, by their names on PyPI."""
    kept = _kept().get(module, "libraries")
    if kept is not None:
        return frozenset(kept.split())
    used: set[str] = set()
    for name in code(module):
        used |= imports(name)[1] | IMPORTED_BY_NAME.get(name, frozenset())
    found = frozenset(DISTRIBUTIONS.get(name, name.replace("_", "-")) for name in used)
    _kept().put(module, "libraries", " ".join(sorted(found)))
    return found


@functools.cache
def _kept() -> CodeCache:
    """What earlier commands found in the same source files."""
    return CodeCache(PACKAGE)


@functools.cache
def version(distribution: str) -> str | None:
    """The installed version of a distribution, or None when it is not installed (an optional
    library).

    As it was when this process first asked: reading it takes 1 ms, and each stage asks for twenty.
    """
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def _code_digest(module: str) -> str:
    kept = _kept().get(module, "code")
    if kept is not None:
        return kept
    digest = hashlib.sha256()
    for name in sorted(code(module)):
        digest.update(_dumped(name))
    _kept().put(module, "code", digest.hexdigest())
    return digest.hexdigest()


@functools.cache
def _dumped(module: str) -> bytes:
    """A module's name and syntax tree. Most stages share most modules."""
    return f"{module}\0{ast.dump(_tree(module))}\0".encode()


def source_digest(module: str) -> str:
    """Hex sha256 over the parsed `code` of a stage's module and the versions of its `libraries`."""
    versions = {name: version(name) for name in sorted(libraries(module))}
    return sha256(canonical_json({"code": _code_digest(module), "libraries": versions}))
