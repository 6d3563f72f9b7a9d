"""One teacher for all candidates of a search, whatever their input sizes are.

A build chooses a teacher's input size by the student's (`jobs.teacher_px`), so that students of
four sizes would have four teachers. A search fixes `teacher.px` instead.

Answers then depend on a student in one way alone: maps for the losses that compare feature maps
(`distil.grid`, and those that need "grid" or "cams") have the side of the student's last feature
map, which is its input's over 32. A search with such losses asks the teacher once for each side.
Maps of one side cannot be computed exactly from those of another, so that this is not shared.

A large teacher could take all the time of a search. `affordable` chooses a size and a number of
views that leave most of the time for the candidates.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from edgekd.pipeline import build_costs
from edgekd.pipeline.build_costs import Speeds, Work
from edgekd.pipeline.jobs import Job, teacher_px
from edgekd.search.candidate import Candidate
from edgekd.settings import recipe
from edgekd.settings.recipe import Recipe, ViewsConfig
from edgekd.settings.setting_types import Toml

# The most of a search's time that its teacher takes where a smaller input or fewer views allow it.
# All candidates learn from the same answers, but with less than two thirds of the time left few of
# them are trained. The share was set by hand and not measured.
SHARE = 1 / 3
# With one view the student would see each image in one way alone.
FEWEST_VIEWS = 2


@dataclasses.dataclass(frozen=True)
class Teaching:
    """How the teacher of a search is asked: the side of its input in pixels, and views per image.

    `seconds`: the time that its training and its answers are expected to take. `cut`: whether it is
    smaller, or sees fewer views, than a search with more time would choose.
    """

    px: int
    views: int
    seconds: float
    cut: bool

    @property
    def settings(self) -> dict[str, Toml]:
        """The settings of a recipe that ask so, by key."""
        return {"teacher.px": self.px, "views.per_image": self.views}


def sizes(job: Job, candidates: Sequence[Candidate]) -> tuple[int, ...]:
    """The sides that the teacher's input may have, the largest first.

    They are those that builds of the candidates would choose. Empty without a teacher, for a
    finished classifier, and for several teachers of different sizes, since one `teacher.px` would
    count for all of them; these answer again for each size of a candidate.
    """
    settings = job.recipe
    if settings.teacher.as_it_is or not job.teachers or any(each.given for each in job.teachers):
        return ()
    found = set[int]()
    for size in {candidate.input_px for candidate in candidates}:
        sides = {teacher_px(each.spec, size, settings.teacher) for each in job.teachers}
        if len(sides) != 1:
            return ()
        found |= sides
    return tuple(sorted(found, reverse=True))


def shared(job: Job, candidates: Sequence[Candidate]) -> Recipe:
    """The recipe of `job` with one teacher for all candidates.

    The teacher's input is the one that a build with the largest candidate would choose: a larger
    input gives better answers, and they are asked for once. The recipe is returned as it is where
    the teacher's size does not depend on the student's.
    """
    found = sizes(job, candidates)
    if job.recipe.teacher.px or len(found) < 2:
        return job.recipe
    return recipe.changed(job.recipe, {"teacher.px": found[0]})


def affordable(
    settings: Recipe,
    sides: Sequence[int],
    images: int,
    seconds: float,
    view_seconds: Callable[[int], float],
) -> Teaching | None:
    """The best teaching that takes at most SHARE of `seconds`, or the cheapest one there is.

    Inputs become smaller first (`sides`, the largest first), then views fewer, but only where
    `views.per_image` is the default's or a preset's: another number was asked for. `images`: to
    train on. `view_seconds(px)`: the time of the teacher's answer about one view. None where
    nothing can be chosen: no sides, several teachers, or a teacher that is asked while students are
    trained.
    """
    if not sides or settings.teacher.others or settings.distil.answers != "cached":
        return None
    work = Work(images, images, 0, 0, sides=tuple(sides))
    most = settings.views.per_image
    asked = most != ViewsConfig.per_image and "views.per_image" in settings.given
    ways = [(px, most) for px in sides]
    views = most
    while not asked and views // 2 >= FEWEST_VIEWS:
        views //= 2
        ways.append((sides[-1], views))
    made: Teaching | None = None
    for px, number in ways:
        way = recipe.changed(settings, {"teacher.px": px, "views.per_image": number})
        speeds = Speeds(0.0, {px: view_seconds(px)})
        taken = sum(build_costs.teaching_seconds(way, work, speeds).values())
        made = Teaching(px, number, taken, cut=(px, number) != ways[0])
        if taken <= SHARE * seconds:
            break
    return made
