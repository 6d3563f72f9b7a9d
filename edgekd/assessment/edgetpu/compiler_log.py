"""What edgetpu_compiler printed, as figures.

The compiler prints a summary, then a table "Operator / Count / Status". The table is always in the
.log file, and on standard output with -s. With -d it tries again with fewer operators until an
attempt succeeds, and with -n it compiles several segments: the last attempt of each segment counts.
A crash can leave nothing but the version line, which is a failure, too. The lines are those of
edgekd/device/log_lines/compiler_lines.py.

Errors go to another stream than the rest, so where one stands in the text does not tell to which
attempt it belongs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from edgekd.assessment.check_record import CompiledBlock, CompilerReport, CompilerRow
from edgekd.assessment.edgetpu import status
from edgekd.core.records import UNSET
from edgekd.device.log_lines import compiler_lines as lines
from edgekd.device.log_lines.line import Says, Severity
from edgekd.device.log_lines.reader import Found, first_error, read_log

UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
MAX_ERRORS = 20  # different lines of errors that are kept; a search may repeat them 400 times
SIZES = (
    lines.INPUT_SIZE,
    lines.OUTPUT_SIZE,
    lines.CACHED,
    lines.CACHE_LEFT,
    lines.STREAMED,
)
COUNTS = (lines.SUBGRAPHS, lines.OPERATIONS, lines.MAPPED, lines.ON_CPU)


@dataclass(frozen=True)
class Log:
    """What a compilation printed.

    `sizes` are in bytes, by the named groups of SIZES; `counts` by those of COUNTS. A figure that
    was not printed is absent, and `milliseconds` is then None. Figures of several segments are
    added up. `rows`: the table; `whole_table` is False where the text holds only a part of it.
    `errors`: every line of an error once, also those of attempts before one that succeeded.
    `cause`: the first error of the chain. `attempts`: how many there were, of all segments.
    """

    version: str
    succeeded: bool
    milliseconds: int | None
    sizes: dict[str, int]
    counts: dict[str, int]
    rows: list[CompilerRow]
    errors: list[str]
    whole_table: bool = True
    cause: str | None = None
    attempts: int = 1

    @property
    def mapped(self) -> int:
        """Operators mapped to the Edge TPU: by the table, or by the summary where it is cut."""
        if self.whole_table and self.rows:
            return sum(row.count for row in self.rows if row.status == status.MAPPED)
        if "mapped" in self.counts:
            return self.counts["mapped"]
        # the line is left out when every operator is mapped
        return self.counts.get("operations", 0) if self.counts.get("subgraphs", 0) else 0

    @property
    def operations(self) -> int:
        """All operators: by the table, or by the summary where it is cut."""
        if self.whole_table and self.rows:
            return sum(row.count for row in self.rows)
        return self.counts.get("operations", 0)

    def report(self, compiled: CompiledBlock) -> CompilerReport:
        """The record for check and report. `compiled`: what stands in the compiler's output."""
        return CompilerReport(
            version=self.version,
            succeeded=self.succeeded,
            milliseconds=self.milliseconds,
            input_bytes=self.sizes.get("input_bytes", UNSET),
            output_bytes=self.sizes.get("output_bytes", UNSET),
            cached_bytes=self.sizes.get("cached_bytes", UNSET),
            cache_left_bytes=self.sizes.get("cache_left_bytes", UNSET),
            streamed_bytes=self.sizes.get("streamed_bytes", UNSET),
            subgraphs=self.counts.get("subgraphs", UNSET),
            on_cpu=self.counts.get("on_cpu", UNSET),
            operations=self.operations,
            mapped=self.mapped,
            rows=self.rows,
            errors=self.errors,
            attempts=self.attempts,
            edgetpu_ops=compiled.edgetpu_ops,
            executable_bytes=compiled.executable_bytes,
            cpu_ops=compiled.cpu_ops,
            cpu_tail=compiled.cpu_tail,
        )


@dataclass
class _Attempt:
    """One attempt while it is read. `begun`: a line of it was seen."""

    begun: bool = False
    timed: bool = False
    succeeded: bool = False
    failed: bool = False
    milliseconds: int | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    rows: list[CompilerRow] = field(default_factory=list)
    cut: bool = False

    @property
    def passed(self) -> bool:
        """Versions before 16.0 say nothing after the summary of a success."""
        finished = self.milliseconds is not None or bool(self.rows)
        return (self.succeeded or finished) and not self.failed


class _Reader:
    """Sorts the lines of standard output, and of .log files after it, into attempts."""

    def __init__(self) -> None:
        self.version = ""
        self.segments: list[list[_Attempt]] = [[_Attempt()]]
        self.files: list[_Attempt] = []  # what the .log files hold
        self.searching = False
        self.in_table = False

    @property
    def _now(self) -> _Attempt:
        return self.files[-1] if self.files else self.segments[-1][-1]

    def take(self, found: Found) -> None:
        """Take the next line."""
        row = found.line
        if row is lines.VERSION:
            if self.version:  # the first line of a .log file
                self.files.append(_Attempt())
            self.version = self.version or found.groups["version"]
        elif row is lines.SEARCH:
            self._new_segment()
            self.searching = True
        elif row is lines.ATTEMPT:
            self._new_attempt()
        elif row is lines.TIMER:
            if self._now.timed:
                self._new_attempt() if self.searching else self._new_segment()
            self._now.begun = self._now.timed = True
        elif row is lines.COMPILED and self._now.milliseconds is not None:
            self._new_segment()
        self._figures(found)
        self.in_table = row is lines.TABLE_HEAD or (self.in_table and row is lines.TABLE_ROW)

    def _new_segment(self) -> None:
        if self._now.begun:
            self.segments.append([_Attempt()])

    def _new_attempt(self) -> None:
        if self._now.begun:
            self.segments[-1].append(_Attempt())
        self._now.begun = True

    def _figures(self, found: Found) -> None:
        now, row, groups = self._now, found.line, found.groups
        if row is lines.COMPILED:
            now.begun, now.milliseconds = True, int(groups["milliseconds"])
        elif row is lines.SUCCEEDED:
            now.succeeded = True
        elif row is lines.FAILED:
            now.failed = True
        elif row in SIZES:
            now.sizes.update((name, _bytes(text)) for name, text in groups.items())
        elif row in COUNTS:
            now.counts.update((name, int(text)) for name, text in groups.items())
        elif row is lines.TABLE_HEAD:  # a table that is repeated takes the place of the first
            now.rows, now.cut = [], False
        elif row is lines.TABLE_CUT:
            now.cut = True
        elif row is lines.TABLE_ROW and self.in_table:
            now.rows.append(CompilerRow(groups["op"], int(groups["count"]), groups["status"]))


def parse(text: str) -> Log:
    """Read standard output, a .log file, or both in turn (a table that is repeated counts once)."""
    reader, errors = _Reader(), dict[str, None]()
    for found in read_log(text):
        reader.take(found)
        if _is_error(found):
            errors[found.text] = None
    last = [attempts[-1] for attempts in reader.segments]
    printed = [row for attempt in last for row in attempt.rows]
    whole = all(attempt.rows and not attempt.cut for attempt in last)
    filed = [row for attempt in reader.files for row in attempt.rows]
    milliseconds = [each.milliseconds for each in last if each.milliseconds is not None]
    succeeded = all(attempt.passed for attempt in last)
    return Log(
        version=reader.version,
        succeeded=succeeded,
        milliseconds=sum(milliseconds) if milliseconds else None,
        sizes=_sum([attempt.sizes for attempt in last]),
        counts=_sum([attempt.counts for attempt in last]),
        rows=printed if whole or not filed else filed,
        errors=list(errors)[:MAX_ERRORS],
        whole_table=whole or bool(filed),
        cause=None if succeeded else first_error(text),
        attempts=sum(map(len, reader.segments)),
    )


def _is_error(found: Found) -> bool:
    if found.line is not None:
        return found.line.says in (Says.CAUSE, Says.CONSEQUENCE)
    return found.severity == Severity.ERROR


def _sum(parts: Sequence[dict[str, int]]) -> dict[str, int]:
    """Figures of several segments, added up by name."""
    total: dict[str, int] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, 0) + value
    return total


def _bytes(text: str) -> int:
    """Bytes of a size such as "4.04MiB"."""
    figure, unit = re.findall(r"[\d.]+|[A-Za-z]+", text)
    return round(float(figure) * UNITS[unit])
