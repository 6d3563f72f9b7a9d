"""What the stages of a build cost on this machine, in seconds, by its settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from edgekd.settings.recipe import Recipe
from edgekd.settings.teacher_settings import SELF_TRAINED_VIEWS
from edgekd.settings.training_settings import PresetName

# An epoch of quantization-aware training takes so many epochs of float training (mobilenetv2_050
# and mobilenetv3_small_050 at 64 and 96 px: 2.4 to 3.4).
QAT_EPOCH = 3.0
# Forward passes that a training step of the teacher takes as long as: the backward pass computes
# the gradients of maps and of weights, each with the work of a forward pass.
STEP = 3
# Training steps that judging an image takes as long as: it is a forward pass alone.
JUDGED = 1 / STEP
# How much longer a step takes with losses on the teacher's features, which the timed steps lack
# (mobilenetv2_050 with the default losses: 35 s against 27 s at 64 px, and as much at 96 px).
FEATURES = 1.3
# Calibration, folding and rounding that "qat" begins with, in images of float training: 6 s where
# one took 8 ms.
CALIBRATION = 700
# A row of features in the fits of a frozen teacher's heads, in images of float training: 40 s for
# 9,388 rows of 384, where a trained image took 8 ms.
HEAD_ROW = 0.5
# Everything behind "qat": a start, and then images of float training, some for each test image.
# The certificate and the saliency look at a fixed number of images, the evaluation at all of them
# in float and in int8, and "app_inputs" at many ways to prepare some of them. With 624 test images
# of 96 px it took 33 s of CPU, of which 8 s for the teacher.
REST_SECONDS, REST_IMAGES, REST_PER_TESTED = 6.0, 800, 2.0
# Answers of the teacher that its maps of saliency take: 10 s at 98 px, and 21 s at 140 px.
SALIENCY = 700

REST = "rest"  # stands for all stages behind "qat"


@dataclasses.dataclass(frozen=True)
class TeacherChoice:
    """What decides the answers of a teacher: the preset, the side of its input in pixels, views of
    each image, and epochs of its own training (0 without one).
    """

    preset: PresetName
    px: int
    views: int
    epochs: int


@dataclasses.dataclass(frozen=True)
class Work:
    """How much there is to do.

    `images`: to train on, of which `labelled` have a label. `judged` and `tested`: images of the
    validation and of the test split. `formats`: number formats to make. `sides`: of the teacher's
    input, the largest first; empty without a teacher. `kept`: choices of a teacher whose results
    the store holds, and `pretrained`: those for which it holds a student with the pretraining that
    was asked for. `answered`: answers about views that are there, although the stage that asks
    for them has not ended. `done`: stages that are over.
    """

    images: int
    labelled: int
    judged: int
    tested: int
    formats: int = 1
    sides: tuple[int, ...] = ()
    kept: frozenset[TeacherChoice] = frozenset()
    pretrained: frozenset[TeacherChoice] = frozenset()
    answered: int = 0
    done: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class Speeds:
    """How long this machine takes, in seconds.

    `image`: of the student's float training. `views`: all teachers' answers about a view of an
    image, by the side of their input. `qat`: epochs of float training that one of quantization-
    aware training takes as long as.
    """

    image: float
    views: Mapping[int, float] = dataclasses.field(default_factory=dict)
    qat: float = QAT_EPOCH


def teacher_choice(settings: Recipe, work: Work) -> TeacherChoice:
    """The choice of a teacher that the settings ask for."""
    trained = settings.teacher.epochs if settings.teacher.mode == "finetune" else 0
    px = settings.teacher.px or (work.sides[0] if work.sides else 0)
    return TeacherChoice(settings.distil.preset, px, settings.views.per_image, trained)


def seconds(settings: Recipe, work: Work, speeds: Speeds) -> dict[str, float]:
    """What each stage that is not over takes, in seconds, by its name. REST stands for the stages
    behind "qat".
    """
    epoch = epoch_seconds(settings, work, speeds)
    prunes = settings.prune.trainings * settings.prune.epochs
    known = teacher_choice(settings, work) in work.pretrained
    pretrain = settings.distil.pretrain_epochs if is_pretrained(settings) and not known else 0
    own = (CALIBRATION + settings.qat.epochs * speeds.qat * work.images) * speeds.image
    rest = REST_SECONDS + (REST_IMAGES + REST_PER_TESTED * work.tested) * speeds.image
    if work.sides:
        rest += (SALIENCY + work.tested) * speeds.views[teacher_choice(settings, work).px]
    found = {
        **teaching_seconds(settings, work, speeds),
        "pretrain": pretrain * epoch,
        "distil": settings.distil.epochs * epoch,
        "prune": prunes * epoch,
        "qat": own,
        REST: rest * work.formats,
    }
    return {stage: taken for stage, taken in found.items() if taken and stage not in work.done}


def is_pruned(settings: Recipe) -> bool:
    """Whether the student is pruned."""
    return settings.prune.on


def is_pretrained(settings: Recipe) -> bool:
    """Whether the student first learns the teacher's features."""
    return settings.distil.pretrain != "none"


def epoch_seconds(settings: Recipe, work: Work, speeds: Speeds) -> float:
    """One epoch of the student's float training, with the judging after it."""
    distil, image = settings.distil, speeds.image
    if work.sides and (distil.pooled or distil.grid or distil.losses):
        image *= FEATURES
    if work.sides and distil.answers != "cached":
        image += speeds.views[teacher_choice(settings, work).px]
    return work.images * image + work.judged * JUDGED * speeds.image


def asked(settings: Recipe, work: Work) -> dict[str, int]:
    """Answers about a view of an image that a teacher gives in the stages "teacher" and
    "knowledge", wherever the store has none of them.

    A frozen teacher is asked about views for its head, and not again where training shows the same.
    """
    views = settings.views.per_image
    heads = 0
    if settings.teacher.mode == "frozen":
        heads = work.labelled * min(settings.teacher.head_views or views, views)
        if settings.teacher.self_training:
            heads += (work.images - work.labelled) * min(SELF_TRAINED_VIEWS, views)
    if settings.distil.answers != "cached":
        return {"teacher": heads, "knowledge": 0}
    shared = 0 if settings.views.mixup else heads
    return {"teacher": heads, "knowledge": max(0, work.images * views - shared)}


def teaching_seconds(settings: Recipe, work: Work, speeds: Speeds) -> dict[str, float]:
    """Of the stages "teacher" and "knowledge"."""
    made = teacher_choice(settings, work)
    if not work.sides or made in work.kept:
        return {}
    answers = asked(settings, work)
    at = "knowledge" if "teacher" in work.done else "teacher"
    answers[at] = max(0, answers[at] - work.answered)
    trained = STEP * made.epochs * work.labelled + work.judged + work.tested
    view, heads = speeds.views[made.px], asked(settings, work)["teacher"]
    return {
        "teacher": (answers["teacher"] + trained) * view + HEAD_ROW * heads * speeds.image,
        "knowledge": answers["knowledge"] * view,
    }
