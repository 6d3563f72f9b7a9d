"""Stands in for packages that describe settings, on a machine with nothing but torch and timm.

`edgekd.settings` and `edgekd.core.records` declare types with msgspec, and read recipes with
tomlkit. Training itself uses neither. Where they are missing, `prepare` puts modules in their place
that accept the declarations and can do nothing else. Import nothing of edgekd before.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from typing import Any


class _Anything(types.ModuleType):
    """A module that has every name. What is declared with one of them is a class without use."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = type(name, (_Declared,), {})
        setattr(self, name, made)
        return made


class _Declared(Exception):
    """A base class, or an annotation, with any arguments."""

    def __init__(self, *_args: Any, **_keywords: Any) -> None:
        super().__init__()

    def __init_subclass__(cls, **_keywords: Any) -> None:
        super().__init_subclass__()


def prepare() -> list[str]:
    """Put stand-ins for packages that are missing; returns their names."""
    missing = [name for name in ("msgspec", "tomlkit") if importlib.util.find_spec(name) is None]
    for name in missing:
        sys.modules[name] = _Anything(name)
        for part in ("inspect", "json", "exceptions", "items", "structs"):
            sys.modules[f"{name}.{part}"] = _Anything(f"{name}.{part}")
    return missing
