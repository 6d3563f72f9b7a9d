"""A setting of a stage that is part of its key and nothing else."""

from __future__ import annotations

from typing import Annotated

# It stands for something outside the settings that decides the result, such as the contents of a
# file that the settings name.
type HashedOnly[T] = Annotated[T, "part of the stage's key; the stage itself does not read it"]
