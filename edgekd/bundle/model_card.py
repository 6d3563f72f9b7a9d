"""The model card in Hugging Face's format: README.md with YAML metadata, from the report and the recipe."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from edgekd.bundle.licences_record import LicenceChain
from edgekd.settings.recipe import CardConfig

MEDICAL = re.compile(
    r"x-?ray|radiograph|chest|pneumon|ct\b|mri\b|lesion|patient|derma|retina|path(o|mnist)|phantom",
    re.IGNORECASE,
)
NOT_FOR_DIAGNOSIS = (
    "NOT for diagnosis, triage or any other clinical use: it is no medical device and was never tested as "
    "one."
)
MOST_CLASSES = 20  # listed one by one; confidence.json has all
GENERAL_LIMITS = (
    "Validated only on the test images that its model card names. Images from other cameras, places or people "
    "may be answered worse, with confidence figures that no longer hold."
)


def limits(card: CardConfig, data_name: str, source: str) -> str:
    """The limits that card, model metadata and samples carry; medical data always add that it is not for diagnosis."""
    said = [card.limits or GENERAL_LIMITS]
    if MEDICAL.search(f"{data_name} {source}") and "diagnos" not in said[0].lower():
        said.insert(0, NOT_FOR_DIAGNOSIS)
    return " ".join(said)


def card(
    settings: CardConfig, name: str, report: Mapping[str, Any], papers: Mapping[str, Any]
) -> str:
    """README.md of the bundle. `papers`: {"licences", "confidence", "limits", "input", "subgroups" or None}."""
    data, licences = report["data"], papers["licences"]
    several = papers["confidence"]["kind"] == "labels"
    kind, metric, area = (
        ("labels that may occur together", "labels right", "mean AUC")
        if several
        else ("classes", "top-1", "AUC")
    )
    rows = report["accuracy"]["waterfall"]
    final = rows[-1]
    lines = [
        "---",
        *_front(licences, name, data, final, report["accuracy"]["n"]),
        "---",
        "",
        f"# {_plain(name)}",
        "",
        (
            f"An int8 image classifier for {len(data['classes'])} {kind} "
            f"({', '.join(_plain(label) for label in data['classes'][:20])}), distilled, quantised and certified by EdgeKD "
            f"{report['edgekd']} for `{report['profile']}`."
        ),
        "",
        "## Intended use",
        "",
        _plain(settings.intended_use) or "Not stated by its author.",
        "",
        "## Limits",
        "",
        _plain(papers["limits"]),
        "",
        "## Use",
        "",
        *_use(papers["input"]),
        "",
        "## Accuracy",
        "",
        f"On {report['accuracy']['n']} test images of {_plain(data['name'])}"
        + (" (SYNTHETIC images)" if data.get("synthetic") else "")
        + ":",
        "",
        f"| network | {metric} | 95 % | {area} |",
        "|---|---|---|---|",
    ]
    for row in rows:
        low, high = row["top1_ci95"]
        auc = "–" if row["auc"] is None else f"{row['auc']:.4f}"
        lines.append(f"| {row['stage']} | {row['top1']:.1%} | {low:.1%}–{high:.1%} | {auc} |")
    lines += [
        "",
        "## Confidence",
        "",
        *(_of_labels if several else _of_classes)(papers["confidence"], data["classes"]),
    ]
    if papers.get("subgroups"):
        lines += ["", "## Groups", "", *_groups(papers["subgroups"])]
    verdict = "passed" if report["certificate"]["passed"] else "FAILED"
    lines += [
        "",
        "## Training data and licences",
        "",
        "| part | name | licence | source |",
        "|---|---|---|---|",
        *(
            f"| {row.role} | {_cell(row.name)} | {_cell(row.licence)} | {_cell(row.source)} |"
            for row in licences.links
            if row.part == "model"
        ),
        "",
        f"Bundle: **{_plain(licences.result)}**."
        + "".join(f" Tainted by {_plain(row)}." for row in licences.tainted_by)
        + "".join(f" Not known: {_plain(row)}." for row in licences.unknown),
        "",
        "## Proof",
        "",
        (
            f"Certificate {verdict}; `edgekd verify` on this folder or its .zip checks hashes, lineage, "
            "certificate, metadata and golden answers again."
        ),
        "",
    ]
    return "\n".join(lines)


def _of_classes(confidence: Mapping[str, Any], classes: Sequence[str]) -> list[str]:
    """What the confidence figures of one class an image are worth."""
    held = confidence["test"]
    told = (
        f"Temperature {confidence['temperature']:.3f} and a threshold a class, fitted on the int8 answers to "
        f"{confidence['fitted_on']['n']} validation images. On test: expected calibration error "
        f"{held['ece']['before']:.3f} before, {held['ece']['after']:.3f} after (without what chance adds: "
        f"{held['ece']['debiased_before']:.3f} and {held['ece']['debiased_after']:.3f}); the label is in the prediction "
        f"set for {held['coverage']:.1%} (promised {confidence['coverage']:.0%}, for each class); the model says "
        f'"unsure" on {held["unsure"]:.1%}'
    )
    told += (
        "."
        if held["accuracy_when_sure"] is None
        else f" and is right on {held['accuracy_when_sure']:.1%} of the others."
    )
    return [
        told,
        *([f"**{confidence['warning']}**"] if confidence.get("warning") else []),
        "",
        "| class | images | label in its set |",
        "|---|---|---|",
        *(
            f"| {_cell(label)} | {row['n']} | {_share(row['coverage'])} |"
            for label, row in list(zip(classes, held["coverage_by_class"], strict=True))[
                :MOST_CLASSES
            ]
        ),
    ]


def _of_labels(confidence: Mapping[str, Any], classes: Sequence[str]) -> list[str]:
    """Each of several labels: its threshold, and what that is worth."""
    del classes  # each row names its own
    rows = zip(confidence["per_label"], confidence["test"]["per_label"], strict=True)
    told = (
        "An image may have none, one or several labels. Each has a sigmoid and a threshold of its own, fitted on the int8 "
        f"answers to {confidence['fitted_on']['n']} validation images; on {confidence['test']['n']} test images:"
    )
    return [
        told,
        "",
        "| label | threshold | images with it | found (sensitivity) | left alone (specificity) |",
        "|---|---|---|---|---|",
        *(
            f"| {_cell(fitted['label'])} | {fitted['threshold']:.3f} | {row['positives']} | {_share(row['sensitivity'])} | "
            f"{_share(row['specificity'])} |"
            for fitted, row in list(rows)[:MOST_CLASSES]
        ),
    ]


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _use(source: Mapping[str, Any]) -> list[str]:
    """Where to start on each platform. `source`: deployment.json's "input"."""
    px = source["px"]
    return [
        "| for | start with |",
        "|---|---|",
        "| Raspberry Pi, any Linux | `python3 samples/pi/classify.py IMAGE` (numpy, Pillow, ai-edge-litert; Python 3.9+) |",
        "| a web page | `samples/web/README.md`: one offline page, made with npm's LiteRT.js |",
        "| Android | `samples/android/README.md`: a Gradle project in Kotlin |",
        "| C and C++ | `samples/cpp/classify.cc` |",
        (
            "| MediaPipe Tasks | `ImageClassifier` on `model.tflite`, which holds labels and normalisation; bring images to size "
            "yourself |"
        ),
        "| your own code | `deployment.json`, and `golden/golden.json` to test it with |",
        "",
        (
            f"Every one of them wants an image of {px} x {px} pixels, brought there by `{source['fit']}` with "
            f"{source['resample']}; `model.tflite` takes its {source['order']} pixels as they are (uint8), `model_float32.tflite` "
            "the same normalised. Another way of resizing gives other answers: the samples therefore run the golden images first "
            "and refuse to work when one differs. `golden/pattern.png` is there to find such mistakes."
        ),
    ]


def _front(
    licences: LicenceChain,
    name: str,
    data: Mapping[str, Any],
    final: Mapping[str, Any],
    n: int,
) -> list[str]:
    """The YAML block. Strings are written as JSON, which is YAML."""
    metrics = [{"type": "accuracy", "value": round(final["top1"], 6)}]
    if final["auc"] is not None:
        metrics.append({"type": "roc_auc", "value": round(final["auc"], 6)})
    index = [
        {
            "name": name,
            "results": [
                {
                    "task": {"type": "image-classification"},
                    "dataset": {
                        "name": str(data["name"]),
                        "type": str(data["name"]),
                        "split": f"test ({n} images)",
                    },
                    "metrics": metrics,
                }
            ],
        }
    ]
    known = licences.result == "Apache-2.0"
    front = {
        "license": "apache-2.0" if known else "other",
        "library_name": "litert",
        "pipeline_tag": "image-classification",
        "tags": ["edgekd", "tflite", "int8", "distillation"],
        "datasets": [re.sub(r"[^A-Za-z0-9._-]+", "-", str(data["name"]))],
        "model-index": index,
    }
    if not known:
        front |= {"license_name": "see-licences-json", "license_link": "licences.json"}
    return [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in front.items()]


def _groups(body: Mapping[str, Any]) -> list[str]:
    lines = [
        f"By `{_plain(body['column'])}`, {body['metric']} on test images:",
        "",
        "| group | images | student | int8 | change | 95 % |",
        "|---|---|---|---|---|---|",
    ]
    for row in body["groups"]:
        final = row["networks"]["tflite"]
        change = row["change"]
        interval = (
            "–"
            if change["ci95"] is None
            else f"{change['ci95'][0]:+.3f} to {change['ci95'][1]:+.3f}"
        )
        lines.append(
            f"| {_cell(row['group'])} | {row['n']} | {_figure(row['networks']['student'])} | {_figure(final)} | "
            f"{'–' if change['value'] is None else format(change['value'], '+.3f')} | {interval} |"
        )
    return lines


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _plain(text: str) -> str:
    """One line of text that Markdown and HTML leave as it is."""
    clean = "".join(c if c.isprintable() else " " for c in str(text))
    return re.sub(r"([\\`*_<>\[\]#|])", r"\\\1", clean) if clean else ""


def _cell(text: str) -> str:
    return _plain(text).replace("\n", " ")
