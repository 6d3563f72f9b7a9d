"""The outputs of a .tflite beside its answers, against the trained network's on golden images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.core.artifact_rows import FurtherRow
from edgekd.core.errors import DeviceError, ModelFileError
from edgekd.proof.certificate_record import FurtherOutput
from edgekd.proof.companion_files import AGAIN, FURTHER, Golden
from edgekd.proof.failures import Failures
from edgekd.tflite.runtime import LiteRunner

Codes = npt.NDArray[Any]


def codes(runner: LiteRunner, images: npt.NDArray[np.uint8]) -> list[dict[str, Codes]]:
    """{name: codes} of these outputs for each image, uint8 [n, px, px, channels]."""
    return [(runner.codes(image[None]), runner.further_codes())[1] for image in images]


def check_further(
    data: bytes | memoryview,
    images: npt.NDArray[np.uint8],
    rows: Sequence[FurtherRow],
    trained: Mapping[str, Codes],
    failures: Failures,
) -> list[FurtherOutput]:
    """Compare these outputs with the trained network's codes.

    `images`: the golden ones. `trained`: {array in golden.npz: codes int8 [m, ...]}. A file that
    does not run, or gives other outputs, is a failure.
    """
    try:
        runner = LiteRunner(data)
        found = codes(runner, images[: max(row["golden"] for row in rows)])
    except (ModelFileError, DeviceError) as error:
        failures.add("end_to_end", "op", "the whole graph", "a runtime that runs it", error.what)
        return []
    names = [tensor.name for tensor in runner.outputs[1:]]
    if names != [row["name"] for row in rows]:
        failures.add("end_to_end", "op", "the outputs", [row["name"] for row in rows], names)
        return []
    made = []
    for number, row in enumerate(rows, 1):
        expected = trained[FURTHER.format(number)].astype(np.int64)
        given = np.stack([found[image][row["name"]] for image in range(row["golden"])])
        lsb = np.abs(given.astype(np.int64) - expected)
        made.append(
            FurtherOutput(
                name=row["name"],
                shape=row["shape"],
                axes=row["axes"],
                images=row["golden"],
                same_codes=float((lsb == 0).mean()),
                mean_abs_lsb=float(lsb.mean()),
                max_abs_lsb=int(lsb.max()),
            )
        )
    return made


def check_golden(runner: LiteRunner, golden: Golden, failures: Failures) -> str:
    """Compare a file with the stored codes of these outputs. Returns a text about them, "" for a
    file with one output.
    """
    told = []
    tensors = runner.outputs[1:]
    stored = [golden.get(FURTHER.format(number)) for number in range(1, len(tensors) + 1)]
    most = max((len(part) for part in stored if part is not None), default=0)
    found = codes(runner, golden["inputs"][:most])
    for number, (tensor, expected) in enumerate(zip(tensors, stored, strict=True), 1):
        place = f"golden.npz: {FURTHER.format(number)}"
        if expected is None or expected.shape[1:] != tensor.shape:
            shape = None if expected is None else list(expected.shape)
            failures.add("golden", "file", place, ["images", *tensor.shape], shape, AGAIN)
            continue
        given = np.stack([row[tensor.name] for row in found[: len(expected)]])
        off = int(np.abs(given.astype(np.int64) - expected).max())
        told.append(f"{tensor.name}: {len(expected)} images, largest difference {off} LSB")
        if off:
            failures.add("golden", "file", place, "the codes of model.tflite", f"{off} LSB", AGAIN)
    return "; ".join(told)
