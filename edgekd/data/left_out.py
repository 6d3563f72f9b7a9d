"""What a source leaves out, and the sentences that say so.

A file that is left out for no fault of the user's, such as a text file, is only counted. Anything
else that a user would miss becomes a warning with the number of files and the first names.
"""

from __future__ import annotations

import dataclasses
import enum
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePath

from edgekd.data.file_kinds import FileKind

# A warning names this many files, enough to find the place, and counts the rest.
NAMED = 3


class Why(enum.StrEnum):
    """Why a file or a folder is left out. The values are the keys of `ignored` in report.json."""

    HIDDEN = "hidden"
    HIDDEN_IMAGE = "hidden image"
    NOT_AN_IMAGE = "not an image"
    OTHER_FORMAT = "image in a format that is not read"
    NO_SUFFIX = "image without an image's suffix"
    ARCHIVE = "archive"
    OUTSIDE = "image outside a class folder"
    BROKEN_LINK = "broken link"
    FOLDER_LINK = "link to a folder"
    NOT_REGULAR = "not a regular file"
    NO_PIXELS = "DICOM file without an image"
    NO_LABEL = "neither image nor label"
    NO_IMAGE = "label without an image"


@dataclasses.dataclass(frozen=True)
class _Words:
    """The words for one reason: "3 broken links were left out", and what to do."""

    one: str
    many: str
    step: str


_WARNED = {
    Why.HIDDEN_IMAGE: _Words(
        "image with a hidden name", "images with hidden names", "rename them if you want them"
    ),
    Why.OTHER_FORMAT: _Words(
        "file in a format that is not read",
        "files in a format that is not read",
        "convert them to PNG, JPEG or DICOM",
    ),
    Why.NO_SUFFIX: _Words(
        "image without an image's suffix", "images without an image's suffix", "rename them"
    ),
    Why.ARCHIVE: _Words("archive", "archives", "unpack what belongs to the data"),
    Why.OUTSIDE: _Words(
        "image outside a class folder",
        "images outside a class folder",
        "move them into the folder of their class",
    ),
    Why.BROKEN_LINK: _Words(
        "link that leads nowhere", "links that lead nowhere", "bring back what they point to"
    ),
    Why.FOLDER_LINK: _Words(
        "link to a folder",
        "links to folders",
        "copy the folders, since links could lead in a circle",
    ),
    Why.NOT_REGULAR: _Words(
        "pipe, socket or device with an image's name",
        "pipes, sockets or devices with an image's name",
        "remove them",
    ),
    Why.NO_PIXELS: _Words(
        "DICOM file without an image (a report or a presentation state)",
        "DICOM files without an image (reports or presentation states)",
        "move them elsewhere",
    ),
    Why.NO_IMAGE: _Words(
        "label without an image", "labels without an image", "put the images beside them"
    ),
}

# Why a file of each kind is left out.
_KINDS = {
    FileKind.OTHER_IMAGE: Why.OTHER_FORMAT,
    FileKind.UNNAMED_IMAGE: Why.NO_SUFFIX,
    FileKind.ARCHIVE: Why.ARCHIVE,
    FileKind.LITTER: Why.HIDDEN,
    FileKind.OTHER: Why.NOT_AN_IMAGE,
}


class LeftOut:
    """Counts what is left out, with the names, by reason."""

    def __init__(self) -> None:
        self._names: dict[Why, list[str]] = defaultdict(list)

    def add(self, why: Why, name: str) -> None:
        """Count a file or a folder; `name` is relative to the data."""
        self._names[why].append(name)

    def add_kind(self, kind: FileKind, name: str) -> None:
        """Count a file of a kind that is not read."""
        self.add(_KINDS[kind], name)

    @property
    def counts(self) -> dict[str, int]:
        """{reason: how many}, sorted by the reason."""
        return {why.value: len(names) for why, names in sorted(self._names.items())}

    def below(self, folder: str) -> str:
        """What was left out in a folder, for a message: "3 hidden, 2 archive", or ""."""
        found = {
            why: sum(name.startswith(f"{folder}/") for name in names)
            for why, names in self._names.items()
        }
        return ", ".join(f"{count} {why}" for why, count in sorted(found.items()) if count)

    def warnings(self) -> list[str]:
        """A sentence for each reason that a user should know."""
        return [
            _sentence(_WARNED[why], sorted(names))
            for why, names in sorted(self._names.items())
            if why in _WARNED
        ]


def _sentence(words: _Words, names: Sequence[str]) -> str:
    what = words.one if len(names) == 1 else words.many
    were = "was" if len(names) == 1 else "were"
    return f"{len(names)} {what} {were} left out: {places(names)}; {words.step}"


def places(names: Sequence[str]) -> str:
    """The first NAMED names, how many more there are, and the suffixes and folders of all."""
    quoted = [name if name.isprintable() else repr(name) for name in names]
    if len(names) <= NAMED:
        return ", ".join(quoted)
    folders = sorted({str(PurePath(name).parent) for name in quoted})
    where = f", in {folders[0]}" if len(folders) == 1 else f", in {len(folders)} folders"
    return f"{', '.join(quoted[:NAMED])} and {len(names) - NAMED} more{where}"
