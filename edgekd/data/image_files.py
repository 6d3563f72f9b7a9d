"""Where the images lie that a table names: below one folder, but not always at the named place.

A release may divide its images among folders that its table does not name (`images_001/images/`),
name a folder above the one that holds the table, or name images without a suffix.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from edgekd.core.errors import DataError
from edgekd.core.files import is_file, problem, resolved
from edgekd.data.file_kinds import IMAGE_SUFFIXES
from edgekd.data.label_table import LabelTable
from edgekd.data.shown_names import SHOWN, shown

# Folders this deep below the root are searched. Releases have at most two, and a root may be a
# whole home folder.
_DEPTH = 4


def locate(root: Path, named: Mapping[str, str]) -> tuple[dict[str, Path], list[str]]:
    """The file of each image, and the names that have none. `named`: {the image's name: file and
    line, for messages}.

    A name is looked for below `root`; then without its first folder, where that is `root` itself or
    is left out on disk; then by its last part (without a suffix: its stem) anywhere below `root`.

    Raises DataError for a last part that fits several files, and PathError for a folder that cannot
    be read.
    """
    found = {name: _direct(root, name, where) for name, where in named.items()}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        index = _index(root, missing)
        for name in missing:
            places = index.get(_last(name), [])
            if len(places) > 1:
                raise DataError(
                    f"{named[name]}: {name} fits {len(places)} files: "
                    f"{shown([str(place.relative_to(root)) for place in sorted(places)])}",
                    "write the folder into the image's name, or name the one folder that holds the "
                    "images with --set data.images=DIR",
                )
            found[name] = places[0] if places else None
    return (
        {name: path for name, path in found.items() if path is not None},
        [name for name in missing if found[name] is None],
    )


def _direct(root: Path, name: str, where: str) -> Path | None:
    """The file at the named place, or at the same place without the first folder."""
    first, _, rest = name.partition("/")
    places = [root / name]
    if rest:
        places.append(root / rest)
    if first == resolved(root).name:
        places.append(resolved(root).parent / name)
    return next((place for place in places if is_file(place, f"{where}:")), None)


def _last(name: str) -> str:
    """The part of a name that is searched for: its file name, or its stem without a suffix."""
    return PurePosixPath(name).name


def _index(root: Path, missing: list[str]) -> dict[str, list[Path]]:
    """{last part: the files below `root` that have it}, for the missing names alone."""
    wanted = {_last(name) for name in missing}
    found: dict[str, list[Path]] = defaultdict(list)
    for here, folders, files in os.walk(root, onerror=_refuse_unreadable):
        depth = len(Path(here).relative_to(root).parts)
        folders[:] = [
            name for name in folders if not name.startswith((".", "__")) and depth < _DEPTH
        ]
        for file in files:
            path = Path(here, file)
            if path.suffix.lower() in IMAGE_SUFFIXES:
                for part in {file, path.stem} & wanted:
                    found[part].append(path)
    return found


def _refuse_unreadable(error: OSError) -> None:
    raise problem(error, Path(error.filename))


def refused(missing: Sequence[str], table: LabelTable, root: Path) -> DataError:
    """The error that lists missing images."""
    where = {row.image: row.where for row in table.rows}
    lines = [f"{name} ({where[name].rpartition(', ')[2]})" for name in missing[:SHOWN]]
    more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    return DataError(
        f"labels {table.path}: {len(missing)} of {len(where)} images are not under {root}: "
        f"{shown(lines)}{more}",
        "name the images' folder with --set data.images=DIR, or leave them out with "
        "--set data.on_error=skip",
    )


def left_out(missing: Sequence[str]) -> list[str]:
    """A warning that counts missing images and names the first three; none without any."""
    if not missing:
        return []
    more = ", ..." if len(missing) > 3 else ""
    return [f"{len(missing)} images are missing and were left out: {', '.join(missing[:3])}{more}"]
