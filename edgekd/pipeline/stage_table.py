"""The stages of a build, one row each: what runs it, what it makes, its parents and settings.

A row names its function by "module:function", so that planning a build imports neither torch nor
the converter.
"""

from __future__ import annotations

import dataclasses

from edgekd.core import artifacts
from edgekd.core.number_formats import NumberFormat
from edgekd.device import edgebench
from edgekd.networks.low_rank_plan import LayerPrices
from edgekd.pipeline import given_stages, knowledge_stages, pretrain_stages, teacher_stages
from edgekd.pipeline.jobs import Job, file_digest, weights_content
from edgekd.pipeline.stage import Stage
from edgekd.pipeline.stage_settings import (
    AppInputsSettings,
    CertifySettings,
    ConfidenceSettings,
    DataSettings,
    DistilSettings,
    FormatsSettings,
    HostBenchSettings,
    InputsSettings,
    KnowledgeSettings,
    PruneSettings,
    QatSettings,
    TeacherPrecision,
)
from edgekd.settings import loss_catalogue
from edgekd.settings.recipe import PruneConfig
from edgekd.training.oracle_settings import OracleSettings


def _data(job: Job) -> DataSettings:
    # What only the stage "inputs" reads is set to one value, so that it does not change the key of
    # "data".
    config = dataclasses.replace(
        job.recipe.data, input_px=32, calibration=8, golden=1, channels="3"
    )
    fingerprint = job.source.fingerprint()
    if not job.recipe.federated.on:
        return DataSettings(config, fingerprint)
    # Likewise for what only the clients read.
    divided = dataclasses.replace(job.recipe.federated, rounds=1, epochs=1)
    return DataSettings(config, fingerprint, divided, file_digest(divided.parts, "federated.parts"))


def _inputs(job: Job) -> InputsSettings:
    config = job.recipe.data
    return InputsSettings(
        config.input_px,
        config.fit,
        config.calibration,
        config.golden,
        config.channels,
        job.recipe.views.resizers,
        job.frame,
    )


def _oracle(job: Job) -> OracleSettings:
    """How the first teacher is asked. Its maps have the side of the student's last feature map."""
    assert job.teacher is not None
    if job.teachers[0].given:  # it gives logits alone
        return OracleSettings(precision=job.recipe.teacher.precision, model=job.teacher)
    side = pretrain_stages.map_side(job)
    config = job.recipe.distil
    needs = loss_catalogue.needs(config.losses)
    return OracleSettings(
        precision=job.recipe.teacher.precision,
        model=job.teacher,
        grid_side=side if config.grid or "grid" in needs else 0,
        cam_side=side if "cams" in needs else 0,
    )


def _knowledge(job: Job) -> KnowledgeSettings:
    oracle = _oracle(job)
    if pretrain_stages.maps(job):  # then the teacher is asked once for both trainings
        oracle = dataclasses.replace(oracle, grid_side=pretrain_stages.map_side(job))
    return teacher_stages.asked(job, oracle)


def _distil(job: Job) -> DistilSettings:
    config = pretrain_stages.without_pretraining(job.recipe.distil)
    return DistilSettings(
        config=config,
        model=job.student,
        view=job.recipe.views,
        px=job.recipe.data.input_px,
        channels=job.recipe.data.channels,
        oracle=_asked_in_training(job),
        weights_content=weights_content(job.student, config.weights, "distil.weights"),
        groups_sha256=file_digest(config.groups, "distil.groups"),
        frame=job.frame_of_views,
    )


def _asked_in_training(job: Job) -> OracleSettings | None:
    return _oracle(job) if job.teacher and job.recipe.distil.answers != "cached" else None


def _prune(job: Job) -> PruneSettings:
    return PruneSettings(
        config=_cut(job),
        distil=pretrain_stages.without_pretraining(job.recipe.distil),
        model=job.student,
        view=job.recipe.views,
        multiple=job.recipe.prune.multiple or job.profile.channel_multiple,
        oracle=_asked_in_training(job),
        groups_sha256=file_digest(job.recipe.distil.groups, "distil.groups"),
        frame=job.frame_of_views,
        prices=_layer_prices(job),
    )


def _layer_prices(job: Job) -> LayerPrices | None:
    if not job.recipe.prune.low_rank:
        return None
    from edgekd.assessment import layer_prices  # numpy

    return layer_prices.of(job.profile)


def _cut(job: Job) -> PruneConfig:
    """The table [prune], with the share that keeps a target of latency in the place of the target.

    The stage needs no device for it, and a recipe that asks for that share finds the same result.
    """
    cut = job.latency_cut
    if cut is None:
        return job.recipe.prune
    return dataclasses.replace(job.recipe.prune, ratio=cut.ratio, target_latency="")


def _prunes(job: Job) -> bool:
    return job.recipe.prune.on


def _qat(job: Job) -> QatSettings:
    config = job.recipe.distil
    balance = "none" if config.labels == "withheld" else config.balance
    groups = config.groups if balance == "group" else ""
    return QatSettings(
        config=job.recipe.qat,
        rules=dict(job.profile.rules),
        view=job.recipe.views,
        balance=balance,
        groups=groups,
        groups_sha256=file_digest(groups, "distil.groups"),
        frame=job.frame,
    )


def _formats(job: Job) -> FormatsSettings:
    others = tuple(one for one in job.formats if one is not NumberFormat.INT8)
    return FormatsSettings(others, dict(job.profile.rules))


def _has_formats(job: Job) -> bool:
    return job.formats != (NumberFormat.INT8,)


def _teacher_precision(job: Job) -> TeacherPrecision:
    return TeacherPrecision(job.recipe.teacher.precision)


def _certify(job: Job) -> CertifySettings:
    return CertifySettings(job.recipe.certify)


def _confidence(job: Job) -> ConfidenceSettings:
    return ConfidenceSettings(job.recipe.confidence)


def _app_inputs(job: Job) -> AppInputsSettings:
    trains = job.recipe.qat.epochs or not job.given
    resizers = job.recipe.views.resizers if trains else ()
    return AppInputsSettings(job.recipe.app_inputs, job.recipe.data.fit, resizers)


def _bench(job: Job) -> HostBenchSettings:
    return HostBenchSettings(job.recipe.bench, edgebench.machine())


STAGES: tuple[Stage, ...] = (
    Stage("data", 1, "edgekd.pipeline.stages.read:run", artifacts.Dataset, (), _data),
    Stage("inputs", 1, "edgekd.pipeline.stages.read:inputs", artifacts.Inputs, ("data",), _inputs),
    Stage(
        "teacher",
        1,
        "edgekd.pipeline.stages.teacher:run",
        artifacts.Network,
        ("data",),
        teacher_stages.settings,
        shared=True,
    ),
    Stage(
        "knowledge",
        2,
        "edgekd.pipeline.stages.knowledge:run",
        artifacts.Knowledge,
        ("data", "teacher"),
        _knowledge,
        shared=True,
    ),
    pretrain_stages.PRETRAIN,
    Stage(
        "distil",
        2,
        "edgekd.pipeline.stages.distil:run",
        artifacts.Network,
        ("data", "knowledge", "teacher", "pretrain"),
        _distil,
        shared=True,
    ),
    Stage(
        "prune",
        2,
        "edgekd.pipeline.stages.prune:run",
        artifacts.Network,
        ("data", "knowledge", "teacher", "distil"),
        _prune,
        wanted=_prunes,
        shared=True,
    ),
    Stage(
        "qat",
        1,
        "edgekd.pipeline.stages.qat:run",
        artifacts.QuantNetwork,
        ("data", "inputs", "distil", "prune"),
        _qat,
        shared=True,
    ),
    Stage("export", 1, "edgekd.pipeline.stages.export:run", artifacts.Exported, ("qat",), None),
    Stage(
        "convert", 1, "edgekd.pipeline.stages.convert:run", artifacts.LiteModel, ("export",), None
    ),
    Stage(
        "formats",
        2,  # with the format mixed
        "edgekd.pipeline.stages.formats:run",
        artifacts.Formats,
        ("data", "inputs", "distil", "prune", "qat", "convert"),
        _formats,
        wanted=_has_formats,
    ),
    Stage(
        "evaluate",
        2,  # keeps outputs beside the answers
        "edgekd.pipeline.stages.evaluate:run",
        artifacts.Evaluation,
        ("data", "inputs", "teacher", "distil", "prune", "qat", "export", "convert"),
        _teacher_precision,
    ),
    Stage(
        "certify",
        2,
        "edgekd.pipeline.stages.certify:run",
        artifacts.Certificate,
        ("data", "inputs", "qat", "export", "convert", "evaluate"),
        _certify,
    ),
    Stage(
        "confidence",
        2,
        "edgekd.pipeline.stages.confidence:run",
        artifacts.Confidence,
        ("data", "inputs", "distil", "convert", "evaluate"),
        _confidence,
    ),
    Stage(
        "app_inputs",
        1,
        "edgekd.pipeline.stages.app_inputs:run",
        artifacts.AppInputs,
        ("data", "inputs", "convert", "evaluate"),
        _app_inputs,
        wanted=lambda job: job.recipe.app_inputs.images > 0,
    ),
    Stage(
        "saliency",
        1,
        "edgekd.pipeline.stages.saliency:run",
        artifacts.Saliency,
        ("data", "inputs", "teacher", "distil", "convert", "evaluate"),
        _teacher_precision,
    ),
    Stage(
        "bench",
        1,
        "edgekd.pipeline.stages.measure:run",
        artifacts.Measurement,
        ("inputs", "distil", "convert", "evaluate"),
        _bench,
    ),
)


def stages(job: Job) -> tuple[Stage, ...]:
    """The stages that this job runs, in order. A further teacher has a stage of its own: "teacher2"
    and so on.

    Raises RecipeError for further teachers together with a teacher that is asked during training.
    """
    if job.given:
        return given_stages.of_given(job, tuple(row for row in STAGES if row.wanted(job)))
    if not job.labelled:
        return pretrain_stages.without_labels(job)
    rows: list[Stage] = []
    for stage in STAGES:
        if stage.name == "knowledge":
            rows += knowledge_stages.of_job(job, stage)
        elif stage.name == "teacher":
            rows += teacher_stages.each(stage, job)
        elif stage is pretrain_stages.PRETRAIN:
            rows += [pretrain_stages.of_job(job)] if stage.wanted(job) else []
        elif stage.wanted(job):
            rows.append(stage)
    return tuple(rows)
