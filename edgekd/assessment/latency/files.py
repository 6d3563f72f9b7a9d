"""Read and write the latency files of profiles (schema edgekd.latency/1)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgekd.assessment.latency.model import LatencyModel
from edgekd.core.errors import ModelFileError, ProfileError
from edgekd.core.files import reason
from edgekd.core.records import Record, from_json, present, to_json

SCHEMA = "edgekd.latency/1"


class LatencyFile(Record, frozen=True):
    """A latency file: precision ("int8" or "fp32") -> model."""

    schema: str
    models: dict[str, LatencyModel]


def read(path: Path) -> dict[str, LatencyModel]:
    """{precision: model} of a file that `write` made. Raises ProfileError naming the file."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ProfileError(
            f"{path}: {reason(error)}", "correct latency in the profile, or leave it empty"
        ) from None
    except (ValueError, RecursionError) as error:
        raise _broken(f"{path} is not JSON: {error}") from None
    try:
        found = from_json(LatencyFile, body, str(path))
    except ModelFileError as error:
        raise _broken(error.what) from None
    if found.schema != SCHEMA:
        raise _broken(f"{path}: schema is {found.schema!r}, not {SCHEMA!r}")
    for precision, model in found.models.items():
        figures = [*model.coefficients.values(), model.near, model.far, *model.span]
        if not all(math.isfinite(figure) and figure >= 0 for figure in figures):
            raise _broken(f"{path}: models.{precision} holds a figure that is negative or infinite")
    return found.models


def _broken(what: str) -> ProfileError:
    return ProfileError(what, "fit it again: edgekd profiles fit NAME bench/*.json")


def write(models: Mapping[str, LatencyModel]) -> str:
    """The text of a latency file for {precision: model}."""
    file = LatencyFile(SCHEMA, dict(models))
    return json.dumps(to_json(file), indent=1, sort_keys=True) + "\n"


def same(one: Mapping[str, LatencyModel], other: Mapping[str, LatencyModel]) -> bool:
    """Whether two fits agree to 4 digits, and in the words of their basis.

    Linear algebra differs in the last bits between machines.
    """

    def figures(models: Mapping[str, LatencyModel]) -> dict[str, list[float]]:
        return {
            name: [
                *(model.coefficients[key] for key in sorted(model.coefficients)),
                model.near,
                model.far,
                *(factor.value for factor in model.factors),
                *(factor.value for factor in (present(model.by_threads) or {}).values()),
            ]
            for name, model in models.items()
        }

    mine, theirs = figures(one), figures(other)
    return mine.keys() == theirs.keys() and all(
        one[name].basis() == other[name].basis()
        and len(mine[name]) == len(theirs[name])
        and np.allclose(mine[name], theirs[name], rtol=1e-4, atol=1e-12)
        for name in mine
    )
