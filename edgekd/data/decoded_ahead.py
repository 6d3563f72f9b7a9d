"""Images that one stage decodes for the next one, so that their files are read once.

To decode a photograph takes several times as long as to bring it to two sizes in place of one.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable

from edgekd.data.sources import Source

# Bytes of pixels that are kept, 890 photographs at 224 px; the files of all others are read again.
MOST = 128 << 20


class DecodedAhead[Image]:
    """Decoded images of one source, by name and by what made their pixels. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._source: Source | None = None
        self._images: dict[Hashable, Image] = {}
        self._bytes = 0

    def keep(self, source: Source, key: Hashable, image: Image, size: int) -> None:
        """Keep an image of `size` bytes, and drop those of another source.

        Nothing is kept where there is no room.
        """
        with self._lock:
            if self._source is not source:
                self._source, self._images, self._bytes = source, {}, 0
            if key not in self._images and self._bytes + size <= MOST:
                self._images[key] = image
                self._bytes += size

    def get(self, source: Source, key: Hashable) -> Image | None:
        """The image that is kept under a key, or None."""
        with self._lock:
            return self._images.get(key) if self._source is source else None

    def forget(self) -> None:
        """Drop all images."""
        with self._lock:
            self._source, self._images, self._bytes = None, {}, 0
