"""Where a search keeps its trials: an Optuna journal on a shared disk, or a database by URL.

Every worker opens the same storage. A trial must go to one worker alone, which a journal and
PostgreSQL guarantee. SQLite does not: four processes that shared 60 trials took 82 of them.
"""

from __future__ import annotations

import contextlib
import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgekd.core.errors import EdgeKDError, MissingExtra, RecipeError, StoreError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

JOURNAL = "trials.journal"  # in the out folder
_URL = re.compile(r"[a-z][a-z0-9+.]*://", re.IGNORECASE)
_SECRET = re.compile(r"(?<=://)[^/?#\s]*@")  # user and password, and what hides in front of an @
_PARAMETER = re.compile(r"(?i)(password|passfile|sslpassword|user)=[^&\s]*")
AGAIN = "the same command goes on from the last finished trial"


def is_url(where: str) -> bool:
    """Whether a storage is a database, and not the file of a journal."""
    return _URL.match(where) is not None


def shown(where: str) -> str:
    """A storage for messages and records: without user name and password."""
    return _PARAMETER.sub(r"\1=***", _SECRET.sub("***@", where))


def default(out: Path) -> str:
    """The journal of a search whose out folder is `out`."""
    return str(out / JOURNAL)


def check(where: str) -> None:
    """Raise RecipeError for a storage that several workers cannot share, or that has no driver."""
    if not is_url(where):
        return
    kind = where.partition("://")[0].lower()
    if kind.startswith("sqlite"):
        raise RecipeError(
            f"--storage {shown(where)}: SQLite may give one trial to two workers",
            "name a file for a journal (--storage search.journal), or a PostgreSQL server "
            "(--storage postgresql+psycopg://USER@HOST/DATABASE)",
        )
    if kind in ("redis", "rediss"):
        raise RecipeError(
            f"--storage {shown(where)}: Redis is not supported",
            "name a file for a journal, or a PostgreSQL server",
        )


def open_storage(where: str) -> BaseStorage:
    """The storage, whose tables or file are created when they are not there yet.

    Raises RecipeError for a URL that is none, MissingExtra where its driver is not installed, and
    StoreError when the file or the server cannot be reached.
    """
    check(where)
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with errors(where):
        if is_url(where):
            return _database(where)
        # Optuna's lock is a symbolic link to this path: it is only followed when it is absolute.
        path = Path(where).absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        from optuna.storages.journal import JournalFileBackend

        return optuna.storages.JournalStorage(JournalFileBackend(str(path)))


def _database(url: str) -> BaseStorage:
    import optuna
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    driven = re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url, flags=re.IGNORECASE)
    try:
        # Each connection is tried before its use: a server may close those that were idle for an
        # hour of training.
        return optuna.storages.RDBStorage(driven, engine_kwargs={"pool_pre_ping": True})
    except (ArgumentError, NoSuchModuleError) as error:
        raise RecipeError(
            f"--storage {shown(url)}: this is no URL of a database",
            "write postgresql+psycopg://USER@HOST/DATABASE, or name a file",
        ) from error
    except ImportError as error:
        if driven.startswith("postgresql+psycopg:"):
            raise MissingExtra("psycopg", "postgresql", "a PostgreSQL storage") from error
        raise RecipeError(
            f"--storage {shown(url)}: the Python driver of this database is not installed",
            "install it with pip, or use PostgreSQL: pip install 'edgekd[postgresql]'",
        ) from error


@contextlib.contextmanager
def errors(where: str) -> Iterator[None]:
    """Turn what a storage raises into a StoreError that names it without its password."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="optuna")
            yield
    except EdgeKDError:
        raise
    except OSError as error:
        raise StoreError(
            f"the storage {shown(where)}: {error.strerror or error}",
            "name a file on a disk that every worker can write to",
        ) from error
    except ValueError as error:  # a line of the journal is cut or damaged
        if not isinstance(error, json.JSONDecodeError) and "log format" not in str(error):
            raise
        raise StoreError(
            f"the storage {where} is damaged: {error}",
            "remove its last line if a full disk has cut it; " + AGAIN,
        ) from error
    except Exception as error:
        if not _of_a_database(error):
            raise
        # The driver's own words may hold the URL with its password: the first line is enough.
        first = shown(str(error.__cause__ or error)).strip().partition("\n")[0]
        raise StoreError(
            f"the storage {shown(where)} cannot be used: {first}",
            f"check that the server runs and that the URL is right; {AGAIN}",
        ) from error


def _of_a_database(error: Exception) -> bool:
    names = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return "sqlalchemy" in names or type(error).__name__ == "StorageInternalError"
