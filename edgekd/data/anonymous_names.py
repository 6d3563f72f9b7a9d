"""Names of files without the parts that identify a person, for sources with DICOM files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from pathlib import PurePosixPath

from edgekd.data import dicom_headers
from edgekd.data.dicom_headers import Header
from edgekd.data.file_kinds import IMAGE_SUFFIXES
from edgekd.data.sources import SPLIT_NAMES, UNLABELLED, Item


class AnonymousNames:
    """Replaces parts of paths, and keeps the names unique.

    `headers`: by name. `groups`: the anonymous group of each item that has one. `unreadable`: names
    of DICOM files whose headers could not be read. `taken`: all names of the source.
    """

    def __init__(
        self,
        headers: Mapping[str, Header],
        groups: Mapping[str, str],
        unreadable: Set[str],
        taken: Set[str],
    ) -> None:
        self._headers, self._groups, self._unreadable = headers, groups, unreadable
        self._taken = set(taken)
        self._known = {word for header in headers.values() for word in header.words}
        self.changed = 0

    def of(self, item: Item) -> str:
        """The item's name, with each part replaced that identifies a person.

        The names of its split and its class stay. Every other part of an unreadable file's name is
        replaced, since nothing says whose it is.
        """
        name, word = item.name, "patient"
        identifies: Callable[[str], bool] = self._any
        if name in self._headers:
            identifies, word = self._headers[name].identifies, self._groups.get(name, word)
        elif name in self._unreadable:
            identifies, word = self._everything, "unreadable"
        path = PurePosixPath(name)
        stem, suffix = path.stem, path.suffix
        if suffix.lower() not in IMAGE_SUFFIXES:
            stem, suffix = path.name, ""
        parts = [*path.parts[:-1], stem]
        clean = [word if not _is_class(part, item) and identifies(part) else part for part in parts]
        if clean == parts:
            return name
        self.changed += 1
        return self._unique("/".join(clean), suffix)

    def sentence(self, text: str) -> str:
        """A sentence without identifying words."""
        return dicom_headers.without(text, self._known)

    def _unique(self, stem: str, suffix: str) -> str:
        found, copy = f"{stem}{suffix}", 1
        while found in self._taken:
            copy += 1
            found = f"{stem}-{copy}{suffix}"
        self._taken.add(found)
        return found

    def _any(self, part: str) -> bool:
        """Whether a part of another file's path holds a word that identifies somebody."""
        return self.sentence(part) != part

    @staticmethod
    def _everything(_part: str) -> bool:
        return True


def _is_class(part: str, item: Item) -> bool:
    """Whether a part of a path is the name of the item's split or class."""
    return part == item.label or part == UNLABELLED or part.lower() in SPLIT_NAMES
