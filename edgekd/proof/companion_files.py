"""The files that a certificate is bound to beside the model.

These are labels.txt, the normalization and golden.npz. A model is correct only together with them,
and each may be replaced by an older one. Arrays are bound by the sha256 of their dtype, shape and
bytes, and not of the archive, because libraries write different zip files for the same arrays.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.core.artifacts import Labels, sha256
from edgekd.core.errors import ModelFileError
from edgekd.core.records import UNSET, present
from edgekd.proof.certificate_record import Bound, BoundGolden, BoundInput
from edgekd.proof.failures import Failures
from edgekd.tflite.flatbuffer import LiteTensor
from edgekd.tflite.int8_rules import input_range

GOLDEN_ARRAYS = ("inputs", "logits_int8", "labels")
# The int8 codes of an output beside the answers, [images, ...], by its number in the file.
FURTHER = "output_{}_int8"
NO_ARRAY = "no such array"
CHANNEL_ORDERS = {1: "grey", 3: "RGB"}
AGAIN = "fetch the whole out folder again, or build again: its files belong together"
# Float32 rounding of mean and std moves the scale by a few units in its last place.
SCALE_TOLERANCE = 1e-6

Golden = Mapping[str, npt.NDArray[Any]]


def read_golden(data: bytes) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a golden.npz (`golden.golden_npz`).

    Raises ModelFileError for a torn file or a missing array.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in (*GOLDEN_ARRAYS, "mean", "std")}
            arrays |= {name: archive[name] for name in further_names(archive)}
    except Exception as error:  # numpy raises many types for a torn file, all with this meaning
        raise ModelFileError(
            f"golden.npz cannot be read: {error}", "build again, or fetch the file again"
        ) from error
    inputs = arrays["inputs"]
    if inputs.dtype != np.uint8 or inputs.ndim != 4 or len(inputs) != len(arrays["labels"]):
        raise ModelFileError(
            "golden.npz: expected uint8 inputs [n, px, px, channels] and one row of labels for "
            f"each, found {inputs.dtype} {list(inputs.shape)} and {len(arrays['labels'])} rows",
            "build again, or fetch the file again",
        )
    return arrays


def further_names(golden: Iterable[str]) -> list[str]:
    """The names of the arrays that hold codes of outputs beside the answers, in their order."""
    held, found = set(golden), list[str]()
    while (name := FURTHER.format(len(found) + 1)) in held:
        found.append(name)
    return found


def labels_of(golden: Golden) -> Labels:
    """How many labels an image has: "one" (labels [n]) or "many" (labels [n, classes])."""
    return "many" if golden["labels"].ndim == 2 else "one"


def digest(array: npt.NDArray[Any]) -> str:
    """sha256 of an array: its dtype, its shape and its bytes in C order."""
    head = f"{array.dtype.str} {array.shape} ".encode()
    return sha256(head + np.ascontiguousarray(array).tobytes())


def bind(labels: Sequence[str], golden: Golden) -> Bound:
    """The "bound" block of certificate.json. `labels`: the classes in the order of the outputs."""
    inputs = golden["inputs"]
    return Bound(
        list(labels),
        BoundInput(
            px=int(inputs.shape[1]),
            channels=CHANNEL_ORDERS.get(inputs.shape[3], str(inputs.shape[3])),
            mean=[float(value) for value in golden["mean"]],
            std=[float(value) for value in golden["std"]],
        ),
        BoundGolden(
            len(inputs),
            inputs=digest(inputs),
            logits_int8=digest(golden["logits_int8"]),
            labels=digest(golden["labels"]),
            further={name: digest(golden[name]) for name in further_names(golden)} or UNSET,
        ),
    )


def check_input(
    mean: Sequence[float], std: Sequence[float], tensor: LiteTensor, failures: Failures
) -> None:
    """Check that scale and zero point of the input tensor follow from `mean` and `std` (per
    channel).
    """
    meant = input_range([float(value) for value in mean], [float(value) for value in std])
    zero = (
        int(tensor.zero_point[0]) - (128 if tensor.dtype == "UINT8" else 0)
        if tensor.zero_point.size
        else None
    )
    scale = float(tensor.scale[0]) if tensor.scale.size == 1 else None
    if scale is None or zero != meant.zero_point or abs(scale / meant.scale - 1) > SCALE_TOLERANCE:
        failures.add(
            "normalisation",
            "tensor",
            tensor.name,
            {
                "mean": list(map(float, mean)),
                "std": list(map(float, std)),
                "scale": meant.scale,
                "zero_point": meant.zero_point,
            },
            {"scale": scale, "zero_point": zero},
            "the network was trained with another mean or std; build again from the qat stage",
        )


def check_bound(bound: Bound, labels: Sequence[str], golden: Golden, failures: Failures) -> None:
    """Check labels.txt and golden.npz against the certificate.

    A failure names the line, the array, or the likely cause.
    """
    if list(labels) != bound.labels:
        fault = _label_fault(list(labels), bound.labels)
        failures.add("labels", "file", "labels.txt", bound.labels, fault, AGAIN)
    for name in ("mean", "std"):
        found = [float(value) for value in golden[name]]
        expected = getattr(bound.input, name)
        if found != expected:
            failures.add("normalisation", "file", f"golden.npz: {name}", expected, found, AGAIN)
    stated = _digests(bound.golden)
    for name in stated | dict.fromkeys(further_names(golden), ""):
        wanted, actual = stated.get(name), digest(golden[name]) if name in golden else None
        if actual != wanted:
            failures.add(
                "golden",
                "file",
                f"golden.npz: {name}",
                NO_ARRAY if wanted is None else f"sha256 {wanted[:16]}",
                NO_ARRAY if actual is None else _golden_fault(name, golden, bound.golden),
                AGAIN,
            )


def _digests(bound: BoundGolden) -> dict[str, str]:
    """{array: its digest} of all that the certificate names."""
    usual = {name: str(getattr(bound, name)) for name in GOLDEN_ARRAYS}
    return usual | (present(bound.further) or {})


def _label_fault(found: list[str], expected: list[str]) -> str:
    if sorted(found) == sorted(expected):
        first = next(
            number
            for number, (one, other) in enumerate(zip(found, expected, strict=True))
            if one != other
        )
        return (
            f"another order from line {first + 1} on: {found[first]!r} in the place of "
            f"{expected[first]!r}"
        )
    return f"{len(found)} labels: {', '.join(found[:4])}"


def _golden_fault(name: str, golden: Golden, bound: BoundGolden) -> str:
    array, further = golden[name], present(bound.further) or {}
    if name == "inputs" and array.shape[3] == 3 and digest(array[..., ::-1]) == bound.inputs:
        return "the certified images with red and blue exchanged: BGR for RGB"
    if name not in further and len(array) != bound.images:
        return f"{len(array)} images instead of {bound.images}: a golden set of another build"
    changed = [other for other in GOLDEN_ARRAYS if digest(golden[other]) != getattr(bound, other)]
    if len(changed) > 1 and "inputs" in changed:
        return "other images and other answers: a golden set of another build"
    return f"another array, sha256 {digest(array)[:16]}"
