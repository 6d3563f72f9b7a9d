"""What Android's thermal service says: whether the phone throttles, and how hot its CPU is.

`dumpsys thermalservice` is there from Android 10 on. Its first temperatures are cached ones, which
may be old, so those that were read just now are preferred.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgekd.device.log_lines import board_lines
from edgekd.device.log_lines.line import number
from edgekd.device.log_lines.reader import read_log

# PowerManager.THERMAL_STATUS_*; from "light" on, Android may slow the processor down
STATUSES = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
HOTTEST = 300.0  # degrees Celsius: no chip works there
CPU_SENSOR = 0  # Temperature.TYPE_CPU


@dataclass(frozen=True)
class Thermal:
    """Thermal status from 0 to 6, and the CPU's temperature in degrees Celsius; None where it is
    not told.
    """

    status: int | None = None
    cpu_c: float | None = None

    @property
    def name(self) -> str:
        """The status in a word."""
        known = self.status is not None and self.status < len(STATUSES)
        return STATUSES[self.status or 0] if known else "unknown"


def read_thermal(text: str) -> Thermal:
    """Read the answer of `dumpsys thermalservice`; nothing of another text."""
    status: int | None = None
    cached: list[float] = []
    live: list[float] = []
    readings = cached
    for found in read_log(text):
        if found.line is board_lines.THERMAL_STATUS:
            status = int(found.groups["status"])
        elif found.line is board_lines.CACHED_TEMPERATURES:
            readings = cached
        elif found.line is board_lines.LIVE_TEMPERATURES:
            readings = live
        elif found.line is board_lines.TEMPERATURE and int(found.groups["type"]) == CPU_SENSOR:
            celsius = number(found.groups["celsius"])
            # a sensor that is not there has 0.0 or -99.9
            if celsius is not None and 0 < celsius < HOTTEST:
                readings.append(celsius)
    return Thermal(status, max(live or cached, default=None))


def throttled_note(before: Thermal, after: Thermal) -> str | None:
    """The warning that the phone throttled before or after a run; None when it did not."""
    if not before.status and not after.status:
        return None
    return (
        f"Android's thermal status was {before.status} ({before.name}) before and {after.status} "
        f"({after.name}) after: it slows the processor down, so these times are not the phone's; "
        "let it cool and run again"
    )
