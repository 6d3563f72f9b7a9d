"""A student without the edits that change nothing in it, so that equal networks are made once."""

from __future__ import annotations

import dataclasses

import msgspec

from edgekd.assessment import kept_files
from edgekd.settings.model_specs import ModelSpec

KIND = ".edits"
KEY = "edits"  # of a builder's options


def effective(student: ModelSpec) -> ModelSpec:
    """The student with those of its edits alone for which it has something to change.

    Raises UnknownName and RecipeError for a student that cannot be built.
    """
    edits = student.options.get(KEY)
    if not edits:
        return student
    plain = {name: value for name, value in student.options.items() if name != KEY}
    unedited = dataclasses.replace(student, options=plain)

    def make() -> bytes:
        from edgekd.networks.float_facts import editable  # torch

        return msgspec.json.encode(editable(unedited))

    key = kept_files.key_of({"edits of": student.arch, "options": plain})
    known = msgspec.json.decode(kept_files.kept(key, KIND, make), type=list[str])
    return unedited.edited({name: value for name, value in edits.items() if name in known})
