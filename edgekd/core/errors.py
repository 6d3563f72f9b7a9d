"""The family tree of errors. Each message says what was found, what was expected, and the next step.

    EdgeKDError                exit code 2 unless said otherwise
    ├── RecipeError            a recipe file, a --set or a stage setting is wrong
    ├── UnknownName            a name that is not in a list; says the nearest one
    ├── ProfileError           a device profile's file is wrong
    ├── DataError              images, folders, labels
    ├── WeightsError           a file of weights is unsafe, broken or of another network
    ├── ModelFileError         a .tflite or .onnx that cannot be read
    ├── UnsupportedNetwork     a network with an op that has no int8 rule
    ├── StoreError             the out folder: locked, full, not a folder
    ├── TrainingDiverged       NaN or infinity in training
    ├── DeviceError            a transport, a board or a runtime fails
    ├── MissingExtra           an optional package is not installed
    ├── PluginError            a plug-in of another package does not load
    └── GateFailed             exit code 1: the work was done and the result is not good enough

The CLI prints `str(error)` and exits with `exit_code`; nothing else in the package calls `sys.exit`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EdgeKDError(Exception):
    """Bad input or a failed gate, told in one message.

    `what` names the file or the key and says what was found and expected; `next_step` says what to type or change.
    """

    exit_code = 2

    def __init__(self, what: str, next_step: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.what}\n  next: {self.next_step}" if self.next_step else self.what


class RecipeError(EdgeKDError):
    """A recipe file, a `--set` or a stage setting is wrong."""


class UnknownName(EdgeKDError):
    """A name that is not in a list."""

    def __init__(self, kind: str, name: str, known: Iterable[str], next_step: str = "") -> None:
        near = nearest(name, known)
        hint = f"did you mean {near!r}?" if near else ""
        super().__init__(f"unknown {kind} {name!r}", " ".join(filter(None, [hint, next_step])))
        self.near = near


class ProfileError(EdgeKDError):
    """A device profile's file is wrong."""


class DataError(EdgeKDError):
    """Images, folders or labels are wrong."""


class WeightsError(EdgeKDError):
    """A file of weights is unsafe, broken or of another network."""


class ModelFileError(EdgeKDError):
    """A .tflite or .onnx that cannot be read."""


class UnsupportedNetwork(EdgeKDError):
    """A network with an op that has no int8 rule; names the op and the module."""


class StoreError(EdgeKDError):
    """The out folder is locked, full, or not a folder."""


class TrainingDiverged(EdgeKDError):
    """NaN or infinity in training; the last good state was kept."""


class DeviceError(EdgeKDError):
    """A transport, a board or its runtime fails."""


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
    """The work was done and the result is not good enough: accuracy, parity, unmapped ops, budget."""

    exit_code = 1


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name closest to `name`, or None when nothing is close."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return matches[0] if matches else None
