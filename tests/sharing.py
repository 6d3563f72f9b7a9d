"""A small training, to be run in one process or in several.

`torchrun ... -m tests.sharing FOLDER` writes the results of each process to FOLDER/RANK.json. Tests
compare these files between processes, and with those of one process alone.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgekd.core.artifacts import Dataset, Knowledge, Network
from edgekd.core.context import Context, MemoryCheckpoint
from edgekd.data import dataset_builder, datasets
from edgekd.data.phantom_source import PhantomSource
from edgekd.networks import builders
from edgekd.networks.builders import restore
from edgekd.pipeline.stage_settings import KnowledgeSettings, TeacherSettings
from edgekd.pipeline.stages import knowledge, teacher
from edgekd.quantization.qat_network import calibrate, prepare
from edgekd.settings import loss_catalogue, model_specs
from edgekd.settings.recipe import DataConfig, DistilConfig, TeacherConfig, ViewsConfig
from edgekd.training import processes, views
from edgekd.training.batches import Batch
from edgekd.training.fit import fit, shuffled
from edgekd.training.fit_plan import FitPlan
from edgekd.training.lesson import lesson
from edgekd.training.oracle_settings import OracleSettings
from edgekd.training.teacher_answers import TeacherAnswers
from tests import teachers

PX, TEACHER_PX, SEED = 32, 32, 3
VIEW = ViewsConfig(per_image=2)
STUDENT = model_specs.spec("mobilenetv2_035")
# One loss of each kind: on single images, between images, with a batch norm in its adapter, with a
# second network, and with adversarial examples.
CONFIG = DistilConfig(
    student="mobilenetv2_035",
    weights="none",
    epochs=2,
    batch=16,
    ramp=0.0,
    exits=0.5,
    losses=loss_catalogue.read(
        {"dist_batch": 1, "rkd": 1, "srd": 1, "mutual": 1, "robust": {"weight": 1, "steps": 1}},
        "test",
    ),
)
# Low, so that a difference in the last bit of one step does not grow in the next: at 0.05, a new
# network loses 2 digits of precision in each step.
RATE = 1e-4


def told(dataset: Dataset, network: Network) -> Knowledge:
    """The answers of a teacher in float32."""
    return knowledge.run(
        dataset,
        network,
        settings=KnowledgeSettings(VIEW, OracleSettings("float32", model_specs.spec("resnet18"))),
        context=Context(seed=SEED),
    )


def exact(dataset: Dataset, said: Knowledge) -> list[float]:
    """The loss of each step, then the sum of each tensor of the student's state, in float64.

    In float64, rounding errors are too small to hide a difference between processes.
    """
    torch.manual_seed(SEED)
    student = builders.create("mobilenetv2_035", {"num_classes": len(dataset.classes)})
    taught = lesson(
        dataset,
        TeacherAnswers.of(dataset, said, VIEW, SEED),
        CONFIG,
        list(STUDENT.taps),
        views.Renderer(datasets.pixels(dataset), PX, [0.5] * 3, [0.5] * 3),
        peer=lambda: builders.create("mobilenetv2_035", {"num_classes": len(dataset.classes)}),
    )
    distiller = taught.distiller(student).double()
    steps: list[float] = []

    def batches(epoch: int) -> Iterator[Batch]:
        for batch in taught.feed.epoch(epoch):
            wide = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
            yield Batch(
                **{
                    name: value.double()
                    if isinstance(value, Tensor) and value.is_floating_point()
                    else value
                    for name, value in wide.items()
                }
            )

    fit(
        distiller,
        student,
        batches,
        distiller.loss,
        FitPlan(1, RATE, 5e-4, ema=0.99),
        what="distil",
        steps=taught.feed.steps,
        checkpoint=MemoryCheckpoint(),
        progress=lambda what, done, total, **figures: steps.append(figures["loss"]),
    )
    return [*steps, *(float(value.double().sum()) for value in student.state_dict().values())]


def ranges(dataset: Dataset, network: Network) -> list[float]:
    """The int8 scales after calibration on batches that the processes share."""
    net = prepare(restore(network), network.px, network.mean, network.std)
    render = views.Renderer(datasets.pixels(dataset), network.px, network.mean, network.std)
    calibrate(net, (render.plain(rows) for rows in shuffled(48, 16, SEED, 0)))
    return [net.edge(name).range.scale for name in net.edges]


def found(among: processes.Team) -> dict[str, Any]:
    """The results of this process, by name."""
    with among.at_work():
        dataset = dataset_builder.build_dataset(PhantomSource(100, 40), DataConfig())
        known = teacher.run(
            dataset,
            settings=TeacherSettings(
                TeacherConfig(epochs=1, batch=16, weights="none"),
                model_specs.spec("resnet18"),
                VIEW,
                TEACHER_PX,
            ),
            context=Context(seed=SEED),
        )
        # Every process asks this teacher, which does not depend on the training above.
        asked = teachers.teacher("resnet18", len(dataset.classes), TEACHER_PX, SEED)
        said = told(dataset, asked)
        return {
            "rows": [rows.tolist() for epoch in range(2) for rows in shuffled(70, 16, SEED, epoch)],
            "teacher": known.history,
            "knowledge": said.shards.digests,
            "exact": exact(dataset, said),
            "ranges": ranges(dataset, asked),
        }


if __name__ == "__main__":
    own = processes.launched()
    Path(sys.argv[1], f"{own.rank}.json").write_text(json.dumps(found(own)))
