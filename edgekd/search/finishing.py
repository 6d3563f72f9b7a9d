"""What a finalist is trained for behind its float training: fine-tuning after cuts, and in int8.

A search with little time shortens the float training. It then shortens both of these in the same
proportion, as a build with `distil.minutes` does: otherwise 15 epochs behind the cuts of a network
follow on 12 in float, and a finalist takes longer than the search of it.
"""

from __future__ import annotations

import dataclasses

from edgekd.pipeline.build_costs import QAT_EPOCH
from edgekd.settings.recipe import Recipe
from edgekd.settings.setting_types import Toml

PRUNE, QAT = "prune.epochs", "qat.epochs"


@dataclasses.dataclass(frozen=True)
class Finishing:
    """How long finalists are trained behind `epochs` of float training, which the recipe asks for.

    `cuts`: fine-tunings of a candidate that is pruned, of `prune` epochs each. `qat`: epochs in
    int8. `fixed`: which of PRUNE and QAT the user has set; they stay.
    """

    epochs: int
    cuts: int
    prune: int
    qat: int
    fixed: frozenset[str] = frozenset()

    @classmethod
    def of(cls, recipe: Recipe) -> Finishing:
        """As a recipe says."""
        return cls(
            recipe.distil.epochs,
            recipe.prune.steps,
            recipe.prune.epochs,
            recipe.qat.epochs,
            frozenset({PRUNE, QAT} & set(recipe.given)),
        )

    def settings(self, epochs: int) -> dict[str, Toml]:
        """The settings of builds whose float training has `epochs`, by key."""
        return {PRUNE: self._shortened(PRUNE, self.prune, epochs), QAT: self._int8(epochs)}

    def fine_tuning(self, epochs: int, *, pruned: bool) -> float:
        """Epochs of fine-tuning, each of which takes as long as one of float training."""
        return float(self.cuts * self._shortened(PRUNE, self.prune, epochs)) if pruned else 0.0

    def int8(self, epochs: int) -> float:
        """The epochs of float training that training in int8 takes as long as."""
        return self._int8(epochs) * QAT_EPOCH

    def _int8(self, epochs: int) -> int:
        return self._shortened(QAT, self.qat, epochs)

    def _shortened(self, key: str, asked: int, epochs: int) -> int:
        """In proportion, and at least one epoch where any is asked for."""
        if key in self.fixed:
            return asked
        return min(asked, max(1, round(asked * epochs / self.epochs)))
