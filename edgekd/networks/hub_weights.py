"""Weights from timm's hub: whether they can be had, before anything waits for a download."""

from __future__ import annotations

import contextlib
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator

import huggingface_hub
import huggingface_hub.constants

# Seconds to wait for a connection. The hub's own client tries for more than a minute.
PATIENCE = 3.0
# The files in which timm's repositories hold their weights.
FILES = ("model.safetensors", "pytorch_model.bin")


def obtainable(repository: str) -> bool:
    """Whether the weights of a repository, such as "timm/resnet50.a1_in1k", can be had."""
    return _cached(repository) or reachable()


def _cached(repository: str) -> bool:
    return bool(repository) and any(
        isinstance(huggingface_hub.try_to_load_from_cache(repository, file), str) for file in FILES
    )


def reachable() -> bool:
    """Whether the hub, or the proxy that leads to it, accepts a connection within PATIENCE."""
    hub = urllib.parse.urlsplit(huggingface_hub.constants.ENDPOINT)
    proxy = urllib.request.getproxies().get(hub.scheme)
    if proxy and not urllib.request.proxy_bypass(hub.hostname or ""):
        hub = urllib.parse.urlsplit(proxy if "//" in proxy else f"//{proxy}")
    port = hub.port or (80 if hub.scheme == "http" else 443)
    try:
        with socket.create_connection((hub.hostname or "", port), PATIENCE):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def cache_alone_if_offline() -> Iterator[None]:
    """Make the hub's client read its local cache alone if the hub is not reachable."""
    before = huggingface_hub.constants.HF_HUB_OFFLINE
    huggingface_hub.constants.HF_HUB_OFFLINE = before or not reachable()
    try:
        yield
    finally:
        huggingface_hub.constants.HF_HUB_OFFLINE = before
