"""Walks a folder of images: its visible folders, and the images below them.

What is not an image is counted in a `LeftOut`. A folder that cannot be read is an error, since the
images in it would go missing without a trace.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from edgekd.core import files
from edgekd.data.file_kinds import FileKind, is_litter, kind_of, kind_of_name
from edgekd.data.left_out import LeftOut, Why


def printable(name: str) -> str:
    r"""A file name that can be written as UTF-8; other bytes become escapes like \xff."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


class FolderWalk:
    """Walks folders below `root`. Names in `left_out` are relative to it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.left_out = LeftOut()

    def name(self, path: Path) -> str:
        """The path relative to the root, with forward slashes, as text that can be written."""
        return printable(path.relative_to(self.root).as_posix())

    def folders(self, parent: Path) -> list[Path]:
        """Visible sub-folders, sorted. Everything else in the folder is counted as left out.

        A link to a folder is taken. Raises PathError when the folder cannot be read.
        """
        found = []
        for path in files.listed(parent):
            if path.name.startswith((".", "__")) or is_litter(path.name):  # .git, __MACOSX
                self._hidden(path)
            elif files.is_folder(path):
                found.append(path)
            elif path.name != "manifest.csv" and self._is_image(path):
                self.left_out.add(Why.OUTSIDE, self.name(path))
        return found

    def images(self, folder: Path) -> Iterator[Path]:
        """The images in a folder, at any depth.

        Links to folders are not followed. Raises PathError when a folder cannot be read.
        """
        waiting = [folder]
        while waiting:
            for path in files.listed(waiting.pop()):
                if path.name.startswith(".") or is_litter(path.name):
                    self._hidden(path)
                elif not files.is_folder(path):
                    if self._is_image(path):
                        yield path
                elif path.is_symlink():
                    self.left_out.add(Why.FOLDER_LINK, self.name(path))
                else:
                    waiting.append(path)

    def _is_image(self, path: Path) -> bool:
        """Whether a file is an image that can be read. Anything else is counted as left out."""
        if not files.is_file(path):
            why = Why.BROKEN_LINK if path.is_symlink() else Why.NOT_REGULAR
            self.left_out.add(why, self.name(path))
            return False
        kind = kind_of(path)
        if kind is not FileKind.IMAGE:
            self.left_out.add_kind(kind, self.name(path))
        return kind is FileKind.IMAGE

    def _hidden(self, path: Path) -> None:
        image = kind_of_name(path.name) is FileKind.IMAGE and not path.is_dir()
        self.left_out.add(Why.HIDDEN_IMAGE if image else Why.HIDDEN, self.name(path))
