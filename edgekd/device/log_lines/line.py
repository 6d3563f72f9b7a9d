"""What a row of the table is, and how the prefixes of loggers come off a line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, StrEnum
from functools import cached_property

# A number as C++ streams and printf write it, in any locale; `number` reads it.
NUMBER = r"[-+]?(?:\d[\d.,]*(?:[eE][-+]?\d+)?|nan|inf)"


class Tool(StrEnum):
    """What prints a line."""

    BENCHMARK_MODEL = "benchmark_model"
    LITERT_BENCHMARK = "benchmark_litert_model"
    RUNTIME = "the TFLite runtime"  # with its delegates, in whichever tool runs it
    EDGETPU_COMPILER = "edgetpu_compiler"
    VCGENCMD = "vcgencmd"
    THERMAL_SERVICE = "dumpsys thermalservice"
    SYSTEM = "the shell or the loader"


class Says(Enum):
    """What a line tells us."""

    FIGURE = "a number"
    DELEGATE = "who runs the operators"
    PROGRESS = "how far the tool is"
    CAUSE = "why something failed"
    CONSEQUENCE = "that something failed, because of an earlier fault"
    HARMLESS = "it looks like a fault and is none"


class Severity(Enum):
    """The level that a logger wrote before a line."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class LogLine:
    """One line of a tool, without the prefixes of loggers.

    `regex` matches the whole line; its named groups are what is read from it. `versions`: the
    releases that print it. `example`: such a line. `meaning`: what it says. `source`: where the
    format is known from.
    """

    tool: Tool
    says: Says
    regex: str
    versions: str
    example: str
    meaning: str
    source: str

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """The compiled regex."""
        return re.compile(self.regex)

    def match(self, text: str) -> dict[str, str] | None:
        """The named groups of a line of this kind, without those that are absent; None for another
        line.
        """
        found = self.pattern.fullmatch(text)
        if found is None:
            return None
        return {name: value for name, value in found.groupdict().items() if value is not None}


@dataclass(frozen=True)
class Bare:
    """A line without prefixes, and the level that stood before it, if any."""

    severity: Severity | None
    text: str


_LEVELS = {
    "V": Severity.INFO,
    "D": Severity.INFO,
    "I": Severity.INFO,
    "W": Severity.WARNING,
    "E": Severity.ERROR,
    "F": Severity.ERROR,
    "VERBOSE": Severity.INFO,
    "DEBUG": Severity.INFO,
    "INFO": Severity.INFO,
    "WARN": Severity.WARNING,
    "WARNING": Severity.WARNING,
    "ERROR": Severity.ERROR,
    "FATAL": Severity.ERROR,
}
_PREFIXES = tuple(
    re.compile(regex)
    for regex in (
        # logcat -v threadtime: "07-14 13:23:15.443 25289 25289 I tflite  : "
        r"(?:\d{4}-)?\d\d-\d\d \d\d:\d\d:\d\d\.\d+ +\d+ +\d+ (?P<level>[VDIWEF]) [^:]{1,60}: ?",
        # logcat -v time and -v brief: "07-08 15:40:38.060 I/tflite  ( 6794): "
        r"(?:\d\d-\d\d \d\d:\d\d:\d\d\.\d+ )?(?P<level>[VDIWEF])/[^(:]{1,60}\( *\d+\): ?",
        # absl: "I0000 00:00:1758455106.022223   62590 accelerator_registry.cc:40] "
        r"(?P<level>[IWEF])\d{4} [\d:.]+ +\d+ [\w./-]+:\d+\] ",
        # the tools' own logger
        r"(?P<level>VERBOSE|DEBUG|INFO|WARN|WARNING|ERROR|FATAL): ",
        # LiteRT's logger: "[./litert/tools/benchmark_litert_model.h:82] "
        r"\[[\w./-]+:\d+\] ",
    )
)
_MOST_PREFIXES = 4  # logcat, level and file at once, and one to spare
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def bare(line: str) -> Bare:
    """A line without colours, without the prefixes of loggers, and without spaces around it."""
    text = _COLOUR.sub("", line).strip()
    severity: Severity | None = None
    for _ in range(_MOST_PREFIXES):
        found = next((m for m in (prefix.match(text) for prefix in _PREFIXES) if m), None)
        if found is None:
            break
        level = found.groupdict().get("level")
        # the innermost level is the tool's own: Android prints some errors as information
        severity = _LEVELS[level] if level else severity
        text = text[found.end() :].strip()
    return Bare(severity, text)


def number(text: str) -> float | None:
    """The value of a NUMBER; None for one that is no finite number, or is ambiguous.

    "104,978" may be a hundred thousand, or a hundred and four, by the locale: it is not guessed.
    """
    if re.fullmatch(r"[-+]?\d{1,3}(,\d{3}){2,}(\.\d+)?", text) or re.fullmatch(
        r"[-+]?\d{1,3}(,\d{3})+\.\d+", text
    ):
        text = text.replace(",", "")
    elif re.fullmatch(r"[-+]?\d+,\d+([eE][-+]?\d+)?", text) and not re.fullmatch(
        r"[-+]?\d{1,3},\d{3}", text
    ):
        text = text.replace(",", ".")
    try:
        value = float(text)
    except ValueError:  # such as "1.2.3"
        return None
    return value if value == value and abs(value) != float("inf") else None
