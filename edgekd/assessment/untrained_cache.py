"""The untrained .tflite of a student, kept between commands, because making it takes seconds."""

from __future__ import annotations

from collections.abc import Sequence

from edgekd.assessment import kept_files
from edgekd.core.artifacts import Json
from edgekd.core.frames import Frame
from edgekd.settings.model_specs import ModelSpec

KIND = ".tflite"


def untrained_model(
    student: ModelSpec, px: int, classes: int, rules: dict[str, str], sides: Sequence[int] = ()
) -> bytes:
    """The .tflite of a student for images of `px` pixels a side, from the folder or newly made.

    `rules`: those of the device's profile, as the arguments of `Int8Rules`. `sides`: height and
    width of the frame in front of the student, if it has one. Raises what `untrained_tflite` of
    edgekd.export.untrained_model raises.
    """

    def make() -> bytes:
        from edgekd.export.untrained_model import untrained_tflite
        from edgekd.tflite.int8_rules import Int8Rules

        return untrained_tflite(student, px, classes, Int8Rules(**rules), Frame.of(sides, px))

    return kept_files.kept(_key(student, px, classes, rules, sides), KIND, make)


def known(
    student: ModelSpec, px: int, classes: int, rules: dict[str, str], sides: Sequence[int] = ()
) -> bytes | None:
    """The same from the folder alone, None where it is not there."""
    return kept_files.read(_key(student, px, classes, rules, sides), KIND)


def _key(
    student: ModelSpec, px: int, classes: int, rules: dict[str, str], sides: Sequence[int]
) -> str:
    return kept_files.key_of(asked(student, px, classes, rules, sides))


def asked(
    student: ModelSpec, px: int, classes: int, rules: dict[str, str], sides: Sequence[int]
) -> dict[str, Json]:
    """What decides an untrained .tflite, beside the code and the libraries."""
    return {
        "arch": student.arch,
        "options": student.options,
        "mean": list(student.mean),
        "std": list(student.std),
        "px": px,
        "frame": list(sides),
        "classes": classes,
        "rules": rules,
    }
