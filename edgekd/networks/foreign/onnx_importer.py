"""Loads onnx2pytorch without torchvision.

onnx2pytorch imports torchvision for operators of detectors and for decoding images (NonMax-
Suppression, RoiAlign, MaxRoiPool, DeformConv, ImageDecoder). torchvision takes 2 s to import, most
of it in torch._dynamo, and none of these operators has an int8 rule. While onnx2pytorch is loaded,
modules stand in for torchvision's that load it when such an operator runs.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

# The modules of torchvision that onnx2pytorch 0.6 imports.
LATER = ("torchvision", "torchvision.ops", "torchvision.io")


class _Later(ModuleType):
    """Stands for a module: each of its functions loads the module when it is called."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*args: Any, **options: Any) -> Any:
            return getattr(importlib.import_module(self.__name__), name)(*args, **options)

        return call


def load() -> Any:
    """onnx2pytorch's ConvertModel, a class. Raises ImportError."""
    with _stand_ins():
        from onnx2pytorch import ConvertModel
    return ConvertModel


@contextlib.contextmanager
def _stand_ins() -> Iterator[None]:
    """A context in which importing torchvision gives modules that load it later."""
    if "torchvision" in sys.modules:
        yield
        return
    whole, *parts = made = [_Later(name) for name in LATER]
    for part in parts:
        setattr(whole, part.__name__.rpartition(".")[2], part)
    sys.modules |= {module.__name__: module for module in made}
    try:
        yield
    finally:
        for name in LATER:
            del sys.modules[name]
