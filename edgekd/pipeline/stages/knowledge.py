"""data, teacher -> knowledge: what the teacher says about seeded views of each training image, computed once.

A run that is killed goes on after the last view that was finished.

Processes that share a build share this work, too; an answer does not depend on who asked, so the bytes are the same.

Training then costs the student only. float16 keeps logits to 3 digits, which is far below what augmentation moves.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch
from safetensors import SafetensorError

from edgekd.core.artifacts import Dataset, Knowledge, Network
from edgekd.core.context import Context
from edgekd.core.records import to_json
from edgekd.data import answer_logs, datasets
from edgekd.settings.model_specs import ModelSpec
from edgekd.settings.recipe import ViewsConfig
from edgekd.training import views
from edgekd.training.processes import team
from edgekd.training.teacher_oracle import BLOCK, Answers, Oracle

ASKED = 4 * BLOCK  # images between two reports of progress


def run(
    dataset: Dataset,
    teacher: Network,
    *others: Network,
    view: ViewsConfig,
    wanted_precision: str,
    model: ModelSpec,
    grid_side: int,
    cam_side: int,
    context: Context,
) -> Knowledge:
    """Ask the teacher about `view.per_image` views of every image to train on, labelled or not; further teachers give logits.

    `grid_side`, `cam_side`: side of the feature map and of the class activation maps that the losses align to, 0 keeps
    none (a map is 20 to 100 times as large as the pooled features).
    """
    pixels = datasets.pixels(dataset)
    first = Oracle(
        teacher,
        pixels,
        wanted_precision=wanted_precision,
        model=model,
        grid_side=grid_side,
        cam_side=cam_side,
    )
    more = [
        Oracle(other, pixels, wanted_precision=wanted_precision, model=model) for other in others
    ]
    train = torch.from_numpy(datasets.taught(dataset))
    kept = _resumed(context.checkpoint.load(), view.per_image, len(train))
    finished = len(kept.pop("views", ()))
    for number in range(finished, view.per_image):
        drawn = views.draw(view, context.seed, number, len(dataset.images), train)

        def ask(start: int, drawn: views.Views = drawn) -> Answers:
            rows = train[start : start + ASKED]
            answers = first.ask(rows, drawn)
            if more:
                answers["others"] = torch.stack(
                    [other.ask(rows, drawn)["logits"] for other in more], 1
                )
            return answers

        for start, answers in team().spread(ask, range(0, len(train), ASKED)):
            for name, value in answers.items():
                if name not in kept:
                    # One block for all: small results kept between large temporaries would pin the heap (9 MB a batch).
                    kept[name] = np.empty(
                        (view.per_image, len(train), *value.shape[1:]), np.float16
                    )
            if number == finished and start == 0:
                context.say(_size(kept))
            for name, value in answers.items():
                kept[name][number, start : start + ASKED] = value.numpy()
            asked = number * len(train) + min(start + ASKED, len(train))
            context.progress("teacher views", asked, view.per_image * len(train))
        if number + 1 < view.per_image:
            done = {name: array[: number + 1] for name, array in kept.items()}
            context.checkpoint.save(
                safetensors.numpy.save({**done, "views": np.arange(number + 1)})
            )
    blobs = {
        name: kept[name].tobytes() if name in kept else b""
        for name in ("logits", "pooled", "grid", "cams", "others")
    }
    return Knowledge(
        views=view.per_image,
        rows=train.tolist(),
        classes=len(dataset.classes),
        features=kept["pooled"].shape[-1],
        grid_shape=list(kept["grid"].shape[2:]) if grid_side else [],
        cam_side=cam_side,
        teachers=1 + len(others),
        facts={"source": "teacher"},
        **blobs,
    )


def _resumed(state: bytes | None, views: int, images: int) -> dict[str, np.ndarray]:
    """The answers of an earlier run, room for the others behind them, and "views", those that it finished; else nothing."""
    try:
        found = safetensors.numpy.load(state) if state is not None else {}
    except SafetensorError:  # torn or foreign: asking again is always right
        return {}
    kept = {"views": found.pop("views")} if found else {}
    for name, array in found.items():
        kept[name] = np.empty((views, images, *array.shape[2:]), array.dtype)
        kept[name][: len(array)] = array
    return kept


def _size(kept: Mapping[str, np.ndarray]) -> str:
    """What the answers will take in the store, told before most of them are asked for."""
    views, images = kept["logits"].shape[:2]
    parts = ", ".join(f"{name} {array.nbytes / 2**20:.2f}" for name, array in kept.items())
    total = sum(array.nbytes for array in kept.values()) / 2**20
    return f"      teacher's answers: {views} views of {images} images will take {total:.2f} MiB ({parts})"


def from_logs(
    dataset: Dataset, *, path: str, file_sha256: str, max_days: float, context: Context
) -> Knowledge:
    """Knowledge from a log of answers (`answer_logs`): logits alone, one view, of the training images that it speaks of.

    Raises DataError naming the file and the line.
    """
    found = answer_logs.read(Path(path), dataset.images, dataset.classes, max_days)
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
