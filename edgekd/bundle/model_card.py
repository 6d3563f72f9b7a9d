"""The model card in Hugging Face's format: README.md with YAML metadata, from the report."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence

from edgekd.bundle import app_inputs_card, format_card, medical_card
from edgekd.bundle.deployment_record import Deployment, ImageInput
from edgekd.bundle.licences_record import LicenceChain
from edgekd.bundle.markdown import plain
from edgekd.core.artifacts import Json
from edgekd.core.records import UNSET, UnsetType, present
from edgekd.data.depth_record import Depth
from edgekd.data.patient_columns import MEDICAL
from edgekd.evaluation.accuracy_record import FormatRow, StageRow
from edgekd.evaluation.app_inputs_record import AppInputs
from edgekd.evaluation.confidence_record import ClassConfidence, Confidence, LabelConfidence
from edgekd.evaluation.medical_record import Medical
from edgekd.evaluation.subgroup_record import Group, Subgroups
from edgekd.settings.recipe import CardConfig

NOT_FOR_DIAGNOSIS = (
    "NOT for diagnosis, triage or any other clinical use: it is no medical device and was never "
    "tested as one."
)
GENERAL_LIMITS = (
    "Validated only on the test images that its model card names. Images from other cameras, "
    "places or people may be answered worse, with confidence figures that no longer hold."
)
PROOF = (
    "Certificate passed. `edgekd verify` on this folder or its .zip checks hashes, lineage, "
    "certificate, metadata and golden answers again."
)
NO_LABELS = (
    "They have no labels. An answer counts as right where it is the float network's, here and in "
    "the confidence below; how often that is right was not measured."
)
MOST_CLASSES = 20  # in lists and tables; confidence.json has all of them


@dataclasses.dataclass(frozen=True)
class CardFacts:
    """What the card tells of the build.

    `edgekd`: the version. `data_source`: where the data come from, for a reader. `images`: test
    images. `networks`: the waterfall's rows, the .tflite last. `depth`: of images of more than 8
    bits. `formats`: the files of all number formats, empty for int8 alone. `agreement`: the images
    have no labels, and the float network's answers stand for them. `given`: the network came
    trained. `firmware`: the bundle holds the sample for a microcontroller.
    `pretrained`: a sentence on features that the student learned before the classes, or "".
    """

    edgekd: str
    profile: str
    data_name: str
    data_source: str
    synthetic: bool
    classes: list[str]
    images: int
    networks: list[StageRow]
    confidence: Confidence
    subgroups: Subgroups | None
    medical: Medical | None = None
    depth: Depth | UnsetType = UNSET
    formats: Sequence[FormatRow] = ()
    agreement: bool = False
    app_inputs: AppInputs | None = None
    given: bool = False
    firmware: bool = False
    pretrained: str = ""


def limits(card: CardConfig, data_name: str, source: str) -> str:
    """The limits that the card, the models' metadata and the samples carry.

    For medical data they say that the model is not for diagnosis, unless the author's own limits
    do.
    """
    said = [card.limits or GENERAL_LIMITS]
    if MEDICAL.search(f"{data_name} {source}") and "diagnos" not in said[0].lower():
        said.insert(0, NOT_FOR_DIAGNOSIS)
    return " ".join(said)


# Where the profile of the build is a microcontroller's.
FIRMWARE = (
    "\nFor a microcontroller, start with `samples/micro/README.md`: the certified int8 model as a "
    "C array, with a self-test, for the Pico SDK, ESP-IDF, Arduino and CMake."
)


def card(
    settings: CardConfig,
    contract: Deployment,
    facts: CardFacts,
    licences: LicenceChain,
) -> str:
    """The text of the bundle's README.md. A bundle is only made when its certificate passed."""
    several = isinstance(facts.confidence, LabelConfidence)
    parts = [
        ["---", *_front(licences, contract.name, facts), "---"],
        [f"# {plain(contract.name)}"],
        [_summary(facts, "labels that may occur together" if several else "classes")],
        ["## Intended use", "", plain(settings.intended_use) or "Not stated by its author."],
        ["## Limits", "", plain(contract.limits)],
        ["## Use", "", *_use(contract.input), *([FIRMWARE] if facts.firmware else [])],
        [
            "## Agreement with the float network" if facts.agreement else "## Accuracy",
            "",
            *_accuracy(facts, several),
        ],
        format_card.lines(facts.formats),
        app_inputs_card.lines(facts.app_inputs) if facts.app_inputs else [],
        ["## Confidence", "", *_confidence(facts.confidence, facts.classes)],
        medical_card.lines(facts.medical) if facts.medical else [],
        ["## Groups", "", *_groups(facts.subgroups)] if facts.subgroups else [],
        ["## Training data and licences", "", *_licences(licences)],
        ["## Proof", "", PROOF],
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def _summary(facts: CardFacts, kind: str) -> str:
    named = ", ".join(plain(label) for label in facts.classes[:MOST_CLASSES])
    return (
        f"An int8 image classifier for {len(facts.classes)} {kind} ({named}), "
        f"{'' if facts.given else 'distilled, '}quantized and certified by EdgeKD {facts.edgekd} "
        f"for `{facts.profile}`." + (f" {plain(facts.pretrained)}" if facts.pretrained else "")
    )


def _front(licences: LicenceChain, name: str, facts: CardFacts) -> list[str]:
    """The YAML block. Values are written as JSON, which is YAML."""
    final = facts.networks[-1]
    metrics = [
        {
            "type": "agreement with the float network" if facts.agreement else "accuracy",
            "value": round(final.top1, 6),
        }
    ]
    if final.auc is not None:
        metrics.append({"type": "roc_auc", "value": round(final.auc, 6)})
    dataset = {
        "name": facts.data_name,
        "type": facts.data_name,
        "split": f"test ({facts.images} images)",
    }
    task = {"type": "image-classification"}
    results = [{"task": task, "dataset": dataset, "metrics": metrics}]
    known = licences.result == "Apache-2.0"
    front: dict[str, Json] = {
        "license": "apache-2.0" if known else "other",
        "library_name": "litert",
        "pipeline_tag": "image-classification",
        "tags": ["edgekd", "tflite", "int8", *([] if facts.given else ["distillation"])],
        "datasets": [re.sub(r"[^A-Za-z0-9._-]+", "-", facts.data_name)],
        "model-index": [{"name": name, "results": results}],
    }
    if not known:
        front |= {"license_name": "see-licences-json", "license_link": "licences.json"}
    return [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in front.items()]


def _use(source: ImageInput) -> list[str]:
    """Where to start on each platform."""
    depth = present(source.depth)
    deep = (
        f" The training images had more than 8 bits ({depth}). Bring an app's images to 0..255 in "
        "the same way (DICOM: by the same window); a picture that a viewer has brightened is "
        "another input."
    )
    if (sides := present(source.frame)) is not None:
        return [_frame(source, sides[0], sides[1]) + (deep if depth is not None else "")]
    return [
        "| for | start with |",
        "|---|---|",
        (
            "| Raspberry Pi, any Linux | `python3 samples/pi/classify.py IMAGE` "
            "(numpy, Pillow, ai-edge-litert; Python 3.9+); a camera, services and a package: "
            "`samples/pi/README.md` |"
        ),
        "| a web page | `samples/web/README.md`: one offline page, made with npm's LiteRT.js |",
        "| Android | `samples/android/README.md`: a Gradle project in Kotlin |",
        "| C and C++ | `samples/cpp/classify.cc` |",
        (
            "| MediaPipe Tasks | `ImageClassifier` on `model.tflite`, which holds labels and "
            "normalisation; resize the images yourself |"
        ),
        "| your own code | `deployment.json`, and `golden/golden.json` to test it with |",
        "",
        (
            f"All of them need an image of {source.px} x {source.px} pixels, fitted by "
            f"`{source.fit}` with {source.resample}. `model.tflite` takes its {source.order} "
            "pixels as they are (uint8), `model_float_io.tflite` takes them normalised; it is int8 "
            "inside, and `model_float32.tflite` is a copy under its old name, which version 0.3 "
            "leaves out. Another way of resizing gives other answers, so the samples run the "
            "golden images first and refuse to work when an answer differs. `golden/pattern.png` "
            "helps to find such mistakes." + (deep if depth is not None else "")
        ),
    ]


def _frame(source: ImageInput, height: int, width: int) -> str:
    """How to use a model that takes frames of a camera."""
    return (
        f"`model.tflite` takes a frame of {width} x {height} {source.order} pixels as they are "
        f"(uint8), such as a camera gives. It looks at the centred square of {source.px} x "
        f"{source.px} and reduces that itself. An image of another size is fitted to the square by "
        f"`{source.fit}` with {source.resample}, and laid into the middle of the frame. "
        "`deployment.json` says all of this; `golden/golden.json` has frames with the answers that "
        "every correct copy gives."
    )


def _accuracy(facts: CardFacts, several: bool) -> list[str]:
    """A row for each network, the teacher first and the .tflite last."""
    metric, area = ("labels right", "mean AUC") if several else ("top-1", "AUC")
    metric = "agreement" if facts.agreement else metric
    synthetic = " (SYNTHETIC images)" if facts.synthetic else ""
    lines = [
        f"On {facts.images} test images of {plain(facts.data_name)}{synthetic}"
        + (f". {NO_LABELS}" if facts.agreement else ":"),
        "",
        f"| network | {metric} | 95 % | {area} |",
        "|---|---|---|---|",
    ]
    for row in facts.networks:
        low, high = row.top1_ci95
        auc = "–" if row.auc is None else f"{row.auc:.4f}"
        lines.append(f"| {row.stage} | {row.top1:.1%} | {low:.1%}–{high:.1%} | {auc} |")
    return lines


def _confidence(confidence: Confidence, classes: Sequence[str]) -> list[str]:
    if isinstance(confidence, LabelConfidence):
        return _of_labels(confidence)
    return _of_classes(confidence, classes)


def _of_classes(confidence: ClassConfidence, classes: Sequence[str]) -> list[str]:
    """What temperature and prediction sets are worth on the test images."""
    held = confidence.test
    told = (
        f"A temperature of {confidence.temperature:.3f} and a threshold for each class, fitted on "
        f"the int8 answers to {confidence.fitted_on.n} validation images. On test images: expected "
        f"calibration error {held.ece.before:.3f} before, {held.ece.after:.3f} after (corrected "
        f"for chance: {held.ece.debiased_before:.3f} and {held.ece.debiased_after:.3f}). The label "
        f"is in the prediction set for {held.coverage:.1%} (promised {confidence.coverage:.0%}, "
        "for each class). "
        f'The model says "unsure" on {held.unsure:.1%}'
    )
    if held.accuracy_when_sure is not None:
        told += f" and is right on {held.accuracy_when_sure:.1%} of the others"
    warning = present(confidence.warning)
    rows = list(zip(classes, held.coverage_by_class, strict=True))[:MOST_CLASSES]
    return [
        f"{told}.",
        *([f"**{warning}**"] if warning else []),
        "",
        "| class | images | label in its set |",
        "|---|---|---|",
        *(f"| {plain(label)} | {row.n} | {_share(row.coverage)} |" for label, row in rows),
    ]


def _of_labels(confidence: LabelConfidence) -> list[str]:
    """Each of several labels: its threshold, and what it is worth on the test images."""
    told = (
        "An image may have none, one or several labels. Each label has a sigmoid and a threshold "
        f"of its own, fitted on the int8 answers to {confidence.fitted_on.n} validation images. On "
        f"{confidence.test.n} test images:"
    )
    rows = list(zip(confidence.per_label, confidence.test.per_label, strict=True))[:MOST_CLASSES]
    return [
        told,
        "",
        "| label | threshold | images with it | found (sensitivity) | left out (specificity) |",
        "|---|---|---|---|---|",
        *(
            f"| {plain(fitted.label)} | {fitted.threshold:.3f} | {row.positives} | "
            f"{_share(row.sensitivity)} | {_share(row.specificity)} |"
            for fitted, row in rows
        ),
    ]


def _groups(body: Subgroups) -> list[str]:
    """Each group of the column of `subgroups.column`, in the float student and in the .tflite."""
    return [
        f"By `{plain(body.column)}`, {body.metric} on test images:",
        "",
        "| group | images | student | int8 | change | 95 % |",
        "|---|---|---|---|---|---|",
        *(_group(row) for row in body.groups),
    ]


def _group(row: Group) -> str:
    student, final = row.networks["student"], row.networks["tflite"]
    change = "–" if row.change.value is None else f"{row.change.value:+.3f}"
    interval = "–"
    if row.change.ci95 is not None:
        low, high = row.change.ci95
        interval = f"{low:+.3f} to {high:+.3f}"
    return (
        f"| {plain(row.group)} | {row.n} | {_figure(student)} | {_figure(final)} | {change} | "
        f"{interval} |"
    )


def _licences(licences: LicenceChain) -> list[str]:
    """The parts of the model with their terms, and what follows for the bundle."""
    named = [
        f"Bundle: **{plain(licences.result)}**.",
        *(f"Tainted by {plain(row)}." for row in licences.tainted_by),
        *(f"Not known: {plain(row)}." for row in licences.unknown),
        *(
            f"What {plain(row.name)} taught may be used for: {row.outputs} ({plain(told)})."
            for row in licences.links
            if (told := present(row.terms))
        ),
    ]
    return [
        "| part | name | licence | source |",
        "|---|---|---|---|",
        *(
            f"| {row.role} | {plain(row.name)} | {plain(row.licence)} | {plain(row.source)} |"
            for row in licences.links
            if row.part == "model"
        ),
        "",
        " ".join(named),
    ]


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
