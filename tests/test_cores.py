"""Work that is divided among the cores."""

import os
import sys

import pytest

from edgekd.core import cores
from edgekd.core.errors import EdgeKDError, UnknownName

WORD = "known"


def place(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


def refuse(number: int) -> int:
    if number == 2:
        raise UnknownName("word", "knwon", [WORD], "say it again")
    return number


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
def test_processes_answer_in_the_order_of_the_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    squares, processes = zip(*cores.in_processes(place, range(9)), strict=True)
    assert squares == tuple(number * number for number in range(9))
    assert os.getpid() not in processes


def test_one_core_starts_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert {process for _, process in cores.in_processes(place, range(3))} == {os.getpid()}


@pytest.mark.parametrize("threads", ["1", "2"])
def test_the_error_of_a_process_arrives_whole(
    monkeypatch: pytest.MonkeyPatch, threads: str
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    with pytest.raises(UnknownName) as raised:
        cores.in_processes(refuse, range(4))
    error: EdgeKDError = raised.value
    assert str(error) == "unknown word 'knwon'\n  next: did you mean 'known'? say it again"
    assert raised.value.near == WORD
