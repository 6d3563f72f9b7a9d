"""Which settings cannot be used with unlabelled images, or with images that have several labels."""

from __future__ import annotations

from edgekd.core.errors import RecipeError
from edgekd.settings import loss_catalogue
from edgekd.settings.recipe import Recipe


def check_unlabelled(settings: Recipe) -> None:
    """Raise RecipeError for a setting that needs a label on every image."""
    if settings.teacher.name == "none" or settings.distil.logs:
        raise RecipeError(
            "data.unlabelled needs a teacher that labels the images",
            "name a teacher, or leave data.unlabelled out",
        )
    if settings.distil.answers == "corrected":
        raise RecipeError(
            "data.unlabelled needs the teacher's answer to every view, and "
            'distil.answers = "corrected" does not give it',
            'use distil.answers = "cached" or "live"',
        )
    if settings.teacher.others and settings.distil.labels != "withheld":
        raise RecipeError(
            "teacher.others weighs the teachers by how often each is right, which cannot be known "
            "for data.unlabelled",
            "set distil.labels=withheld, which weighs them by their confidence, or name one "
            "teacher",
        )


def check_several_labels(settings: Recipe, labels: int) -> None:
    """Raise RecipeError for a setting that needs exactly one class for each image."""
    loss_catalogue.check(settings.distil.losses, labels, "many")
    reason = "needs one class for each image, and these images may have several labels"
    if settings.teacher.others:
        raise RecipeError(f"teacher.others {reason}", "name one teacher")
    if settings.distil.answers == "corrected":
        raise RecipeError(
            f'distil.answers = "corrected" {reason}', 'use distil.answers = "cached" or "live"'
        )
    if settings.distil.logs:
        raise RecipeError(f"distil.logs {reason}", "train from the teacher itself")
