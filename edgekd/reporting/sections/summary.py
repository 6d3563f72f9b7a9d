"""The top of the report: verdict, key figures, what must not be overlooked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekd.evaluation.waterfall import ran_on
from edgekd.reporting import charts
from edgekd.reporting.sections import text as fmt

Block = dict[str, Any]


def head(body: Mapping[str, Any]) -> Block:
    """Title, verdict and what the build made."""
    profile, data = body.get("profile", "a device"), body.get("data") or {}
    classes = data.get("classes") or []
    student, teacher = fmt.arch(body, "student"), fmt.arch(body, "teacher")
    task = (
        f"tells {classes[0]} from {classes[1]}"
        if len(classes) == 2
        else f"sorts images into {len(classes)} classes"
    )
    if data.get("labels") == "many":
        task = f"says which of {len(classes)} labels an image has"
    passed, gates = fmt.at(body, "certificate", "passed"), list(body.get("gates") or [])
    made = (
        "Not yet a TFLite file"
        if "artifact" not in body
        else "An int8 TFLite file"
        if passed
        else "An uncertified int8 TFLite file"
    )
    learnt = (
        f"distilled from {teacher}"
        if teacher and student
        else "trained on the labels alone, without a teacher"
        if student
        else ""
    )
    last = (body.get("stages") or [{}])[-1].get("stage", "nothing")
    # the certificate's own failures stand in its section; here only what else was asked for
    others = [gate for gate in gates if not str(gate).startswith("certificate:")]
    if passed is False or gates:
        verdict, state = "Failed", "bad"
        reason = (
            "the certificate did not pass"
            if passed is False
            else "a gate of the recipe did not pass"
        )
    elif passed is True:
        verdict, state = "Passed", "good"
        reason = (
            "the certificate and the recipe's gates passed"
            if "gates" in body
            else "the certificate passed"
        )
    else:
        verdict, state, reason = (
            "Not finished",
            "open",
            f"stopped after {last}; there is no certificate yet",
        )
    return {
        "title": f"{student or data.get('name', 'A build')} for {profile}",
        "verdict": verdict,
        "state": state,
        "reason": reason,
        "gates": others,
        "data": data.get("name", "data"),
        "task": task,
        "made": made,
        "learnt": learnt,
        "profile": profile,
    }


def figures(body: Mapping[str, Any]) -> list[Block]:
    """The key numbers: at most six, each with what it means."""
    found: list[Block] = []

    def add(value: str, name: str, note: str = "") -> None:
        found.append({"value": value, "name": name, "note": note})

    rows = fmt.rows(body)
    if rows:
        stage, row = list(rows.items())[-1]
        name = "int8" if stage == "tflite" else fmt.STAGES.get(stage, stage)
        bound = fmt.bound(row.get("top1_ci95"), fmt.percent)
        metric = fmt.metric(body)
        add(
            fmt.percent(row.get("top1")),
            f"{metric}, {name}",
            f"95% interval {bound}" if bound else "",
        )
        if fmt.real(row.get("auc")):
            area = fmt.bound(row.get("auc_ci95"), fmt.number)
            mean = "mean " if metric != fmt.TOP1 else ""
            add(
                fmt.number(row["auc"]), f"{mean}AUC, {name}", f"95% interval {area}" if area else ""
            )
        student = rows.get("student", {}).get("top1")
        if stage == "tflite" and fmt.real(student) and fmt.real(row.get("top1")):
            note = f"{metric}; the float student has {fmt.percent(student)}"
            add(charts.points(row["top1"] - student), "points from float to int8", note)
    if "artifact" in body:
        add(
            fmt.kib(fmt.at(body, "artifact", "bytes")),
            "file size",
            str(fmt.at(body, "artifact", "path") or ""),
        )
    mapped = fmt.at(body, "device", "mapped")
    if mapped:
        told = f"{mapped.get('mapped')} of {mapped.get('ops')}"
        add(told, "ops in the device's profile", str(body.get("profile", "")))
    runs = [run for run in body.get("bench") or [] if run.get("emulated") is False]
    if runs and fmt.real(fmt.at(runs[-1], "latency_ms", "p50")):
        own = ran_on(runs[-1], str(body.get("profile")))
        add(
            f"{fmt.number(runs[-1]['latency_ms']['p50'], 2)} ms",
            "median latency",
            f"on {runs[-1].get('profile')}"
            if own
            else f"on the machine measured, not on {body.get('profile')}",
        )
    return found


def notices(body: Mapping[str, Any]) -> list[Block]:
    """What must be read before any figure."""
    found = []
    if fmt.at(body, "data", "synthetic"):
        found.append(
            {
                "title": "Synthetic data.",
                "text": "The images were drawn by a program. The figures here say "
                "how well the toolchain works, and nothing about real images.",
            }
        )
    if fmt.at(body, "artifact", "full_integer") is False:
        found.append(
            {
                "title": "Not full integer.",
                "text": "Some op of the file computes in floating point.",
            }
        )
    return found
