"""What an app must do around the model, as one JSON that every sample reads, and the self-test that it must pass first.

deployment.json (schema edgekd.deployment/1): how an image becomes the input tensor, what the output means, when to say
"unsure". golden/golden.json (schema edgekd.golden/1): images with the answers that any correct copy gives. A sample runs the
golden images through its own decoding, fitting and normalisation at start and refuses to work when an answer differs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.core.artifacts import Json
from edgekd.core.errors import ModelFileError
from edgekd.core.records import from_json, to_json
from edgekd.data import images
from edgekd.data.sources import together
from edgekd.evaluation import conformal as confidence
from edgekd.evaluation import label_thresholds
from edgekd.evaluation.confidence_record import LabelFit
from edgekd.evaluation.metrics import probabilities
from edgekd.proof import companion_files
from edgekd.tflite import runtime
from edgekd.tflite.int8_rules import Range
from edgekd.tflite.ports import SHIFT

SCHEMA = "edgekd.deployment/1"
GOLDEN_SCHEMA = "edgekd.golden/1"
# XNNPACK gave the same bytes on x86, Arm and in WebAssembly, and one LSB between two releases of one runtime.
TOLERANCE_LSB = 1
PATTERN_SIDES = (
    61,
    47,
)  # height, width: prime and not square, so that fitting has something to get wrong
PATTERN_SEEDS = 64  # patterns tried until one tells RGB from BGR
FOLDER, INDEX, PATTERN, FITTED = (
    "golden",
    "golden/golden.json",
    "golden/pattern.png",
    "golden/pattern_fitted.png",
)

Pixels = npt.NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the build knows of the deployed network. `grid_in`, `grid_out`: its int8 input and output ranges."""

    name: str
    px: int
    channels: int
    fit: str
    classes: Sequence[str]
    grid_in: Range
    grid_out: Range
    confidence: Mapping[str, Any]  # body of the confidence stage
    limits: str


def normalisation(facts: Facts) -> tuple[float, float]:
    """(mean, std) of pixels scaled to 0..1, as the input tensor means them: the same for every channel.

    The tensor's real number is scale * (pixel - 128 - zero_point). What channels differ from it is folded into the first
    layer (`int8.input_fold`), so an app never needs the network's own mean and std.
    """
    return (SHIFT + facts.grid_in.zero_point) / 255.0, 1.0 / (255.0 * facts.grid_in.scale)


def deployment(facts: Facts) -> dict[str, Json]:
    """The body of deployment.json: int8's grids moved to the uint8 ports."""
    mean, std = normalisation(facts)
    fitted = facts.confidence
    return {
        "schema": SCHEMA,
        "name": facts.name,
        "model": "model.tflite",
        "labels": "labels.txt",
        "input": {
            "px": facts.px,
            "channels": facts.channels,
            "order": companion_files.CHANNEL_ORDERS[facts.channels],
            "fit": facts.fit,
            "resample": "Pillow's bilinear (antialiased): width first, then height",
            "dtype": "uint8",
            "scale": facts.grid_in.scale,
            "zero_point": facts.grid_in.zero_point + SHIFT,
            "mean": [mean] * facts.channels,
            "std": [std] * facts.channels,
        },
        "output": {
            "dtype": "uint8",
            "scale": facts.grid_out.scale,
            "zero_point": facts.grid_out.zero_point + SHIFT,
            "kind": fitted["kind"],
        },
        "confidence": rule(fitted),
        "limits": facts.limits,
    }


def rule(fitted: Mapping[str, Any]) -> dict[str, Json]:
    """The contract's "confidence": when a label is said, from the confidence stage's body."""
    if fitted["kind"] == "labels":
        return {
            **to_json(label_thresholds.rule(_label_fits(fitted))),
            "rule": "labels k with 1 / (1 + exp(-(slopes[k] * scores[k] + offsets[k]))) >= thresholds[k]; none to all",
        }
    return {
        "temperature": fitted["temperature"],
        "thresholds": fitted["thresholds"],
        "coverage": fitted["coverage"],
        "rule": "labels k with softmax(scores / temperature)[k] >= thresholds[k]; unless exactly one: unsure",
    }


def _label_fits(fitted: Mapping[str, Any]) -> list[LabelFit]:
    """The rows of a confidence stage's body for several labels."""
    return [from_json(LabelFit, row, "the confidence stage's body") for row in fitted["per_label"]]


def answer(
    body: Mapping[str, Any], labels: Sequence[str], codes: npt.NDArray[Any]
) -> dict[str, Json]:
    """What a sample says for one image's output codes, int8 [k]: the label, the set, whether it is sure.

    Where an image may have several labels, the set is what it has, the answer names them together, and nothing is unsure.
    """
    output, told = body["output"], body["confidence"]
    grid = Range(float(output["scale"]), int(output["zero_point"]) - SHIFT)
    if output["kind"] == "labels":
        known = from_json(label_thresholds.LabelRule, told, "deployment.json: confidence")
        said = label_thresholds.probabilities(codes[None], known, grid)[0] >= np.asarray(
            known.thresholds
        )
        named = [labels[k] for k in np.flatnonzero(said)]
        return {"answer": together(tuple(named)), "set": named, "unsure": False}
    logits = confidence.scores(codes[None], grid, output["kind"])
    p = probabilities(logits / told["temperature"])
    held = confidence.prediction_sets(p, told["thresholds"])
    return {
        "answer": labels[int(codes.argmax())],
        "set": [labels[k] for k in np.flatnonzero(held[0])],
        "unsure": not bool(confidence.sure(held)[0]),
    }


def pattern(channels: int, seed: int) -> Pixels:
    """A coloured test picture, uint8 [61, 47, channels]: waves and blocks that a wrong resize or channel order changes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : PATTERN_SIDES[0], 0 : PATTERN_SIDES[1]].astype(np.float64)
    waves = [
        127.5
        + 110 * np.sin(x * rng.uniform(0.05, 0.5) + y * rng.uniform(0.05, 0.5) + rng.uniform(0, 6))
        for _ in range(channels)
    ]
    picture = np.clip(np.rint(np.stack(waves, -1)), 0, 255).astype(np.uint8)
    top, left = rng.integers(5, 25, 2)
    picture[top : top + 20, left : left + 15] = rng.integers(0, 256, channels)
    return picture


def golden_files(
    body: Mapping[str, Any],
    labels: Sequence[str],
    model: bytes,
    pictures: Pixels,
    truth: npt.NDArray[np.int64],
) -> dict[str, bytes | dict[str, Json]]:
    """The golden folder: {name: PNG bytes}, and golden/golden.json's body under its name.

    `model`: the deployed .tflite; `pictures`: uint8 [n, px, px, channels]; `truth`: their labels' indices [n], or 0 and 1
    for each label [n, k].
    """
    runner = runtime.LiteRunner(model)
    files: dict[str, bytes | dict[str, Json]] = {}
    rows: list[dict[str, Json]] = []
    for number, (picture, label, codes) in enumerate(
        zip(pictures, truth, runner.codes(pictures), strict=True)
    ):
        name = f"{FOLDER}/{number:03d}.png"
        files[name] = images.encode_png(picture)
        known = (
            {"label": labels[label]}
            if truth.ndim == 1
            else {"labels": [labels[k] for k in np.flatnonzero(label)]}
        )
        rows.append({"file": name, **known, **_expected(body, labels, _int8(codes))})
    channels, px, fit = (body["input"][key] for key in ("channels", "px", "fit"))
    for seed in range(PATTERN_SEEDS):
        picture = pattern(channels, seed)
        fitted = images.fit(picture, px, fit)
        codes, turned = (_int8(runner.codes(part[None])[0]) for part in (fitted, fitted[..., ::-1]))
        if (
            channels == 1
            or np.abs(codes.astype(int) - turned.astype(int)).max() > 2 * TOLERANCE_LSB
        ):
            break
    files[PATTERN], files[FITTED] = images.encode_png(picture), images.encode_png(fitted)
    told = {"file": PATTERN, "fitted": FITTED, **_expected(body, labels, codes)}
    files[INDEX] = {
        "schema": GOLDEN_SCHEMA,
        "tolerance_lsb": TOLERANCE_LSB,
        "images": rows,
        "pattern": told,
    }
    return files


def _int8(codes: npt.NDArray[Any]) -> npt.NDArray[np.int8]:
    """Codes as int8's, whether `lite` already counts uint8 ports that way or not."""
    return (
        (codes.astype(np.int16) - SHIFT).astype(np.int8)
        if codes.dtype == np.uint8
        else codes.astype(np.int8)
    )


def _expected(
    body: Mapping[str, Any], labels: Sequence[str], codes: npt.NDArray[np.int8]
) -> dict[str, Json]:
    return {
        "codes_int8": codes.astype(int).tolist(),
        "codes_uint8": (codes.astype(int) + SHIFT).tolist(),
        **answer(body, labels, codes),
    }


def self_test(
    body: Mapping[str, Any],
    golden: Mapping[str, Any],
    labels: Sequence[str],
    model: bytes,
    files: Mapping[str, bytes],
) -> list[str]:
    """What a sample does at its first start, done here: every way in which an answer differs, one sentence each.

    Raises ModelFileError when a golden image is missing or the JSON lacks something.
    """
    wrong: list[str] = []
    try:
        runner = runtime.LiteRunner(model)
        mean, std = (np.asarray(body["input"][key], np.float64) for key in ("mean", "std"))
        scale, zero, px, fit = (body["input"][key] for key in ("scale", "zero_point", "px", "fit"))
        for row in [*golden["images"], golden["pattern"]]:
            picture = images.as_rgb(images.decode(files[row["file"]], row["file"]))
            fitted = images.fit(picture, px, fit)
            ordered = fitted[..., ::-1] if body["input"]["order"] == "BGR" else fitted
            if body["input"]["channels"] == 1:
                ordered = ordered[..., :1]
            pixels = np.clip(np.rint((ordered / 255.0 - mean) / std / scale) + zero, 0, 255).astype(
                np.uint8
            )
            codes = _int8(runner.codes(pixels[None])[0])
            off = int(np.abs(codes.astype(int) - np.asarray(row["codes_int8"])).max())
            if off > golden["tolerance_lsb"]:
                wrong.append(f"{row['file']}: {off} LSB from the stored answer")
            elif off == 0 and answer(body, labels, codes) != {
                key: row[key] for key in ("answer", "set", "unsure")
            }:
                wrong.append(
                    f"{row['file']}: says {answer(body, labels, codes)}, stored is {row['answer']!r}"
                )
            elif row.get("fitted") and not np.array_equal(
                fitted, images.as_rgb(images.decode(files[row["fitted"]], row["fitted"]))
            ):
                wrong.append(f"{row['file']}: fitting gives other pixels than {row['fitted']}")
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ModelFileError(
            f"the bundle's deployment.json or golden.json lacks something: {error!r}",
            "build the bundle again",
        ) from None
    return wrong
