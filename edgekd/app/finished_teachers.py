"""Checks finished networks of the user's that teach as they are, before any stage runs.

They are the teachers in another form than NAME@WEIGHTS: an ONNX file, a torch.export program, a
function, a network of torchvision, a repository on the hub. They give logits alone.
"""

from __future__ import annotations

from edgekd.core.errors import RecipeError, WeightsError
from edgekd.data.sources import UNLABELLED
from edgekd.pipeline.jobs import Job, Teacher
from edgekd.settings.model_specs import RANDOM_WEIGHTS
from edgekd.settings.teacher_settings import TeacherConfig

# The keys of [distil] that weigh a loss on the teacher's features.
FEATURES = ("pooled", "grid", "exits")


def check(made: Job) -> None:
    """Check that such teachers can teach. torch is loaded only where there is one.

    Raises what loading them raises, RecipeError for one that would have to
    be trained or whose classes are others, and WeightsError for random weights.
    """
    config = made.recipe.teacher
    for teacher in made.teachers:
        if teacher.given:
            _check(teacher, config, _classes(made))
    if _any(made):
        _check_losses(made)


def _any(made: Job) -> bool:
    return any(teacher.given for teacher in made.teachers)


def _classes(made: Job) -> list[str]:
    """The names of the data's classes, in their order."""
    if made.source.labels is not None:
        return list(made.source.labels)
    return sorted({item.label for item in made.source.items() if item.split != UNLABELLED})


def _check(teacher: Teacher, config: TeacherConfig, classes: list[str]) -> None:
    if not config.as_it_is:
        raise RecipeError(
            f"{teacher.name} is a finished network: it can teach only as it is",
            "add --teacher-as-is (teacher.epochs=0), or name a network to train: NAME@FILE",
        )
    from edgekd.quantization import given_teacher

    found = teacher.as_config(config)
    made = given_teacher.network(found)
    if made.facts["weights"] == RANDOM_WEIGHTS:
        raise WeightsError(
            f"{teacher.name} has random weights, so it cannot teach as it is (teacher.epochs = 0)",
            f"give its weights: {teacher.name}@DEFAULT, or {teacher.name}@FILE.pth",
        )
    given_teacher.check_outputs(made, found.model, classes)


def _check_losses(made: Job) -> None:
    """Raise RecipeError for losses of [distil.losses] that read features."""
    for term in made.recipe.distil.losses:
        lacking = sorted(set(term.method.needs) - {"logits"})
        if lacking:
            raise RecipeError(
                f"distil.losses.{term.name} needs the teacher's {' and '.join(lacking)}, and "
                f"{made.teachers[0].spec.name} gives logits alone",
                f"--set distil.losses.{term.name}=0, or name a teacher of timm: NAME@FILE",
            )


def notes(made: Job) -> list[str]:
    """What is assumed of such teachers, and which losses they leave out."""
    if not _any(made):
        return []
    from edgekd.networks.foreign.model import TEACHER
    from edgekd.networks.foreign.preprocessings import assumed, inside
    from edgekd.quantization import given_teacher

    table, found = made.recipe.teacher, []
    for teacher in made.teachers:
        if not teacher.given:
            continue
        config = teacher.as_config(table)
        if not given_teacher.states_normalisation(config):
            did = inside(given_teacher.network(config).facts)
            found.append(assumed(teacher.name, did, TEACHER, config.order))
    losses = [name for name in FEATURES if getattr(made.recipe.distil, name)]
    if made.teachers[0].given and losses:
        named = " and ".join(f"distil.{name}" for name in losses)
        found.append(
            f"{made.teachers[0].spec.name} gives logits alone: the losses on features ({named}) "
            "are left out"
        )
    return found
