"""plan() and run(): one fold over the STAGES table, skipping what the store holds.

A stage is named here by where it lies ("module:function"), so that planning imports neither torch nor a converter.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import importlib
import importlib.metadata
import string
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgekd import artifacts, methods, models
from edgekd.context import Context, Progress, mute, silent
from edgekd.devices import DeviceProfile
from edgekd.errors import RecipeError, StoreError, UnknownName, WeightsError
from edgekd.models import ModelSpec
from edgekd.processes import Team, launched
from edgekd.recipe import Recipe
from edgekd.store import Entry, Store

Settings = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Job:
    """Everything that decides a build: the recipe, the device it is for, the open data source."""

    recipe: Recipe
    profile: DeviceProfile
    source: Any  # sources.Source

    @property
    def teacher(self) -> ModelSpec | None:
        """The teacher's spec, or None for a student that learns from the labels alone, or from logged answers."""
        absent = self.recipe.teacher.name == "none" or self.recipe.distil.logs or self.recipe.federated.on
        return None if absent else models.spec(self.recipe.teacher.name)

    @property
    def student(self) -> ModelSpec:
        """The student's spec, with its edits; data.channels = "auto" is settled by the images."""
        spec = models.spec(self.recipe.distil.student)
        if self.recipe.data.channels == "1":
            spec = models.of_channels(spec, 1)
        return spec.edited(self.profile.edits)


@dataclasses.dataclass(frozen=True)
class Stage:
    """One row of the table. `settings(job)` is passed to `function` by keyword, and hashed: nothing else is used.

    Parents may be absent (no teacher, no pruning); the function then gets None. `wanted(job)`: whether the recipe asks for it.
    """

    name: str
    version: int
    function: str
    produces: type
    parents: tuple[str, ...]
    settings: Callable[[Job], Settings]
    needs_teacher: bool = False
    wanted: Callable[[Job], bool] = lambda _job: True
    shared: bool = False  # by all processes of a launcher; any other stage is the main one's


def _data(job: Job) -> Settings:
    # what is the inputs' concern is the same for all
    config = dataclasses.replace(job.recipe.data, input_px=32, calibration=8, golden=1, channels="3")
    settings = {"config": config, "fingerprint": job.source.fingerprint()}
    if job.recipe.federated.on:
        divided = dataclasses.replace(job.recipe.federated, rounds=1, epochs=1)  # those are the clients' concern
        settings |= {"federated": divided, "parts_sha256": _file_digest(divided.parts)}
    return settings


def _inputs(job: Job) -> Settings:
    config = job.recipe.data
    return {"px": config.input_px, "fit": config.fit, "calibration": config.calibration, "golden": config.golden,
            "channels": config.channels}


def _teacher(job: Job, other: str = "") -> Settings:
    """Of the teacher, or of a further one, NAME or NAME@FILE, which shares its settings."""
    config = dataclasses.replace(job.recipe.teacher, others=())
    if other:
        name, _, weights = other.partition("@")
        config = dataclasses.replace(config, name=name, weights=weights)
    model = models.spec(config.name)
    px = config.px or models.teacher_px(model, job.recipe.data.input_px, config.weights)
    return {"config": config, "model": model, "view": job.recipe.views, "px": px,
            "weights_sha256": _file_digest(config.weights)}


def _asking(job: Job) -> Settings:
    """How the teacher is asked, and which maps its losses want: at the student's own grid, whose stride is 32."""
    side, needs = -(-job.recipe.data.input_px // 32), methods.needs(job.recipe.distil.losses)
    return {"wanted_precision": job.recipe.teacher.precision, "model": job.teacher,
            "grid_side": side if job.recipe.distil.grid or "grid" in needs else 0, "cam_side": side if "cams" in needs else 0}


def _knowledge(job: Job) -> Settings:
    return {"view": job.recipe.views, **_asking(job)}


def _logs(job: Job) -> Settings:
    config = job.recipe.distil
    return {"path": config.logs, "file_sha256": _file_digest(config.logs), "max_days": config.logs_max_days}


def _clients(job: Job) -> Settings:
    config = job.recipe.distil
    return {"config": job.recipe.federated, "distil": config, "model": job.student, "view": job.recipe.views,
            "px": job.recipe.data.input_px, "weights_sha256": _file_digest(config.weights),
            "channels": job.recipe.data.channels}


def _distil(job: Job) -> Settings:
    config = job.recipe.distil
    return {"config": config, "model": job.student, "view": job.recipe.views, "px": job.recipe.data.input_px,
            "channels": job.recipe.data.channels,
            "weights_sha256": _file_digest(config.weights), "groups_sha256": _file_digest(config.groups),
            "asking": _live(job)}


def _live(job: Job) -> Settings | None:
    return _asking(job) if job.teacher is not None and job.recipe.distil.answers != "cached" else None


def _prune(job: Job) -> Settings:
    return {"config": job.recipe.prune, "distil": job.recipe.distil, "model": job.student, "view": job.recipe.views,
            "groups_sha256": _file_digest(job.recipe.distil.groups),
            "multiple": job.recipe.prune.multiple or job.profile.channel_multiple, "asking": _live(job)}


def _prunes(job: Job) -> bool:
    return bool(job.recipe.prune.ratio or job.recipe.prune.target_macs)


def _qat(job: Job) -> Settings:
    config = job.recipe.distil
    balance = "none" if config.labels == "withheld" else config.balance
    groups = config.groups if balance == "group" else ""
    return {"config": job.recipe.qat, "rules": dict(job.profile.rules), "view": job.recipe.views, "balance": balance,
            "groups": groups, "groups_sha256": _file_digest(groups)}


def _evaluate(job: Job) -> Settings:
    return {"wanted_precision": job.recipe.teacher.precision}


def _certify(job: Job) -> Settings:
    return {"config": job.recipe.certify}


def _confidence(job: Job) -> Settings:
    return {"config": job.recipe.confidence}


def _bench(job: Job) -> Settings:
    return {"config": job.recipe.bench}


def _nothing(_job: Job) -> Settings:
    return {}


STAGES: tuple[Stage, ...] = (
    Stage("data", 1, "edgekd.stages.read:run", artifacts.Dataset, (), _data),
    Stage("inputs", 1, "edgekd.stages.read:inputs", artifacts.Inputs, ("data",), _inputs),
    Stage("teacher", 1, "edgekd.stages.teacher:run", artifacts.Network, ("data",), _teacher,
          needs_teacher=True, shared=True),
    Stage("knowledge", 2, "edgekd.stages.knowledge:run", artifacts.Knowledge, ("data", "teacher"), _knowledge,
          needs_teacher=True, shared=True),
    Stage("distil", 2, "edgekd.stages.distil:run", artifacts.Network, ("data", "knowledge", "teacher"), _distil,
          shared=True),
    Stage("prune", 2, "edgekd.stages.prune:run", artifacts.Network, ("data", "knowledge", "teacher", "distil"), _prune,
          wanted=_prunes, shared=True),
    Stage("qat", 1, "edgekd.stages.qat:run", artifacts.QuantNetwork, ("data", "inputs", "distil", "prune"), _qat,
          shared=True),
    Stage("export", 1, "edgekd.stages.export:run", artifacts.Exported, ("qat",), _nothing),
    Stage("convert", 1, "edgekd.stages.convert:run", artifacts.LiteModel, ("export",), _nothing),
    Stage("evaluate", 1, "edgekd.stages.evaluate:run", artifacts.Evaluation,
          ("data", "inputs", "teacher", "distil", "prune", "qat", "export", "convert"), _evaluate),
    Stage("certify", 2, "edgekd.stages.certify:run", artifacts.Certificate,
          ("data", "inputs", "qat", "export", "convert", "evaluate"), _certify),
    Stage("confidence", 2, "edgekd.stages.confidence:run", artifacts.Confidence,
          ("data", "inputs", "distil", "convert", "evaluate"), _confidence),
    Stage("saliency", 1, "edgekd.stages.saliency:run", artifacts.Saliency,
          ("data", "inputs", "teacher", "distil", "convert", "evaluate"), _evaluate),
    Stage("bench", 1, "edgekd.stages.measure:run", artifacts.Measurement, ("inputs", "distil", "convert", "evaluate"),
          _bench),
)


# Clients' answers, or logged ones, take the place of a teacher's.
CLIENTS = Stage("knowledge", 1, "edgekd.stages.federated:run", artifacts.Knowledge, ("data",), _clients)
LOGS = Stage("knowledge", 1, "edgekd.stages.knowledge:from_logs", artifacts.Knowledge, ("data",), _logs)


def stages(job: Job) -> tuple[Stage, ...]:
    """The rows that this job runs. Further teachers are rows of their own, teacher2, teacher3, ..., after the first."""
    config, rows = job.recipe.distil, []
    others = [f"teacher{number}" for number in range(2, 2 + len(job.recipe.teacher.others))]
    for stage in STAGES:
        if stage.name == "knowledge" and (config.logs or job.recipe.federated.on):
            rows.append(LOGS if config.logs else CLIENTS)
        elif not stage.wanted(job) or (stage.needs_teacher and job.teacher is None):
            continue
        elif stage.name == "knowledge" and config.answers != "cached":
            if others:
                raise RecipeError(f"teacher.others are heard from the cache, and distil.answers is {config.answers!r}",
                                  'set distil.answers="cached", or leave teacher.others out')
        elif stage.name == "knowledge":
            rows.append(dataclasses.replace(stage, parents=(*stage.parents, *others)))
        else:
            rows.append(stage)
        if rows and rows[-1].name == "teacher":
            rows += [dataclasses.replace(stage, name=name, settings=functools.partial(_teacher, other=other))
                     for name, other in zip(others, job.recipe.teacher.others, strict=True)]
    return tuple(rows)


def _file_digest(path: str) -> str:
    if path in ("", "none", "hub"):
        return ""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"file {path}: {error.strerror}", "name a file that exists; weights are NAME@FILE") from None


def _plain(value: Any) -> Any:
    """Settings as plain JSON for the key."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return value


# Modules that decide nothing, or whose say reaches a stage in its settings: an error's wording trains no network anew.
SAID_IN_SETTINGS = {"errors", "artifacts", "methods", "recipe", "context", "resources", "models", "devices"}


@functools.cache
def code(module: str) -> frozenset[str]:
    """The modules whose source takes part in the key of a stage that lies in `module`: itself and all that it imports.

    Found by reading, since importing them would load torch. Names are without "edgekd.".
    """
    found, waiting = set(), {module}
    while waiting:
        name = waiting.pop()
        found.add(name)
        for node in ast.walk(ast.parse(_source(name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "edgekd":
                waiting |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("edgekd."):
                waiting.add(node.module.removeprefix("edgekd."))
        waiting -= found | SAID_IN_SETTINGS
    return frozenset(found)


def _source(module: str) -> Path:
    return Path(__file__).parent.joinpath(*module.split(".")).with_suffix(".py")


@functools.cache
def source_digest(module: str) -> str:
    """Digest of the `code` of a module, and of the version of the library that builds the networks."""
    texts = [_source(name).read_text(encoding="utf-8") for name in sorted(code(module))]
    return artifacts.sha256("\0".join([*texts, importlib.metadata.version("timm")]).encode())


@dataclasses.dataclass(frozen=True)
class Done:
    """A stage of this run: its entry, and whether the store held it already."""

    entry: Entry
    cached: bool


def run(job: Job, store: Store, until: str | None = None, progress: Progress = silent,
        on_stage: Callable[[str, Done | None], None] | None = None, say: Callable[[str], None] = mute) -> dict[str, Done]:
    """Fold over the stages. Returns what each made; raises the first error, with all finished stages kept.

    `on_stage(name, None)` is called when a stage starts to run, `on_stage(name, done)` when it is there; `say` is given
    what stages print for a person, such as the plan of a cut. Under a launcher every process folds: shared stages train
    together, the main process alone runs the others and writes, and the rest read what it wrote.
    """
    together = launched()
    chosen = stages(job)
    if until is not None and until not in [stage.name for stage in chosen]:
        raise UnknownName("stage", until, [stage.name for stage in chosen],
                          f"stages: {', '.join(stage.name for stage in chosen)}")
    done: dict[str, Done] = {}
    for stage in chosen:
        settings = stage.settings(job)
        parents = {name: done[name].entry.digest for name in stage.parents if name in done}
        config = {name: _plain(value) for name, value in settings.items()}
        module = stage.function.partition(":")[0].removeprefix("edgekd.")
        key = together.tell(artifacts.stage_key(stage.name, stage.version, config, parents, job.recipe.seed,
                                                source_digest(module)))
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


def _make(stage: Stage, settings: Mapping[str, Any], done: Mapping[str, Done], context: Context) -> tuple[Any, float]:
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
        raise StoreError(f"{store.entries} on this machine does not hold what the main process wrote there ({name})",
                         "name an --out, or a --store, on a disk that all machines of the launcher see")
    return entry


PRODUCES = {stage.name: stage.produces for stage in STAGES}


def load(done: Mapping[str, Done], name: str) -> Any:
    """The artifact of a finished stage, or None when this job has no such stage."""
    return done[name].entry.load(PRODUCES[name.rstrip(string.digits)]) if name in done else None
