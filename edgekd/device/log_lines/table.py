"""The table: every line of a device's tool that EdgeKD reads.

A line that is in no row is kept for messages and is otherwise ignored.
"""

from __future__ import annotations

from edgekd.device.log_lines import (
    benchmark_lines,
    board_lines,
    compiler_lines,
    delegate_lines,
    error_lines,
)
from edgekd.device.log_lines.line import LogLine

TABLE: tuple[LogLine, ...] = (
    *benchmark_lines.LINES,
    *delegate_lines.LINES,
    *error_lines.LINES,
    *compiler_lines.LINES,
    *board_lines.LINES,
)
