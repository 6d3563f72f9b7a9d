"""data, teacher -> pretrain: a student that gives the teacher's features, learned without labels.

It sees the views of all images that later train it, with and without labels. The order of the
images in the data set does not count, and the teacher's answers are those that the stage
"knowledge" asks for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from edgekd.core.artifacts import Dataset, Json, Network
from edgekd.core.context import Context
from edgekd.core.pause import Paused
from edgekd.data import datasets, image_sets, on_demand
from edgekd.data.on_demand import PixelRows
from edgekd.networks import (
    builders,
    compute,
    network_size,
    timm_networks,
    token_pooling,
    weight_files,
)
from edgekd.networks.compute import Compute
from edgekd.networks.inference import precision
from edgekd.pipeline.pretrain_settings import PretrainSettings
from edgekd.settings import model_specs
from edgekd.settings.recipe import ViewsConfig
from edgekd.training import batch_rule, teacher_columns, views
from edgekd.training.answer_cache import AnswerCache, Column, Shown
from edgekd.training.batches import Feed
from edgekd.training.cached_answers import CachedAnswers
from edgekd.training.feature_matching import SCALE, Matching, Spread, places
from edgekd.training.fit import HistoryRow, fit
from edgekd.training.fit_plan import FitPlan, first_rate
from edgekd.training.teacher_oracle import Backbone, Oracle
from edgekd.training.view_sizes import Resizing

BATCH = 64  # validation images a forward pass
SOME = 1024  # answers that are read at a time: patch features take up to 150 KB each in float64


@compute.in_full_float32
def run(
    dataset: Dataset,
    teacher: Network | None = None,
    *,
    settings: PretrainSettings,
    context: Context,
) -> Network:
    """Train the student to give the features of `settings.backbone`, or of `teacher`.

    The network's classifier gives the teacher's pooled features. Raises RecipeError for a teacher
    or a student whose maps cannot be compared, and Paused after `context.pause_after` epochs if
    more remain.
    """
    on, pixels = compute.of(context), on_demand.pixels(dataset, context.source)
    with torch.random.fork_rng(devices=[]):  # the student's first weights do not depend on it
        asked = _asked(dataset, teacher, settings, pixels, on)
    train = torch.tensor(image_sets.rows(dataset, image_sets.TRAINING))
    said = _answers(asked, dataset, train, settings.view, context)
    channels = datasets.student_channels(dataset, settings.channels)
    model = model_specs.of_channels(settings.model, channels)
    width = said.take(0, torch.zeros(1, dtype=torch.long))["pooled"].shape[1]
    torch.manual_seed(context.seed + settings.seed)
    student, origin = timm_networks.pretrained(model, settings.weights, width, model.options)
    mean, std = builders.normalisation(model, student)
    resizing = Resizing.of(settings.view.resizers, settings.frame, settings.px)
    render = views.Renderer(pixels, settings.px, mean, std, on.device, resizing)
    feed = Feed(
        render,
        datasets.identities(dataset),
        train,
        torch.zeros(len(dataset.images), dtype=torch.long),  # no label is read
        1,
        settings.view,
        context.seed,
        batch_rule.chosen(settings.batch, len(train), settings.px, on),
        knowledge=said,
        repeat=settings.seed,
    )
    matching = on.place(_matching(student, said, settings, render, on))
    plan = _plan(settings, feed, origin)
    history = _fitted(matching, feed, plan, _Judge(asked, dataset, render, settings, context), on)
    facts: dict[str, Json] = {
        "name": model.name,
        "weights": origin,
        "licence": model.licence,
        "lr": plan.lr,
        token_pooling.KEY: asked.reads,
        "pretrained": _told(asked.name, len(train), history),
    }
    options = {**model.options, "num_classes": width}
    made = _network(student, model.arch, options, render, history, facts)
    if len(history) < settings.epochs:
        raise Paused(made)
    return made


@dataclasses.dataclass(frozen=True)
class _Asked:
    """The teacher: its name, and the column of its answers.

    `reads`: which tokens its pooled features are (`token_pooling.CHOICES`), "" for the network's
    own choice.
    """

    name: str
    column: Column
    reads: str = ""


def _asked(
    dataset: Dataset,
    teacher: Network | None,
    settings: PretrainSettings,
    pixels: PixelRows,
    on: Compute,
) -> _Asked:
    """The teacher that was trained here, or the backbone that came with its weights.

    The columns are those that the stage "knowledge" fills, so that no view is asked about twice.
    """
    if settings.backbone is None:
        assert teacher is not None
        oracle = Oracle(teacher, pixels, settings.oracle, on)
        column = teacher_columns.whole(oracle, dataset)
        return _Asked(str(teacher.facts["name"]), column, oracle.head_features)
    found = settings.backbone
    options = {**found.model.options, **timm_networks.size_option(found.model.arch, found.px)}
    net, _ = timm_networks.pretrained(found.model, found.weights, 1, options)
    render = views.Renderer(pixels, found.px, *builders.normalisation(found.model, net), on.device)
    side, reads = settings.oracle.grid_side, _reads(net, found.head_features)
    backbone = Backbone(
        on.place(net.eval()),
        render,
        precision(settings.oracle.precision, net, on),
        builders.taps(found.model, net)[-1] if side else "",
        side,
        bool(reads),
    )
    head = net.get_classifier()  # type: ignore[operator]
    column = teacher_columns.features(backbone, head, dataset, reads)
    return _Asked(found.model.name, column, reads)


def _reads(net: nn.Module, wanted: str) -> str:
    """Which tokens are learned: those that any head of this network may read.

    Which of them the head of a build does read is decided by its labels.
    """
    if wanted == "default" or not token_pooling.possible(net):
        return ""
    return token_pooling.ALL if wanted == "auto" else wanted


def _answers(
    asked: _Asked,
    dataset: Dataset,
    rows: Tensor,
    view: ViewsConfig,
    context: Context,
) -> CachedAnswers:
    """What the teacher answers about the views of some images; it is asked where nobody has yet."""
    shown = Shown(dataset, rows, view, context.seed, view.per_image)
    return AnswerCache(shown, context).answers(asked.column)


def _matching(
    student: nn.Module,
    said: CachedAnswers,
    settings: PretrainSettings,
    render: views.Renderer,
    on: Compute,
) -> Matching:
    """The student beside what compares it, with the spread of the teacher's features."""

    def spread(name: str) -> Spread:
        parts = torch.arange(said.count).split(SOME)
        return Spread.of(
            said.take(view, part)[name] for view in range(said.views) for part in parts
        )

    pooled = spread("pooled")
    if not settings.oracle.grid_side:
        return Matching(student, pooled, precision=on.training)
    with torch.inference_mode():
        image = torch.zeros(1, render.mean.shape[1], settings.px, settings.px)
        last = places(student, student.forward_features(image))  # type: ignore[operator]
    width = last.shape[1]
    return Matching(student, pooled, spread("grid"), settings.grid, width, on.training)


def _plan(settings: PretrainSettings, feed: Feed, origin: str) -> FitPlan:
    """How long and how fast to train; see `Lesson.fit_plan`."""
    plan = FitPlan(
        settings.epochs,
        first_rate(settings.lr, origin),
        settings.weight_decay,
        settings.warmup,
        settings.schedule,
        settings.ema,
        settings.optimiser,
    )
    return plan if settings.batch else batch_rule.scaled(plan, feed.batch)


class _Judge:
    """Compares the student with the teacher on a view of each validation image."""

    def __init__(
        self,
        asked: _Asked,
        dataset: Dataset,
        render: views.Renderer,
        settings: PretrainSettings,
        context: Context,
    ) -> None:
        self.rows = torch.tensor(image_sets.rows(dataset, image_sets.VALIDATION))
        # A mixed image shows two, which says less about the features of one.
        view = dataclasses.replace(settings.view, mixup=0.0, per_image=1)
        self.render, self.context = render, context
        self.drawn = views.draw(view, context.seed, 0, datasets.identities(dataset), self.rows)
        said = _answers(asked, dataset, self.rows, view, context)
        self.pooled = said.take(0, torch.arange(len(self.rows)))["pooled"].float()

    def seen(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Images as the student takes them, with the teacher's features."""
        for order in torch.arange(len(self.rows)).split(BATCH):
            images = self.render.views(self.rows[order], self.drawn)
            yield images, compute.moved(self.pooled[order], self.render.device)


def _fitted(
    matching: Matching, feed: Feed, plan: FitPlan, judge: _Judge, on: Compute
) -> list[HistoryRow]:
    """Train the student in place; returns a row for each epoch. It ends on the CPU."""
    context = judge.context
    history = fit(
        matching,
        matching.student,
        feed.epoch,
        matching.loss,
        plan,
        what="pretrain",
        steps=feed.steps,
        checkpoint=context.checkpoint,
        evaluate=lambda kept: {"cosine": matching.cosine(kept, judge.seen())},
        progress=context.progress,
        compute=on,
        say=context.say,
        pause_after=context.pause_after,
    )
    matching.cpu().unstandardised()
    return [{**row, "loss": row["loss"] / SCALE} for row in history]


def _told(teacher: str, images: int, history: list[HistoryRow]) -> Json:
    """What the report says of the phase: `reporting.network_record.Pretraining`."""
    last = history[-1]
    return {
        "teacher": teacher,
        "images": images,
        "epochs": len(history),
        "loss": last["loss"],
        "cosine": last["cosine"],
    }


def _network(
    student: nn.Module,
    arch: str,
    options: dict[str, Json],
    render: views.Renderer,
    history: list[HistoryRow],
    facts: dict[str, Json],
) -> Network:
    """The artifact of a student on the CPU. Its file says where its weights come from, since it
    may become the start of another build.
    """
    told = facts["pretrained"]
    about = f"features of {told['teacher']}, {told['images']} images"
    mean, std = render.mean.flatten().tolist(), render.std.flatten().tolist()
    return Network(
        arch=arch,
        options=options,
        px=render.px,
        mean=mean,
        std=std,
        history=history,
        facts={**facts, **network_size.size(student, render.px, len(mean))},
        state=weight_files.to_bytes(student.state_dict(), about),
    )
