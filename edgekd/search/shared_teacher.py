"""One teacher for all candidates of a search, whatever their input sizes are.

A build chooses a teacher's input size by the student's (`jobs.teacher_px`), so that students of
four sizes would have four teachers. A search fixes `teacher.px` instead.

Answers then depend on a student in one way alone: maps for the losses that compare feature maps
(`distil.grid`, and those that need "grid" or "cams") have the side of the student's last feature
map, which is its input's over 32. A search with such losses asks the teacher once for each side.
Maps of one side cannot be computed exactly from those of another, so that this is not shared.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgekd.pipeline.jobs import Job, teacher_px
from edgekd.search.candidate import Candidate
from edgekd.settings import recipe
from edgekd.settings.recipe import Recipe


def shared(job: Job, candidates: Sequence[Candidate]) -> Recipe:
    """The recipe of `job` with one teacher for all candidates.

    The teacher's input is the one that a build with the largest candidate would choose: a larger
    input gives better answers, and they are asked for once. The recipe is returned as it is where
    all candidates have one size, and where the teacher's size does not depend on the student's:
    with `teacher.px`, without a teacher, and for a finished classifier. So it is for several
    teachers of different sizes, since one `teacher.px` would count for all of them; these answer
    again for each size.
    """
    settings = job.recipe
    sizes = {candidate.input_px for candidate in candidates}
    if settings.teacher.px or settings.teacher.as_it_is or len(sizes) < 2:
        return settings
    sides = {
        teacher_px(teacher.spec, max(sizes), settings.teacher)
        for teacher in job.teachers
        if not teacher.given
    }
    if len(sides) != 1:
        return settings
    return recipe.changed(settings, {"teacher.px": sides.pop()})
