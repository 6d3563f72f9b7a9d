"""plan() and run(): one fold over the STAGES table, skipping what the store holds.

A stage is named here by where it lies ("module:function"), so that planning imports neither torch nor a converter.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.metadata
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekd import artifacts, models
from edgekd.context import Context, Progress, mute, silent
from edgekd.devices import DeviceProfile
from edgekd.errors import UnknownName, WeightsError
from edgekd.models import ModelSpec
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
        """The teacher's spec, or None for a student that learns from the labels alone."""
        return None if self.recipe.teacher.name == "none" else models.spec(self.recipe.teacher.name)

    @property
    def student(self) -> ModelSpec:
        """The student's spec, with the edits that the device asks for."""
        spec = models.spec(self.recipe.distil.student)
        if not self.profile.edits:
            return spec
        return dataclasses.replace(spec, options={**spec.options, "edits": self.profile.edits})


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
    code: tuple[str, ...] = ()  # modules whose source takes part in the key: they build the network
    needs_teacher: bool = False
    wanted: Callable[[Job], bool] = lambda _job: True


def _data(job: Job) -> Settings:
    config = dataclasses.replace(job.recipe.data, input_px=32, calibration=8, golden=1)  # those are inputs' concern
    return {"config": config, "fingerprint": job.source.fingerprint()}


def _inputs(job: Job) -> Settings:
    config = job.recipe.data
    return {"px": config.input_px, "fit": config.fit, "calibration": config.calibration, "golden": config.golden}


def _teacher(job: Job) -> Settings:
    config = job.recipe.teacher
    assert job.teacher is not None
    px = config.px or models.teacher_px(job.teacher, job.recipe.data.input_px, config.weights)
    return {"config": config, "model": job.teacher, "view": job.recipe.views, "px": px,
            "weights_sha256": _file_digest(config.weights)}


def _knowledge(job: Job) -> Settings:
    return {"view": job.recipe.views, "wanted_precision": job.recipe.teacher.precision, "model": job.teacher,
            "grid_side": -(-job.recipe.data.input_px // 32) if job.recipe.distil.grid else 0}


def _distil(job: Job) -> Settings:
    return {"config": job.recipe.distil, "model": job.student, "view": job.recipe.views,
            "px": job.recipe.data.input_px, "weights_sha256": _file_digest(job.recipe.distil.weights)}


def _prune(job: Job) -> Settings:
    return {"config": job.recipe.prune, "distil": job.recipe.distil, "model": job.student, "view": job.recipe.views,
            "multiple": job.recipe.prune.multiple or job.profile.channel_multiple}


def _prunes(job: Job) -> bool:
    return bool(job.recipe.prune.ratio or job.recipe.prune.target_macs)


def _qat(job: Job) -> Settings:
    return {"config": job.recipe.qat, "rules": dict(job.profile.rules), "view": job.recipe.views,
            "balance": job.recipe.distil.balance}


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
          code=("networks", "views"), needs_teacher=True),
    Stage("knowledge", 1, "edgekd.stages.knowledge:run", artifacts.Knowledge, ("data", "teacher"), _knowledge,
          code=("networks", "views"), needs_teacher=True),
    Stage("distil", 1, "edgekd.stages.distil:run", artifacts.Network, ("data", "knowledge"), _distil,
          code=("networks", "edits", "views", "adapters", "losses")),
    Stage("prune", 1, "edgekd.stages.prune:run", artifacts.Network, ("data", "knowledge", "distil"), _prune,
          code=("networks", "widths", "views", "adapters", "losses", "distiller", "coupling", "pruning"), wanted=_prunes),
    Stage("qat", 1, "edgekd.stages.qat:run", artifacts.QuantNetwork, ("data", "inputs", "distil", "prune"), _qat,
          code=("networks", "edits", "views", "quantnet", "graphs", "rewrites", "quantizer", "fakequant", "int8")),
    Stage("export", 1, "edgekd.stages.export:run", artifacts.Exported, ("qat",), _nothing, code=("quantnet", "onnx_writer")),
    Stage("convert", 1, "edgekd.stages.convert:run", artifacts.LiteModel, ("export",), _nothing,
          code=("lowering", "flatbuffer")),
    Stage("evaluate", 1, "edgekd.stages.evaluate:run", artifacts.Evaluation,
          ("data", "inputs", "teacher", "distil", "prune", "qat", "export", "convert"), _evaluate),
    Stage("certify", 1, "edgekd.stages.certify:run", artifacts.Certificate,
          ("inputs", "qat", "convert", "evaluate"), _certify),
    Stage("confidence", 1, "edgekd.stages.confidence:run", artifacts.Confidence,
          ("data", "inputs", "distil", "convert", "evaluate"), _confidence),
    Stage("bench", 1, "edgekd.stages.measure:run", artifacts.Measurement, ("inputs", "distil", "convert", "evaluate"),
          _bench),
)


def stages(job: Job) -> tuple[Stage, ...]:
    """The rows that this job runs."""
    return tuple(stage for stage in STAGES
                 if stage.wanted(job) and (job.teacher is not None or not stage.needs_teacher))


def _file_digest(path: str) -> str:
    if path in ("", "none", "hub"):
        return ""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"weights {path}: {error.strerror}", "name a .safetensors file, NAME@FILE") from None


def _plain(value: Any) -> Any:
    """Settings as plain JSON for the key."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return value


def source_digest(modules: Sequence[str]) -> str:
    """Digest of modules that build a network and of the library's version that they call; "" without modules."""
    texts = [Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8") for name in modules]
    return artifacts.sha256("\0".join([*texts, importlib.metadata.version("timm")]).encode()) if texts else ""


@dataclasses.dataclass(frozen=True)
class Done:
    """A stage of this run: its entry, and whether the store held it already."""

    entry: Entry
    cached: bool


def run(job: Job, store: Store, until: str | None = None, progress: Progress = silent,
        on_stage: Callable[[str, Done | None], None] | None = None, say: Callable[[str], None] = mute) -> dict[str, Done]:
    """Fold over the stages. Returns what each made; raises the first error, with all finished stages kept.

    `on_stage(name, None)` is called when a stage starts to run, `on_stage(name, done)` when it is there; `say` is given
    what stages print for a person, such as the plan of a cut.
    """
    chosen = stages(job)
    if until is not None and until not in [stage.name for stage in chosen]:
        raise UnknownName("stage", until, [stage.name for stage in chosen],
                          f"stages: {', '.join(stage.name for stage in chosen)}")
    done: dict[str, Done] = {}
    for stage in chosen:
        settings = stage.settings(job)
        parents = {name: done[name].entry.digest for name in stage.parents if name in done}
        config = {name: _plain(value) for name, value in settings.items()}
        key = artifacts.stage_key(stage.name, stage.version, config, parents, job.recipe.seed,
                                  source_digest(stage.code))
        entry = store.find(stage.name, key)
        cached = entry is not None
        if entry is None:
            if on_stage:
                on_stage(stage.name, None)
            context = Context(job.recipe.seed, job.source, progress, store.checkpoint(stage.name, key), say)
            entry = _make(stage, settings, done, context, store, key)
        done[stage.name] = Done(entry, cached)
        if on_stage:
            on_stage(stage.name, done[stage.name])
        if stage.name == until:
            break
    return done


def _make(stage: Stage, settings: Mapping[str, Any], done: Mapping[str, Done], context: Context, store: Store,
          key: str) -> Entry:
    module, _, function = stage.function.partition(":")
    produce = getattr(importlib.import_module(module), function)
    parents = [load(done, name) for name in stage.parents]
    start = time.perf_counter()
    artifact = produce(*parents, **settings, context=context)
    return store.put(stage.name, key, artifact, time.perf_counter() - start)


PRODUCES = {stage.name: stage.produces for stage in STAGES}


def load(done: Mapping[str, Done], name: str) -> Any:
    """The artifact of a finished stage, or None when this job has no such stage."""
    return done[name].entry.load(PRODUCES[name]) if name in done else None
