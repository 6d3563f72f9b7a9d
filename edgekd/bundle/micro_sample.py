"""The sample for microcontrollers: the model as a C array, and firmware around it.

Made where a build's profile is a microcontroller's. The runtime is TensorFlow Lite Micro, which
takes the certified int8 file as it is.
"""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgekd.assessment.mappers.tflite_micro import arena_of, library_of
from edgekd.bundle import samples
from edgekd.bundle.deployment_record import Deployment, Firmware, Golden, GoldenImage
from edgekd.core.errors import ModelFileError
from edgekd.core.records import present
from edgekd.settings.device_profiles import DeviceProfile
from edgekd.tflite.flatbuffer import read
from edgekd.tflite.operators import Operator, operator_table

FOLDER = "samples/micro/"
TEMPLATES = Path(__file__).with_name("templates") / "micro"
KIB = 1024
GOLDEN_IMAGES = 2  # enough to show a wrong preprocessing; each takes flash
ARENA_MARGIN = 0.05  # over the plan, for another version of the runtime or of its kernels
PER_LINE = 24  # numbers in a line of an array, so that lines stay below 100 characters

# Operator -> the function of MicroMutableOpResolver that adds its kernel.
ADDERS: dict[str, str] = {
    "ADD": "AddAdd",
    "AVERAGE_POOL_2D": "AddAveragePool2D",
    "BATCH_MATMUL": "AddBatchMatMul",
    "CONCATENATION": "AddConcatenation",
    "CONV_2D": "AddConv2D",
    "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D",
    "ELU": "AddElu",
    "FULLY_CONNECTED": "AddFullyConnected",
    "HARD_SWISH": "AddHardSwish",
    "L2_NORMALIZATION": "AddL2Normalization",
    "LEAKY_RELU": "AddLeakyRelu",
    "LOGISTIC": "AddLogistic",
    "MAX_POOL_2D": "AddMaxPool2D",
    "MEAN": "AddMean",
    "MUL": "AddMul",
    "PAD": "AddPad",
    "PADV2": "AddPadV2",
    "PRELU": "AddPrelu",
    "QUANTIZE": "AddQuantize",
    "RELU": "AddRelu",
    "RELU6": "AddRelu6",
    "RESHAPE": "AddReshape",
    "RESIZE_BILINEAR": "AddResizeBilinear",
    "RESIZE_NEAREST_NEIGHBOR": "AddResizeNearestNeighbor",
    "RSQRT": "AddRsqrt",
    "SLICE": "AddSlice",
    "SOFTMAX": "AddSoftmax",
    "STRIDED_SLICE": "AddStridedSlice",
    "SUB": "AddSub",
    "TRANSPOSE": "AddTranspose",
    "TRANSPOSE_CONV": "AddTransposeConv",
}
operator_table(
    f"{__name__}.ADDERS",
    ADDERS,
    absent={Operator.GELU: "TensorFlow Lite Micro has no kernel for it"},
)


@dataclasses.dataclass(frozen=True)
class MicroParts:
    """What the sample is made of.

    `model`: the certified int8 file, bare. `firmware`: that of `contract`. `images`: golden images,
    uint8 [n, height, width, channels], in the order of `golden.images`.
    """

    contract: Deployment
    firmware: Firmware
    labels: Sequence[str]
    model: bytes
    images: npt.NDArray[np.uint8]
    golden: Golden


def render(parts: MicroParts) -> dict[str, bytes]:
    """{samples/micro/...: bytes}. Equal input gives equal bytes.

    Raises ModelFileError for an operator that TensorFlow Lite Micro does not have.
    """
    words = {**samples.words(parts.contract, parts.labels), **_words(parts)}
    made = {
        FOLDER + path.relative_to(TEMPLATES).as_posix().removesuffix(samples.SUFFIX): samples.fill(
            path, words
        )
        for path in samples.templates(TEMPLATES)
    }
    code = {
        "contract.h": _contract(parts),
        "op_resolver.h": _resolver(parts.model),
        **_model_data(parts.model),
        **_golden_data(parts),
    }
    return made | {f"{FOLDER}src/{name}": text.encode() for name, text in code.items()}


def firmware(profile: DeviceProfile, model: bytes) -> Firmware:
    """The figures for a profile's microcontroller and a certified int8 file, bare.

    The arena is the planned one with a margin, in whole KiB.
    """
    planned = arena_of(read(model), profile).bytes
    arena = -(-round(planned * (1 + ARENA_MARGIN)) // KIB) * KIB
    return Firmware(profile.name, library_of(profile), planned, arena)


def _words(parts: MicroParts) -> dict[str, str]:
    source, found = parts.contract.input, parts.firmware
    golden = parts.images[:GOLDEN_IMAGES].nbytes
    return {
        "PROFILE": found.profile,
        "KERNELS": found.kernels,
        "MODEL_KIB": str(-(-len(parts.model) // KIB)),
        "GOLDEN_KIB": str(-(-golden // KIB)),
        "ARENA_KIB": str(found.arena_bytes // KIB),
        "MARGIN_KIB": str((found.arena_bytes - found.planned_arena_bytes) // KIB),
        "HEIGHT": str(_sides(parts.contract)[0]),
        "WIDTH": str(_sides(parts.contract)[1]),
        "ORDER": source.order,
        "FIT": source.fit,
        "RESAMPLE": source.resample,
    }


def _header(comment: str, body: Iterable[str], include: str = "<cstdint>") -> str:
    lines = [f"// {comment}", "#pragma once", "", f"#include {include}", "", "namespace edgekd {"]
    return "\n".join([*lines, "", *body, "", "}  // namespace edgekd", ""])


def _source(header: str, body: Iterable[str]) -> str:
    lines = [f'#include "{header}"', "", "namespace edgekd {", "", *body]
    return "\n".join([*lines, "", "}  // namespace edgekd", ""])


def _rows(values: Iterable[int]) -> list[str]:
    """The numbers of an array, PER_LINE in a line."""
    numbers = [str(value) for value in values]
    places = range(0, len(numbers), PER_LINE)
    return ["    " + ",".join(numbers[at : at + PER_LINE]) + "," for at in places]


def _model_data(model: bytes) -> dict[str, str]:
    declared = [
        "// The certified .tflite file, in flash, aligned as the runtime wants it.",
        "extern const unsigned char kModel[];",
        f"constexpr unsigned kModelBytes = {len(model)};",
        f"constexpr uint32_t kModelCrc32 = {zlib.crc32(model)}u;",
    ]
    defined = ["alignas(16) const unsigned char kModel[] = {", *_rows(model), "};"]
    return {
        "model_data.h": _header("The model.", declared),
        "model_data.cpp": _source("model_data.h", defined),
    }


def _contract(parts: MicroParts) -> str:
    """Sizes, labels, and the rule of the answer."""
    contract = parts.contract
    words = samples.words(contract, parts.labels)
    labels = ", ".join(f'"{samples.line(label)}"' for label in parts.labels)
    source, (height, width) = contract.input, _sides(contract)
    return _header(
        "What an app must know of the model: sizes, labels, and what its outputs mean.",
        [
            f"constexpr int kHeight = {height};",
            f"constexpr int kWidth = {width};",
            f"constexpr int kChannels = {source.channels};",
            "constexpr int kPixels = kHeight * kWidth * kChannels;",
            f"constexpr int kClasses = {len(parts.labels)};",
            f"constexpr int kArenaBytes = {parts.firmware.arena_bytes};",
            f"constexpr const char* kLabels[kClasses] = {{{labels}}};",
            "",
            "// The number behind an output code: scale * (code - zero point).",
            f"constexpr double kOutputScale = {contract.output.scale!r};",
            f"constexpr int kOutputZeroPoint = {contract.output.zero_point - 128};",
            f"constexpr bool kSeveral = {words['SEVERAL']};",
            f"constexpr bool kProbabilities = {words['PROBABILITIES']};",
            f"constexpr double kTemperature = {words['TEMPERATURE']};",
            f"constexpr double kThresholds[kClasses] = {{{words['THRESHOLDS']}}};",
            f"constexpr double kSlopes[kClasses] = {{{words['SLOPES']}}};",
            f"constexpr double kOffsets[kClasses] = {{{words['OFFSETS']}}};",
            "",
            *_further(contract),
            "",
            "// The input code of a pixel.",
            "inline int8_t CodeOf(uint8_t pixel) { return static_cast<int8_t>(pixel - 128); }",
        ],
    )


def _further(contract: Deployment) -> list[str]:
    """The outputs beside the answers. Where there are none, the array holds an unused row."""
    rows = [
        f'{{"{samples.line(row.name)}", {math.prod(row.shape)}, {row.scale!r}, '
        f"{row.zero_point - 128}}}"
        for row in present(contract.further_outputs) or []
    ]
    return [
        "// The outputs beside the answers, in order; real numbers are made as above.",
        "struct FurtherOutput {",
        "  const char* name;",
        "  unsigned bytes;",
        "  double scale;",
        "  int zero_point;",
        "};",
        f"constexpr int kFurther = {len(rows)};",
        f"constexpr FurtherOutput kFurtherOutputs[] = {{{', '.join(rows or ['{}'])}}};",
    ]


def _sides(contract: Deployment) -> tuple[int, int]:
    """(height, width) of the image that the model takes."""
    frame = present(contract.input.frame)
    return (contract.input.px, contract.input.px) if frame is None else (frame[0], frame[1])


def operators(model: bytes) -> list[str]:
    """The operators of a model, each once, in alphabetical order."""
    return sorted({op.name for op in read(model).ops})


def _resolver(model: bytes) -> str:
    names = operators(model)
    unknown = [name for name in names if name not in ADDERS]
    if unknown:
        raise ModelFileError(
            f"TensorFlow Lite Micro has no kernel for {', '.join(unknown)}",
            "edgekd check names the edit of the network that avoids it",
        )
    adds = [f"  if (resolver.{ADDERS[name]}() != kTfLiteOk) return kTfLiteError;" for name in names]
    body = [
        f"using Resolver = tflite::MicroMutableOpResolver<{len(names)}>;",
        "",
        "// Exactly the operators of the model, so that no other kernel takes flash.",
        "inline TfLiteStatus AddOperators(Resolver& resolver) {",
        *adds,
        "  return kTfLiteOk;",
        "}",
    ]
    include = '"tensorflow/lite/micro/micro_mutable_op_resolver.h"'
    return _header("The operators.", body, include)


def _golden_data(parts: MicroParts) -> dict[str, str]:
    """The first golden images with the answers that every correct copy gives."""
    images, rows = parts.images[:GOLDEN_IMAGES], parts.golden.images[:GOLDEN_IMAGES]
    declared = [
        f"constexpr int kGoldenImages = {len(rows)};",
        f"constexpr int kToleranceSteps = {parts.golden.tolerance_lsb};",
        "extern const uint8_t kGoldenPixels[kGoldenImages][kPixels];",
        "extern const int8_t kGoldenCodes[kGoldenImages][kClasses];",
        "extern const int kGoldenLabels[kGoldenImages];",
        "extern const bool kGoldenUnsure[kGoldenImages];",
    ]
    pixels = [
        line
        for image in images
        for line in ("  {", *_rows(int(one) for one in image.reshape(-1)), "  },")
    ]
    codes = [f"    {{{', '.join(map(str, row.codes_int8))}}}," for row in rows]
    labels = ", ".join(str(_best(row)) for row in rows)
    unsure = ", ".join("true" if row.unsure else "false" for row in rows)
    defined = [
        "const uint8_t kGoldenPixels[kGoldenImages][kPixels] = {",
        *pixels,
        "};",
        "const int8_t kGoldenCodes[kGoldenImages][kClasses] = {",
        *codes,
        "};",
        f"const int kGoldenLabels[kGoldenImages] = {{{labels}}};",
        f"const bool kGoldenUnsure[kGoldenImages] = {{{unsure}}};",
    ]
    return {
        "golden_data.h": _header("Golden images, their answers.", declared, '"contract.h"'),
        "golden_data.cpp": _source("golden_data.h", defined),
    }


def _best(row: GoldenImage) -> int:
    """The label with the highest code, the first of equal ones."""
    return row.codes_int8.index(max(row.codes_int8))
