"""data, teacher -> knowledge: what the teacher answers about seeded views of each training image,
computed once.

Training then costs the student only. Answers are kept in float16: its three digits are far finer
than the changes that augmentation makes. A run that was stopped continues after the last view that
it finished. Processes that share a build share this work; an answer does not depend on which
process asks, so the bytes are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch
from safetensors import SafetensorError
from torch import Tensor

from edgekd.core.artifacts import Dataset, Knowledge, Network
from edgekd.core.context import Context
from edgekd.core.records import to_json
from edgekd.data import answer_logs, datasets
from edgekd.networks import compute
from edgekd.pipeline.stage_settings import KnowledgeSettings, LogSettings
from edgekd.settings.recipe import ViewsConfig
from edgekd.training import views
from edgekd.training.processes import team
from edgekd.training.teacher_oracle import BLOCK, Answers, Oracle

ASKED = 4 * BLOCK  # images between two reports of progress

Arrays = dict[str, np.ndarray]


@compute.in_full_float32
def run(
    dataset: Dataset,
    teacher: Network,
    *others: Network,
    settings: KnowledgeSettings,
    context: Context,
) -> Knowledge:
    """Ask the teacher about `view.per_image` views of every image to train on, whether it is
    labelled or not.

    Further teachers give logits only. Raises RecipeError when a loss needs maps that the teacher
    does not have.
    """
    pixels = datasets.pixels(dataset)
    on = compute.of(context)
    first = Oracle(teacher, pixels, settings.oracle, on)
    more = [Oracle(other, pixels, settings.oracle.without_maps(), on) for other in others]
    train = torch.from_numpy(datasets.taught(dataset))
    kept = _ask_all(first, more, train, len(dataset.images), settings.view, context)
    blobs = {
        name: kept[name].tobytes() if name in kept else b""
        for name in ("logits", "pooled", "grid", "cams", "others")
    }
    return Knowledge(
        views=settings.view.per_image,
        rows=train.tolist(),
        classes=len(dataset.classes),
        features=kept["pooled"].shape[-1],
        grid_shape=list(kept["grid"].shape[2:]) if settings.oracle.grid_side else [],
        cam_side=settings.oracle.cam_side,
        teachers=1 + len(others),
        facts={"source": "teacher"},
        **blobs,
    )


def _ask_all(
    first: Oracle,
    more: list[Oracle],
    train: Tensor,
    images: int,
    view: ViewsConfig,
    context: Context,
) -> Arrays:
    """The answers of all teachers by name, float16 [views, n, ...], from the checkpoint on.

    `train`: int64 [n], the rows to ask about, of a data set with `images` images.
    """
    asked = ASKED * first.block // BLOCK
    kept = _resumed(context.checkpoint.load(), view.per_image, len(train))
    finished = len(kept.pop("views", ()))
    for number in range(finished, view.per_image):
        drawn = views.draw(view, context.seed, number, images, train)

        def ask(start: int, drawn: views.Views = drawn) -> Answers:
            return _ask(first, more, train[start : start + asked], drawn)

        for start, answers in team().spread(ask, range(0, len(train), asked)):
            for name, value in answers.items():
                if name not in kept:
                    # One block for all views: small arrays that are kept between large temporary
                    # ones would stop the allocator from returning memory (9 MB a batch).
                    shape = (view.per_image, len(train), *value.shape[1:])
                    kept[name] = np.empty(shape, np.float16)
            if number == finished and start == 0:
                context.say(_size(kept))
            for name, value in answers.items():
                kept[name][number, start : start + asked] = value.cpu().numpy()
            done = number * len(train) + min(start + asked, len(train))
            context.progress("teacher views", done, view.per_image * len(train))
        if number + 1 < view.per_image:
            context.checkpoint.save(_snapshot(kept, number + 1))
    return kept


def _ask(first: Oracle, more: list[Oracle], rows: Tensor, drawn: views.Views) -> Answers:
    """The first teacher's answers about one view of some images, with the logits of further
    teachers as "others".
    """
    answers = first.ask(rows, drawn)
    if more:
        answers["others"] = torch.stack([other.ask(rows, drawn)["logits"] for other in more], 1)
    return answers


def _snapshot(kept: Arrays, finished: int) -> bytes:
    """The checkpoint after `finished` views: their answers, and "views", which counts them by its
    length.
    """
    done = {name: array[:finished] for name, array in kept.items()}
    return safetensors.numpy.save({**done, "views": np.arange(finished)})


def _resumed(state: bytes | None, views: int, images: int) -> Arrays:
    """The arrays of `_snapshot`, grown to all views, and "views"; {} without a checkpoint that can
    be read.
    """
    try:
        found = safetensors.numpy.load(state) if state is not None else {}
    except SafetensorError:  # torn, or not of this stage: asking again is always right
        return {}
    kept = {"views": found.pop("views")} if found else {}
    for name, array in found.items():
        kept[name] = np.empty((views, images, *array.shape[2:]), array.dtype)
        kept[name][: len(array)] = array
    return kept


def _size(kept: Mapping[str, np.ndarray]) -> str:
    """How much space the answers will take in the store, said before most of them are asked for."""
    views, images = kept["logits"].shape[:2]
    parts = ", ".join(f"{name} {array.nbytes / 2**20:.2f}" for name, array in kept.items())
    total = sum(array.nbytes for array in kept.values()) / 2**20
    return (
        f"      teacher's answers: {views} views of {images} images will take {total:.2f} MiB "
        f"({parts})"
    )


def from_logs(dataset: Dataset, *, settings: LogSettings, context: Context) -> Knowledge:
    """Knowledge from a log of answers (`edgekd.data.answer_logs`): the logits of one view of the
    images in the log.

    Raises DataError that names the file and the line.
    """
    del context  # nothing here is random or takes long
    found = answer_logs.read(
        Path(settings.path), dataset.images, dataset.classes, settings.max_days
    )
    return Knowledge(
        views=1,
        rows=found.rows,
        classes=len(dataset.classes),
        features=0,
        grid_shape=[],
        cam_side=0,
        teachers=1,
        facts=to_json(found.facts),
        logits=np.log(found.probabilities).astype(np.float16).tobytes(),
        pooled=b"",
        grid=b"",
        cams=b"",
        others=b"",
    )
