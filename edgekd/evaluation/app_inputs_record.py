"""Records of the block "app_inputs" in report.json: the int8 file in apps that prepare images in
other ways.
"""

from __future__ import annotations

from edgekd.core.intervals import Interval
from edgekd.core.records import UNSET, Record, UnsetType, present
from edgekd.data.app_variants import VariantKind
from edgekd.evaluation.accuracy_record import Change, StageState


class AppInput(Record, frozen=True, kw_only=True):
    """One way to prepare the images, compared with that of deployment.json on the same images.

    `agree`: the share of answers that stay. `flips_bad`, `flips_good`: answers that become wrong,
    and right. `change`: a loss is negative. `state` compares the loss with the setting
    app_inputs.max_drop. `remedy`: what helps, where the loss is beyond that.
    """

    kind: VariantKind
    name: str
    title: str
    top1: float
    top1_ci95: Interval
    agree: float
    flips_bad: int
    flips_good: int
    change: Change
    state: StageState
    remedy: str | UnsetType = UNSET


class AppInputs(Record, frozen=True, kw_only=True):
    """The int8 file on `n` of `of` test images, prepared in each way.

    `top1`: prepared as deployment.json says. `max_drop`: the loss that is not flagged. `notes`:
    what was left out, a sentence each.
    """

    n: int
    of: int
    top1: float
    top1_ci95: Interval
    max_drop: float
    rows: list[AppInput]
    notes: list[str]

    def remedies(self) -> list[tuple[list[AppInput], str]]:
        """What helps, and the ways that cost too much against which it does, in their order."""
        found: dict[str, list[AppInput]] = {}
        for row in self.rows:
            if told := present(row.remedy):
                found.setdefault(told, []).append(row)
        return [(rows, told) for told, rows in found.items()]
