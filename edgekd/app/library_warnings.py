"""Hides the warnings that libraries address to their own developers: users cannot act on them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


def hide() -> None:
    """Hide these warnings from now on."""
    # In docstrings of libraries, wherever no bytecode is cached.
    warnings.filterwarnings("ignore", category=SyntaxWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    # LiteRT warns that this option is for debugging, which is what the kernel check needs it for.
    warnings.filterwarnings("ignore", message=".*experimental_preserve_all_tensors")
    # pydicom's quote values of tags, which may be names. EdgeKD reports damaged files itself.
    warnings.filterwarnings("ignore", module=r"pydicom\b")


@contextmanager
def hidden() -> Iterator[None]:
    """Hide these warnings within the block."""
    with warnings.catch_warnings():
        hide()
        yield
