"""run(): runs the stages of a build in order, and skips each one whose result the store already holds."""

from __future__ import annotations

import dataclasses
import importlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from edgekd.core import artifacts
from edgekd.core.context import Context, Progress, mute, silent
from edgekd.core.errors import StoreError, UnknownName
from edgekd.core.store import Entry, Store
from edgekd.pipeline.jobs import Done, Job, load
from edgekd.pipeline.stage_keys import source_digest
from edgekd.pipeline.stage_table import Stage, stages
from edgekd.training.processes import Team, launched


def _plain(value: Any) -> Any:
    """Settings as plain JSON for the key."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return value


def run(
    job: Job,
    store: Store,
    until: str | None = None,
    progress: Progress = silent,
    on_stage: Callable[[str, Done | None], None] | None = None,
    say: Callable[[str], None] = mute,
) -> dict[str, Done]:
    """Fold over the stages. Returns what each made; raises the first error, with all finished stages kept.

    `on_stage(name, None)` is called when a stage starts to run, `on_stage(name, done)` when it is there; `say` is given
    what stages print for a person, such as the plan of a cut. Under a launcher every process folds: shared stages train
    together, the main process alone runs the others and writes, and the rest read what it wrote.
    """
    together = launched()
    chosen = stages(job)
    if until is not None and until not in [stage.name for stage in chosen]:
        raise UnknownName(
            "stage",
            until,
            [stage.name for stage in chosen],
            f"stages: {', '.join(stage.name for stage in chosen)}",
        )
    done: dict[str, Done] = {}
    for stage in chosen:
        settings = stage.settings(job)
        parents = {name: done[name].entry.digest for name in stage.parents if name in done}
        config = {name: _plain(value) for name, value in settings.items()}
        module = stage.function.partition(":")[0].removeprefix("edgekd.")
        key = together.tell(
            artifacts.stage_key(
                stage.name, stage.version, config, parents, job.recipe.seed, source_digest(module)
            )
        )
        entry = store.find(stage.name, key) if together.main else None
        cached = together.tell(entry is not None)
        if not cached:
            if on_stage:
                on_stage(stage.name, None)
            checkpoint = together.checkpoint(store.checkpoint(stage.name, key))
            context = Context(job.recipe.seed, job.source, progress, checkpoint, say)
            if stage.shared or together.main:
                with (together if stage.shared else Team()).at_work():
                    made = _make(stage, settings, done, context)
                entry = store.put(stage.name, key, *made) if together.main else None
            together.tell(None)  # the others wait until it is written
        done[stage.name] = Done(entry or _read(store, stage.name, key), cached)
        if on_stage:
            on_stage(stage.name, done[stage.name])
        if stage.name == until:
            break
    return done


def _make(
    stage: Stage, settings: Mapping[str, Any], done: Mapping[str, Done], context: Context
) -> tuple[Any, float]:
    """The stage's artifact, and the seconds it took."""
    module, _, function = stage.function.partition(":")
    produce = getattr(importlib.import_module(module), function)
    parents = [load(done, name) for name in stage.parents]
    start = time.perf_counter()
    artifact = produce(*parents, **settings, context=context)
    return artifact, time.perf_counter() - start


def _read(store: Store, name: str, key: str) -> Entry:
    """What the main process wrote, read by another one."""
    entry = store.find(name, key)
    if entry is None:
        raise StoreError(
            f"{store.entries} on this machine does not hold what the main process wrote there ({name})",
            "name an --out, or a --store, on a disk that all machines of the launcher see",
        )
    return entry
