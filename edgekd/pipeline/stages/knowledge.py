"""data, teacher -> knowledge: what the teacher answers about seeded views of each training image,
computed once.

Training then costs the student only. Answers are kept in float16: its three digits are far finer
than the changes that augmentation makes. They lie in folders of shards that builds share: more
views or more images later ask the teacher only for what is new, and a run that was stopped
continues after the last shard. Processes that share a build share this work; an answer does not
depend on which process asks.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from edgekd.core.artifacts import Dataset, Json, Knowledge, Network, sha256
from edgekd.core.context import Context
from edgekd.core.records import to_json
from edgekd.data import answer_logs, datasets, on_demand
from edgekd.networks import compute
from edgekd.pipeline.stage_settings import KnowledgeSettings, LogSettings
from edgekd.training import asking_steps, teacher_columns
from edgekd.training.answer_cache import AnswerCache, Shown
from edgekd.training.cached_answers import knowledge_of
from edgekd.training.processes import team
from edgekd.training.teacher_oracle import Oracle


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

    Further teachers give logits only. Logits are averaged over `settings.average` views. Raises
    RecipeError when a loss needs maps that the teacher does not have.
    """
    pixels = on_demand.pixels(dataset, context.source)
    on = compute.of(context)
    first = Oracle(teacher, pixels, settings.oracle, on)
    more = [Oracle(other, pixels, settings.oracle.without_maps(), on) for other in others]
    rows = torch.from_numpy(datasets.taught(dataset))
    shown = Shown(dataset, rows, settings.view, context.seed, settings.view.per_image)
    cache = AnswerCache(shown, context)
    columns = teacher_columns.of_teachers(first, more, dataset, cache, settings.average)
    facts: dict[str, Json] = {"source": "teacher"}
    if more or settings.average > 1:
        oracles = [first, *more]
        steps = team().once(lambda: asking_steps.steps(oracles, dataset, shown, settings.average))
        facts["steps"] = [[step.to_json() for step in each] for each in steps]
    return cache.knowledge(columns, facts)


def from_logs(dataset: Dataset, *, settings: LogSettings, context: Context) -> Knowledge:
    """Knowledge from a log of answers (`edgekd.data.answer_logs`): the logits of one view of the
    images in the log.

    Raises DataError that names the file and the line.
    """
    found = answer_logs.read(
        Path(settings.path), dataset.images, dataset.classes, settings.max_days
    )
    logits = torch.from_numpy(np.log(found.probabilities).astype(np.float16))
    return knowledge_of(
        found.rows,
        len(dataset.classes),
        {"logits": logits[None]},
        to_json(found.facts),
        context.answers({"log": sha256(logits.numpy().tobytes())}),
    )
