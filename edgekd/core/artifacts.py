"""What flows down the line: frozen types, canonical JSON, and the two hashes. Standard library only.

Every artifact is a frozen dataclass. A field annotated `Blob` is payload (bytes when made; a read-only memory map when
it comes back from the store); every other field must be plain JSON. `pack` and `unpack` are the whole wire format.

    key     what would make an artifact: stage, its version, canonical config, parents' digests, seed, code digest.
            Equal key means the work can be skipped.
    digest  sha256 of what was made. Identity. Training is not bit-stable, so one hash for both would lie.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal, TypedDict

Blob = bytes | memoryview
Labels = Literal[
    "one", "many"
]  # how many labels an image has: one of the classes, or each label by itself
Json = Any  # None | bool | int | float | str | list[Json] | dict[str, Json]; mypy has no good recursive spelling


def canonical_json(value: Json) -> bytes:
    """The one spelling of a JSON value that is hashed: sorted keys, no blanks, UTF-8, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def sha256(data: Blob) -> str:
    """Hex sha256 of a blob."""
    return hashlib.sha256(data).hexdigest()


def stage_key(
    stage: str, version: int, config: Json, parents: Mapping[str, str], seed: int, code: str = ""
) -> str:
    """Hex sha256 of everything that would make an artifact.

    `parents` maps a parent's stage name to its *digest* (not its key): a retrained teacher that came out different
    makes everything after it run again. `code` is the digest of the code that builds the network.
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
class Packed:
    """An artifact in wire form: its type's name, its JSON facts, its named blobs."""

    kind: str
    facts: Mapping[str, Json]
    blobs: Mapping[str, Blob]

    @property
    def digest(self) -> str:
        """Identity of the payload: sha256 over the type, the facts and each blob's own sha256."""
        blobs = {name: sha256(blob) for name, blob in self.blobs.items()}
        return sha256(
            canonical_json({"kind": self.kind, "facts": dict(self.facts), "blobs": blobs})
        )


def _is_blob(field: dataclasses.Field[Any]) -> bool:
    return field.type in ("Blob", Blob)


def pack(artifact: Any) -> Packed:
    """Split a frozen dataclass into JSON facts and blobs. Raises TypeError if a fact is not plain JSON."""
    facts: dict[str, Json] = {}
    blobs: dict[str, Blob] = {}
    for field in dataclasses.fields(artifact):
        value = getattr(artifact, field.name)
        if _is_blob(field):
            blobs[field.name] = value
        else:
            facts[field.name] = json.loads(canonical_json(value))
    return Packed(type(artifact).__name__, facts, blobs)


def unpack[A](cls: type[A], packed: Packed) -> A:
    """The inverse of `pack`. Raises ValueError when the wire form is of another type or lacks a field."""
    if packed.kind != cls.__name__:
        raise ValueError(f"expected an artifact of type {cls.__name__}, found {packed.kind}")
    values = {**packed.facts, **packed.blobs}
    names = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if values.keys() != names:
        raise ValueError(f"{cls.__name__}: fields {sorted(values.keys() ^ names)} do not match")
    return cls(**values)


def artifact_type(kind: str) -> type:
    """The artifact class of this module that is called `kind`. Raises ValueError when there is none."""
    found = globals().get(kind)
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise ValueError(f"no artifact is called {kind}")
    return found


class ImageRow(TypedDict):
    """What a Dataset knows of one image. Plain JSON, so that it is packed as it is.

    `sha256`: of the source file's bytes, or of the pixels where there is no file. `split`: "train",
    "val", "test", "unlabelled", or a client's split ("client NAME"). `group`: images of one group,
    for example of one patient, stay in one split.
    """

    name: str
    sha256: str
    split: str
    group: str | None
    # An index into the classes; a list of them (maybe empty) where an image may have several
    # labels; None for an image without a label. Json because `Dataset.labels` says which it is.
    label: Json


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Decoded images at one base size, with labels and splits.

    `pixels`: uint8 [n, channels, px, px] (NCHW, C order; 1 channel when every image is grey, else
    RGB). `images`: one row for each image, in the order of `pixels`.
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


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What the device will see: images decoded straight to the network's input size by the deployed preprocessing.

    Each blob is uint8 [n, px, px, channels] (NHWC). `rows` holds for each part ("val", "test", "calibration", "golden")
    the indices into `Dataset.images`. Calibration images come from train, golden images from test.
    """

    px: int
    channels: int
    rows: dict[str, list[int]]
    val: Blob
    test: Blob
    calibration: Blob
    golden: Blob


@dataclasses.dataclass(frozen=True)
class Network:
    """A network without pickle: the builder's name and options rebuild it, the safetensors fill it.

    `mean` and `std`: per channel, for inputs scaled to 0..1. `taps`: names of modules whose outputs adapters may use.
    `history`: one row an epoch {"epoch", "loss", ...}. `metrics`: {"val": {...}} as `metrics.evaluate` returns.
    """

    arch: str
    options: dict[str, Json]  # num_classes, in_chans, widths of a pruned net
    px: int
    mean: list[float]
    std: list[float]
    history: list[dict[str, Json]]
    facts: dict[str, Json]  # params, macs, where the weights came from, licence
    state: Blob  # safetensors


@dataclasses.dataclass(frozen=True)
class Knowledge:
    """What the teacher says about `views` seeded views of each training image (rows in the order of `rows`).

    Float16, C order: `logits` [views, n, classes], `pooled` [views, n, features], `grid` [views, n, channels, side,
    side], `cams` [views, n, classes, cam_side, cam_side] (class activation maps), `others` [views, n, teachers - 1,
    classes] (logits of further teachers); empty when nothing asks for it, or when the source cannot say. `views` is 1
    for logged answers, which then hold for every view.
    """

    views: int
    rows: list[int]
    classes: int
    features: int
    grid_shape: list[int]  # [channels, side, side] or []
    cam_side: int  # 0 without maps
    teachers: int
    facts: dict[str, Json]  # where the answers came from, and what was odd about them
    logits: Blob
    pooled: Blob
    grid: Blob
    cams: Blob
    others: Blob


@dataclasses.dataclass(frozen=True)
class QuantNetwork:
    """A network trained with int8 in the loop, after its ranges are frozen.

    `ranges`: learned activation ranges, one row an edge of the int8 graph {"edge", "op" (TFLite's, that writes it),
    "scale" (a float32 value), "zero_point" (int8)}. `layers`: one row a layer with weights {"name", "op" (TFLite's),
    "source", "target" (edges)}. `state`: safetensors; for each layer NAME.weight (float32 as trained, batch norm folded),
    NAME.bias (float32) and NAME.scale (float32 [out] or [1]): the int8 weight is round(weight / scale).
    """

    arch: str
    options: dict[str, Json]
    px: int
    mean: list[float]
    std: list[float]
    history: list[dict[str, Json]]
    rules: dict[
        str, Json
    ]  # what the profile asked for: io dtype, per-channel classifier, pooling, softmax
    ranges: list[dict[str, Json]]
    layers: list[dict[str, Json]]
    facts: dict[str, Json]
    state: Blob


@dataclasses.dataclass(frozen=True)
class Exported:
    """The trained int8 network as a float ONNX whose weights lie on the int8 grid, with the learned ranges beside it.

    `onnx`: the float graph that is converted (batch 1, NCHW; its "input" is scale * (pixel - 128 - zero_point)).
    `qdq`: the same network with Q/DQ pairs, for ONNX Runtime; its "input" is uint8 pixels, NCHW. `ranges`: {edge, which
    is also the tensor's name in `onnx`: {"op", "scale", "zero_point"}}; `weights`: {edge the layer writes: {"layer", "op",
    "source" (edge it reads), "scale": [...], "axis" of the ONNX weight}}. `io_dtype`: "int8" or "uint8", of the file's
    input and output.
    """

    px: int
    ranges: dict[str, dict[str, Json]]
    weights: dict[str, dict[str, Json]]
    io_dtype: str
    onnx: Blob
    qdq: Blob


@dataclasses.dataclass(frozen=True)
class LiteModel:
    """The int8 flatbuffer and what is known of its tensors."""

    facts: dict[str, Json]  # ops {OP: count}, full_integer, input, output, bytes
    correspondence: list[dict[str, Json]]  # which learned range each TFLite tensor was given
    tflite: Blob


@dataclasses.dataclass(frozen=True)
class Certificate:
    """The JSON of certificate.json (schema edgekd.certificate/1)."""

    body: dict[str, Json]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Answers of every stage's network to the same test images.

    `logits`: float32 [len(stages), n, classes], C order; `stages` in waterfall order: "teacher" (where there is one),
    "student", "pruned" (where there is one), "qat", "onnx", "tflite". `codes`: the .tflite's own output codes, int8
    [n, classes]. `labels`: as `data.labels` gives them, the class of each image, or 0 or 1 for each label.
    """

    stages: list[str]
    classes: int
    labels: list[int] | list[list[int]]
    logits: Blob
    codes: Blob


@dataclasses.dataclass(frozen=True)
class Measurement:
    """The JSON of one bench run (schema edgekd.bench/1)."""

    body: dict[str, Json]


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """The JSON of one sensitivity run (schema edgekd.why/1), as it stands in report.json under "why"."""

    body: dict[str, Json]


@dataclasses.dataclass(frozen=True)
class Saliency:
    """Where networks look. `rows`: places of the images in the test split; `maps`: float32 [len(stages), len(rows), side,
    side], log-odds in nats, C order.
    """

    stages: list[str]
    rows: list[int]
    side: int
    maps: Blob


@dataclasses.dataclass(frozen=True)
class Confidence:
    """Temperature and conformal thresholds of the .tflite (schema edgekd.confidence/1), and its codes on val: int8 [n, k]."""

    body: dict[str, Json]
    codes: Blob
