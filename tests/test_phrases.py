"""Lines of the terminal are broken between phrases."""

from __future__ import annotations

import pytest

from edgekd.app.terminal.phrases import folded

LATENCY = (
    "2.63 ms, 1.89 to 3.67; 37 rows (MobileNetV1, MobileNetV2) on Raspberry Pi 4B 1.5GHz "
    "(aarch64 Ubuntu 20.04, fan), 4 threads, int8; times 0.71 for XNNPACK over ruy "
    "(4 models measured on both); 90 % interval"
)


def test_a_line_ends_between_phrases() -> None:
    assert [line.rstrip() for line in folded(LATENCY, 69)] == [
        "2.63 ms, 1.89 to 3.67;",
        "37 rows (MobileNetV1, MobileNetV2) on Raspberry Pi 4B 1.5GHz",
        "(aarch64 Ubuntu 20.04, fan), 4 threads, int8;",
        "times 0.71 for XNNPACK over ruy (4 models measured on both);",
        "90 % interval",
    ]


@pytest.mark.parametrize("width", [1, 7, 20, 40, 200])
def test_nothing_is_lost_and_no_line_is_too_long(width: int) -> None:
    lines = folded(LATENCY, width)
    assert "".join(lines) == LATENCY
    assert max(len(line.rstrip()) for line in lines) <= width


def test_a_command_and_a_number_stay_whole() -> None:
    text = "take an input of 64 px as in (--set data.input_px=64) of the command line"
    for line in folded(text, 26):
        assert not line.rstrip().endswith(("--set", "64"))
