"""The engine of a search: who does what next, on which storage, and what survives a killed worker.

Work is simulated: a task takes seconds of a clock that the test moves, and finds a known score.
"""

from __future__ import annotations

import dataclasses
import heapq
import math
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgekd.core.errors import MissingExtra, RecipeError, StoreError, TrainingDiverged
from edgekd.search import decisions, entrants, lease, ledger, plan, proposals, ranking, storage
from edgekd.search.candidate import Candidate
from edgekd.search.decisions import Decision
from edgekd.search.entrants import Entrant
from edgekd.search.finishing import Finishing
from edgekd.search.forecast import Forecast
from edgekd.search.lease import Watch, WorkerId
from edgekd.search.ledger import Kind, Ledger, Outcome, State, Task, Trial
from edgekd.search.limits import Limits, Objective
from edgekd.search.plan import Costs
from edgekd.search.ranking import Scored
from edgekd.search.situation import Situation
from edgekd.search.worker import Check, Clock, Worker

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

EPOCHS = 20
TEACHING, BESIDE_TRAINING = 200.0, 60.0  # seconds
UNIT = 1.2e-7  # seconds of an epoch for each multiply-accumulate
FINISHING = Finishing(EPOCHS, cuts=3, prune=5, qat=3)
COSTS = Costs(UNIT, BESIDE_TRAINING, FINISHING)


def forecast(student: str, px: int, macs: float, pruned: float = 0.0) -> Forecast:
    left = macs * (px / 96) ** 2 * (1 - pruned) ** 2
    size = int(macs / 10 * (1 - pruned))
    return Forecast(
        Candidate(student, px, pruned), "pi4", left / 1e7, 0.8 * left / 1e7, 1.25 * left / 1e7,
        "40 rows", size, 100_000, int(left),
    )  # fmt: skip


EVERY = [
    forecast(student, px, macs, pruned)
    for student, macs in (("a", 10e6), ("b", 20e6), ("c", 40e6), ("d", 80e6))
    for px in (64, 96, 128)
    for pruned in (0.0, 0.5)
]
FITTING = [each for each in EVERY if each.low_ms is not None and each.low_ms <= 4]
ENTRANTS = entrants.of(FITTING, EVERY, Objective.ACCURACY)


def memory() -> BaseStorage:
    from optuna.storages import InMemoryStorage

    return InMemoryStorage()


def true_score(candidate: Candidate, share: float = 1.0) -> float:
    """More arithmetic is better, and so is more training."""
    own = {each.candidate: each.macs for each in EVERY}[candidate]
    return 0.6 + 0.05 * math.log10(own) - 0.2 * (1 - share)


@dataclasses.dataclass
class Simulation:
    """Workers that share a ledger, each with its own view of it.

    `killed`: {worker: the number of tasks after which it vanishes in the middle of the next one}.
    `fails`: whether a task fails.
    """

    kept: BaseStorage
    workers: int
    budget: float
    killed: Mapping[int, int] = dataclasses.field(default_factory=dict)
    fails: Callable[[Task], bool] = lambda _task: False
    objective: Objective = Objective.ACCURACY
    field: Sequence[Entrant] = ENTRANTS

    def __post_init__(self) -> None:
        self.ledgers = [
            Ledger(self.kept, "memory", "s", WorkerId(f"w{n}", "", n, ""))
            for n in range(self.workers)
        ]
        self.log: list[tuple[float, int, Task]] = []
        self.now, self.plan = (
            0.0,
            plan.make(self.budget - TEACHING, COSTS, self.field, EPOCHS, self.workers),
        )

    def situation(self, trials: Sequence[Trial]) -> Situation:
        assert self.plan is not None
        left = self.budget - self.now
        return Situation(trials, self.field, self.plan, COSTS, left, self.workers, self.objective)

    def decide(self, trials: Sequence[Trial]) -> Decision:
        first = decisions.before_plan(trials)
        return decisions.decide(self.situation(trials).corrected()) if first is None else first

    def result(self, task: Task) -> Outcome:
        assert self.plan is not None
        if task.candidate is None:
            return Outcome(0.95, 0.9, TEACHING)
        macs = {each.candidate: each.macs for each in EVERY}
        epoch = UNIT * (macs[entrants.trunk(task.candidate)] + plan.BESIDE)
        length = self.plan.epochs[-1]
        cutting = FINISHING.fine_tuning(length, pruned=bool(task.candidate.pruned)) * epoch
        if task.kind is Kind.BUILD:
            cut = Task(Kind.RUNG, task.candidate, len(self.plan.epochs))
            trials = self.ledgers[0].trials()
            done = any(each.task == cut and each.state is State.DONE for each in trials)
            rest = FINISHING.int8(length) * epoch + (0.0 if done else cutting)
            return Outcome(0.9, 0.9, BESIDE_TRAINING + rest)
        if task.rung == len(self.plan.epochs):  # cut and trained on
            return Outcome(true_score(task.candidate), 0.9, cutting)
        end = self.plan.epochs[task.rung]
        epochs = end - (self.plan.epochs[task.rung - 1] if task.rung else 0)
        share = (end / self.plan.epochs[-1]) ** 0.3
        return Outcome(true_score(task.candidate, share), 0.9, epochs * epoch, epochs)

    def run(self) -> list[tuple[float, int, Task]]:
        """(second, worker, task) of each start."""
        turns: list[tuple[float, int, Trial | None]] = [(0.0, n, None) for n in range(self.workers)]
        watches = {n: Watch(lambda: self.now) for n in range(self.workers)}
        heapq.heapify(turns)
        while turns:
            self.now, worker, held = heapq.heappop(turns)
            own = self.ledgers[worker]
            if held is not None:
                if sum(n == worker for _, n, _ in self.log) > self.killed.get(worker, 10**9):
                    continue  # it was killed while it worked
                if self.fails(held.task):
                    own.close(held, State.FAILED, "diverged")
                else:
                    own.finish(held, self.result(held.task))
            trials = own.trials()
            beats = {each.number: (each.worker, int(self.alive(each))) for each in trials
                     if each.state is State.RUNNING}  # fmt: skip
            for number in watches[worker].lost(beats):
                own.close(trials[number], State.LOST, "")
            decision = self.decide(own.trials())
            own.add(decision.add)
            if decision.ended:
                continue
            taken = own.claim(decision.kinds)
            if taken is None:
                pause = 0.0 if decision.add else 10.0
                heapq.heappush(turns, (self.now + pause, worker, None))
                continue
            self.log.append((self.now, worker, taken.task))
            heapq.heappush(turns, (self.now + self.result(taken.task).seconds, worker, taken))
        return self.log

    def alive(self, trial: Trial) -> float:
        """A beat that counts up while the trial's worker lives."""
        assert trial.worker is not None
        number = trial.worker.pid
        dead = sum(n == number for _, n, _ in self.log) > self.killed.get(number, 10**9)
        return 0 if dead else self.now

    def built(self) -> list[Candidate]:
        return [
            each.task.candidate
            for each in self.ledgers[0].trials()
            if each.task.kind is Kind.BUILD and each.state is State.DONE and each.task.candidate
        ]


def test_one_worker_halves_the_field_and_builds_the_best_two() -> None:
    """Rungs are filled and ended one after the other; the two best candidates are built in time."""
    done = Simulation(memory(), 1, 3600)
    log = done.run()
    assert log[0][2] == decisions.TEACHER
    counted = Counter(task.rung for _, _, task in log if task.kind is Kind.RUNG)
    assert counted[0] == len(ENTRANTS)
    assert counted[1] == math.ceil(counted[0] / plan.KEEP_ONE_IN)
    assert counted[2] == plan.FINALISTS
    best = sorted(ENTRANTS, key=lambda each: -true_score(each.candidate))
    assert set(done.built()) == {each.candidate for each in best[:2]}
    assert max(start for start, _, _ in log) < 3600


def test_several_workers_do_each_task_once_and_find_the_same() -> None:
    """Four workers run no task twice, promote the same candidates and need less time."""
    one, four = Simulation(memory(), 1, 3600), Simulation(memory(), 4, 3600)
    alone, log = one.run(), four.run()
    assert max(Counter(task for _, _, task in log).values()) == 1
    assert {worker for _, worker, _ in log} == set(range(4))
    assert {task for _, _, task in log} == {task for _, _, task in alone}
    assert log[-1][0] < alone[-1][0]


def test_tasks_of_killed_workers_are_taken_up_again() -> None:
    """Two of four workers vanish in the middle of a task; both tasks are done by others."""
    done = Simulation(memory(), 4, 3600, killed={1: 1, 2: 2})
    log = done.run()
    trials = done.ledgers[0].trials()
    lost = [each for each in trials if each.state is State.LOST]
    assert len(lost) == 2
    finished = Counter(each.task for each in trials if each.state is State.DONE)
    assert max(finished.values()) == 1
    assert all(each.task in finished for each in lost)
    assert Counter(task for _, _, task in log).most_common(2)[1][1] == 2
    assert len(done.built()) == 2


def test_a_short_budget_narrows_the_choice_and_still_ends_in_time() -> None:
    """With five minutes after the teacher fewer candidates are tried, and one is built."""
    done = Simulation(memory(), 1, 500)
    log = done.run()
    tried = {task.candidate for _, _, task in log if task.kind is Kind.RUNG}
    assert 1 < len(tried) < len(ENTRANTS)
    assert done.built()
    last, _, task = log[-1]
    assert last + done.result(task).seconds <= 500


@pytest.mark.parametrize("budget", [500, 700, 1000, 1500, 2500])
def test_the_training_behind_cuts_is_part_of_the_time(budget: float) -> None:
    """All candidates are pruned, and each build ends in time, however short that is."""
    cut = [each for each in FITTING if each.candidate.pruned]
    done = Simulation(memory(), 1, budget, field=entrants.of(cut, EVERY, Objective.ACCURACY))
    log = done.run()
    assert done.built()
    last, _, task = log[-1]
    assert last + done.result(task).seconds <= budget


def test_a_shorter_training_has_shorter_ones_behind_it() -> None:
    """In proportion, at least one epoch, and not where the user has set the number."""
    assert FINISHING.settings(EPOCHS) == {"prune.epochs": 5, "qat.epochs": 3}
    assert FINISHING.settings(8) == {"prune.epochs": 2, "qat.epochs": 1}
    assert FINISHING.settings(1) == {"prune.epochs": 1, "qat.epochs": 1}
    fixed = dataclasses.replace(FINISHING, fixed=frozenset({"prune.epochs"}))
    assert fixed.settings(1) == {"prune.epochs": 5, "qat.epochs": 1}
    assert dataclasses.replace(FINISHING, qat=0).settings(8)["qat.epochs"] == 0


def test_with_hardly_any_time_the_smallest_network_is_tried() -> None:
    """The estimates may be wrong: one candidate is begun, and half of the time is for its build."""
    hurried = plan.make(60, COSTS, ENTRANTS, EPOCHS, 1)
    assert hurried is not None
    assert hurried.counts == (1,)
    quickest = plan.fitting(ENTRANTS, COSTS, hurried.longest)
    assert {each.macs for each in quickest} == {min(each.macs for each in ENTRANTS)}
    done = Simulation(memory(), 1, TEACHING + 60)
    assert [task.kind for _, _, task in done.run()] == [Kind.TEACHER, Kind.RUNG, Kind.BUILD]
    assert plan.make(0, COSTS, ENTRANTS, EPOCHS, 1) is None


def test_a_failed_candidate_is_left_out() -> None:
    """A candidate whose training fails at the second rung is replaced by the next best."""
    best = max(ENTRANTS, key=lambda each: true_score(each.candidate)).candidate

    def fails(task: Task) -> bool:
        return task.candidate == best and task.rung == 1

    done = Simulation(memory(), 1, 3600, fails=fails)
    log = done.run()
    assert Counter(task.candidate for _, _, task in log)[best] == 2
    assert best not in done.built()
    assert len(done.built()) == 2


def test_an_interrupted_search_goes_on_where_it_was(tmp_path: Path) -> None:
    """A second command with the same journal does only what the first one had not done."""
    where = str(tmp_path / "j")
    first = Simulation(storage.open_storage(where), 1, 3600, killed={0: 7})
    before = first.run()
    second = Simulation(storage.open_storage(where), 1, 3600)
    # The first worker's process is gone: on its own machine that is seen at once.
    held = [each for each in second.ledgers[0].trials() if each.state is State.RUNNING]
    second.ledgers[0].close(held[0], State.LOST, "")
    after = second.run()
    assert not {task for _, _, task in before[:-1]} & {task for _, _, task in after}
    assert after[0][2] == held[0].task
    assert len(second.built()) == 2


def test_a_small_network_wins_where_latency_is_the_objective() -> None:
    field = entrants.of(FITTING, EVERY, Objective.LATENCY)
    done = Simulation(memory(), 1, 7200, objective=Objective.LATENCY, field=field)
    done.run()
    order = decisions.finalists(done.situation(done.ledgers[0].trials()))
    costs = [each.cost for each in order if each.rung == order[0].rung]
    assert costs == sorted(costs)


def test_the_ledger_runs_the_first_of_equal_tasks(tmp_path: Path) -> None:
    """Two workers that add the same task, and take both trials, do it once."""
    where = str(tmp_path / "j")
    one, other = (
        Ledger(storage.open_storage(where), where, "s", WorkerId(name, "", 1, ""))
        for name in ("one", "other")
    )
    task = Task(Kind.RUNG, Candidate("a", 64, edits=(("gelu", "relu6"),)))
    one.add([task])
    other.add([task])
    taken = one.claim()
    assert taken is not None
    assert taken.task == task
    assert other.claim() is None
    assert [each.state for each in one.trials()] == [State.RUNNING, State.CLOSED]
    # Lost, and added again by both: one of the two is done.
    one.close(taken, State.LOST, "")
    assert not one.beat(taken, 3)
    assert not one.finish(taken, Outcome(1.0, 1.0, 1.0))
    one.add([task])
    other.add([task])
    again = other.claim()
    assert again is not None
    assert one.claim() is None
    assert other.finish(again, Outcome(0.5, 0.4, 2.0, 3.0, facts={"n": 1}))
    assert one.trials()[again.number].outcome == Outcome(0.5, 0.4, 2.0, 3.0, facts={"n": 1})


def test_a_task_that_costs_workers_their_lives_is_given_up() -> None:
    task = Task(Kind.RUNG, Candidate("a", 64))
    lost = [Trial(number, task, State.LOST) for number in range(ledger.MOST_LOST)]
    assert ledger.given_up(lost) == {task}
    stopped = [dataclasses.replace(each, why=ledger.STOPPED) for each in lost]
    assert not ledger.given_up(stopped)


def test_a_watch_believes_beats_and_not_clocks() -> None:
    """A trial is lost when its beat stands still for long, by the watcher's own clock."""
    now = 0.0
    watch = Watch(lambda: now, grace=100)
    elsewhere = WorkerId("host:1", "another machine", 1, "5")
    assert watch.lost({1: (elsewhere, 0), 2: (None, 0)}) == []
    now = 90.0
    assert watch.lost({1: (elsewhere, 1), 2: (None, 0)}) == []
    now = 150.0
    assert watch.lost({1: (elsewhere, 1), 2: (None, 0)}) == [2]
    now = 191.0
    assert watch.lost({1: (elsewhere, 1)}) == [1]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
def test_a_killed_process_of_this_machine_is_known_at_once() -> None:
    own = lease.this_worker()
    assert not lease.is_gone(own)
    code = (
        "from edgekd.search import lease; import dataclasses, json, sys\n"
        "print(json.dumps(dataclasses.asdict(lease.this_worker())), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        import json

        worker = WorkerId(**json.loads(other.stdout.readline()))
        assert not lease.is_gone(worker)
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
        assert lease.is_gone(worker)
    assert lease.is_gone(dataclasses.replace(own, started="1"))
    assert not lease.is_gone(dataclasses.replace(worker, place="elsewhere"))


class Scripted:
    """Work that raises for some tasks."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.tasks = [Task(Kind.RUNG, Candidate("a", 64)), Task(Kind.RUNG, Candidate("b", 64))]

    def do(self, trial: Trial, check: Check) -> Outcome:
        check()
        if trial.task == self.tasks[0]:
            raise self.error
        return Outcome(0.5, 0.5, 1.0)

    def decide(self, trials: Sequence[Trial]) -> Decision:
        there = {each.task for each in trials}
        missing = tuple(task for task in self.tasks if task not in there)
        return Decision(missing[:1], ended=not missing)

    def left(self, kind: Kind) -> float:
        return 1.0


@pytest.mark.parametrize(
    ("error", "state", "goes_on"),
    [
        (TrainingDiverged("the loss is nan"), State.FAILED, True),
        (RuntimeError("shapes differ"), State.FAILED, True),
        (StoreError("the disk is full"), State.LOST, False),
        (KeyboardInterrupt(), State.LOST, False),
    ],
)
def test_what_a_worker_makes_of_errors(
    tmp_path: Path, error: BaseException, state: State, goes_on: bool
) -> None:
    """A candidate's own error costs this candidate; any other ends the worker and loses nothing."""
    where = str(tmp_path / "j")
    own = Ledger(storage.open_storage(where), where, "s", lease.this_worker())
    worker = Worker(own, Scripted(error), lambda _trial: None, Clock(wait=lambda _seconds: None))
    if goes_on:
        worker.run()
        assert [each.state for each in own.trials()] == [state, State.DONE]
        assert str(error) in own.trials()[0].why
    else:
        with pytest.raises(type(error)):
            worker.run()
        assert [each.state for each in own.trials()] == [state]


def test_proposals_start_with_the_best_bets_and_then_learn() -> None:
    """Largest network of each student first; later a student that scores well comes up more."""
    assert [each.candidate.student for each in ENTRANTS[:4]] == ["a", "b", "c", "d"]
    first = proposals.propose(ENTRANTS, set(), {}, 0)
    assert first == ENTRANTS[0]
    field = [
        Entrant((forecast(student, px, 10e6),), 10e6)
        for px in range(32, 256, 8)
        for student in "abcd"
    ]
    tried = {each.candidate for each in field[:12]}
    scores = {each: float(each.student == "c") for each in tried}
    chosen = [proposals.propose(field, tried, scores, seed) for seed in range(8)]
    students = Counter(each.candidate.student for each in chosen if each is not None)
    assert students["c"] > 4
    assert all(each is not None and each.candidate not in tried for each in chosen)
    assert proposals.propose(field[:12], tried, scores, 0) is None


def test_candidates_that_are_likely_to_keep_the_limit_come_alone() -> None:
    """One whose interval alone holds the limit is tried only where no estimate keeps it."""
    sure, maybe = forecast("a", 64, 10e6), forecast("b", 96, 40e6)  # 0.44 ms; 4 ms, at best 3.2
    assert entrants.likely([sure, maybe], Limits(latency_ms=3.5)) == (sure,)
    assert entrants.likely([maybe], Limits(latency_ms=3.5)) == (maybe,)
    assert entrants.likely([sure, maybe], Limits(size_bytes=10)) == (sure, maybe)


def test_the_order_of_builds_heeds_the_allowed_drop() -> None:
    good = Scored(Candidate("good", 64), 0.93, 0.90, 2, 5.0)
    small = Scored(Candidate("small", 64), 0.91, 0.88, 2, 2.0)
    weak = Scored(Candidate("weak", 64), 0.95, 0.80, 2, 1.0)
    early = Scored(Candidate("early", 64), 0.99, 0.95, 1, 1.0)
    every = [early, weak, small, good]
    assert ranking.for_building(every, Objective.ACCURACY, None, 2) == [weak, good, small, early]
    assert ranking.for_building(every, Objective.ACCURACY, 0.87, 2) == [good, small, weak, early]
    assert ranking.for_building(every, Objective.LATENCY, 0.87, 2) == [small, good, weak, early]


def test_storages() -> None:
    """Passwords appear in no message, and a storage that is not safe is refused."""
    url = "postgresql+psycopg://me:secret@db.example/x?password=hidden"
    assert "secret" not in storage.shown(url)
    assert "hidden" not in storage.shown(url)
    assert "db.example/x" in storage.shown(url)
    with pytest.raises(RecipeError, match="two workers"):
        storage.open_storage("sqlite:///trials.db")
    with pytest.raises(RecipeError, match="no URL of a database"):
        storage.open_storage("postgrs://me:secret@host/x")
    # Nothing listens on port 1.
    with pytest.raises((StoreError, MissingExtra)) as failed:
        storage.open_storage("postgresql://me:secret@127.0.0.1:1/x")
    assert "secret" not in str(failed.value)


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    journal = tmp_path / "trials.journal"
    journal.write_text('{"op_code": 0, "worker\n{"op_code": 0}\n')
    with pytest.raises(StoreError, match=r"trials\.journal is damaged"):
        storage.open_storage(str(journal))
