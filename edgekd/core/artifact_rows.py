"""The rows of tables inside artifacts: plain JSON objects, whose fields have types."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict


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
    # labels; None for an image without a label. Any because `Dataset.labels` says which it is.
    label: Any
    # Labels that are neither present nor absent, by their index as text: the probability that
    # training takes, or None where it takes none. Only where an image has such labels.
    uncertain: NotRequired[dict[str, float | None]]


class AnswerColumn(TypedDict):
    """One column of a Knowledge.

    `names`: what each field of its files is called there, {field: name}. Columns that give one name
    are stacked. `shards`: its files, by FOLDER/SHARD.
    """

    names: dict[str, str]
    shards: list[str]


class EdgeRange(TypedDict):
    """The learned range of one tensor of the int8 graph. real = scale * (code - zero_point).

    `edge`: the tensor's name. `op`: the TFLite operator that writes it, or "INPUT". `scale`: a
    float32 value. `zero_point`: an int8 value.
    """

    edge: str
    op: str
    scale: float
    zero_point: int


class LayerRow(TypedDict):
    """A layer with weights. `op`: its TFLite operator. It reads `source` and writes `target`."""

    name: str
    op: str
    source: str
    target: str


class ExportedRange(TypedDict):
    """As EdgeRange; the tensor's name is the key under which it stands."""

    op: str
    scale: float
    zero_point: int


class ExportedWeight(TypedDict):
    """The weight of a layer. `source`: the tensor that the layer reads.

    `scale`: one value, or one per channel along `axis` of the ONNX weight.
    """

    layer: str
    op: str
    source: str
    axis: int
    scale: list[float]


class TensorOrigin(TypedDict):
    """Which learned range a TFLite tensor was given.

    `kind`: "activation", "weight", "bias" or "constant". `order`: the axes of the ONNX tensor in
    the order in which they lie in the file, where that is not NHWC for four dimensions and the
    same order for others.
    """

    tensor: str
    edge: str
    kind: str
    order: NotRequired[list[int]]


class FormatRow(TypedDict):
    """A file in another number format. `format`: a `number_formats.NumberFormat`.

    `message`: why the file could not be made or run, "" where it could. `images`: indices into the
    test split of the images that it answered; none where it was not made.
    """

    format: str
    message: str
    images: list[int]


class PortFacts(TypedDict):
    """The input or the output of a .tflite. Scale and zero point are None for a float tensor."""

    name: str
    dtype: str
    shape: list[int]
    scale: float | None
    zero_point: int | None


class FurtherRow(TypedDict):
    """An output of the .tflite beside its answers. `shape`: of the file's tensor. `axes`: those of
    the float network's output, in the order in which they lie in the file.

    `cosine`, `sqnr_db`: of the file's values against the float network's on the first `images` test
    images: the mean cosine of an image, and signal to noise over all of them. `golden`: the number
    of golden images whose codes are kept.
    """

    name: str
    shape: list[int]
    axes: list[int]
    images: int
    cosine: float
    sqnr_db: float
    golden: int


class LiteFacts(TypedDict):
    """What a .tflite consists of. `ops`: how many of each operator; `bytes`: size of the file.
    `output`: its answers. `further`: its other outputs, where it has some.
    """

    ops: dict[str, int]
    full_integer: bool
    input: PortFacts
    output: PortFacts
    further: NotRequired[list[PortFacts]]
    bytes: int
