"""A candidate: one student that could be built, as a small set of settings of a recipe."""

from __future__ import annotations

import dataclasses

from edgekd.core.number_formats import NumberFormat
from edgekd.settings.setting_types import Toml


@dataclasses.dataclass(frozen=True, order=True)
class Candidate:
    """One point of the search space.

    `student`: a name of models/ or of timm. `weights`: its first weights, as in `distil.weights`.
    `input_px`: the side of its input, in pixels. `pruned`: the share of its channels that
    structured pruning takes, 0 to 0.75. `edits`: changes of the network as (key, value) of the
    recipe's table [edits], sorted. `number_format`: the file that is judged and shipped.
    """

    student: str
    input_px: int
    pruned: float = 0.0
    weights: str = ""
    edits: tuple[tuple[str, str], ...] = ()
    number_format: NumberFormat = NumberFormat.INT8

    @property
    def settings(self) -> dict[str, Toml]:
        """The settings of a recipe that build this candidate, by key."""
        found: dict[str, Toml] = {
            "distil.student": self.student,
            "distil.weights": self.weights,
            "data.input_px": self.input_px,
            "prune.ratio": self.pruned,
            # The other goals of pruning, which a recipe may have.
            "prune.target_macs": 0.0,
            "prune.target_latency": "",
        }
        found |= {f"edits.{key}": value for key, value in self.edits}
        if self.number_format is not NumberFormat.INT8:
            found["convert.formats"] = [self.number_format.value]
        return found

    @property
    def label(self) -> str:
        """A short name for tables, such as "mobilenetv2_050 96 px, 25 % pruned"."""
        parts = [f"{self.student} {self.input_px} px"]
        if self.pruned:
            parts.append(f"{self.pruned:.0%} pruned".replace("%", " %"))
        parts += [f"{key}={value}" for key, value in self.edits]
        if self.number_format is not NumberFormat.INT8:
            parts.append(self.number_format.value)
        return ", ".join(parts)
