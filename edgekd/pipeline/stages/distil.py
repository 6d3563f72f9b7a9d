"""data, knowledge, teacher, pretrain -> distil: a student trained on the labels and on the
teacher's answers.

Adapters, which let feature losses compare networks of different widths, are dropped at the end.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekd.core.artifacts import Dataset, Json, Knowledge, Network
from edgekd.core.context import Context
from edgekd.core.intervals import wilson
from edgekd.core.pause import Paused
from edgekd.data import datasets, on_demand
from edgekd.evaluation import metrics
from edgekd.networks import (
    builders,
    compute,
    network_size,
    timm_networks,
    token_pooling,
    weight_files,
)
from edgekd.networks.inference import logits_of
from edgekd.pipeline.stage_settings import DistilSettings
from edgekd.settings import model_specs
from edgekd.settings.model_specs import ModelSpec
from edgekd.settings.recipe import DistilConfig
from edgekd.training import feature_matching, views
from edgekd.training.fit_plan import first_rate
from edgekd.training.lesson import Groups, Lesson, lesson
from edgekd.training.teacher_answers import TeacherAnswers
from edgekd.training.view_sizes import Resizing

BATCH = 64  # images a forward pass, for the accuracy of each group
# Added to the seed for a peer's first weights. It is far from seeds that are used side by side,
# such as 0, 1 and 2.
PEER_SEED = 2**31


@compute.in_full_float32
def run(
    dataset: Dataset,
    knowledge: Knowledge | None,
    teacher: Network | None,
    pretrained: Network | None = None,
    *,
    settings: DistilSettings,
    context: Context,
) -> Network:
    """Train the student. Without knowledge and `settings.oracle` it learns from the labels alone.

    `pretrained`: a student that knows the teacher's features, to start from. Raises RecipeError for
    a loss or a mode that this data or this teacher does not allow, and Paused after
    `context.pause_after` epochs if more remain.
    """
    config, classes, on = settings.config, len(dataset.classes), compute.of(context)
    model, seed = _model(dataset, settings), context.seed + config.seed
    torch.manual_seed(seed)
    student, origin = timm_networks.pretrained(model, config.weights, classes, model.options)
    learned = _features(student, pretrained, teacher)
    mean, std = builders.normalisation(model, student)
    pixels = on_demand.pixels(dataset, context.source)
    by = Resizing.of(settings.view.resizers, settings.frame, settings.px)
    answers = TeacherAnswers.of(
        dataset,
        knowledge,
        settings.view,
        context.seed,
        teacher=teacher,
        asking=settings.oracle,
        pixels=pixels,
        compute=on,
    )
    taught = lesson(
        dataset,
        answers,
        config,
        builders.taps(model, student),
        views.Renderer(pixels, settings.px, mean, std, on.device, by),
        peer=lambda: _peer(model, config, classes, seed),
        compute=on,
        say=context.say,
    )
    plan = taught.fit_plan(config.epochs, first_rate(config.lr, "features" if learned else origin))
    last, saved = context.pause_after, context.checkpoint
    history = taught.teach(student, plan, "distil", saved, context.progress, pause_after=last)
    own = {"name": model.name, "weights": origin, "lr": plan.lr, "licence": model.licence}
    network = Network(
        arch=model.arch,
        options={**model.options, "num_classes": classes},
        px=settings.px,
        mean=mean,
        std=std,
        history=history,
        facts={**own, **learned, **_facts(student, taught, dataset)},
        state=weight_files.to_bytes(student.state_dict()),
    )
    if len(history) < config.epochs:
        raise Paused(network)
    return network


def _model(dataset: Dataset, settings: DistilSettings) -> ModelSpec:
    """The student's spec, with as many channels as its images have."""
    channels = datasets.student_channels(dataset, settings.channels)
    return model_specs.of_channels(settings.model, channels)


def _features(
    student: nn.Module, pretrained: Network | None, teacher: Network | None
) -> dict[str, Json]:
    """Let the student start from features that it has learned. What the report says of them.

    Such a student takes the learning rate of one with trained weights.
    """
    if pretrained is None:
        return {}
    assert teacher is not None
    with torch.random.fork_rng(devices=[]):
        feature_matching.start(
            student,
            builders.restore(pretrained),
            builders.restore(teacher),
            str(pretrained.facts[token_pooling.KEY]),
            str(teacher.options.get(token_pooling.KEY, "")),
        )
    return {"pretrained": pretrained.facts["pretrained"]}


def _facts(student: nn.Module, taught: Lesson, dataset: Dataset) -> dict[str, Json]:
    """What the report says of the training, of the student's size, and of its groups."""
    render = taught.feed.render
    size = network_size.size(student, render.px, render.mean.shape[1])
    facts: dict[str, Json] = {**taught.facts(), **size}
    if taught.groups is not None:
        facts["groups"] = _group_accuracy(student, taught, taught.groups, dataset)
    return facts


def _peer(model: ModelSpec, config: DistilConfig, classes: int, seed: int) -> nn.Module:
    """A second student from other first weights. Leaves the stream of random numbers as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + PEER_SEED)
        return timm_networks.pretrained(model, config.weights, classes, model.options)[0]


def _group_accuracy(
    student: nn.Module, taught: Lesson, groups: Groups, dataset: Dataset
) -> dict[str, Json]:
    """Accuracy of each group of `distil.groups` on validation and test."""
    labels = torch.from_numpy(datasets.labels(dataset))
    taught.compute.place(student)
    found: dict[str, Json] = {
        split: _by_group(
            student,
            taught.feed.render,
            labels,
            torch.from_numpy(datasets.rows(dataset, split)),
            groups,
        )
        for split in ("val", "test")
    }
    student.cpu()
    return found


def _by_group(
    student: nn.Module, render: views.Renderer, labels: Tensor, rows: Tensor, groups: Groups
) -> dict[str, Json]:
    """Top-1 of each group on the images `rows`, the group with the lowest, and the difference to
    the highest.
    """
    answers = logits_of(student, (render.plain(part) for part in rows.split(BATCH)))
    shares: dict[str, float] = {}
    each: dict[str, Json] = {}
    for number, name in enumerate(groups.names):
        inside = (groups.numbers[rows] == number).numpy()
        if not inside.any():
            continue
        n = int(inside.sum())
        shares[name] = share = metrics.top1(answers[inside], labels[rows].numpy()[inside])
        each[name] = {"n": n, "top1": share, "top1_ci95": list(wilson(share, n))}
    gap = max(shares.values()) - min(shares.values())
    return {"each": each, "worst": min(shares, key=lambda name: shares[name]), "gap": gap}
