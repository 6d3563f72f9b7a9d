"""EdgeKD: distil, quantize, certify and ship vision models to boards and phones.

    import edgekd

    result = edgekd.build(data="photos/", student="mobilenetv2_050", profile="pi4")
    print(result.path, result.certificate.passed)

`import edgekd` is quick: torch, numpy and the other large libraries are loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what a type checker sees; at run time, `__getattr__` finds the same names
    from edgekd.app.api import bench as bench
    from edgekd.app.api import build as build
    from edgekd.app.api import check as check
    from edgekd.app.api import convert as convert
    from edgekd.app.api import report as report
    from edgekd.app.api import search as search
    from edgekd.app.api import verify as verify
    from edgekd.app.progress import Advanced as Advanced
    from edgekd.app.progress import Note as Note
    from edgekd.app.progress import Progress as Progress
    from edgekd.app.progress import StageFinished as StageFinished
    from edgekd.app.progress import StageStarted as StageStarted
    from edgekd.app.progress import Update as Update
    from edgekd.app.results import BenchFailure as BenchFailure
    from edgekd.app.results import BenchResult as BenchResult
    from edgekd.app.results import BuildResult as BuildResult
    from edgekd.app.results import CheckResult as CheckResult
    from edgekd.app.results import ReportResult as ReportResult
    from edgekd.app.results import SearchResult as SearchResult
    from edgekd.app.results import VerifyResult as VerifyResult
    from edgekd.core.errors import DataError as DataError
    from edgekd.core.errors import DeviceError as DeviceError
    from edgekd.core.errors import EdgeKDError as EdgeKDError
    from edgekd.core.errors import GateFailed as GateFailed
    from edgekd.core.errors import MissingExtra as MissingExtra
    from edgekd.core.errors import ModelFileError as ModelFileError
    from edgekd.core.errors import ProfileError as ProfileError
    from edgekd.core.errors import RecipeError as RecipeError
    from edgekd.core.errors import StoreError as StoreError
    from edgekd.core.errors import TrainingDiverged as TrainingDiverged
    from edgekd.core.errors import UnknownName as UnknownName
    from edgekd.core.errors import UnsupportedNetwork as UnsupportedNetwork
    from edgekd.core.errors import WeightsError as WeightsError
    from edgekd.settings.recipe import Recipe as Recipe

__version__ = "0.2.0"

# The public names, by the module that defines them.
_NAMES = {
    "edgekd.app.api": "bench build check convert report search verify",
    "edgekd.app.progress": "Advanced Note Progress StageFinished StageStarted Update",
    "edgekd.app.results": (
        "BenchFailure BenchResult BuildResult CheckResult ReportResult SearchResult VerifyResult"
    ),
    "edgekd.core.errors": (
        "DataError DeviceError EdgeKDError GateFailed MissingExtra ModelFileError ProfileError "
        "RecipeError StoreError TrainingDiverged UnknownName UnsupportedNetwork WeightsError"
    ),
    "edgekd.settings.recipe": "Recipe",
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = ["__version__", *sorted(_MODULE_OF)]

# A package's first import binds its name here, and the room edgekd/search has the name of a public
# function. So it is imported now, and its name is left to the function. The room itself is empty.
importlib.import_module("edgekd.search")
globals().pop("search")


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'edgekd' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
