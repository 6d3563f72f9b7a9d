"""Weights from timm's hub: from its local cache, or downloaded; refused within a few seconds."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import huggingface_hub.constants

# Seconds to wait for the hub's answer. Where nobody answers, as behind a firewall that drops
# packets, the hub's own client tries for minutes.
PATIENCE = 3.0
# The file in which timm's repositories hold weights that cannot run code.
FILE = "model.safetensors"
# Seconds for which an answer, or none, is remembered: a build asks for several networks.
REMEMBERED = 30
BAD_PROXY = (407, 502, 503, 504)  # HTTP status of a proxy that does not reach the hub


class NotAvailable(Exception):
    """Weights are neither in the local cache nor to be had. The message says why."""


def file(repository: str, name: str = FILE) -> Path:
    """The file of weights of a repository, such as "timm/resnet50.a1_in1k".

    The local cache comes first, so that a later run without a network takes the same file. Raises
    NotAvailable.
    """
    found = cached(repository, name)
    if found is not None:
        return found
    if reason := unreachable():
        raise NotAvailable(reason)
    try:
        return Path(huggingface_hub.hf_hub_download(repository, name, etag_timeout=PATIENCE))
    except Exception as error:  # a proxy, no such repository, a full disk: these share no type
        raise NotAvailable(
            f"{_host()} does not give {repository}/{name} ({type(error).__name__})"
        ) from None


def cached(repository: str, name: str = FILE) -> Path | None:
    """The file in the hub's local cache, or None."""
    found = huggingface_hub.try_to_load_from_cache(repository, name)
    return Path(found) if isinstance(found, str) else None


def may_be_cached(arch: str) -> bool:
    """Whether the local cache may hold timm's weights of a network, told without timm itself."""
    base = Path(huggingface_hub.constants.HF_HUB_CACHE)
    return any(base.glob(f"models--timm--{arch}*"))


def digest(path: Path) -> str:
    """Hex sha256 of a file in the cache, where a file never changes once it is complete."""
    return _digest(path.resolve())


@functools.cache
def _digest(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def unreachable() -> str:
    """Why the hub gives nothing now; "" if it answers."""
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    return "" if reachable() else f"no answer from {_host()}"


def reachable() -> bool:
    """Whether the hub, or the proxy that leads to it, answers within PATIENCE."""
    return _answers(huggingface_hub.constants.ENDPOINT, int(time.monotonic() // REMEMBERED))


@functools.lru_cache(maxsize=1)
def _answers(endpoint: str, _now: int) -> bool:
    answered = threading.Event()

    def ask() -> None:
        with contextlib.suppress(Exception):  # of two libraries, by the hub's version
            asked = huggingface_hub.get_session().head(endpoint, timeout=PATIENCE)
            if asked.status_code not in BAD_PROXY:
                answered.set()

    # The time limits of the libraries hold for each part of a connection, and none holds for
    # looking up a name, which takes 10 s or more where nobody answers.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    return answered.is_set()


def _host() -> str:
    return urllib.parse.urlsplit(huggingface_hub.constants.ENDPOINT).hostname or ""


@contextlib.contextmanager
def cache_alone_if_offline() -> Iterator[None]:
    """Make the hub's client read its local cache alone if the hub is not reachable."""
    before = huggingface_hub.constants.HF_HUB_OFFLINE
    huggingface_hub.constants.HF_HUB_OFFLINE = before or not reachable()
    try:
        yield
    finally:
        huggingface_hub.constants.HF_HUB_OFFLINE = before
