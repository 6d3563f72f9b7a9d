"""An artifact of a few bytes, for tests of the store and for the processes that they start."""

from __future__ import annotations

from edgekd.core.artifacts import Network


def artifact(state: bytes = b"weights", px: int = 96) -> Network:
    """A network of one layer; `state` is its payload."""
    return Network(
        "net", {"num_classes": 2}, px, [0.5], [0.5], [{"epoch": 1, "loss": 0.1}], {}, state
    )
