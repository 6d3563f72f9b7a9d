"""What the presets of the build set, and why: the head of the section on training."""

from __future__ import annotations

import dataclasses

from edgekd.core.records import present
from edgekd.reporting.report_record import Report
from edgekd.settings.preset_record import By, PresetBlock, spoken

WHO = {
    By.PRESET: "the preset",
    By.USER: "you",
    By.PLAN: "the plan of the training",
    By.NOBODY: "nobody: left out",
}


@dataclasses.dataclass(frozen=True)
class PresetLine:
    """One setting of the preset."""

    setting: str
    preset: str
    used: str
    by: str
    reason: str


@dataclasses.dataclass(frozen=True)
class PresetView:
    """The preset in words, and a row for each of its settings."""

    words: str
    rows: list[PresetLine]


def presets(report: Report) -> list[PresetView]:
    """The presets of the build, without those that set nothing."""
    return [_view(block) for block in map(present, (report.preset, report.prune_preset)) if block]


def _view(block: PresetBlock) -> PresetView:
    rows = [
        PresetLine(row.setting, spoken(row.preset), spoken(row.used), WHO[row.by], row.reason)
        for row in block.settings
    ]
    told = str(block)
    return PresetView(told[0].upper() + told[1:], rows)
