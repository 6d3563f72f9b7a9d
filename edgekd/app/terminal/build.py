"""One build on the terminal: data, accuracy, model, certificate, measurements."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rich.box
import rich.table

from edgekd.app.terminal.bench import show_bench
from edgekd.app.terminal.text import Say, safe
from edgekd.app.terminal.why import show_why
from edgekd.reporting.report_body import number

MARKS = {
    "first": "",
    "within": "[green]within[/]",
    "unclear": "[yellow]unclear[/]",
    "beyond": "[red]beyond[/]",
}


def show_report(say: Say, body: Mapping[str, Any], out: Path, until: str | None) -> None:
    """One build: what each stage cost, what the file is, whether it is certified, where everything lies."""
    data = body["data"]
    mark = " (synthetic)" if data.get("synthetic") else ""
    kind = "labels" if data.get("labels") == "many" else "classes"
    more = f", {data['unlabelled']['images']} without a label" if data.get("unlabelled") else ""
    say(
        f"\n[bold]{safe(data['name'])}[/]{mark}: {len(data['classes'])} {kind}, {data['train']} train, "
        f"{data['val']} val, {data['test']} test{more}; for [bold]{safe(body['profile'])}[/], seed {body['seed']}"
    )
    if "accuracy" in body:
        say(_waterfall(body["accuracy"]))
        _verdict(say, body["accuracy"].get("verdict"))
    if "why" in body:
        show_why(say, body["why"])
    if "artifact" in body:
        _artifact(say, body)
    if "certificate" in body:
        _certificate(say, body["certificate"])
    for run in body.get("bench", []):
        show_bench(say, run)
    if until is not None:
        say(f"stopped after {until}, as asked")
    say(f"report: {safe(str(out / 'report.html'))}")


def _waterfall(accuracy: Mapping[str, Any]) -> rich.table.Table:
    table = rich.table.Table(
        box=rich.box.SIMPLE_HEAD,
        title=f"accuracy on {accuracy['n']} test images",
        title_justify="left",
    )
    told = "top-1" if accuracy["metric"] == "top1" else "labels right"
    for name in (
        "stage",
        told,
        "95 %",
        "AUC",
        "change",
        "95 % ",
        "agrees",
        "lost",
        "won",
        "budget",
    ):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for row in accuracy["waterfall"]:
        first, change = row["agree_with_previous"] is None, row.get("change")
        table.add_row(
            row["stage"],
            f"{row['top1']:.1%}",
            "–".join(f"{x * 100:.1f}" for x in row["top1_ci95"]),
            number(row["auc"], 4),
            f"{change['top1'] * 100:+.1f}" if change else "",
            " to ".join(f"{x * 100:+.1f}" for x in change["top1_ci95"]) if change else "",
            "" if first else f"{row['agree_with_previous']:.1%}",
            "" if first else str(row["flips_bad"]),
            "" if first else str(row["flips_good"]),
            MARKS.get(row.get("state", ""), ""),
        )
    row = accuracy.get("device")
    if row:
        table.add_row(
            f"device, {row['n']} images",
            f"{row['top1']:.1%}",
            "–".join(f"{x * 100:.1f}" for x in row["top1_ci95"]),
            "–",
            "",
            "",
            f"{row['agree_with_previous']:.1%}",
            "",
            "",
            MARKS[row["state"]],
        )
    return table


def _verdict(say: Say, verdict: Mapping[str, Any] | None) -> None:
    """Which stage lost accuracy; nothing for a report of an edgekd that did not judge."""
    if not verdict:
        return
    colour = {"good": "green", "unclear": "yellow", "bad": "red"}[verdict["state"]]
    say(f"[{colour}]verdict[/] {safe(verdict['text'])}")
    for note in verdict["notes"]:
        say(f"        also: {safe(note)}")
    if verdict.get("next_step"):
        say(f"        next: {safe(verdict['next_step'])}")


def _artifact(say: Say, body: Mapping[str, Any]) -> None:
    artifact, device = body["artifact"], body["device"]
    ops = ", ".join(
        f"{count} {name}" for name, count in sorted(artifact["ops"].items(), key=lambda x: -x[1])
    )
    say(
        f"[bold]{artifact['path']}[/] {artifact['bytes'] / 1024:.0f} KiB, "
        f"{'full integer' if artifact['full_integer'] else '[red]not full integer[/]'}: {ops}"
    )
    mapped = device["mapped"]
    say(f"      {mapped['mapped']} of {mapped['ops']} ops map on {safe(body['profile'])}")


def _certificate(say: Say, certificate: Mapping[str, Any]) -> None:
    ranges, weights, op, end = (
        certificate[k] for k in ("ranges", "weights", "op_local", "end_to_end")
    )
    say(
        f"[bold]certificate[/] {'[green]passed[/]' if certificate['passed'] else '[red]FAILED[/]'}: "
        f"{ranges['identical']} of {ranges['tensors']} ranges and {weights['identical_codes']} of "
        f"{weights['total_codes']} weight codes identical; op-local at most {op['max_lsb']} LSB, "
        f"{op['share_exact']:.2%} exact; answers agree on {end['argmax_agreement']:.1%} of {end['images']} images"
    )
