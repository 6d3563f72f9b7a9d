"""What it gains to ask teachers about several views, and to ask several teachers.

Both are judged on the validation images, in views such as the student sees.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from edgekd.core.artifacts import Dataset
from edgekd.training import teacher_blend
from edgekd.training.answer_cache import Shown
from edgekd.training.teacher_oracle import Oracle
from edgekd.training.teacher_steps import Judge, TeacherStep
from edgekd.training.view_average import mean_logits


def steps(
    oracles: Sequence[Oracle], dataset: Dataset, shown: Shown, views: int
) -> list[list[TeacherStep]]:
    """The steps of each teacher. They cost each teacher `views` passes over validation images.

    All teachers together are a step of the first one. Where the student learns, the labels say how
    much each teacher counts; validation images must not use theirs, so that here it is how sure
    each teacher is.
    """
    judge = Judge.of(dataset)
    found: list[list[TeacherStep]] = []
    logits = []
    for oracle in oracles:
        each = torch.stack(
            [
                oracle.ask(judge.rows, shown.drawn(number))["logits"].float().cpu()
                for number in range(views)
            ]
        )
        one = judge.step("one view of each image, as the student sees it", each[0], views == 1)
        found.append([one])
        logits.append(mean_logits(each, dataset.labels))
        if views > 1:
            found[-1].append(judge.step(f"its answers averaged over {views} views", logits[-1]))
    if len(oracles) > 1 and dataset.labels == "one":
        together = torch.stack(logits, 1)
        blended = teacher_blend.blend(together, teacher_blend.sureness(together))
        found[0].append(judge.step(f"all {len(oracles)} teachers together", blended))
    return found
