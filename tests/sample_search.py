"""A made-up search on chest X-rays with consistent numbers, in every state that one can end in."""

from __future__ import annotations

import itertools
import math
import random

import msgspec

from edgekd.core.intervals import wilson
from edgekd.core.records import UNSET
from edgekd.search import front
from edgekd.search.candidate import Candidate
from edgekd.search.forecast import Forecast
from edgekd.search.limits import Limits, Objective
from edgekd.search.reach import within
from edgekd.search.record import (
    CandidateRow,
    Choice,
    EpochScore,
    FinalistRow,
    ForecastRow,
    Latency,
    LimitName,
    Miss,
    RankCorrelation,
    Request,
    RungRow,
    ScoreKind,
    Search,
    SearchState,
    Source,
    TeacherRow,
    TrialRow,
    TrialState,
)
from edgekd.search.search_rows import candidate_row, dropped_rows, names

# Name -> millions of multiply-accumulates for an image of 224 px, and of parameters; rounded.
STUDENTS = {
    "mobilenetv3_small_050": (23, 1.6),
    "mobilenetv4_conv_small_050": (55, 1.0),
    "mobilenetv3_small_075": (44, 2.0),
    "mobilenetv3_small_100": (57, 2.5),
    "mobilenetv2_035": (59, 0.4),
    "mnasnet_small": (70, 0.8),
    "mobilenetv2_050": (97, 0.7),
    "ghostnet_100": (142, 3.9),
    "mobilenetv4_conv_small": (190, 2.5),
    "mobilenetv2_100": (301, 2.2),
    "tf_efficientnet_lite0": (384, 3.4),
    "mobilenetv1_100": (569, 3.2),
    "resnet18": (1814, 11.2),
}
PROFILES = {"pi4": 0.085, "android-cpu": 0.031}  # made-up milliseconds for a million of them
RUNGS = (RungRow(0, 2, 27), RungRow(1, 6, 9), RungRow(2, 18, 3))
BASIS = "22 published measurements, TFLite 2.15, 4 threads, governor performance"
TEST_IMAGES = 624


def _forecast(candidate: Candidate, profile: str) -> Forecast:
    macs, params = STUDENTS[candidate.student]
    kept = (1 - candidate.pruned) ** 1.5
    macs = macs * (candidate.input_px / 224) ** 2 * kept
    latency = 0.35 + PROFILES[profile] * macs
    return Forecast(
        candidate=candidate,
        profile=profile,
        latency_ms=round(latency, 3),
        low_ms=round(latency * 0.8, 3),
        high_ms=round(latency * 1.27, 3),
        basis=BASIS,
        size_bytes=round(params * kept * 1.06e6) + 60_000,
        memory_bytes=candidate.input_px**2 * 48,
        macs=round(macs * 1e6),
    )


def space(sizes: tuple[int, ...]) -> dict[Candidate, dict[str, Forecast]]:
    """All candidates of the space, each with its forecast on each device."""
    found = [
        Candidate(student, px, pruned, "imagenet")
        for student, px, pruned in itertools.product(STUDENTS, sizes, (0.0, 0.25, 0.5, 0.65))
    ]
    return {one: {name: _forecast(one, name) for name in PROFILES} for one in found}


def _first(row: CandidateRow) -> ForecastRow:
    return row.forecasts[0]


def _auc(row: CandidateRow, epochs: int, luck: random.Random) -> float:
    able = 0.972 - 0.075 * math.exp(-_first(row).macs / 14e6)
    return round(able - 0.05 / epochs + luck.gauss(0, 0.003), 4)


def _around(auc: float, images: int) -> tuple[float, float]:
    low, high = wilson(auc, images // 2)
    return round(low, 4), round(high, 4)


def _trials(
    candidates: list[CandidateRow], planned: int | None
) -> tuple[list[TrialRow], list[CandidateRow]]:
    """Successive halving over the candidates, and those that it leaves."""
    luck, found, before = random.Random(0), [], 0
    # The most capable ones first, of those whose forecast leaves some room.
    left = sorted(candidates, key=lambda row: (_first(row).latency_ms > 4.8, -_first(row).macs))
    left = left[: RUNGS[0].planned] if planned is None else left[:planned]
    for rung in RUNGS:
        scored = sorted(
            ((_auc(row, rung.epochs, luck), row) for row in left), key=lambda pair: -pair[0]
        )
        keep = max(3, len(scored) // 3)
        for place, (auc, row) in enumerate(scored):
            state = TrialState.PROMOTED if place < keep else TrialState.STOPPED
            if rung is RUNGS[-1]:
                state = TrialState.FINALIST
            curve = [
                EpochScore(epoch, round(auc - 0.04 * (1 / epoch - 1 / rung.epochs), 4))
                for epoch in range(before + 1, rung.epochs + 1)
            ]
            found.append(
                TrialRow(
                    candidate=row.name,
                    rung=rung.rung,
                    epochs=rung.epochs,
                    state=state,
                    score=auc,
                    score_ci95=_around(auc, 500),
                    seconds=round((rung.epochs - before) * (4 + _first(row).macs / 4e6), 1),
                    worker=f"worker-{place % 2 + 1}",
                    why=f"{'among the best' if place < keep else 'not among the best'} {keep} of "
                    f"{len(scored)}",
                    curve=curve,
                )
            )
        left, before = [row for _, row in scored[:keep]], rung.epochs
    return found, left


def _finalist(row: CandidateRow, number: int, limits: Limits) -> FinalistRow:
    auc = _auc(row, 18, random.Random(number))
    top1 = round(auc - 0.055, 4)
    drop = round(0.912 - top1, 4)
    predicted = [
        Latency(
            profile=forecast.profile,
            source=Source.PREDICTED,
            latency_ms=forecast.latency_ms,
            low_ms=forecast.low_ms,
            high_ms=forecast.high_ms,
            basis=forecast.basis,
        )
        for forecast in row.forecasts
    ]
    short = (
        [
            Miss(
                LimitName.DROP,
                limits.drop_points,
                drop * 100,
                f"{drop * 100:.1f} points of top-1 below the teacher, at most 1 allowed",
            )
        ]
        if limits.drop_points is not None and drop * 100 > limits.drop_points
        else []
    )
    return FinalistRow(
        candidate=row.name,
        folder=f"finalists/{number + 1}",
        top1=top1,
        top1_ci95=_around(top1, TEST_IMAGES * 2),
        auc=auc,
        auc_ci95=_around(auc, TEST_IMAGES),
        drop_points=drop * 100,
        drop_points_ci95=(drop * 100 - 1.9, drop * 100 + 2.1),
        size_bytes=_first(row).size_bytes,
        memory_bytes=_first(row).memory_bytes,
        latencies=predicted,
        certified=True,
        gates=[],
        misses=short,
        seconds=212.5,
        command=_command(row),
    )


def _command(row: CandidateRow) -> str:
    return (
        f"edgekd build --profile pi4 --data xrays --student {row.student} --set "
        f"data.input_px={row.input_px} --set prune.ratio={row.pruned:g} --set "
        f"distil.weights={row.weights} --set distil.epochs=18 --out builds/best"
    )


def search(
    state: SearchState = SearchState.FINISHED,
    sizes: tuple[int, ...] = (64, 96, 128, 160),
    planned: int | None = None,
) -> Search:
    """A search in a state. `planned`: candidates at the first rung; None for the plan's 27."""
    impossible = state is SearchState.NOTHING_FITS
    limits = Limits(0.3 if impossible else 5.0, 2_000_000, None, 1.0)
    forecasts = space(sizes)
    named = names(list(forecasts))
    reach = within([one["pi4"] for one in forecasts.values()], limits)
    candidates = [candidate_row(one, named[one], forecasts[one]) for one in reach.candidates]
    dropped = dropped_rows(reach, named, forecasts)
    trials, left = _trials(candidates, planned)
    if state in (SearchState.INTERRUPTED, SearchState.RUNNING):
        trials, left = [row for row in trials if row.rung == 0][:19], []
        trials.append(
            msgspec.structs.replace(
                trials[0],
                candidate=candidates[-1].name,
                state=TrialState.RUNNING,
                score=None,
                score_ci95=None,
                curve=UNSET,
                why="",
            )
        )
    if impossible:
        trials, left = [], []
    finalists = sorted(
        (_finalist(row, number, limits) for number, row in enumerate(left)),
        key=lambda row: -(row.auc or 0),
    )
    if state is SearchState.NOTHING_KEPT:
        finalists = [
            msgspec.structs.replace(
                row,
                misses=[
                    Miss(
                        LimitName.DROP,
                        1.0,
                        2.3,
                        "2.3 points of top-1 below the teacher, at most 1 allowed",
                    )
                ],
            )
            for row in finalists
        ]
    made = _record(state, limits, candidates, dropped, trials, finalists)
    return msgspec.structs.replace(made, fronts=front.fronts(made))


def _record(state, limits, candidates, dropped, trials, finalists) -> Search:
    good = state is SearchState.FINISHED
    return Search(
        edgekd="0.2.0",
        state=state,
        failed=[]
        if state not in (SearchState.NOTHING_FITS, SearchState.NOTHING_KEPT)
        else ["no candidate keeps every limit"],
        request=Request(
            profile="pi4",
            also=["android-cpu"],
            data="xrays",
            data_digest="0123456789abcdef" * 4,
            limits=limits,
            objective=Objective.ACCURACY,
            budget_seconds=3600.0,
            workers=2,
            seed=0,
            settings=[],
            command="edgekd search --profile pi4 --also android-cpu --data xrays --max-latency "
            f"{limits.latency_ms:g}ms --max-size 2MB --max-drop 1.0 --budget 60m --workers 2",
        ),
        score=ScoreKind.AUC,
        considered=len(candidates) + dropped.candidates,
        candidates=candidates,
        dropped=dropped,
        teacher=TeacherRow(
            name="vit_small_patch14_dinov2",
            top1=0.912,
            top1_ci95=(0.883, 0.934),
            auc=0.971,
            auc_ci95=(0.958, 0.981),
        ),
        rungs=list(RUNGS),
        trials=trials,
        finalists=finalists,
        fronts=[],
        recommended=_choice(finalists[0], "It has the highest AUC of all.") if good else None,
        runner_up=_choice(finalists[1], "Its AUC is as high within chance.") if good else None,
        rank_correlation=RankCorrelation(0.83, 9) if good else UNSET,
        seconds=3174.0 if trials else 11.2,
        notes=[],
    )


def _choice(row: FinalistRow, why: str) -> Choice:
    return Choice(row.candidate, why, row.folder, row.command)
