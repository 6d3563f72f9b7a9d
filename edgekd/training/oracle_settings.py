"""How a teacher is asked. Without torch, so that a build can be planned without loading it."""

from __future__ import annotations

import dataclasses

from edgekd.settings.model_specs import ModelSpec


@dataclasses.dataclass(frozen=True)
class OracleSettings:
    """What an `edgekd.training.teacher_oracle.Oracle` answers, and in which precision.

    `precision`: as `teacher.precision` of a recipe. `grid_side`, `cam_side`: side of the feature
    map and of the class activation maps that it gives; 0 gives none. A map is 20 to 100 times as
    large as the pooled features.
    """

    precision: str
    model: ModelSpec
    grid_side: int = 0
    cam_side: int = 0

    def without_maps(self) -> OracleSettings:
        """The same settings for a teacher that gives logits and pooled features only."""
        return dataclasses.replace(self, grid_side=0, cam_side=0)
