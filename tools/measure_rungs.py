"""Measures how well the figures at an early rung of a search tell the final accuracy.

    python -m tools.measure_rungs --data DIR --teacher NAME@FILE --out OUT --set data.limit=500

Trains each candidate as a search does: it pauses after the epochs of --rungs, and is scored there.
Then prints Markdown: a row for each candidate, and the rank correlation (Spearman) of each rung's
figures with the final ones on the validation and the test images, with a 95 % percentile interval
of a bootstrap over the candidates. Everything stays in OUT, so that a second run only prints.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from edgekd.core.artifacts import Network
from edgekd.core.store import Store
from edgekd.evaluation.accuracy_record import Figures
from edgekd.pipeline.jobs import Job, load
from edgekd.pipeline.runner import run
from edgekd.search import shared_teacher
from edgekd.search.candidate import Candidate
from edgekd.search.rung import Rung
from edgekd.search.trial import Score, Trials
from edgekd.settings import recipe
from edgekd.training import network_figures
from tools.measure_modes import opened

CANDIDATES = (
    "mobilenetv2_050@48,mobilenetv3_small_050@48,mobilenetv2_035@32,"
    "tf_mobilenetv3_small_minimal_100@32,mnasnet_small@48,mobilenetv4_conv_small_050@48,"
    "mobilenetv3_small_100@32,mobilenetv1_100@32,mobilenetv2_100@32"
)
RESAMPLES = 2000  # bootstrap draws: each end of the interval then rests on 50


@dataclasses.dataclass(frozen=True)
class Course:
    """What was seen of one candidate: its scores at the rungs, and the finished student."""

    candidate: Candidate
    scores: list[Score]
    student: Network
    test: Figures


# What may rank candidates at a rung, by name.
EARLY: dict[str, Callable[[Course, int], float]] = {
    "AUC, present weights": lambda course, rung: course.scores[rung].value,
    "top-1, present weights": lambda course, rung: course.scores[rung].figures.top1,
    "AUC, averaged weights": lambda course, rung: _averaged(course, rung).get("auc", 0.0),
    "top-1, averaged weights": lambda course, rung: _averaged(course, rung)["top1"],
    "training loss": lambda course, rung: -_averaged(course, rung)["loss"],
}
# What candidates are judged by in the end.
FINAL: dict[str, Callable[[Course], float]] = {
    "test AUC": lambda course: course.test.auc or 0.0,
    "test top-1": lambda course: course.test.top1,
    "validation AUC": lambda course: course.scores[-1].value,
    "validation top-1": lambda course: course.scores[-1].figures.top1,
}


def _averaged(course: Course, rung: int) -> dict[str, float]:
    """The row of the training's history at a rung, whose figures are of the averaged weights."""
    return course.student.history[course.scores[rung].rung.epochs - 1]


def course(trials: Trials, candidate: Candidate, epochs: Sequence[int]) -> Course:
    """Train a candidate from rung to rung, and judge it."""
    scores = [trials.run(candidate, Rung(number, end)) for number, end in enumerate(epochs)]
    job = trials.job_of(candidate)
    done = run(job, trials.store, "distil")
    student: Network = load(done, "distil")
    test = network_figures.of_split(student, load(done, "data"), job.source, "test", job.hardware)
    return Course(candidate, scores, student, test)


def correlation(early: Sequence[float], final: Sequence[float]) -> str:
    """Spearman's rank correlation with its interval, as text."""
    pairs, rng = np.array([early, final]), np.random.default_rng(0)
    with np.errstate(all="ignore"):
        value = spearmanr(*pairs).statistic
        draws = rng.integers(0, len(early), (RESAMPLES, len(early)))
        found = [spearmanr(*pairs[:, draw]).statistic for draw in draws]
    low, high = np.nanpercentile(found, [2.5, 97.5])
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def candidates(text: str) -> list[Candidate]:
    """NAME@PX, separated by commas."""
    parts = [part.partition("@") for part in text.split(",")]
    return [Candidate(name, int(px)) for name, _, px in parts]


def table(courses: Sequence[Course], epochs: Sequence[int]) -> str:
    """Both tables as Markdown."""
    heads = [f"epoch {end}" for end in epochs]
    lines = [
        f"| candidate | {' | '.join(heads)} | test AUC | test top-1 |",
        f"|{'---|' * (len(heads) + 3)}",
    ]
    for each in sorted(courses, key=lambda found: -FINAL["test AUC"](found)):
        cells = [f"{score.value:.3f}" for score in each.scores]
        cells += [f"{each.test.auc:.3f}", f"{100 * each.test.top1:.1f} %"]
        lines.append(f"| {each.candidate.label} | {' | '.join(cells)} |")
    lines += ["", f"| at a rung | at the end | {' | '.join(heads[:-1])} |"]
    lines.append(f"|{'---|' * (len(heads) + 1)}")
    for early, at in EARLY.items():
        for final, end in FINAL.items():
            ends = [end(each) for each in courses]
            cells = [
                correlation([at(each, rung) for each in courses], ends)
                for rung in range(len(epochs) - 1)
            ]
            lines.append(f"| {early} | {final} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--candidates", type=candidates, default=candidates(CANDIDATES))
    parser.add_argument("--rungs", default="2,7,20", help="epochs, the last is the whole training")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.set_defaults(profile="pi4", student="mobilenetv2_050")  # a candidate takes its place
    asked = parser.parse_args()
    epochs = [int(end) for end in asked.rungs.split(",")]
    base = opened(asked, overrides={"distil.epochs": epochs[-1]})
    settings = shared_teacher.shared(base, asked.candidates)

    def job_of(candidate: Candidate) -> Job:
        return dataclasses.replace(base, recipe=recipe.changed(settings, candidate.settings))

    trials = Trials(job_of, Store(asked.out))
    print(table([course(trials, each, epochs) for each in asked.candidates], epochs))


if __name__ == "__main__":
    main()
