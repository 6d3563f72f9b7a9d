"""report.json's body -> report.html: one file that needs nothing else. Parts that a build did not reach are left out.

Each function below turns one block of the body into what templates/report.html shows of it, or None when the block is
absent. Texts from outside (classes, file names, devices) are escaped by Jinja and lose their control characters.
"""

from __future__ import annotations

import base64
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jinja2

from edgekd import charts, report_papers
from edgekd.charts import readable
from edgekd.examples import Example
from edgekd.waterfall import ran_on

Block = dict[str, Any]

STAGES = {"teacher": "Teacher", "student": "Student", "pruned": "Pruned student", "qat": "After QAT", "onnx": "ONNX",
          "tflite": "TFLite int8"}
TRAINED = {"teacher": "Teacher", "distil": "Student (distillation)", "prune": "Pruned student", "qat": "QAT"}
ANSWERS = {"teacher": "teacher", "student": "student", "tflite": "int8"}  # whose answers stand beside an example
MATRIX_CLASSES = 20  # a confusion matrix of more is no longer read; the worst confusions are listed instead
NAMED_COLUMNS = 4  # so many classes may stand as column heads; more are numbered
SHORT_NAME = 14
LISTED = 12  # confusions, failures and warnings told one by one; the rest is counted
COUNT_ROWS = 40
DIGEST_LETTERS = 12
NAMED = 30  # flipped images named on the page, each way and stage; report.json names more
WORST_OPS = 12  # ops of a sensitivity run in the first table; the rest is folded away
KINDS = 24  # histograms of single ops or kernels shown beside the end-to-end one
JUDGED = {"within": ("good", "within its budget"), "unclear": ("warn", "over, maybe by chance"),
          "beyond": ("bad", "beyond its budget")}
TOP1 = "top-1"
OP_BOUND = 1  # LSB that one op may be off by: rounding

# What each check of the certificate asks, for readers who have never seen one.
CHECKS = {
    "canonical": ("Form", (
        "Op versions, buffers and quantisation fields are written as TensorFlow's own converter writes them, which is what the "
        "strictest consumers were tested with.")),
    "shapes": ("Shapes", "Every tensor's shape follows from its op's inputs. A file that fails this is never run."),
    "structure": ("Structure", "Each op reads the tensors, and ends in the activation, that the trained graph has there."),
    "edges": ("Against the trained graph", (
        "Each op of the trained graph is fed the file's own inputs and must give the file's output within 1 LSB.")),
    "ranges": ("Ranges", (
        "Each activation in the file must carry the very scale (bit for bit) and zero point that training learnt. "
        "Otherwise the device computes another network than the one that was evaluated.")),
    "weights": ("Weights", "Each 8-bit weight in the file must be the code that training rounded to."),
    "op_local": ("Op by op", (
        "Each op is run alone on the file's own inputs and compared with exact integer arithmetic. Rounding may move a "
        f"result by {OP_BOUND} LSB, one step of its 8-bit scale; a wrong op moves it further.")),
    "end_to_end": ("End to end", (
        "The whole file against the trained int8 network on the same images. Single steps add up from layer to layer, "
        "so what counts is whether the chosen class is the same.")),
    "reference": ("Second runtime", "The same file in another runtime, as a witness that does not share our code."),
}


def page(body: Mapping[str, Any], examples: Sequence[Example] = ()) -> str:
    """The whole report as HTML. `body`: report.json's, schema edgekd.report/1, with whatever it holds so far.

    `body["gates"]`, if there, lists what the build failed, as `report.gates` tells it.
    """
    parts = {
        "head": _head(body), "figures": _figures(body), "notices": _notices(body), "accuracy": _accuracy(body),
        "why": _why(body), "confusion": _confusion(body), "examples": [_example(example) for example in examples],
        "looked": any(example.looks for example in examples),
        "certificate": _certificate(body), "artifact": _artifact(body), "device": _device(body),
        "bench": [_bench(run, body) for run in body.get("bench") or []], "training": _training(body),
        "models": _models(body), "data": _data(body), "stages": _stages(body), "origin": _origin(body),
        "papers": report_papers.view(body),
    }
    return render("report.html", parts)


def render(template: str, parts: Mapping[str, Any]) -> str:
    """A page from templates/. Texts are escaped and lose their control characters; charts come as finished markup."""
    return _environment().get_template(template).render(**parts)


@functools.cache
def _environment() -> jinja2.Environment:
    def cleaned(value: Any) -> Any:
        # charts come as finished markup, which they cleaned themselves
        return value if hasattr(value, "__html__") else "" if value is None else readable(str(value))

    return jinja2.Environment(loader=jinja2.PackageLoader("edgekd"), autoescape=True, finalize=cleaned,
                              trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)


# Figures as text ----------------------------------------------------------------------------------------------------

def _at(block: Any, *path: str) -> Any:
    """What lies at a path of keys, or None."""
    for key in path:
        block = block.get(key) if isinstance(block, Mapping) else None
    return block


def _real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _percent(value: Any, digits: int = 1) -> str:
    return charts.percent(value, digits) if _real(value) else "–"


def _number(value: Any, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if _real(value) else "–"


def _whole(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "–" if value is None else str(value)


def _bound(pair: Any, form: Any) -> str:
    """A 95 % interval as "low–high", or ""."""
    if not isinstance(pair, Sequence) or len(pair) != 2 or not all(_real(x) for x in pair):
        return ""
    return f"{form(pair[0]).rstrip('%')}–{form(pair[1])}"


def _kib(count: Any) -> str:
    if not _real(count):
        return "–"
    return f"{count / 1024:,.0f} KiB" if count < 10 * 2**20 else f"{count / 2**20:,.1f} MiB"


def _mib(kib: Any) -> str:
    return f"{kib / 1024:,.1f} MiB" if _real(kib) else "–"


def _large(count: Any) -> str:
    """1,530,000 as "1.53 M"."""
    if not _real(count):
        return "–"
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(count) >= unit:
            return f"{count / unit:.3g}{name}"
    return f"{count:g}"


def _seconds(value: Any) -> str:
    if not _real(value):
        return "–"
    minutes, seconds = divmod(round(value), 60)
    return f"{value:.1f} s" if value < 60 else f"{minutes} min {seconds:02} s"


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


# The blocks ---------------------------------------------------------------------------------------------------------

def _arch(body: Mapping[str, Any], role: str) -> str | None:
    return _at(body, "models", role, "arch")


def _rows(body: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {str(row.get("stage")): row for row in _at(body, "accuracy", "waterfall") or []}


def _head(body: Mapping[str, Any]) -> Block:
    profile, data = body.get("profile", "a device"), body.get("data") or {}
    classes = data.get("classes") or []
    student, teacher = _arch(body, "student"), _arch(body, "teacher")
    task = f"tells {classes[0]} from {classes[1]}" if len(classes) == 2 else f"sorts images into {len(classes)} classes"
    if data.get("labels") == "many":
        task = f"says which of {len(classes)} labels an image has"
    passed, gates = _at(body, "certificate", "passed"), list(body.get("gates") or [])
    made = "Not yet a TFLite file" if "artifact" not in body else \
        "An int8 TFLite file" if passed else "An uncertified int8 TFLite file"
    learnt = f"distilled from {teacher}" if teacher and student else \
        "trained on the labels alone, without a teacher" if student else ""
    last = (body.get("stages") or [{}])[-1].get("stage", "nothing")
    # the certificate's own failures stand in its section; here only what else was asked for
    others = [gate for gate in gates if not str(gate).startswith("certificate:")]
    if passed is False or gates:
        verdict, state = "Failed", "bad"
        reason = "the certificate did not pass" if passed is False else "a gate of the recipe did not pass"
    elif passed is True:
        verdict, state = "Passed", "good"
        reason = "the certificate and the recipe's gates passed" if "gates" in body else "the certificate passed"
    else:
        verdict, state, reason = "Not finished", "open", f"stopped after {last}; there is no certificate yet"
    return {"title": f"{student or data.get('name', 'A build')} for {profile}", "verdict": verdict, "state": state,
            "reason": reason, "gates": others, "data": data.get("name", "data"), "task": task, "made": made,
            "learnt": learnt, "profile": profile}


def _metric(body: Mapping[str, Any]) -> str:
    """What the share of right answers is called."""
    return TOP1 if _at(body, "accuracy", "metric") in (None, "top1") else "labels right"


def _figures(body: Mapping[str, Any]) -> list[Block]:
    """The key numbers: at most six, each with what it means."""
    found: list[Block] = []

    def add(value: str, name: str, note: str = "") -> None:
        found.append({"value": value, "name": name, "note": note})

    rows = _rows(body)
    if rows:
        stage, row = list(rows.items())[-1]
        name = "int8" if stage == "tflite" else STAGES.get(stage, stage)
        bound = _bound(row.get("top1_ci95"), _percent)
        metric = _metric(body)
        add(_percent(row.get("top1")), f"{metric}, {name}", f"95% interval {bound}" if bound else "")
        if _real(row.get("auc")):
            area = _bound(row.get("auc_ci95"), _number)
            mean = "mean " if metric != TOP1 else ""
            add(_number(row["auc"]), f"{mean}AUC, {name}", f"95% interval {area}" if area else "")
        student = rows.get("student", {}).get("top1")
        if stage == "tflite" and _real(student) and _real(row.get("top1")):
            note = f"{metric}; the float student has {_percent(student)}"
            add(charts.points(row["top1"] - student), "points from float to int8", note)
    if "artifact" in body:
        add(_kib(_at(body, "artifact", "bytes")), "file size", str(_at(body, "artifact", "path") or ""))
    mapped = _at(body, "device", "mapped")
    if mapped:
        told = f"{mapped.get('mapped')} of {mapped.get('ops')}"
        add(told, "ops in the device's profile", str(body.get("profile", "")))
    runs = [run for run in body.get("bench") or [] if run.get("emulated") is False]
    if runs and _real(_at(runs[-1], "latency_ms", "p50")):
        own = ran_on(runs[-1], str(body.get("profile")))
        add(f"{_number(runs[-1]['latency_ms']['p50'], 2)} ms", "median latency",
            f"on {runs[-1].get('profile')}" if own else f"on the machine measured, not on {body.get('profile')}")
    return found


def _notices(body: Mapping[str, Any]) -> list[Block]:
    found = []
    if _at(body, "data", "synthetic"):
        found.append({"title": "Synthetic data.", "text": "The images were drawn by a program. The figures here say "
                      "how well the toolchain works, and nothing about real images."})
    if _at(body, "artifact", "full_integer") is False:
        found.append({"title": "Not full integer.", "text": "Some op of the file computes in floating point."})
    return found


def _accuracy(body: Mapping[str, Any]) -> Block | None:
    rows = _rows(body)
    if not rows:
        return None
    table, plot, moved, flipped = [], [], [], []
    for stage, row in rows.items():
        first = row.get("agree_with_previous") is None
        name = STAGES.get(stage, stage)
        lost, won = _whole(row.get("flips_bad")), _whole(row.get("flips_good"))
        style, judged = JUDGED.get(str(row.get("state")), ("", ""))
        change = row.get("change") or {}
        bounds = change.get("top1_ci95") if _bound(change.get("top1_ci95"), _percent) else None
        table.append({"name": name, "top1": _percent(row.get("top1")),
                      "top1_bound": _bound(row.get("top1_ci95"), _percent),
                      "auc": _number(row.get("auc")), "auc_bound": _bound(row.get("auc_ci95"), _number),
                      "change": charts.points(change["top1"]) if _real(change.get("top1")) else "",
                      "change_bound": _between(bounds), "auc_change": _signed(change.get("auc")),
                      "auc_change_bound": " to ".join(_signed(x) for x in change.get("auc_ci95") or []),
                      "judged": judged, "style": style, "agree": "" if first else _percent(row.get("agree_with_previous")),
                      "lost": "" if first else lost, "won": "" if first else won})
        if _real(row.get("top1")):
            low, high = row["top1_ci95"] if _bound(row.get("top1_ci95"), _percent) else (row["top1"], row["top1"])
            plot.append(charts.Interval(name, row["top1"], low, high, "" if first else f"{lost} lost, {won} won"))
        if bounds and _real(change.get("top1")):
            allowed = _at(row, "budget", "top1")
            moved.append(charts.Change(name, change["top1"], bounds[0], bounds[1], allowed if _real(allowed) else None, judged,
                                       str(row.get("state"))))
        if row.get("flipped"):
            flipped.append(_flipped(name, row))
    n = _at(body, "accuracy", "n")
    metric = _metric(body)
    label = f"{metric.capitalize()} on the test images after each stage, with 95 % intervals: " + "; ".join(
        f"{row.name} {row.value:.1%}, {row.low:.1%} to {row.high:.1%}" for row in plot)
    changed = f"Change of {metric} against the stage before, in points, with 95 % intervals: " + "; ".join(
        f"{row.name} {charts.points(row.value)}, {charts.points(row.low)} to {charts.points(row.high)}, {row.note}"
        for row in moved)
    verdict = _at(body, "accuracy", "verdict")
    paired = _at(body, "accuracy", "paired") or {}
    return {"table": table, "metric": metric, "labels": _per_label(body), "chart": charts.intervals(plot, label),
            "n": _whole(n), "device": _carried_back(body),
            "changes": charts.changes(moved, changed), "flipped": [part for part in flipped if part["bad"] or part["good"]],
            "verdict": verdict and {"text": verdict.get("text"), "notes": verdict.get("notes") or [],
                                    "next_step": verdict.get("next_step"),
                                    "style": {"good": "good", "bad": "bad"}.get(str(verdict.get("state")), "warn")},
            "method": paired.get("method"), "paper": paired.get("paper"), "draws": _whole(paired.get("draws")),
            "seed": paired.get("seed"), "test": paired.get("test"),
            "split": _at(body, "accuracy", "split") or "test", "aucs": any(row["auc"] != "–" for row in table)}


def _per_label(body: Mapping[str, Any]) -> list[Block]:
    """Each of several labels in the last stage, as it answers where the probability is at least a half."""
    row = list(_rows(body).values())[-1]
    return [{"name": name, "positives": _whole(part.get("positives")), "auc": _number(part.get("auc")),
             "bound": _bound(part.get("auc_ci95"), _number), "sensitivity": _percent(part.get("sensitivity")),
             "specificity": _percent(part.get("specificity"))}
            for name, part in zip(_at(body, "data", "classes") or [], row.get("per_label") or [], strict=False)]


def _between(bounds: Any) -> str:
    return f"{charts.points(bounds[0])} to {charts.points(bounds[1])}" if bounds else ""


def _signed(value: Any) -> str:
    """A difference of AUCs: three decimals and a proper sign."""
    return f"{value:+.3f}".replace("-", "−").replace("+0.000", "0.000").replace("−0.000", "0.000") if _real(value) else ""


def _flipped(stage: str, row: Mapping[str, Any]) -> Block:
    """The images that a stage lost and won, by name."""
    shown: Block = {"stage": stage}
    for way, count in (("bad", "flips_bad"), ("good", "flips_good")):
        images = _at(row, "flipped", way) or []
        shown[way] = [{"name": image.get("name"), "was": image.get("was"), "now": image.get("now"),
                       "margin": f"{image['margin_lsb']:.1f}" if _real(image.get("margin_lsb")) else "–"}
                      for image in images[:NAMED]]
        total = row.get(count)
        shown[f"{way}_count"] = _whole(total)
        shown[f"{way}_more"] = max(0, total - len(shown[way])) if isinstance(total, int) else 0
    return shown


def _carried_back(body: Mapping[str, Any]) -> Block | None:
    row = _at(body, "accuracy", "device")
    if not row:
        return None
    style, judged = JUDGED.get(str(row.get("state")), ("", ""))
    return {"profile": row.get("profile"), "n": _whole(row.get("n")), "top1": _percent(row.get("top1")),
            "top1_bound": _bound(row.get("top1_ci95"), _percent), "agree": _percent(row.get("agree_with_previous")),
            "lsb": _whole(row.get("max_abs_lsb")), "text": row.get("verdict"), "style": style, "judged": judged,
            "emulated": bool(row.get("emulated"))}


def _why(body: Mapping[str, Any]) -> Block | None:
    """The sensitivity run of `edgekd report --why`."""
    why = body.get("why")
    if not why:
        return None
    whole = why.get("whole") or {}
    most = max((_at(op, "alone", "kl") or 0.0 for op in why.get("ops") or []), default=0.0) or 1.0
    ops = []
    for op in why.get("ops") or []:
        alone, without = op.get("alone") or {}, op.get("without") or {}
        ops.append({
            "op": op.get("op"), "name": op.get("name"), "part": op.get("part"),
            "bar": charts.bar((alone.get("kl") or 0.0) / most), "kl": _tiny(alone.get("kl")),
            "kl_bound": " to ".join(_tiny(x) for x in alone.get("kl_ci95") or []),
            "top1": charts.points(alone["top1"]) if _real(alone.get("top1")) else "–",
            "auc": _signed(alone.get("auc")) or "–",
            "back": _tiny(without.get("kl_gained")), "rank": without.get("rank")})
    remedies = [{"kind": remedy.get("kind"), "text": remedy.get("text"), "next_step": remedy.get("next_step"),
                 "kl": f"{_tiny(remedy.get('kl_before'))} → {_tiny(remedy.get('kl_after'))}",
                 "top1": charts.points(remedy["top1"]) if _real(remedy.get("top1")) else "–",
                 "bound": bool(remedy.get("bound")), "sure": remedy.get("sure") is not False}
                for remedy in why.get("remedies") or []]
    return {"images": _whole(why.get("images")), "split": why.get("split"), "calibration": _whole(why.get("calibration")),
            "kl": _tiny(whole.get("kl")), "top1": charts.points(whole["top1"]) if _real(whole.get("top1")) else "–",
            "trained_kl": _tiny(_at(why, "training", "kl")), "reading": why.get("reading"),
            "worst": ops[:WORST_OPS], "others": ops[WORST_OPS:], "aucs": any(op["auc"] != "–" for op in ops),
            "remedies": remedies, "tried": _whole(why.get("tried")), "seconds": _seconds(why.get("seconds"))}


def _tiny(value: Any) -> str:
    """A divergence in nats, three digits that count."""
    if not _real(value):
        return "–"
    return "0" if value == 0 else f"{value:.3g}".replace("-", "−") if abs(value) >= 1e-4 else f"{value:.1e}".replace("-", "−")


def _confusion(body: Mapping[str, Any]) -> Block | None:
    confusion = _at(body, "accuracy", "confusion") or {}
    classes, counts = confusion.get("classes") or [], confusion.get("counts") or []
    if not classes or len(counts) != len(classes):
        return None
    totals = [sum(row) for row in counts]
    answers = [sum(column) for column in zip(*counts, strict=True)]
    numbered = len(classes) > NAMED_COLUMNS or max(len(str(name)) for name in classes) > SHORT_NAME
    heads = [{"name": str(number + 1) if numbered else name, "full": name} for number, name in enumerate(classes)]
    rows = [{"name": name, "number": number + 1 if numbered else None, "total": _whole(totals[number]),
             "recall": _percent(counts[number][number] / totals[number] if totals[number] else None),
             "cells": [{"count": count, "share": f"{count / totals[number] if totals[number] else 0:.3f}",
                        "right": number == column} for column, count in enumerate(counts[number])]}
            for number, name in enumerate(classes)]
    mistakes = sorted(((counts[i][j], i, j) for i in range(len(classes)) for j in range(len(classes))
                       if i != j and counts[i][j]), key=lambda item: (-item[0], *item[1:]))
    return {"heads": heads, "rows": rows, "matrix": len(classes) <= MATRIX_CLASSES, "numbered": numbered,
            "precision": [_percent(counts[k][k] / answers[k] if answers[k] else None) for k in range(len(classes))],
            "mistakes": [{"count": _whole(count), "true": classes[i], "said": classes[j],
                          "share": _percent(count / totals[i])} for count, i, j in mistakes[:LISTED]],
            "more": max(0, len(mistakes) - LISTED), "list": len(classes) > 2,
            "by": "int8" if list(_rows(body))[-1:] == ["tflite"] else "the last stage"}


def _example(example: Example) -> Block:
    shown = {name: example.answers[stage] for stage, name in ANSWERS.items() if stage in example.answers}
    if not shown:
        shown = dict(example.answers)
    return {"src": _data_uri(example.png), "name": example.name,
            "looks": [{"who": ANSWERS.get(stage, stage), "src": _data_uri(png)} for stage, png in example.looks.items()],
            "label": example.label, "why": example.why,
            "answers": [{"who": who, "said": said, "chance": _percent(chance, 0), "right": said == example.label}
                        for who, (said, chance) in shown.items()]}


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _certificate(body: Mapping[str, Any]) -> Block | None:
    certificate = body.get("certificate")
    if not certificate:
        return None
    failures = [{"check": failure.get("check", "check"),
                 "place": next((failure[where] for where in ("tensor", "op", "file") if failure.get(where)), ""),
                 "expected": failure.get("expected"), "found": failure.get("found"), "next_step": failure.get("next_step")}
                for failure in certificate.get("failures") or []]
    checks = []
    for key, (name, meaning) in CHECKS.items():
        block = certificate.get(key)
        if block is None and key != "reference":
            continue  # an older or a shorter certificate
        found, state = _check(key, block)
        if any(str(failure["check"]).replace("-", "_").replace(" ", "_").startswith(key) for failure in failures):
            state = "bad"
        checks.append({"name": name, "meaning": meaning, "found": found, "state": state})
    return {"passed": bool(certificate.get("passed")), "checks": checks, "failures": failures[:LISTED],
            "more": max(0, len(failures) - LISTED), "runtime": certificate.get("runtime"),
            "sha256": certificate.get("model_sha256"), **_histograms(certificate)}


def _histograms(certificate: Mapping[str, Any]) -> Block:
    """The end-to-end histogram as a chart, and whatever other histograms the certificate holds, by where they stand."""
    found = dict(_every_histogram("", certificate))
    whole = found.pop("end_to_end", None)
    told = ", ".join(f"{count:,} by {name}" for name, count in (whole or {}).items())
    others = [{"name": name, "chart": charts.columns(counts, "LSB", f"{name}: differences in LSB: " + ", ".join(
        f"{count:,} by {lsb}" for lsb, count in counts.items()))} for name, counts in list(found.items())[:KINDS]]
    return {"histogram": charts.columns(whole or {}, "LSB", f"How far outputs of file and trained network lie apart, in "
                                                            f"LSB: {told}"),
            "histograms": [other for other in others if other["chart"]], "hidden": max(0, len(found) - KINDS)}


def _every_histogram(where: str, block: Any) -> Iterator[tuple[str, dict[str, int]]]:
    """(place, counts) of each mapping under a key "histogram"; lists are named by what their rows call themselves."""
    if isinstance(block, Mapping):
        for key, value in block.items():
            if key == "histogram" and isinstance(value, Mapping):
                counts = {str(lsb): count for lsb, count in value.items() if _real(count) and count >= 0}
                if counts:
                    yield where or "all", counts
            else:
                yield from _every_histogram(f"{where}, {key}" if where else str(key), value)
    elif isinstance(block, Sequence) and not isinstance(block, str | bytes):
        for number, row in enumerate(block):
            own = next((row[key] for key in ("op", "kernels", "family", "name") if isinstance(row, Mapping) and key in row),
                       number)
            yield from _every_histogram(f"{where}, {own}" if where else str(own), row)


def _check(key: str, block: Any) -> tuple[str, str]:
    """What a check found, in words, and "good", "bad", "open" (told, and no gate) or "none"."""
    found: Mapping[str, Any] = block if isinstance(block, Mapping) else {}
    told = {key: _whole(value) for key, value in found.items()}
    get = functools.partial(_at, told)
    if key == "ranges":
        words, worst = f"{get('identical')} of {get('tensors')} identical", found.get("worst")
        if found.get("identical") == found.get("tensors"):
            return words, "good"
        if isinstance(worst, Mapping) and worst.get("tensor"):
            words += (f"; the worst is {worst['tensor']}: scale off by a factor of "
                      f"{_cell(worst.get('scale_ratio'), 7)}, zero point by {_cell(worst.get('zero_point_delta'))}")
        return words, "bad"
    if key == "weights":
        same = found.get("identical_codes") == found.get("total_codes")
        words = f"{get('identical_codes')} of {get('total_codes')} codes identical, in {get('tensors')} tensors"
        return words, "good" if same else "bad"
    if key in ("op_local", "edges"):
        most, worst = found.get("max_lsb"), found.get("worst_op")
        worst = worst.get("op") if isinstance(worst, Mapping) else worst
        words = f"{get('ops' if key == 'op_local' else 'edges')} ops, {_percent(found.get('share_exact'), 2)} of the results "
        words += f"exact, at most {_cell(most)} LSB off" + (f" ({worst})" if most and worst else "")
        return words, "good" if isinstance(most, int | float) and most <= OP_BOUND else "bad"
    if key == "canonical":
        return f"{get('deviations')} deviations", "good" if found.get("deviations") == 0 else "bad"
    if key in ("shapes", "structure"):
        return f"{get('ops')} ops follow", "good"  # a failure is listed, and turns this to bad
    if key == "end_to_end":
        same = "same class" if found.get("answers") in (None, "classes") else "same labels"
        words = f"{same} on {_percent(found.get('argmax_agreement'))} of {get('images')} images; outputs differ by "
        return words + f"{_number(found.get('mean_abs_lsb'), 2)} LSB on average, at most {get('max_abs_lsb')}", "open"
    if not found.get("runtime"):
        return "not run; it needs TensorFlow, edgekd's extra “reference”", "none"
    return f"{get('runtime')}: same class on {_percent(found.get('argmax_agreement'))} of the images", "open"


def _artifact(body: Mapping[str, Any]) -> Block | None:
    artifact = body.get("artifact")
    if not artifact:
        return None
    away = {str(item.get("op")) for item in _at(body, "device", "mapped", "fallback") or []}
    counts = sorted((artifact.get("ops") or {}).items(), key=lambda item: (-item[1], item[0]))
    most = max((count for _, count in counts), default=1) or 1
    ports = [{"name": port, "dtype": _at(artifact, port, "dtype"),
              "shape": " × ".join(str(side) for side in _at(artifact, port, "shape") or []),
              "scale": f"{_at(artifact, port, 'scale'):.9g}" if _real(_at(artifact, port, "scale")) else "–",
              "zero_point": _whole(_at(artifact, port, "zero_point"))}
             for port in ("input", "output") if artifact.get(port)]
    times = _at(body, "device", "predicted", "time_by_op") or {}
    whole = sum(times.values()) or 1.0
    counted = dict(counts)
    rest = [{"name": name, "share": _share(ms / whole)} for name, ms in times.items() if name not in counted and ms > 0]
    return {"timed": bool(times), "rest": rest, "path": artifact.get("path", "model.tflite"), "sha256": artifact.get("sha256"),
            "size": _kib(artifact.get("bytes")), "exact": _whole(artifact.get("bytes")),
            "integer": artifact.get("full_integer"), "ports": ports, "device": "device" in body,
            "pixels": _at(artifact, "input", "dtype"),
            "ops": [{"op": op, "count": count, "away": op in away, "share": _share(times.get(op, 0.0) / whole),
                     "bar": charts.bar(times.get(op, 0.0) / whole if times else count / most,
                                       "away" if op in away else "first")} for op, count in counts]}


def _share(value: float) -> str:
    return "under 1%" if 0 < value < 0.01 else f"{value:.0%}"


def _device(body: Mapping[str, Any]) -> Block | None:
    device = body.get("device")
    if not device:
        return None
    predicted, mapped = device.get("predicted") or {}, device.get("mapped") or {}
    latency = None
    if _real(predicted.get("latency_ms")):
        bounds = _bound([predicted.get("low_ms"), predicted.get("high_ms")], lambda x: f"{x:.3g}")
        latency = f"{predicted['latency_ms']:.3g} ms" + (f" ({bounds} ms)" if bounds else "")
    away = [f"{_at(item, 'op')}" + (f" × {item['count']}" if item.get("count") else "") +
            (f" ({item['status']})" if item.get("status") else "") for item in mapped.get("fallback") or []]
    memory = [{"name": str(key).removesuffix("_bytes").replace("_", " "),
               "value": _kib(value) if str(key).endswith("_bytes") else _whole(value)}
              for key, value in (device.get("memory") or {}).items() if key != "file_bytes"]  # said with the file
    return {"profile": body.get("profile"), "latency": latency, "basis": predicted.get("basis"), "away": away,
            "mapped": _whole(mapped.get("mapped")), "ops": _whole(mapped.get("ops")), "memory": memory,
            "share": _percent(mapped.get("share_of_macs")) if _real(mapped.get("share_of_macs")) else None}


def _bench(run: Mapping[str, Any], body: Mapping[str, Any]) -> Block:
    host, runtime = run.get("host") or {}, run.get("runtime") or {}
    latency, memory, golden = run.get("latency_ms") or {}, run.get("memory_kib") or {}, run.get("golden")
    timed = run.get("emulated") is False  # anything else is not known to be a real clock's
    threads = runtime.get("threads")
    shown: Block = {
        "machine": host.get("cpu") or "An unnamed processor", "kind": host.get("machine"),
        "profile": run.get("profile"), "transport": run.get("transport"), "target": body.get("profile"),
        "own": ran_on(run, str(body.get("profile"))), "timed": timed,
        "predicted": _real(_at(body, "device", "predicted", "latency_ms")),
        "runtime": " ".join(str(runtime[key]) for key in ("name", "version") if runtime.get(key)),
        "delegate": runtime.get("delegate"), "threads": _plural(threads, "thread") if isinstance(threads, int) else "",
        "facts": [(name, value) for name, value in (
            ("cores", host.get("cores")), ("kernel", host.get("kernel")), ("Python", host.get("python")),
            ("governor", host.get("governor")), ("clock", f"{host['clock_khz'] / 1000:,.0f} MHz"
                                                 if _real(host.get("clock_khz")) else None),
            ("temperature", f"{host['temperature_c']:.0f} °C" if _real(host.get("temperature_c")) else None))
            if value is not None],
        "memory": [(name, _mib(memory.get(key))) for name, key in
                   (("before loading", "baseline"), ("after loading", "after_load"), ("peak", "peak"))
                   if _real(memory.get(key))],
        "golden": golden and f"{_plural(golden.get('images', 0), 'stored image')}: same class on "
                             f"{_percent(golden.get('argmax_agreement'))}, largest difference "
                             f"{_whole(golden.get('max_abs_lsb'))} LSB; {_percent(golden.get('top1'))} right",
        "warnings": [str(warning) for warning in run.get("warnings") or []], "chart": "", "latency": [], "runs": None,
    }
    if timed:
        samples = [value for value in latency.get("samples") or [] if _real(value)]
        marks = {key: latency[key] for key in ("p50", "p95", "p99") if _real(latency.get(key))}
        label = f"How often each latency came, {len(samples)} runs: " + ", ".join(
            f"{name} {value:.4g} ms" for name, value in marks.items())
        shown["chart"] = charts.histogram(samples, marks, "ms", label)
        shown["runs"] = _whole(len(samples)) if samples else None
        shown["latency"] = [(name, f"{_number(latency[key], 2)} ms") for name, key in
                            (("p50", "p50"), ("p95", "p95"), ("p99", "p99"), ("fastest", "min"), ("slowest", "max"),
                             ("first run", "first"), ("loading", "load")) if _real(latency.get(key))]
    return shown


def _training(body: Mapping[str, Any]) -> list[Block]:
    found = []
    for stage, history in (body.get("training") or {}).items():
        rows = [row for row in history or [] if _real(row.get("epoch"))]
        if not rows:
            continue
        name = TRAINED.get(stage, stage)

        def line(key: str, title: str, style: str, rows: list[Any] = rows) -> charts.Line:
            return charts.Line(title, [(row["epoch"], row[key]) for row in rows if _real(row.get(key))], style)

        loss = line("loss", "loss", "first")
        scores = [score for score in (line("top1", "top-1", "first"), line("auc", "AUC", "second")) if score.points]
        first, last = rows[0], rows[-1]
        told = (f"{name}, loss: {_number(first.get('loss'))} after epoch {first['epoch']}, "
                f"{_number(last.get('loss'))} after epoch {last['epoch']}")
        ends = ", ".join(f"{score.name} {score.points[0][1]:.1%} after epoch {score.points[0][0]}, "
                         f"{score.points[-1][1]:.1%} after epoch {score.points[-1][0]}" for score in scores)
        columns = [key for key in dict.fromkeys(key for row in rows for key in row) if key != "epoch"]
        found.append({
            "name": name, "loss": charts.lines([loss], told),
            "scores": charts.lines(scores, f"{name}: {ends}", shares=True),
            "legend": [{"name": score.name, "style": score.style,
                        "end": (_number if score.name == "AUC" else _percent)(score.points[-1][1])}
                       for score in scores],
            "loss_end": _number(last.get("loss")), "epochs": _plural(len(rows), "epoch"),
            "columns": [{"top1": "top-1", "auc": "AUC"}.get(key, key) for key in columns],
            "rows": [{"epoch": row["epoch"], "values": [_cell(row.get(key)) for key in columns]} for row in rows]})
    return found


def _cell(value: Any, digits: int = 4) -> str:
    return "" if value is None else f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def _models(body: Mapping[str, Any]) -> list[Block]:
    return [{"role": role, "arch": model.get("arch", "–"), "params": _large(model.get("params")),
             "macs": _large(model.get("macs")),
             "input": " × ".join(str(side) for side in model.get("input") or []) or "–",
             "weights": f"{model['weights']}, lr {model['lr']:g}" if "lr" in model else model.get("weights"),
             "licence": model.get("licence")}
            for role, model in (body.get("models") or {}).items()]


def _data(body: Mapping[str, Any]) -> Block | None:
    data = body.get("data")
    if not data:
        return None
    classes, counts = data.get("classes") or [], data.get("counts") or {}
    splits = ("train", "val", "test")
    rows = [{"name": name, "counts": [_whole(_at(counts, split, name) or 0) for split in splits]} for name in classes] \
        if counts else []
    ignored = sum(value for value in (data.get("ignored") or {}).values() if _real(value))
    copies, groups = data.get("duplicates") or {}, data.get("groups") or {}
    facts = [("licence", data.get("licence") or "not stated"), ("source", data.get("source")),
             ("fit to the input by", data.get("fit"))]
    if any(_real(groups.get(split)) and groups[split] for split in splits):
        told = ", ".join(f"{_whole(groups.get(split))} in {split}" for split in splits)
        facts.append(("groups (such as patients)", told))
    if copies.get("images"):
        facts.append(("copies", f"{_plural(copies['images'], 'image')}, {_whole(copies.get('dropped'))} dropped"))
    without = data.get("unlabelled") or {}
    if without:
        dropped = sum(without.get(key) or 0 for key in ("in_val_or_test", "in_train", "repeated"))
        facts.append(("without a label, labelled by the teacher", _plural(without.get("images") or 0, "image") + (
            f" ({_whole(dropped)} copies dropped)" if dropped else "")))
    if data.get("skipped"):
        facts.append(("unreadable, skipped", _whole(len(data["skipped"]))))
    if ignored:
        facts.append(("files left alone", _whole(ignored)))
    return {"name": data.get("name", "data"), "classes": classes, "synthetic": bool(data.get("synthetic")),
            "totals": [_whole(data.get(split)) for split in splits], "rows": rows[:COUNT_ROWS],
            "more": max(0, len(rows) - COUNT_ROWS), "facts": [(k, v) for k, v in facts if v],
            "warnings": [str(warning) for warning in data.get("warnings") or []]}


def _stages(body: Mapping[str, Any]) -> list[Block]:
    return [{"name": row.get("stage"), "seconds": _seconds(row.get("seconds")), "cached": bool(row.get("cached")),
             "key": str(row.get("key", "")), "short_key": str(row.get("key", ""))[:DIGEST_LETTERS],
             "digest": str(row.get("digest", "")), "short_digest": str(row.get("digest", ""))[:DIGEST_LETTERS]}
            for row in body.get("stages") or []]


def _origin(body: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = [("edgekd", body.get("edgekd")), ("schema", body.get("schema")), ("device profile", body.get("profile")),
             ("seed", body.get("seed")), ("data set", _at(body, "data", "name")),
             ("data digest", _at(body, "data", "digest")), ("file", _at(body, "artifact", "path")),
             ("sha256 of the file", _at(body, "artifact", "sha256"))]
    return [(name, str(value)) for name, value in found if value is not None]
