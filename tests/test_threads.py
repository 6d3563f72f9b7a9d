"""How the cores are divided, and that several threads compute what one does."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from edgekd.core import cores
from edgekd.networks import watching
from edgekd.training import threads
from edgekd.training.ahead import ahead


@pytest.mark.parametrize(
    ("given", "processes", "total", "preparing"),
    [("1", "1", 1, 0), ("2", "1", 2, 1), ("16", "1", 16, 4), ("", "2", 4, 1), ("0", "9", 1, 0)],
)
def test_threads_of_a_process(
    given: str, processes: str, total: int, preparing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    monkeypatch.setattr(threads.cores, "usable", lambda: 8)
    assert (threads.total(), threads.preparing()) == (total, preparing)


def test_training_leaves_threads_to_those_that_prepare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    before = torch.get_num_threads()
    with threads.training():
        assert torch.get_num_threads() == 3
        # The thread that prepares has its own, and does not change those of this one.
        assert list(ahead(torch.get_num_threads() for _ in range(1))) == [1]
        assert torch.get_num_threads() == 3
    assert torch.get_num_threads() == before


def test_blocks_in_several_threads_are_watched_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    net = nn.Sequential(nn.Identity())
    both = threading.Barrier(3, timeout=20)  # all are in their forward pass at once

    def seen(value: int) -> float:
        with watching.watch(net, ["0"]) as found:
            both.wait()
            net(torch.tensor(float(value)))
            both.wait()
            return float(found["0"])

    assert threads.in_order(seen, range(3)) == [0.0, 1.0, 2.0]


def test_shares_hold_each_thing_once_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    for count in (0, 1, 2, 3, 10):
        parts = [list(range(count))[part] for part in cores.shares(count)]
        assert [place for part in parts for place in part] == list(range(count))
        assert len(parts) == max(1, min(3, count))
