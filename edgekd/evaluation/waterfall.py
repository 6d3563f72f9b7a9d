"""Evaluation -> report.json's "accuracy": each stage's figures, what it changed, its budget, and which stage is to blame.

A stage is compared with the one before it on the same test images. Trained stages (student, pruned, qat) may lose what
the recipe's [budget] allows. The rest (onnx, tflite, device) compute the same integers and may only round: an answer may
change where the stage before was nearly undecided, and in either direction alike.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgekd.core.artifacts import Evaluation, Labels
from edgekd.evaluation import metrics
from edgekd.settings.recipe import BudgetConfig

Row = dict[str, Any]

NAMES = {
    "teacher": "the teacher",
    "student": "the float student",
    "pruned": "pruning",
    "qat": "QAT",
    "onnx": "the ONNX export",
    "tflite": "the TFLite conversion",
    "device": "the device",
}
# What to do about a stage that is beyond its budget.
NEXT = {
    "student": "train it longer (distil.epochs), wider or at more pixels (data.input_px), or learn from another teacher",
    "pruned": "prune fewer channels, or train longer after pruning",
    "qat": "`edgekd report --why` and the build's folder names the ops that cost most and what helps",
    "onnx": "read the certificate's failures: they name the tensor or op; then build again from the export stage",
    "tflite": "read the certificate's failures: they name the tensor or op; then convert again",
    "device": "compare runtime and delegate with the build's, and the file's sha256 with report.json's",
}
# What "top1" is a share of, by how many labels an image has: report.json's "metric", and in words.
METRICS: dict[Labels, str] = {"one": "top1", "many": "label_decisions"}
WORDS = {"top1": "top-1", "label_decisions": "label decisions"}
ANSWERS = {"top1": "images", "label_decisions": "label decisions"}  # what may flip
ROUNDING = ("onnx", "tflite", "device")  # stages that may change answers by rounding alone
NAMED = (
    100  # flipped images named in report.json, each way and stage; the counts are of all of them
)
CHANCE = 0.05  # the other side of a 95 % interval
# Share of the images whose answer rounding may change from further off than [budget] rounding_lsb: the differences of two
# integer implementations have a tail, and of 10,000 images a few lie in it.
TAIL = 0.001
SLACK = 1e-9  # a loss that equals its budget is within it, whatever float arithmetic makes of the difference


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What one stage's change comes to. `state`: "first", "within", "beyond", or "unclear" (beyond, maybe by chance)."""

    state: str
    text: str


def accuracy(
    evaluation: Evaluation,
    names: Sequence[str],
    classes: Sequence[str],
    budget: BudgetConfig,
    output_scale: float | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """The "accuracy" block. `names`: of the test images, in the order of the labels.

    `output_scale`: of the file's output tensor, so that margins are told in its LSB; None when there is no file.
    """
    labels = np.asarray(evaluation.labels)
    kind = metrics.kind(labels)
    logits = np.frombuffer(evaluation.logits, np.float32).reshape(
        len(evaluation.stages), len(labels), -1
    )
    rows: list[Row] = []
    for number, stage in enumerate(evaluation.stages):
        row: Row = {"stage": stage, **metrics.evaluate(logits[number], labels)}
        del row["n"]
        if not number:
            row |= {"agree_with_previous": None, "flips_bad": 0, "flips_good": 0, "state": "first"}
        else:
            row |= _compared(
                stage,
                logits[number - 1],
                logits[number],
                labels,
                names,
                classes,
                budget,
                output_scale,
                seed,
            )
            found = judge(stage, row, evaluation.stages[number - 1], labels.size, METRICS[kind])
            row |= {"state": found.state, "verdict": found.text}
        rows.append(row)
    body = {
        "split": "test",
        "n": len(labels),
        "metric": METRICS[kind],
        "waterfall": rows,
        "paired": {
            "method": metrics.METHODS[kind],
            "paper": metrics.PAPER,
            "draws": metrics.RESAMPLES,
            "seed": seed,
            "test": metrics.TESTS[kind],
        },
        "verdict": verdict(rows),
    }
    if kind == "one":
        body["confusion"] = {
            "classes": list(classes),
            "counts": metrics.confusion(logits[-1], labels).tolist(),
        }
    return body


def _compared(
    stage: str,
    before: np.ndarray,
    after: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    classes: Sequence[str],
    budget: BudgetConfig,
    output_scale: float | None,
    seed: int,
) -> Row:
    """A stage's change against the one before it: agreement, flips with names, paired intervals, budget."""
    row: Row = {
        **metrics.flips(before, after, labels),
        "change": metrics.change(before, after, labels, seed),
    }
    kind = metrics.kind(labels)
    # an answer is an image's class, or one label of it: both in one row from here on
    was, now, truth = (
        part.reshape(-1)
        for part in (metrics.answers(before, kind), metrics.answers(after, kind), labels)
    )
    margin = _margins(before, kind) / (output_scale or 1.0)

    def told(answer: int, said: np.ndarray) -> str:
        if kind == "one":
            return classes[said[answer]]
        return (
            classes[answer % len(classes)]
            if said[answer]
            else f"no {classes[answer % len(classes)]}"
        )

    row["flipped"] = {}
    for way, mask in (
        ("bad", (was == truth) & (now != truth)),
        ("good", (was != truth) & (now == truth)),
    ):
        chosen = sorted(np.flatnonzero(mask), key=lambda answer: (-margin[answer], answer))[:NAMED]
        row["flipped"][way] = [
            {
                "name": str(names[answer * len(names) // len(truth)]),
                "label": told(answer, truth),
                "was": told(answer, was),
                "now": told(answer, now),
                "margin_lsb": round(float(margin[answer]), 2) if output_scale else None,
            }
            for answer in chosen
        ]
    if stage not in ROUNDING:
        # a trained stage that has no budget of its own may lose what QAT may
        row["budget"] = {
            part: getattr(budget, f"{stage}_{part}", getattr(budget, f"qat_{part}"))
            for part in ("top1", "auc")
        }
        return row
    row["budget"] = {"top1": 0.0, "auc": budget.rounding_auc, "rounding_lsb": budget.rounding_lsb}
    row["beyond_rounding"] = (
        int(((was != now) & (margin > budget.rounding_lsb)).sum()) if output_scale else None
    )
    return row


def _margins(logits: np.ndarray, labels: Labels) -> np.ndarray:
    """How far each answer lies from another one: between the two largest logits, or from 0; float64 [n] or [n * k]."""
    real = logits.astype(np.float64)
    return np.asarray(
        np.diff(np.sort(real, axis=1)[:, -2:], axis=1)[:, 0]
        if labels == "one"
        else np.abs(real).reshape(-1)
    )


def judge(stage: str, row: Mapping[str, Any], before: str, n: int, metric: str = "top1") -> Verdict:
    """Whether one stage stayed within its budget, in a sentence with its figures. `n` answers, counted by `metric`."""
    change, budget = row["change"], row["budget"]
    real = change["top1_ci95"][1] < 0 and change["top1_p"] < CHANCE
    auc_real = change["auc"] is not None and change["auc_ci95"][1] < 0
    auc_over = change["auc"] is not None and -change["auc"] > budget["auc"] + SLACK
    told = (
        f"{_sentence(stage)}: {_points(change, WORDS[metric])} against {NAMES.get(before, before)}"
    )
    answers = ANSWERS[metric]
    if stage in ROUNDING:
        reasons = []
        if (row.get("beyond_rounding") or 0) > TAIL * n:
            reasons.append(
                f"{row['beyond_rounding']} of {n} {answers} changed their answer from a margin of more than "
                f"{budget['rounding_lsb']:g} LSB, which rounding does not explain"
            )
        if change["top1"] < 0 and real:
            reasons.append("rounding moves answers both ways alike, and these went one way")
        if auc_over and auc_real:
            reasons.append(
                f"the AUC fell by more than the {budget['auc']:g} that rounding may take"
            )
        if reasons:
            return Verdict("beyond", f"{told}; {'; '.join(reasons)}")
        flips = row["flips_bad"] + row["flips_good"]
        return Verdict(
            "within",
            f"{told}; "
            + (
                "no answer changed between right and wrong"
                if not flips
                else "no more than rounding explains"
            ),
        )
    top1_over = -change["top1"] > budget["top1"] + SLACK
    allowed = f"at most {budget['top1'] * 100:g} points of {WORDS[metric]} and {budget['auc']:g} of AUC are allowed"
    if (top1_over and real) or (auc_over and auc_real):
        return Verdict("beyond", f"{told}; {allowed}")
    if top1_over or auc_over:
        return Verdict(
            "unclear",
            f"{told}; {allowed}, but the interval covers zero or too few images flipped: with {n} "
            f"{answers} this may be chance",
        )
    return Verdict("within", f"{told}; within its budget")


def verdict(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The first stage whose loss is beyond its budget: {"stage", "state": "good"|"unclear"|"bad", "text", "notes",
    "next_step"}.

    A stage whose loss may be chance is named as the culprit only when no other is. `notes` say what else is amiss.
    """
    beyond = [row for row in rows if row["state"] == "beyond"]
    unclear = [row for row in rows if row["state"] == "unclear"]
    if not beyond and not unclear:
        alone = len(rows) == 1
        text = (
            "Only one network was evaluated: there is nothing to compare."
            if alone
            else "No stage lost more than its budget allows."
        )
        return {"stage": None, "state": "good", "text": text, "notes": [], "next_step": None}
    culprit = (beyond or unclear)[0]
    name, figures = (
        NAMES.get(culprit["stage"], culprit["stage"]),
        culprit["verdict"].partition(": ")[2],
    )
    text = (
        f"The first stage beyond its budget is {name}: {figures}."
        if beyond
        else f"{_sentence(culprit['stage'])} may be beyond its budget, but that cannot be told from chance: {figures}."
    )
    notes = [f"{row['verdict']}." for row in [*beyond, *unclear] if row is not culprit]
    return {
        "stage": culprit["stage"],
        "state": "bad" if beyond else "unclear",
        "text": text,
        "notes": notes,
        "next_step": NEXT.get(culprit["stage"]),
    }


def ran_on(run: Mapping[str, Any], profile: str) -> bool:
    """Whether a run was taken as this device, and the runner found nothing that says it was another machine."""
    elsewhere = any(
        "these are not the times of" in str(warning) for warning in run.get("warnings") or []
    )
    return run.get("profile") == profile and not elsewhere


def device(run: Mapping[str, Any], rounding_lsb: float) -> Row | None:
    """A result carried back from a device against the file's stored answers; None without a golden set.

    Only the golden images were run there, and only their agreement comes back, so there are no names and no AUC.
    """
    golden = run.get("golden")
    if not golden:
        return None
    n, same, worst = golden["images"], golden["argmax_agreement"], golden["max_abs_lsb"]
    changed = round((1 - same) * n)
    far = worst is not None and worst > rounding_lsb
    where = f"The device ({run.get('profile')}{', emulated' if run.get('emulated') else ''})"
    text = (
        f"{where}: {changed} of {n} stored images got another answer than the file gave where it was built, largest "
        f"difference {worst} LSB"
    )
    if changed and not far:
        text += ", no more than rounding explains"
    return {
        "stage": "device",
        "profile": run.get("profile"),
        "emulated": bool(run.get("emulated")),
        "n": n,
        "top1": golden["top1"],
        "top1_ci95": list(metrics.wilson(golden["top1"], n)),
        "agree_with_previous": same,
        "max_abs_lsb": worst,
        "state": "beyond" if changed and far else "unclear" if far else "within",
        "verdict": text,
    }


def carried_back(
    block: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], profile: str
) -> dict[str, Any]:
    """The "accuracy" block with "device", the newest run as the device the build is for, and a verdict that counts it.

    A run on another machine says nothing of the device and is left out.
    """
    limits = [
        row["budget"]["rounding_lsb"]
        for row in block["waterfall"]
        if "rounding_lsb" in row.get("budget", {})
    ]
    limit = limits[-1] if limits else BudgetConfig().rounding_lsb
    rows = [
        row
        for row in (device(run, limit) for run in runs if ran_on(run, profile))
        if row is not None
    ]
    judged = all(
        "state" in row for row in block["waterfall"]
    )  # a report of an older edgekd has no verdict
    if not rows or not judged:
        return dict(block)
    return {**block, "device": rows[-1], "verdict": verdict([*block["waterfall"], rows[-1]])}


def _sentence(stage: str) -> str:
    name = NAMES.get(stage, stage)
    return name[0].upper() + name[1:]


def _points(change: Mapping[str, Any], metric: str) -> str:
    """A change in words: "lost 1.2 points of top-1 (95 % 0.3 to 2.1) and 0.004 of AUC (0.001 to 0.007)"."""

    def told(value: float, bounds: Sequence[float], times: float, digits: int, of: str) -> str:
        size = f"{abs(value) * times:.{digits}f}"
        if float(size) == 0 and value == 0:
            return f"no change of {of}"
        low, high = sorted(-bound * times if value < 0 else bound * times for bound in bounds)
        covers = ", which covers zero" if low <= 0 <= high else ""
        bounds_told = f"{low:.{digits}f} to {high:.{digits}f}".replace("-", "−")
        return (
            f"{'lost' if value < 0 else 'won'} {size} {'points ' if times == 100 else ''}of {of} (95 % interval "
            f"{bounds_told}{covers})"
        )

    words = [told(change["top1"], change["top1_ci95"], 100, 2, metric)]
    if change["auc"] is not None:
        words.append(told(change["auc"], change["auc_ci95"], 1, 4, "AUC"))
    return ", ".join(words)
