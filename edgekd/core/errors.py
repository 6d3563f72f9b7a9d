"""The errors of EdgeKD. Each message says what was found, what was expected, and the next step.

    EdgeKDError                exit code 2 unless stated otherwise
    ├── RecipeError            a recipe, a --set or a setting is wrong
    ├── UnknownName            a name is not in a list; the message offers the nearest one
    ├── ProfileError           a device profile is wrong
    ├── DataError              images, folders or labels are wrong
    ├── WeightsError           a file of weights is unsafe, broken, or of another network
    ├── ModelFileError         a .tflite, .onnx or JSON file cannot be read
    ├── PathError              the operating system refuses a path
    ├── UnsupportedNetwork     a network has an operator without an int8 rule
    ├── StoreError             the out folder is locked, full, or not a folder
    ├── TrainingDiverged       the loss or the weights became NaN or infinite
    ├── OutOfMemory            a batch does not fit into the memory of a GPU
    ├── WorkerLost             one of the processes that share a build has ended
    ├── DeviceError            a transport, a board or a runtime failed
    ├── MissingExtra           a package is not installed
    ├── PluginError            a plug-in of another package does not work
    └── GateFailed             exit code 1: the work was done; the result is too bad

The command line prints `str(error)` and exits with `exit_code`. Nothing else calls `sys.exit`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class EdgeKDError(Exception):
    """Base class of all errors that EdgeKD raises on purpose.

    `what` names the file or the key, and says what was found and what was expected. `next_step`
    says what to type or to change; it may be empty.
    """

    exit_code = 2

    def __init__(self, what: str, next_step: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.what}\n  next: {self.next_step}" if self.next_step else self.what

    def __reduce__(self) -> tuple[Any, ...]:
        """As it is: an error that a worker process raises reaches the process that asked it."""
        return _as_it_was, (type(self), self.args, self.__dict__)


def _as_it_was(kind: type[EdgeKDError], args: tuple[Any, ...], fields: dict[str, Any]) -> Any:
    """An error of a kind whose arguments may be others than those of `EdgeKDError`."""
    made = kind.__new__(kind, *args)
    made.__dict__.update(fields)
    return made


class RecipeError(EdgeKDError):
    """A recipe, a `--set` or a setting is wrong."""


class UnknownName(EdgeKDError):
    """A name is not in a list. The message offers the nearest name.

    `near` is that name, or None when no known name is similar.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], next_step: str = "") -> None:
        names = list(known)
        # What follows a colon is an argument: "diks:120" is near "disks".
        near = nearest(name, names) or nearest(name.partition(":")[0], names)
        hint = f"did you mean {near!r}?" if near else ""
        super().__init__(f"unknown {kind} {name!r}", " ".join(filter(None, [hint, next_step])))
        self.near = near


class ProfileError(EdgeKDError):
    """A device profile is wrong."""


class DataError(EdgeKDError):
    """Images, folders or labels are wrong."""


class WeightsError(EdgeKDError):
    """A file of weights is unsafe, broken, or of another network."""


class ModelFileError(EdgeKDError):
    """A .tflite, .onnx or JSON file cannot be read."""


class PathError(EdgeKDError):
    """The operating system refuses a path: its name is too long, or it may not be read."""


class UnsupportedNetwork(EdgeKDError):
    """A network has an operator without an int8 rule. The message names operator and module."""


class StoreError(EdgeKDError):
    """The out folder is locked, full, or not a folder."""


class TrainingDiverged(EdgeKDError):
    """The loss or the weights became NaN or infinite. The last good state is kept."""


class OutOfMemory(EdgeKDError):
    """A batch does not fit into the memory of a GPU. The message names one that does."""


class WorkerLost(EdgeKDError):
    """One of the processes that share a build has ended. Finished stages and epochs are kept."""


class DeviceError(EdgeKDError):
    """A transport, a board or its runtime failed."""


class MissingExtra(EdgeKDError):
    """A package is not installed.

    `extra`: EdgeKD's extra that brings the package, "" for one that every installation needs.
    """

    def __init__(self, package: str, extra: str, why: str) -> None:
        super().__init__(
            f"{why} needs the package {package!r}, which is not installed",
            f"pip install 'edgekd[{extra}]'" if extra else f"pip install {package}",
        )


class PluginError(EdgeKDError):
    """A plug-in of another package does not load, or is not what its entry point promises."""


class GateFailed(EdgeKDError):
    """The work was done, but the result is not good enough, for example its accuracy."""

    exit_code = 1


# How similar a known name must be to be worth a hint: difflib's ratio, twice the letters in common
# over all letters. At 0.6, its default, "model.onnx" is offered "mobilevit_s"; a slip of one or two
# letters stays above this.
NEAR = 0.75
# Letters from which the beginning of a known name counts as near: "coral" for "coral-usb".
BEGINNING = 4


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most similar to `name`, or None when none is near.

    Upper and lower case, and `-` and `_`, count as the same.
    """
    by_spelling: dict[str, str] = {}
    for one in known:
        by_spelling.setdefault(_spelling(one), one)
    wanted = _spelling(name)
    matches = difflib.get_close_matches(wanted, list(by_spelling), n=1, cutoff=NEAR)
    if not matches and len(wanted) >= BEGINNING:
        matches = sorted((one for one in by_spelling if one.startswith(wanted)), key=len)
    return by_spelling[matches[0]] if matches else None


def _spelling(name: str) -> str:
    return name.casefold().replace("-", "_")
