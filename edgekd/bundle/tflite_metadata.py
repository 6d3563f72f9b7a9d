"""What the bundle's .tflite files say about themselves: TFLite Metadata, which MediaPipe and
Android's tools read.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgekd.bundle import further_ports
from edgekd.bundle.deployment_record import Deployment
from edgekd.core.records import present
from edgekd.evaluation.confidence_record import Confidence, LabelConfidence, OutputKind
from edgekd.settings.recipe import CardConfig
from edgekd.tflite import model_metadata
from edgekd.tflite.metadata_codec import Table

LABELS, CALIBRATION, DEPLOYMENT = "labels.txt", "score_calibration.csv", "deployment.json"
# Numbers of the schema's enum ScoreTransformationType: IDENTITY, and LOG of a softmax's
# probability.
TRANSFORMATIONS = {OutputKind.LOGITS: 0, OutputKind.LABELS: 0, OutputKind.PROBABILITIES: 1}
SHOWN_THRESHOLDS = 5  # in the description, which people read; deployment.json holds all of them


def metadata(contract: Deployment, classes: Sequence[str], card: CardConfig, licence: str) -> Table:
    """The ModelMetadata of both models, as `model_metadata.attach` takes it.

    Normalisation is in units of pixels (0..255), as the readers of the format apply it.
    """
    unsure = _when_unsure(contract)
    return {
        "name": contract.name,
        "version": card.version,
        "author": card.author or "not stated",
        "license": licence,
        "description": " ".join(filter(None, [card.intended_use, contract.limits, unsure])),
        "associated_files": [
            {
                "name": DEPLOYMENT,
                "type": model_metadata.DESCRIPTIONS,
                "description": "preprocessing, output and reject rule (edgekd.deployment/1)",
            }
        ],
        "subgraph_metadata": [
            {
                "name": "main",
                "input_tensor_metadata": [_input(contract)],
                "output_tensor_metadata": [
                    _output(contract, classes, unsure),
                    *further_ports.metadata(contract),
                ],
            }
        ],
    }


def _when_unsure(contract: Deployment) -> str:
    """The rule of deployment.json in a sentence, with its first thresholds."""
    rule = contract.confidence
    thresholds = ", ".join(f"{value:.6g}" for value in rule.thresholds[:SHOWN_THRESHOLDS])
    if contract.output.kind is OutputKind.LABELS:
        return (
            "An image may have none, one or several labels. A label is given where its calibrated "
            f"probability is >= its threshold ({thresholds}); {DEPLOYMENT} in this file holds the "
            "figures."
        )
    return (
        f"Unsure unless exactly one label has softmax(score / {present(rule.temperature):.6g}) >= "
        f"its threshold ({thresholds}; {present(rule.coverage):.0%} coverage on images like the "
        f"validation set); {DEPLOYMENT} in this file holds the figures."
    )


def _input(contract: Deployment) -> Table:
    """The TensorMetadata of the image."""
    source = contract.input
    colour = model_metadata.RGB if source.channels == 3 else model_metadata.GRAYSCALE
    height, width = present(source.frame) or (source.px, source.px)
    size = {"width": width, "height": height}
    normalisation = {"mean": [255.0 * source.mean[0]], "std": [255.0 * source.std[0]]}
    return {
        "name": "image",
        "description": f"{source.order} image, fitted to {source.px} x {source.px} by "
        f"{source.fit}, {source.resample}",
        "content": {
            "content_properties": {"ImageProperties": {"color_space": colour, "default_size": size}}
        },
        "process_units": [{"options": {"NormalizationOptions": normalisation}}],
        "stats": {"max": [255.0], "min": [0.0]},
    }


def _output(contract: Deployment, classes: Sequence[str], unsure: str) -> Table:
    """The TensorMetadata of the scores."""
    target = contract.output
    several = target.kind is OutputKind.LABELS
    low, high = ((end - target.zero_point) * target.scale for end in (0, 255))
    scores = OutputKind.LOGITS if several else target.kind
    calibration = {
        "score_transformation": TRANSFORMATIONS[target.kind],
        "default_score": 0.0,
    }
    return {
        "name": "scores",
        "description": f"{scores} of {len(classes)} {'labels' if several else 'classes'}. {unsure}",
        "content": {"content_properties": {"FeatureProperties": {}}},
        "process_units": [{"options": {"ScoreCalibrationOptions": calibration}}],
        "stats": {"max": [high], "min": [low]},
        "associated_files": [
            {
                "name": LABELS,
                "type": model_metadata.AXIS_LABELS,
                "description": "one label a line",
            },
            {
                "name": CALIBRATION,
                "type": model_metadata.AXIS_SCORE_CALIBRATION,
                "description": "scale, slope, offset: a sigmoid for "
                f"{'each label' if several else 'all classes'}, fitted on int8 answers",
            },
        ],
    }


def score_calibration(confidence: Confidence, classes: Sequence[str]) -> bytes:
    """TFLite's score calibration file: scale, slope and offset of each label.

    There is no newline at the end, because MediaPipe counts lines.
    """
    if isinstance(confidence, LabelConfidence):
        rows = [(row.slope, row.offset) for row in confidence.per_label]
    else:
        rows = [(confidence.sigmoid.slope, confidence.sigmoid.offset)] * len(classes)
    return "\n".join(f"1.0,{slope:.9g},{offset:.9g}" for slope, offset in rows).encode()
