"""Artifacts: what one stage of a build makes and the next one reads.

Every artifact is a frozen dataclass. A field with the type `Blob` holds bytes, or a read-only
memory map when it comes from the store. A field with the type `Shards` lies in files that other
artifacts share. Every other field is plain JSON. `packing` converts an artifact to and from the
form that the store writes.

    key     Hash of all that decides an artifact: the stage, its version and settings, the digests
            of its parents, the seed, the code. With an equal key the stage is skipped.
    digest  Hash of the artifact's own bytes. Training is not bit-reproducible, so the same key can
            give another digest.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Literal

from edgekd.core import pages
from edgekd.core.artifact_rows import (
    AnswerColumn,
    EdgeRange,
    ExportedRange,
    ExportedWeight,
    FormatRow,
    FurtherRow,
    ImageRow,
    LayerRow,
    LiteFacts,
    TensorOrigin,
)

Blob = bytes | memoryview
# How many labels an image has: one class, or any number of independent labels.
Labels = Literal["one", "many"]
# A JSON value: None, bool, int, float, str, list[Json] or dict[str, Json]. With the exact recursive
# type, mypy would demand a check before every use of a part.
Json = Any


def canonical_json(value: Json) -> bytes:
    """The unique JSON text of a value, for hashing: sorted keys, no blanks, UTF-8.

    Raises ValueError for NaN and infinity, and TypeError for a value that is not JSON.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def sha256(data: Blob) -> str:
    """Hex sha256 of some bytes."""
    digest = hashlib.sha256()
    for part in pages.parts(data):
        digest.update(part)
    return digest.hexdigest()


def stage_key(
    stage: str, version: int, config: Json, parents: Mapping[str, str], seed: int, code: str = ""
) -> str:
    """Hex sha256 of everything that decides an artifact. `code`: digest of what the stage runs.

    `parents` maps the name of each parent stage to its *digest*, not to its key. If a teacher is
    trained again and comes out different, all later stages run again.
    """
    recipe = {
        "stage": stage,
        "version": version,
        "config": config,
        "parents": dict(parents),
        "seed": seed,
        "code": code,
    }
    return sha256(canonical_json(recipe))


@dataclasses.dataclass(frozen=True)
class Shards:
    """A part of an artifact that lies in folders of shards, which grow and which builds share.

    `digests`: the hex sha256 of each shard, by FOLDER/SHARD. `open(name)` gives the bytes of a
    shard; from the store they are a read-only memory map.
    """

    digests: dict[str, str]
    open: Callable[[str], Blob] = dataclasses.field(compare=False)


def artifact_type(kind: str) -> type:
    """The artifact class with this name. Raises ValueError when there is none."""
    found = globals().get(kind)
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise ValueError(f"no artifact is called {kind}")
    return found


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Decoded images at one base size, with labels and splits.

    `pixels`: [n, channels, px, px] (NCHW, C order; 1 channel when every image is grey, else RGB).
    They are uint8, or little-endian uint16 where `bits` is 16. `images`: one row for each image, in
    the order of `pixels`.
    """

    name: str
    classes: list[str]
    px: int
    channels: int
    images: list[ImageRow]
    facts: dict[str, Json]  # the JSON of data.dataset_builder.DatasetFacts
    pixels: Blob

    @property
    def labels(self) -> Labels:
        """How many labels an image has."""
        return "many" if self.facts.get("labels") == "many" else "one"

    @property
    def bits(self) -> int:
        """Bits of a pixel: 8, or 16 where an image has more than 8. White is 255 or 65535."""
        return int(self.facts.get("depth", {}).get("stored", 8))


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Images as the device gets them: decoded by the deployed preprocessing, at the input size.

    Each blob is uint8 [n, px, px, channels] (NHWC). `rows` maps each part ("val", "test",
    "calibration", "golden") to indices into `Dataset.images`. Calibration images come from the
    training split, golden images from the test split. `frame`: [height, width] of the images where
    the file takes larger frames than the network's px, else [].
    """

    px: int
    channels: int
    rows: dict[str, list[int]]
    val: Blob
    test: Blob
    calibration: Blob
    golden: Blob
    frame: list[int] = dataclasses.field(default_factory=list)


# `Network.arch` of networks of the user's: a recorded graph, and an ONNX model as it is.
RECORDED, ONNX = "recorded", "onnx"


@dataclasses.dataclass(frozen=True)
class Network:
    """A trained float network without pickle: `arch` and `options` rebuild it, `state` fills it.

    `arch` is timm's name of the network, or RECORDED or ONNX for one that no builder makes.

    `options`: arguments of the builder: num_classes, in_chans, the widths after pruning, ...
    `mean`, `std`: per channel, for inputs scaled to 0..1. `history`: one row per epoch {"epoch",
    "loss", ...}. `facts`: parameters, MACs, origin of the weights, licence. `state`: safetensors.
    """

    arch: str
    options: dict[str, Json]
    px: int
    mean: list[float]
    std: list[float]
    history: list[dict[str, Json]]
    facts: dict[str, Json]
    state: Blob


@dataclasses.dataclass(frozen=True)
class Knowledge:
    """The teachers' answers about `views` views of each training image.

    `rows`: indices of these images in `Dataset.images`. `columns`: the answers come in columns,
    each from files of its own; see `training.cached_answers`, which reads them. `places`: where the
    answers of a column about a view of an image lie, uint32 [columns, views, n, 2]: the number of
    the file in `AnswerColumn.shards`, and the row in it. For logged answers `views` is 1, and the
    answers are used for every view.
    """

    views: int
    rows: list[int]
    classes: int
    facts: dict[str, Json]  # where the answers come from, and warnings about them
    columns: list[AnswerColumn]
    places: Blob
    shards: Shards


@dataclasses.dataclass(frozen=True)
class QuantNetwork:
    """A network after quantization-aware training, with fixed ranges.

    `rules`: what the device profile requires (`int8_rules.Int8Rules` as JSON). `state`: safetensors
    with, for each layer, NAME.weight (float32 as trained, batch norm folded), NAME.bias (float32)
    and NAME.scale (float32 [out] or [1]). The int8 weights are round(weight / scale). `frame`:
    [height, width] of what the network takes where it reduces that to px x px itself, else [].
    """

    arch: str
    options: dict[str, Json]
    px: int
    mean: list[float]
    std: list[float]
    history: list[dict[str, Json]]
    rules: dict[str, Json]
    ranges: list[EdgeRange]
    layers: list[LayerRow]
    facts: dict[str, Json]
    state: Blob
    frame: list[int] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Exported:
    """The trained int8 network as ONNX, with its learned ranges.

    `onnx`: the float graph that is converted, whose weights lie on the int8 grid (batch 1, NCHW;
    its "input" is scale * (pixel - 128 - zero_point)). `qdq`: the same network with Q/DQ pairs for
    ONNX Runtime; its "input" is uint8 pixels, NCHW. `ranges`: by the name of the tensor in `onnx`.
    `weights`: by the name of the tensor that the layer writes. `io_dtype`: "int8" or "uint8", the
    type of the .tflite's input and output.
    """

    px: int
    ranges: dict[str, ExportedRange]
    weights: dict[str, ExportedWeight]
    io_dtype: str
    onnx: Blob
    qdq: Blob


@dataclasses.dataclass(frozen=True)
class LiteModel:
    """The int8 .tflite. `correspondence`: the edge that each of its tensors belongs to."""

    facts: LiteFacts
    correspondence: list[TensorOrigin]
    tflite: Blob


@dataclasses.dataclass(frozen=True)
class Formats:
    """The network in other number formats than int8; b"" for a file that is not there.
    `logits`: their answers, float32 [images of all rows, classes], C order, in the rows' order.
    """

    rows: list[FormatRow]
    logits: Blob
    float16: Blob
    float32: Blob
    dynamic: Blob
    int16x8: Blob
    mixed: Blob


@dataclasses.dataclass(frozen=True)
class Certificate:
    """The JSON of certificate.json (schema edgekd.certificate/1)."""

    body: dict[str, Json]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The answers of every stage's network to the same test images.

    `logits`: float32 [len(stages), n, classes], C order. `stages`: in the order of the waterfall:
    "teacher" (if there is one), "student", "pruned" (if there is one), "qat", "onnx", "tflite".
    `codes`: the output codes of the .tflite, int8 [n, classes]. `labels`: the class of each image,
    or for several labels per image a list of 0 and 1, one for each label.

    `further`: the outputs beside the answers, of a network with several. `further_codes`,
    `further_trained`: their int8 codes for golden images, output by output, in the file's layout:
    of the .tflite, and of the trained int8 network.
    """

    stages: list[str]
    classes: int
    labels: list[int] | list[list[int]]
    logits: Blob
    codes: Blob
    further: list[FurtherRow] = dataclasses.field(default_factory=list)
    further_codes: Blob = b""
    further_trained: Blob = b""


@dataclasses.dataclass(frozen=True)
class AppInputs:
    """The JSON of the block "app_inputs" in report.json."""

    body: dict[str, Json]


@dataclasses.dataclass(frozen=True)
class Measurement:
    """The JSON of one benchmark (schema edgekd.bench/1)."""

    body: dict[str, Json]


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """The JSON of one sensitivity analysis (schema edgekd.why/1): "why" in report.json."""

    body: dict[str, Json]


@dataclasses.dataclass(frozen=True)
class Saliency:
    """Which parts of an image decide a network's answer.

    `rows`: indices into the test split. `maps`: float32 [len(stages), len(rows), side, side], C
    order, changes of the log-odds in nats.
    """

    stages: list[str]
    rows: list[int]
    side: int
    maps: Blob


@dataclasses.dataclass(frozen=True)
class Confidence:
    """Temperature and conformal thresholds of the .tflite (schema edgekd.confidence/1).

    `codes`: its output codes for the validation images, int8 [n, classes].
    """

    body: dict[str, Json]
    codes: Blob
