"""A .tflite's answers on real images against the trained network's: agreement, and the histogram of differences in LSB.

Up to 20 LSB at the logits were seen between kernel families of one runtime, so the gate is on the answer; half a per cent
of the images may lie on the decision boundary. An answer is the class of the largest output ("argmax_agreement"); where an
image may have several labels it is each label's, said where the output is not below zero, and that share is of labels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from edgekd.core.artifacts import Json, Labels
from edgekd.core.errors import DeviceError, MissingExtra, ModelFileError
from edgekd.proof.failures import Failures
from edgekd.proof.kernel_check import FAMILIES
from edgekd.tflite.runtime import LiteRunner, tensor_range

ANSWERS: dict[Labels, str] = {"one": "classes", "many": "label decisions"}
HISTOGRAM_TOP = 8  # differences of this many LSB and more share the last bin
NOTHING: dict[str, Json] = {
    "argmax_agreement": 0.0,
    "mean_abs_lsb": None,
    "max_abs_lsb": None,
    "histogram": {},
}
UNDECIDED = "look at mean_abs_lsb: small means images on the decision boundary (train longer), large a wrong file"


def compare(
    found: npt.NDArray[np.signedinteger],
    expected: npt.NDArray[np.signedinteger],
    labels: Labels,
    zero_point: int,
) -> dict[str, Json]:
    """Agreement and histogram of two sets of codes [n, classes] with that zero point. Ties go to the first of the largest
    on both sides.
    """
    off = np.abs(found.astype(np.int64) - expected.astype(np.int64))
    bins = np.bincount(np.minimum(off, HISTOGRAM_TOP).reshape(-1), minlength=HISTOGRAM_TOP + 1)
    names = [*(str(lsb) for lsb in range(HISTOGRAM_TOP)), f"{HISTOGRAM_TOP}+"]
    same = (
        found.argmax(axis=1) == expected.argmax(axis=1)
        if labels == "one"
        else (found >= zero_point) == (expected >= zero_point)
    )
    return {
        "argmax_agreement": float(same.mean()),
        "mean_abs_lsb": float(off.mean()),
        "max_abs_lsb": int(off.max()),
        "histogram": dict(zip(names, bins.tolist(), strict=True)),
    }


def check_answers(
    data: bytes | memoryview,
    images: npt.NDArray[np.uint8],
    logits: npt.NDArray[np.float32],
    failures: Failures,
    min_agreement: float,
    labels: Labels = "one",
) -> dict[str, Json]:
    """The file (default kernels, as an app runs it) against `logits`, float32 [n, classes], on all `images`."""
    body: dict[str, Json] = {"images": len(images), "answers": ANSWERS[labels]}
    try:
        runner = LiteRunner(data)
        found = runner.codes(images).reshape(len(images), -1)
    except (ModelFileError, DeviceError) as error:
        failures.add(
            "end_to_end",
            "op",
            "the whole graph",
            "a runtime that runs it",
            error.what,
            error.next_step,
        )
        return body | NOTHING
    grid = tensor_range(runner.output)
    expected = grid.quantize(logits).reshape(len(images), -1)
    if found.shape != expected.shape:
        failures.add(
            "end_to_end", "tensor", runner.output.name, list(expected.shape), list(found.shape)
        )
        return body | NOTHING
    figures = compare(found, expected, labels, grid.zero_point)
    if figures["argmax_agreement"] < min_agreement:
        failures.add(
            "end_to_end",
            "tensor",
            runner.output.name,
            f"{ANSWERS[labels]} that agree: at least {min_agreement}",
            figures["argmax_agreement"],
            UNDECIDED,
        )
    return body | figures


def by_family(
    data: bytes | memoryview,
    images: npt.NDArray[np.uint8],
    logits: npt.NDArray[np.float32],
    labels: Labels = "one",
    runtime: str | None = None,
) -> dict[str, Json]:
    """The same figures in each kernel family, ungated: what another delegate changes in the answer. A family that does
    not run the file is null.
    """
    found: dict[str, Json] = {}
    for family, kernels in FAMILIES.items():
        try:
            runner = LiteRunner(data, kernels=kernels, runtime=runtime)
            codes = runner.codes(images).reshape(len(images), -1)
        except (ModelFileError, DeviceError):
            found[family] = None
            continue
        grid = tensor_range(runner.output)
        expected = grid.quantize(logits).reshape(len(images), -1)
        found[family] = (
            compare(codes, expected, labels, grid.zero_point)
            if codes.shape == expected.shape
            else None
        )
    return found


def second_runtime(
    data: bytes | memoryview,
    images: npt.NDArray[np.uint8],
    logits: npt.NDArray[np.float32],
    labels: Labels = "one",
) -> dict[str, Json]:
    """TensorFlow's own interpreter on the same images, family by family; nulls where TensorFlow is not installed.

    `same_codes`: share of output codes that equal the first runtime's in that family.
    """
    try:
        name = LiteRunner(data, runtime="tensorflow").name
    except (MissingExtra, ModelFileError):
        return {"runtime": None, "argmax_agreement": None}
    families = by_family(data, images, logits, labels, "tensorflow")
    same: dict[str, Json] = {}
    for family, kernels in FAMILIES.items():
        try:
            one, other = (
                LiteRunner(data, kernels=kernels, runtime=runtime).codes(images)
                for runtime in (None, "tensorflow")
            )
        except (ModelFileError, DeviceError):
            continue
        same[family] = float((one == other).mean())
    reference: Mapping[str, Json] = families.get("reference") or NOTHING
    return {
        "runtime": name,
        "argmax_agreement": reference["argmax_agreement"],
        "families": families,
        "same_codes": same,
    }
