"""The files of a bundle in number formats other than int8: what an app must know of each, and the
answers by which a copy is recognised.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edgekd.bundle import bundle_files
from edgekd.bundle.deployment_record import FormatAnswers, FormatModel, FormatTensor
from edgekd.core.artifact_rows import PortFacts
from edgekd.core.number_formats import FOLDER, NumberFormat, file_name
from edgekd.core.records import UNSET, UnsetType, present, to_json
from edgekd.core.store import facts_json
from edgekd.tflite import ports, real_runner, runtime

ANSWERS = "golden/formats.json"
IMAGES = 8  # golden images that each file answers: int16 kernels take a second for a large network
# An answer may differ by this share of the spread of an image's stored outputs. Kernels of another
# release or processor round float sums in another order, which moves a code of dynamic files; a
# wrong file or a wrong normalisation is off by far more.
TOLERANCE = 0.05

Pixels = npt.NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class OtherFormats:
    """The files, and the float student's normalisation for each channel."""

    files: Mapping[NumberFormat, bytes]
    mean: Sequence[float]
    std: Sequence[float]


def models(others: OtherFormats) -> list[FormatModel] | UnsetType:
    """What deployment.json says of each file; UNSET where there is none."""
    return [_model(one, data, others) for one, data in others.files.items()] or UNSET


def _model(one: NumberFormat, data: bytes, others: OtherFormats) -> FormatModel:
    facts = runtime.describe(data)
    source, mean, std = facts["input"], list(others.mean), list(others.std)
    if source["scale"] is not None and source["dtype"] == "int8":
        # Codes of pixels: the network's own normalisation is folded into its first layer.
        zero_point, channels = int(source["zero_point"] or 0), len(mean)
        mean = [(ports.SHIFT + zero_point) / 255.0] * channels
        std = [1.0 / (255.0 * source["scale"])] * channels
    return FormatModel(
        format=one,
        file=file_name(one),
        layout="NHWC",
        mean=mean,
        std=std,
        input=_tensor(facts["input"]),
        output=_tensor(facts["output"]),
    )


def _tensor(port: PortFacts) -> FormatTensor:
    if port["scale"] is None or port["zero_point"] is None:
        return FormatTensor(port["dtype"])
    return FormatTensor(port["dtype"], port["scale"], port["zero_point"])


def bundle_parts(others: OtherFormats, golden: Pixels) -> dict[str, bytes]:
    """The files with their answers to the first golden images, {path: bytes}; {} for no file.

    `golden`: uint8 [n, px, px, channels].
    """
    if not others.files:
        return {}
    files = {file_name(one): bytes(data) for one, data in others.files.items()}
    shown = golden[:IMAGES]
    answers = {
        name: real_runner.answers(data, shown, others.mean, others.std).astype(float).tolist()
        for name, data in files.items()
    }
    record = FormatAnswers(images=len(shown), tolerance=TOLERANCE, answers=answers)
    return {**files, ANSWERS: facts_json(to_json(record))}


def check(
    files: Mapping[str, bytes],
    stated: list[FormatModel] | UnsetType,
    reported: Mapping[str, str],
    golden: Pixels,
) -> list[str]:
    """What is wrong with these files, a sentence each.

    `stated`: by deployment.json. `reported`: {path: sha256} by report.json. `golden`: the golden
    images, uint8 [n, px, px, channels].
    """
    rows = present(stated) or []
    names = {row.file for row in rows}
    there = {name for name in files if name.startswith(f"{FOLDER}/")}
    wrong = [f"{name} is missing" for name in sorted(names - there)]
    wrong += [f"deployment.json does not name {name}" for name in sorted(there - names)]
    if names != reported.keys():
        wrong.append(f"report.json names {sorted(reported)}, deployment.json {sorted(names)}")
    if wrong or not rows:
        return wrong
    kept = bundle_files.read_record(files, ANSWERS, FormatAnswers)
    for row in rows:
        facts = runtime.describe(files[row.file])
        if (_tensor(facts["input"]), _tensor(facts["output"])) != (row.input, row.output):
            wrong.append(f"{row.file} has other tensors than deployment.json states")
            continue
        found = real_runner.answers(files[row.file], golden[: kept.images], row.mean, row.std)
        expected = np.asarray(kept.answers[row.file])
        spread = np.ptp(expected, axis=1)
        off = float((np.abs(found - expected).max(1) / np.maximum(spread, 1e-6)).max())
        if not off <= kept.tolerance:
            wrong.append(f"{row.file}: {off:.0%} of the outputs' spread from the stored answers")
    return wrong
