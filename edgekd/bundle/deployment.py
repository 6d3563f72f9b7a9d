"""What an app does around the model, as one JSON that every sample reads (schema
edgekd.deployment/1).

It says how an image becomes the input tensor, what the output means, and when to say "unsure".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgekd.bundle.deployment_record import (
    Answer,
    AnswerRule,
    Deployment,
    ImageInput,
    ModelOutput,
)
from edgekd.core.errors import ModelFileError
from edgekd.core.records import UNSET, UnsetType, present
from edgekd.data import frames, images
from edgekd.data.depth_record import Depth
from edgekd.data.sources import together
from edgekd.evaluation import conformal, label_thresholds
from edgekd.evaluation.confidence_record import Confidence, LabelConfidence, OutputKind
from edgekd.evaluation.label_thresholds import LabelRule
from edgekd.evaluation.metrics import probabilities
from edgekd.proof import companion_files
from edgekd.tflite.int8_rules import Range
from edgekd.tflite.ports import SHIFT

RESAMPLE = "Pillow's bilinear (antialiased): width first, then height"
ONE_CLASS = (
    "labels k with softmax(scores / temperature)[k] >= thresholds[k]; unless exactly one: unsure"
)
SEVERAL_LABELS = (
    "labels k with 1 / (1 + exp(-(slopes[k] * scores[k] + offsets[k]))) >= thresholds[k]; "
    "none to all"
)


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the build knows of the deployed network.

    `px`, `channels`: of its input. `fit`: how images were brought to that size. `grid_in`,
    `grid_out`: its int8 input and output ranges. `confidence`: the confidence stage's record.
    `depth`: of images of more than 8 bits, UNSET where there are none. `frame`: as in `ImageInput`.
    """

    name: str
    px: int
    channels: int
    fit: str
    grid_in: Range
    grid_out: Range
    confidence: Confidence
    limits: str
    depth: Depth | UnsetType = UNSET
    frame: list[int] | UnsetType = UNSET


def normalisation(facts: Facts) -> tuple[float, float]:
    """(mean, std) of pixels scaled to 0..1, as the input tensor takes them: the same for every
    channel.

    The tensor's real number is scale * (pixel - 128 - zero_point). Where the network's own mean and
    std differ by channel, the difference is folded into the first layer (`int8_rules.input_fold`),
    so an app never needs them.
    """
    return (SHIFT + facts.grid_in.zero_point) / 255.0, 1.0 / (255.0 * facts.grid_in.scale)


def deployment(facts: Facts) -> Deployment:
    """The record of deployment.json. Ports are uint8: zero points are 128 above those of the int8
    network.
    """
    mean, std = normalisation(facts)
    return Deployment(
        name=facts.name,
        model="model.tflite",
        labels="labels.txt",
        input=ImageInput(
            px=facts.px,
            channels=facts.channels,
            order=companion_files.CHANNEL_ORDERS[facts.channels],
            fit=facts.fit,
            resample=RESAMPLE,
            dtype="uint8",
            scale=facts.grid_in.scale,
            zero_point=facts.grid_in.zero_point + SHIFT,
            mean=[mean] * facts.channels,
            std=[std] * facts.channels,
            depth=facts.depth,
            frame=facts.frame,
        ),
        output=ModelOutput(
            dtype="uint8",
            scale=facts.grid_out.scale,
            zero_point=facts.grid_out.zero_point + SHIFT,
            kind=facts.confidence.kind,
        ),
        confidence=answer_rule(facts.confidence),
        limits=facts.limits,
    )


def answer_rule(fitted: Confidence) -> AnswerRule:
    """When a label belongs to the answer, by the figures that the confidence stage fitted."""
    if isinstance(fitted, LabelConfidence):
        by_label = label_thresholds.rule(fitted.per_label)
        return AnswerRule(
            slopes=by_label.slopes,
            offsets=by_label.offsets,
            thresholds=by_label.thresholds,
            rule=SEVERAL_LABELS,
        )
    return AnswerRule(
        temperature=fitted.temperature,
        thresholds=fitted.thresholds,
        coverage=fitted.coverage,
        rule=ONE_CLASS,
    )


def answer(contract: Deployment, labels: Sequence[str], codes: npt.NDArray[np.integer]) -> Answer:
    """What a sample says about one image's output codes, int8 [k].

    Where an image may have several labels, the set holds the labels that it has, the answer names
    them together, and it is never unsure. Raises ModelFileError when the rule lacks a figure.
    """
    output, rule = contract.output, contract.confidence
    grid = Range(output.scale, output.zero_point - SHIFT)
    thresholds = np.asarray(rule.thresholds)
    if output.kind is OutputKind.LABELS:
        by_label = LabelRule(*_slopes_and_offsets(rule), rule.thresholds)
        said = label_thresholds.probabilities(codes[None], by_label, grid)[0] >= thresholds
        named = [labels[k] for k in np.flatnonzero(said)]
        return Answer(together(tuple(named)), named, False)
    if isinstance(rule.temperature, UnsetType):
        raise _incomplete("temperature")
    logits = conformal.scores(codes[None], grid, output.kind)
    held = conformal.prediction_sets(probabilities(logits / rule.temperature), thresholds)
    named = [labels[k] for k in np.flatnonzero(held[0])]
    return Answer(labels[int(codes.argmax())], named, not bool(conformal.sure(held)[0]))


def _slopes_and_offsets(rule: AnswerRule) -> tuple[list[float], list[float]]:
    if isinstance(rule.slopes, UnsetType) or isinstance(rule.offsets, UnsetType):
        raise _incomplete("slopes and offsets")
    return rule.slopes, rule.offsets


def _incomplete(fields: str) -> ModelFileError:
    return ModelFileError(
        f"the bundle's deployment.json has no confidence.{fields}", "build the bundle again"
    )


def fitted(picture: npt.NDArray[np.uint8], source: ImageInput) -> npt.NDArray[np.uint8]:
    """An image of any size, uint8 [h, w, c], as the model's input: fitted, and in its frame.

    An image of the input's size goes in as it is.
    """
    height, width = present(source.frame) or (source.px, source.px)
    if picture.shape[:2] == (height, width):
        return picture
    return frames.centred(images.fit(picture, source.px, source.fit), height, width)
