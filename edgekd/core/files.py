"""What lies at a path that a user names. Errors name the path and where it was named.

`Path.exists` and its siblings say False for some errors of the file system and raise others: which,
depends on the version of Python. The functions here answer with False only where nothing lies at
the path, and raise PathError for everything else: a name that is too long, a folder that may not be
read, a loop of links.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from edgekd.core.errors import PathError

# Nothing lies at the path: no entry of that name, or a file where one of its folders should be.
_ABSENT = (errno.ENOENT, errno.ENOTDIR)

_NEXT_STEPS = {
    errno.EACCES: "let yourself read it (chmod u+rX), or run as a user who may",
    errno.EPERM: "let yourself read it (chmod u+rX), or run as a user who may",
    errno.ENAMETOOLONG: "name a path whose parts have at most 255 bytes each",
    errno.ELOOP: "remove the link that leads back to itself",
    errno.ENOSPC: "free some space, then run the same command again",
    errno.EDQUOT: "free some of your quota, then run the same command again",
    errno.EROFS: "name a folder on a disk that can be written to",
    errno.EMFILE: "allow more open files: ulimit -n 4096",
    errno.EFBIG: "allow larger files: ulimit -f unlimited",
    errno.EIO: "check the disk",
}


def is_file(path: Path, named: str = "") -> bool:
    """Whether a regular file lies at the path. Raises PathError when that cannot be found out."""
    mode = _mode(path, named)
    return mode is not None and stat.S_ISREG(mode)


def is_folder(path: Path, named: str = "") -> bool:
    """Whether a folder lies at the path. Raises PathError when that cannot be found out."""
    mode = _mode(path, named)
    return mode is not None and stat.S_ISDIR(mode)


def exists(path: Path, named: str = "") -> bool:
    """Whether anything lies at the path. Raises PathError when that cannot be found out."""
    return _mode(path, named) is not None


def expanded(text: str, named: str = "") -> Path:
    """The path that a text names, with "~" for a home folder. Raises PathError for "~NOBODY"."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise PathError(
            f"{named} {text}: this machine has no home folder of that name".lstrip(),
            "write the path in full; ./~NAME is a file whose name starts with ~",
        ) from None


def resolved(path: Path) -> Path:
    """The path without links and "..", as far as it exists. A loop of links stays as it is."""
    return Path(os.path.realpath(path))


def listed(folder: Path, named: str = "") -> list[Path]:
    """The paths in a folder, sorted. Raises PathError when the folder cannot be read.

    `named`: where the path stands, for the message, such as "--data" or "labels a.csv, line 5".
    """
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise problem(error, folder, named) from None


def state_of(path: Path, named: str = "") -> os.stat_result:
    """Size and times of what lies at the path. Raises PathError when they cannot be read."""
    try:
        return path.stat()
    except OSError as error:
        raise problem(error, path, named) from None


def problem(error: OSError, path: Path, named: str = "") -> PathError:
    """The error to raise for what the operating system says of a path.

    Where a folder above it may not be entered, that folder is named.
    """
    path = _closed(path) if isinstance(error, PermissionError) else path
    where = f"{named} {path}" if named else f"{path}"
    return PathError(f"{where}: {reason(error)}", next_step(error))


def _closed(path: Path) -> Path:
    """The first folder on the way to a path that may not be entered, or the path itself."""
    # Windows has no effective user.
    effective = os.access in os.supports_effective_ids
    above = reversed(path.parents)
    return next((up for up in above if not os.access(up, os.X_OK, effective_ids=effective)), path)


def reason(error: OSError) -> str:
    """Why the operating system refused, in lower case, such as "permission denied"."""
    text = error.strerror or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]


def next_step(error: OSError) -> str:
    """What to do about an error of the operating system; "" where nothing general can be said."""
    return _NEXT_STEPS.get(error.errno or 0, "")


def _mode(path: Path, named: str) -> int | None:
    """The mode of what lies at the path, links followed; None where nothing does."""
    try:
        return path.stat().st_mode
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise problem(error, path, named) from None
    except ValueError:  # a NUL byte, which no name on disk has
        return None
