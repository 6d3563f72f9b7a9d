"""How the time of a search is spent: how many candidates, on which rungs, for how many epochs.

A search trains many candidates a little, keeps the better ones, and trains these on: successive
halving. The plan is made when the teacher is ready, and its number of candidates is corrected by
the measured times while the search runs.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence

from edgekd.search import rung
from edgekd.search.entrants import Entrant
from edgekd.search.finishing import Finishing

# Of the candidates at a rung, one in so many goes on to the next one.
KEEP_ONE_IN = rung.FACTOR
# Candidates at the first rung below which training is shortened rather than the choice narrowed.
WANTED = 9
# The shortest whole training that is planned: a shorter one says little about a network.
FEWEST_EPOCHS = 4
# At least so many candidates are trained to the end: the recommended one and the runner-up.
FINALISTS = 2
# What an epoch costs beside the network's own arithmetic (views, losses, small layers), as
# multiply-accumulates for one image. CPU time of mobilenetv2_035 at 32 px to mobilenetv2_050 at
# 64 px and resnet18 at 32 px, 3.5 to 7.9 ms for an image, fits 27 million best.
BESIDE = 27_000_000
# A network takes part if its shortest training and its build fit into this part of the time.
LARGEST = 0.5
# Part of the time that is never planned, for what the estimates do not know.
SPARE = 0.08


@dataclasses.dataclass(frozen=True)
class Costs:
    """What work takes on one worker, in seconds.

    `unit`: an epoch of float training, for each multiply-accumulate of an image. `build`: a whole
    build beside its training: conversion, certificate, benchmark, bundle. `finishing`: the training
    of a finalist behind its float training.
    """

    unit: float
    build: float
    finishing: Finishing

    def epoch(self, entrant: Entrant) -> float:
        """One epoch of float training."""
        return self.unit * (entrant.macs + BESIDE)

    def fine_tuning(self, entrant: Entrant, epochs: int) -> float:
        """The fine-tuning behind `epochs` of float training, of a pruned candidate if any is."""
        tuning = self.finishing.fine_tuning(epochs, pruned=entrant.pruned)
        return tuning * self.epoch(entrant)

    def finish(self, entrant: Entrant, epochs: int, tuned: bool = False) -> float:
        """The whole build of a finalist that has all its `epochs` of float training.

        `tuned`: whether its fine-tuning is done, too, or none is needed.
        """
        int8 = self.finishing.int8(epochs) * self.epoch(entrant)
        return self.build + int8 + (0.0 if tuned else self.fine_tuning(entrant, epochs))

    def whole(self, entrant: Entrant, epochs: int) -> float:
        """The build of a candidate without any training before."""
        return self.finish(entrant, epochs) + epochs * self.epoch(entrant)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a search sets out to do.

    `epochs`: of training at each rung, in all. `first`: candidates at the first rung. `seconds`:
    planned for the rungs. `reserve`: seconds that are kept for the whole builds of the finalists.
    At most `most_reserve` is kept, half of the time. `longest`: seconds that the shortest training
    and the build of a candidate may take; others take no part.
    """

    epochs: tuple[int, ...]
    first: int
    seconds: float
    reserve: float
    most_reserve: float
    longest: float

    @property
    def counts(self) -> tuple[int, ...]:
        """The candidates at each rung."""
        return counts(self.first, len(self.epochs))


def counts(first: int, rungs: int) -> tuple[int, ...]:
    """The candidates at each rung."""
    found = [first]
    for _ in range(rungs - 1):
        found.append(kept(found[-1]))
    return tuple(found)


def kept(count: int) -> int:
    """How many of the candidates at a rung go on, when time allows."""
    return min(count, max(FINALISTS, math.ceil(count / KEEP_ONE_IN)))


def seconds(numbers: Sequence[int], epochs: Sequence[int], epoch: float, workers: int) -> float:
    """Wall time of rungs at which `numbers` candidates train to `epochs`. `epoch`: seconds of one.

    A rung ends when its last candidate does, so the workers are filled up.
    """
    before = (0, *epochs)
    return sum(
        math.ceil(number / workers) * (end - start) * epoch
        for number, start, end in zip(numbers, before[: len(epochs)], epochs, strict=True)
    )


def most_first(
    room: float, epochs: Sequence[int], epoch: float, workers: int, available: int
) -> int:
    """The most candidates at the first rung for which the time `room` is enough, or 0."""
    fitting = 0
    for first in range(1, available + 1):
        if seconds(counts(first, len(epochs)), epochs, epoch, workers) > room:
            break
        fitting = first
    return fitting


def most_kept(room: float, ended: int, epochs: Sequence[int], epoch: float, workers: int) -> int:
    """How many of the `ended` candidates at a rung may go on, at least one.

    `epochs`: of the rungs from this one on. `room`: the time for the rungs behind this one.
    """
    for number in range(kept(ended), 1, -1):
        numbers = (0, *counts(number, len(epochs) - 1))
        if seconds(numbers, epochs, epoch, workers) <= room:
            return number
    return min(1, ended)


def make(
    left: float,
    costs: Costs,
    entrants: Sequence[Entrant],
    whole: int,
    workers: int,
    fewest: int = 1,
) -> Plan | None:
    """The plan for the time `left`, in seconds, or None where nothing is left.

    `entrants`: in the order in which they are tried. `whole`: epochs of a whole training, which the
    plan may shorten. `fewest`: epochs of the first rung, at least.
    """
    best: Plan | None = None
    room = left * (1 - SPARE)
    shortest = min(whole, FEWEST_EPOCHS)
    field = fitting(entrants, costs, LARGEST * room)
    longest = max(LARGEST * room, *(shortest_build(each, costs) for each in field))
    for asked in sorted({*range(whole, shortest, -max(1, whole // 10)), shortest}, reverse=True):
        plan = _of_lengths(rung.lengths(asked, fewest), room, longest, costs, field, workers)
        if plan is None:
            continue
        if plan.first >= min(WANTED, len(field)):
            return plan
        if best is None or plan.first > best.first:
            best = plan
    for asked in range(shortest - 1, 0, -1):
        lengths = rung.lengths(asked, fewest)
        best = best or _of_lengths(lengths, room, longest, costs, field, workers)
    return best or _hurried(room, costs, field, shortest)


def shortest_build(entrant: Entrant, costs: Costs) -> float:
    """Seconds of the build of a candidate with the shortest training."""
    return costs.whole(entrant, min(FEWEST_EPOCHS, costs.finishing.epochs))


def fitting(entrants: Sequence[Entrant], costs: Costs, longest: float) -> list[Entrant]:
    """Who takes part: whose shortest training and build take at most `longest` seconds.

    The one that takes the least time always does.
    """
    found = [each for each in entrants if shortest_build(each, costs) <= longest]
    return found or [min(entrants, key=lambda each: shortest_build(each, costs))]


def _hurried(room: float, costs: Costs, field: Sequence[Entrant], epochs: int) -> Plan | None:
    """The quickest network alone, where the estimates leave no time even for it.

    They may be wrong, and what is trained until the time is up is kept.
    """
    quickest = min(field, key=costs.epoch)
    took = epochs * costs.epoch(quickest)
    longest = shortest_build(quickest, costs)
    return Plan((epochs,), 1, took, room / 2, room / 2, longest) if room > 0 else None


def _of_lengths(
    epochs: tuple[int, ...],
    room: float,
    longest: float,
    costs: Costs,
    field: Sequence[Entrant],
    workers: int,
) -> Plan | None:
    first = len(field)
    for _ in range(3):  # fewer candidates are other ones: their mean changes
        tried = field[: max(1, first)]
        epoch = statistics.fmean(costs.epoch(each) for each in tried)
        one = statistics.fmean(costs.finish(each, epochs[-1]) for each in tried)
        reserve = reserved(one, workers, room)
        first = most_first(room - reserve, epochs, epoch, workers, len(field))
    if not first:
        return None
    wall = seconds(counts(first, len(epochs)), epochs, epoch, workers)
    return Plan(epochs, first, wall, reserve, room / 2, longest)


def reserved(one: float, workers: int, left: float) -> float:
    """Seconds to keep for the whole builds of the finalists, each of which takes `one`.

    Where two builds would take more than half of the time that is `left`, it is kept for one.
    """
    every = math.ceil(FINALISTS / workers) * one
    return every if every <= left / 2 else one
