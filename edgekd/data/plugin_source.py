"""Sources of images that installed packages add, by the entry point "edgekd.data_sources"."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgekd.core.artifacts import canonical_json, sha256
from edgekd.core.errors import EdgeKDError, PluginError
from edgekd.core.plugins import Group, Plugin
from edgekd.data.sources import Item, Source, SourceFacts

GROUP: Group = "edgekd.data_sources"


class PluginSource:
    """A `sources.Source` of another package.

    `--data NAME:ARGUMENT` calls the object of the entry point NAME with the text ARGUMENT, which is
    "" without a colon. It returns a Source. The package's name, version and code are part of the
    fingerprint, so that the images are read again when the package changes.

    Raises PluginError for a package that does not load or that returns something else. EdgeKD's own
    errors, such as DataError, pass through.
    """

    def __init__(self, plugin: Plugin, argument: str) -> None:
        what = f"{GROUP} {plugin.name!r} of the package {plugin.package}"
        try:
            self._source: Source = plugin.load()(argument)
        except EdgeKDError:
            raise
        except Exception as error:  # a package's code may raise anything
            raise PluginError(
                f"{what} cannot open {argument!r}: {type(error).__name__}: {error}",
                "see the package's own documentation, or upgrade it: "
                f"pip install -U {plugin.distribution}",
            ) from error
        if not isinstance(getattr(self._source, "facts", None), SourceFacts):
            raise PluginError(
                f"{what} is not a source of images: {plugin.target} must return an "
                "edgekd.data.sources.Source, whose facts are a SourceFacts",
                f"correct {plugin.target}, or remove the package: "
                f"pip uninstall {plugin.distribution}",
            )
        self._identity = plugin.identity
        self.name, self.facts = self._source.name, self._source.facts

    @property
    def labels(self) -> Sequence[str] | None:
        """Every label if an image may have several, else None."""
        return self._source.labels

    def items(self) -> list[Item]:
        """Every image, in a stable order."""
        return self._source.items()

    def load(self, item: Item) -> bytes | NDArray[np.uint8]:
        """The bytes of an image file, or its pixels."""
        return self._source.load(item)

    def native_px(self) -> int:
        """The longest side of any image in pixels; 0 if unknown."""
        return self._source.native_px()

    def fingerprint(self) -> str:
        """Hash of the source's own fingerprint and of the package."""
        return sha256(canonical_json([self._identity, self._source.fingerprint()]))
