"""Keeps what nothing here needs out of the import of timm and torchvision: 1.6 of 2.2 s.

Importing torchvision and timm imports torch._dynamo (1.2 s), which only compiling needs, and wandb
(0.3 s), which only timm's own training scripts need. They name two functions of torch._dynamo
meanwhile, and get functions that import it when they are called.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

DYNAMO = "torch._dynamo"
UTILS = f"{DYNAMO}.utils"
WANDB = "wandb"


def _disable(
    function: Callable[..., Any] | None = None, recursive: bool = True, **options: Any
) -> Any:
    """torch._dynamo.disable, for code that is not being compiled."""
    if function is None:
        return functools.partial(_disable, recursive=recursive, **options)

    @functools.cache
    def disabled() -> Callable[..., Any]:
        found: Callable[..., Any] = _real(DYNAMO).disable(function, recursive, **options)
        return found

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return disabled()(*args, **kwargs)

    return call


def _is_compile_supported(device: str) -> bool:
    """torch._dynamo.utils.is_compile_supported."""
    return bool(_real(UTILS).is_compile_supported(device))


def _real(name: str) -> Any:
    return importlib.import_module(name)


class _StandIn(types.ModuleType):
    """A module that gives way to the real one when anything else is asked of it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        for each in (DYNAMO, UTILS):
            if isinstance(sys.modules.get(each), _StandIn):
                del sys.modules[each]
        return getattr(_real(self.__name__), name)


@contextlib.contextmanager
def kept_out() -> Iterator[None]:
    """Keep torch._dynamo and wandb out of what is imported meanwhile, unless they are there."""
    dynamo, utils = _StandIn(DYNAMO), _StandIn(UTILS)
    vars(dynamo).update(__path__=[], disable=_disable, utils=utils)
    vars(utils).update(is_compile_supported=_is_compile_supported)
    places: dict[str, Any] = {WANDB: None}  # None: importing it raises ImportError
    if DYNAMO not in sys.modules:
        places |= {DYNAMO: dynamo, UTILS: utils}
    placed = {name: module for name, module in places.items() if name not in sys.modules}
    sys.modules.update(placed)
    try:
        yield
    finally:
        for name, module in placed.items():
            if name in sys.modules and sys.modules[name] is module:
                del sys.modules[name]
