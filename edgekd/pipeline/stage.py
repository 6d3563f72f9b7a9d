"""One row of the table of stages."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from edgekd.pipeline.jobs import Job
from edgekd.pipeline.stage_settings import StageSettings


@dataclasses.dataclass(frozen=True)
class Stage:
    """One row of the table.

    `settings(job)` is hashed into the stage's key and passed to `function`; a stage without
    settings has None. The function's other inputs are the artifacts of `parents`, in this order; a
    parent that the job does not have is None. `wanted(job)` says whether the recipe asks for the
    stage. All processes of a launcher work on a `shared` stage together; any other stage runs in
    the main process alone. `counts`: {parent: a digest of what the stage reads of its artifact},
    for a parent of which that is a part only; the digest stands in the key for the whole.
    """

    name: str
    version: int
    function: str
    produces: type
    parents: tuple[str, ...]
    settings: Callable[[Job], StageSettings] | None
    wanted: Callable[[Job], bool] = lambda _job: True
    shared: bool = False
    counts: Mapping[str, Callable[[Any], str]] = dataclasses.field(default_factory=dict)

    @property
    def module(self) -> str:
        """The module of `function`, without "edgekd."."""
        return self.function.partition(":")[0].removeprefix("edgekd.")
