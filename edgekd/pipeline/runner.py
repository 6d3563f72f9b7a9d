"""run(): runs the stages of a build in order, and skips stages whose results the store holds."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgekd.core import artifacts
from edgekd.core.allocator import keep_freed_memory
from edgekd.core.artifacts import Json, canonical_json, sha256
from edgekd.core.context import Context, Progress, mute, silent
from edgekd.core.errors import StoreError, UnknownName
from edgekd.core.pause import Pause, Paused
from edgekd.core.shard_folders import ShardFolder
from edgekd.core.store import Entry, Store
from edgekd.pipeline.jobs import Done, Job, load
from edgekd.pipeline.stage import Stage
from edgekd.pipeline.stage_keys import source_digest
from edgekd.pipeline.stage_settings import StageSettings
from edgekd.pipeline.stage_table import stages
from edgekd.settings.recipe import DistilConfig, PruneConfig, TeacherConfig, ViewsConfig
from edgekd.training import threads
from edgekd.training.processes import Team, launched

# The module whose code decides what a teacher answers about an image.
ASKING = "training.teacher_oracle"

OnStage = Callable[[str, Done | None], None]


def run(
    job: Job,
    store: Store,
    until: str | None = None,
    progress: Progress = silent,
    on_stage: OnStage | None = None,
    say: Callable[[str], None] = mute,
    check: Callable[[Sequence[Stage]], None] | None = None,
    pause: Pause | None = None,
) -> dict[str, Done]:
    """Run the stages of a job, the last of which is `until` where that is given. Returns {stage:
    its result}.

    `on_stage(name, None)` is called when a stage starts, and `on_stage(name, done)` when its result
    is there. `say` prints text for a person, such as the plan of a cut. `check` is called once,
    before the first stage that has to run, with this stage and those behind it. Under a launcher
    every process calls this function. All of them train in shared stages; the main process alone
    runs the others and writes every result, which the rest then read. `pause`: where to pause a
    training that a later run continues; it is part of no stage's key.

    Raises UnknownName when the job has no stage `until`, and Paused at a `pause`, in every process.
    An error of a stage is raised as it is; the results of the stages before it stay in the store.
    """
    keep_freed_memory()
    rows = chosen(job, until)
    done: dict[str, Done] = {}
    for number, stage in enumerate(rows):
        try:
            one = _Run(job, store, stage, done, progress, say, pause)
            if check and not one.cached:
                check(rows[number:])
                check = None
            done[stage.name] = one.done(on_stage)
        except Paused:
            raise
        except Exception as error:
            error.add_note(f"stage {stage.name}")
            raise
        if on_stage:
            on_stage(stage.name, done[stage.name])
    return done


def chosen(job: Job, last: str | None) -> tuple[Stage, ...]:
    """The stages of a job up to the one called `last`, or all of them. Raises UnknownName."""
    rows = stages(job)
    if last is None:
        return rows
    names = [stage.name for stage in rows]
    if last not in names:
        raise UnknownName("stage", last, names, f"stages: {', '.join(names)}")
    return rows[: names.index(last) + 1]


def key(stage: Stage, settings: StageSettings | None, job: Job, done: Mapping[str, Done]) -> str:
    """A stage's key: equal keys mean that the stage would make the same result."""
    parents = {
        name: stage.counts[name](load(done, name))
        if name in stage.counts
        else done[name].entry.digest
        for name in stage.parents
        if name in done
    }
    config = {} if settings is None else _without_later(dataclasses.asdict(settings))
    code = source_digest(stage.module)
    return artifacts.stage_key(stage.name, stage.version, config, parents, job.recipe.seed, code)


# Settings of [distil] that the stage "pretrain" alone reads.
_PRETRAINING = {
    name: getattr(DistilConfig, name)
    for name in ("pretrain", "pretrain_epochs", "pretrain_lr", "pretrain_grid")
}
# Settings that came after builds were stored, by the field of the stage's settings that holds them;
# "" holds fields themselves. They stand in a key only where they are given, so that these builds
# keep their keys.
LATER: dict[str, dict[str, Any]] = {
    "": {
        "resizers": ViewsConfig.resizers,
        "frame": (),
        "tuning": None,
        "average": 1,
        "prices": None,
    },
    "view": {
        "resizers": ViewsConfig.resizers,
        "area": ViewsConfig.area,
        "plain": ViewsConfig.plain,
    },
    "config": {
        "options": {},
        "formats": (),
        "cache": "pixels",
        "mean": (),
        "std": (),
        "order": "rgb",
        "layout": "auto",
        "trust": False,
        "rounding": "gptq",
        "target_latency": "",
        "head_features": TeacherConfig.head_features,
        "layer_decay": TeacherConfig.layer_decay,
        "drop_path": TeacherConfig.drop_path,
        "head_first": TeacherConfig.head_first,
        "average_views": TeacherConfig.average_views,
        "self_training": 0,
        "low_rank": PruneConfig.low_rank,
        **_PRETRAINING,
    },
    "distil": _PRETRAINING,
}


# Settings that only choose the values of others, by the field of the stage's settings that holds
# them. They stand in no key.
CHOOSING: dict[str, frozenset[str]] = {
    "config": frozenset({"preset", "minutes"}),
    "distil": frozenset({"preset", "minutes"}),
}


def _without_later(config: dict[str, Any]) -> dict[str, Any]:
    """The settings of a stage, without those of LATER that are not given, and those of CHOOSING."""
    given = _given(config, LATER[""])
    for name, later in LATER.items():
        if isinstance(table := given.get(name), dict):
            given[name] = _given(table, later)
    for name, choosing in CHOOSING.items():
        if isinstance(table := given.get(name), dict):
            given[name] = {key: value for key, value in table.items() if key not in choosing}
    return given


def _given(table: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value for name, value in table.items() if name not in later or value != later[name]
    }


class _Run:
    """One stage of one build: found in the store, or run and written to it."""

    def __init__(
        self,
        job: Job,
        store: Store,
        stage: Stage,
        done: Mapping[str, Done],
        progress: Progress,
        say: Callable[[str], None],
        pause: Pause | None,
    ) -> None:
        self.job, self.store, self.stage, self.parents = job, store, stage, done
        self.progress, self.say = progress, say
        self.pause_after = pause.epochs if pause and pause.stage == stage.name else None
        self.settings = None if stage.settings is None else stage.settings(job)
        self.together = launched()
        # The main process decides for all: a source or a file may look different on another
        # machine.
        self.key = self.together.tell(key(stage, self.settings, job, done))
        self._entry = store.find(stage.name, self.key) if self.together.main else None
        self.cached = self.together.tell(self._entry is not None)

    def done(self, on_stage: OnStage | None) -> Done:
        """The stage's result. `on_stage(name, None)` is called if it has to run."""
        entry = self._entry
        if not self.cached:
            if on_stage:
                on_stage(self.stage.name, None)
            entry = self._make()
            self.together.tell(None)  # the other processes wait here until the result is written
        return Done(entry or self._read(), self.cached)

    def _make(self) -> Entry | None:
        """Run the stage in the processes that take part in it. Returns the entry in the process
        that writes it.
        """
        checkpoint = self.together.checkpoint(self.store.checkpoint(self.stage.name, self.key))
        devices = list[str]()
        context = Context(
            self.job.recipe.seed,
            self.job.source,
            self.progress,
            checkpoint,
            self.say,
            self.job.hardware,
            devices.append,
            self._answers,
            self.pause_after,
        )
        if not (self.stage.shared or self.together.main):
            return None
        with (self.together if self.stage.shared else Team()).at_work():
            artifact, seconds = self._artifact(context)
        if not self.together.main:
            return None
        device = ", then ".join(dict.fromkeys(devices))
        return self.store.put(self.stage.name, self.key, artifact, seconds, device)

    def _answers(self, what: Json) -> ShardFolder:
        """The folder for the answers of a teacher: what decides them, and the code that asks."""
        whole = {"what": what, "code": source_digest(ASKING)}
        return self.store.shards("answers", sha256(canonical_json(whole)))

    def _artifact(self, context: Context) -> tuple[Any, float]:
        """The stage's artifact, of the type `stage.produces`, and the seconds that it took."""
        module, _, function = self.stage.function.partition(":")
        produce = getattr(importlib.import_module(module), function)
        parents = [load(self.parents, name) for name in self.stage.parents]
        given = {} if self.settings is None else {"settings": self.settings}
        start = time.perf_counter()
        with threads.training() if self.stage.shared else contextlib.nullcontext():
            artifact = produce(*parents, **given, context=context)
        return artifact, time.perf_counter() - start

    def _read(self) -> Entry:
        """The entry that the main process wrote, read by another one."""
        entry = self.store.find(self.stage.name, self.key)
        if entry is None:
            raise StoreError(
                f"{self.store.entries} on this machine does not hold the result of the stage "
                f"{self.stage.name}, which the main process wrote there",
                "name an --out, or a --store, on a disk that all machines of the launcher share",
            )
        return entry
