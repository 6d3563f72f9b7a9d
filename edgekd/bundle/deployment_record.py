"""Records of deployment.json and golden/golden.json, which every sample reads."""

from __future__ import annotations

from edgekd.core.number_formats import NumberFormat
from edgekd.core.records import UNSET, Record, UnsetType
from edgekd.data.depth_record import Depth
from edgekd.evaluation.confidence_record import OutputKind

SCHEMA = "edgekd.deployment/1"
FORMATS_SCHEMA = "edgekd.format_answers/1"
GOLDEN_SCHEMA = "edgekd.golden/1"


class ImageInput(Record, frozen=True):
    """How an image becomes the input tensor.

    Fit the image to `px` x `px` by `fit` with the filter `resample`, and put its channels into the
    order `order`. `scale` and `zero_point` are the uint8 tensor's. `mean` and `std`, one for each
    channel, normalise pixels that are scaled to 0..1; the float model takes these. `depth`: how the
    training images became 0..255, where they had more than 8 bits; an app does the same. `frame`:
    [height, width] of the tensor where it is no square of `px`. The fitted image then lies in its
    middle, and the model looks at nothing else: a camera's frame of this size goes in as it is.
    """

    px: int
    channels: int
    order: str
    fit: str
    resample: str
    dtype: str
    scale: float
    zero_point: int
    mean: list[float]
    std: list[float]
    depth: Depth | UnsetType = UNSET
    frame: list[int] | UnsetType = UNSET


class ModelOutput(Record, frozen=True):
    """The output tensor of the uint8 model: real = scale * (code - zero_point)."""

    dtype: str
    scale: float
    zero_point: int
    kind: OutputKind


class FurtherOutput(Record, frozen=True, kw_only=True):
    """An output tensor of the uint8 model beside its answers: real = scale * (code - zero_point).

    `index`: its place among the model's outputs; the answers are output 0. `tensor`: its name in
    the file. `name`: as the network has it. `axes`: those of the network's own output, in the order
    in which they lie in the file: [0, 2, 3, 1] for a map that the network gives as NCHW.
    """

    index: int
    name: str
    tensor: str
    dtype: str
    shape: list[int]
    axes: list[int]
    scale: float
    zero_point: int


class AnswerRule(Record, frozen=True, kw_only=True):
    """When a label belongs to the answer; `rule` says it in words. Each list has a number for each
    label.

    One class an image: `temperature`, `thresholds`, `coverage`. Several labels an image: `slopes`,
    `offsets`, `thresholds`.
    """

    temperature: float | UnsetType = UNSET
    slopes: list[float] | UnsetType = UNSET
    offsets: list[float] | UnsetType = UNSET
    thresholds: list[float]
    coverage: float | UnsetType = UNSET
    rule: str


class FormatTensor(Record, frozen=True):
    """A tensor of a file. `scale` and `zero_point`: of one of codes."""

    dtype: str
    scale: float | UnsetType = UNSET
    zero_point: int | UnsetType = UNSET


class FormatModel(Record, frozen=True):
    """A file in a number format other than int8, as the folder formats holds it.

    Its input is (pixel / 255 - mean) / std, one of each for a channel, with the channels in the
    last axis (`layout`). An int16 or int8 input takes round(that / scale) + zero_point, and such an
    output means scale * (code - zero_point). The output is of the same kind as the int8 model's.
    """

    format: NumberFormat
    file: str
    layout: str
    mean: list[float]
    std: list[float]
    input: FormatTensor
    output: FormatTensor


class FormatAnswers(Record, frozen=True, kw_only=True):
    """golden/formats.json: what each file answers to the first `images` golden images.

    `answers`: by file, the outputs for each image. `tolerance`: how far a correct copy may be off,
    as a share of the spread of an image's outputs.
    """

    schema: str = FORMATS_SCHEMA
    images: int
    tolerance: float
    answers: dict[str, list[list[float]]]


class Firmware(Record, frozen=True):
    """What a firmware with TensorFlow Lite Micro needs beside the model.

    `profile`: the device profile of the build. `kernels`: the library of kernels that the arena is
    planned for. `planned_arena_bytes`: the smallest arena, with 32-bit pointers. `arena_bytes`: the
    one of the sample, which leaves a margin.
    """

    profile: str
    kernels: str
    planned_arena_bytes: int
    arena_bytes: int


class Deployment(Record, frozen=True, kw_only=True):
    """deployment.json: what an app does before and after the model. `limits`: a sentence for the
    user. `formats`: absent where the bundle holds nothing but int8. `further_outputs`: absent where
    the model has one output. `firmware`: only where the build's profile is a microcontroller's.
    """

    schema: str = SCHEMA
    name: str
    model: str
    labels: str
    input: ImageInput
    output: ModelOutput
    confidence: AnswerRule
    limits: str
    formats: list[FormatModel] | UnsetType = UNSET
    further_outputs: list[FurtherOutput] | UnsetType = UNSET
    firmware: Firmware | UnsetType = UNSET


class Answer(Record, frozen=True):
    """What a sample says about an image: a label, the set of labels that reach their thresholds,
    and whether it is unsure.
    """

    answer: str
    set: list[str]
    unsure: bool


class GoldenImage(Record, frozen=True, kw_only=True):
    """An image of the golden folder with the answer that every correct copy gives.

    `label` is the true label; `labels` are the true ones where an image may have several. The test
    pattern has neither. `fitted` names the file of the pattern after fitting. The codes are the
    output's, counted as int8 and as uint8.
    """

    file: str
    fitted: str | UnsetType = UNSET
    label: str | UnsetType = UNSET
    labels: list[str] | UnsetType = UNSET
    codes_int8: list[int]
    codes_uint8: list[int]
    answer: str
    set: list[str]
    unsure: bool

    @property
    def expected(self) -> Answer:
        """The stored answer."""
        return Answer(self.answer, self.set, self.unsure)

    @property
    def known(self) -> list[str]:
        """The true labels; [] for the test pattern."""
        if not isinstance(self.labels, UnsetType):
            return self.labels
        return [] if isinstance(self.label, UnsetType) else [self.label]


class Golden(Record, frozen=True, kw_only=True):
    """golden/golden.json.

    The codes of a sample on a CPU may differ from the stored ones by `tolerance_lsb`. On a GPU or
    an NPU, which compute in floating point or round in other places, they may differ by
    `accelerator_tolerance`, a share of the spread of an image's stored codes, where that is more.
    """

    schema: str = GOLDEN_SCHEMA
    tolerance_lsb: int
    accelerator_tolerance: float | UnsetType = UNSET
    images: list[GoldenImage]
    pattern: GoldenImage
