"""What a certificate is bound to beside the model: the order of the labels, the normalisation, the golden set.

A model is only right together with these three, and each of them lies in a file of its own that may be swapped for an
older one. Arrays are bound by the sha256 of dtype, shape and bytes, not of the archive around them: zip files differ
between libraries that write the same arrays.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.core.artifacts import Json, Labels, sha256
from edgekd.core.errors import ModelFileError
from edgekd.proof.failures import Failures
from edgekd.tflite.flatbuffer import LiteTensor
from edgekd.tflite.int8_rules import input_range

GOLDEN_ARRAYS = ("inputs", "logits_int8", "labels")
CHANNEL_ORDERS = {1: "grey", 3: "RGB"}
AGAIN = "fetch the whole out folder again, or build again: its files belong together"


def read_golden(data: bytes) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a golden.npz. Raises ModelFileError for a file that is torn or lacks one."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in (*GOLDEN_ARRAYS, "mean", "std")}
    except Exception as error:  # numpy raises many types for a torn file; each means the same here
        raise ModelFileError(f"golden.npz cannot be read: {error}", "build it again") from error
    if (
        arrays["inputs"].dtype != np.uint8
        or arrays["inputs"].ndim != 4
        or len(arrays["inputs"]) != len(arrays["labels"])
    ):
        raise ModelFileError(
            f"golden.npz: expected uint8 inputs [n, px, px, channels], found {arrays['inputs'].dtype} "
            f"{list(arrays['inputs'].shape)}",
            "build it again",
        )
    return arrays


def labels_of(golden: Mapping[str, npt.NDArray[Any]]) -> Labels:
    """How many labels an image of the golden set has: `labels` is int64 [n], or 0 and 1 [n, classes]."""
    return "many" if golden["labels"].ndim == 2 else "one"


def digest(array: npt.NDArray[Any]) -> str:
    """sha256 of an array: its dtype, its shape and its bytes in C order."""
    head = f"{array.dtype.str} {array.shape} ".encode()
    return sha256(head + np.ascontiguousarray(array).tobytes())


def bind(labels: Sequence[str], golden: Mapping[str, npt.NDArray[Any]]) -> dict[str, Json]:
    """The "bound" block of certificate.json. `labels`: the classes in the order of the outputs."""
    inputs = golden["inputs"]
    return {
        "labels": list(labels),
        "input": {
            "px": int(inputs.shape[1]),
            "channels": CHANNEL_ORDERS.get(inputs.shape[3], str(inputs.shape[3])),
            "mean": [float(value) for value in golden["mean"]],
            "std": [float(value) for value in golden["std"]],
        },
        "golden": {"images": len(inputs), **{name: digest(golden[name]) for name in GOLDEN_ARRAYS}},
    }


def check_input(
    mean: Sequence[float], std: Sequence[float], tensor: LiteTensor, failures: Failures
) -> None:
    """The file's input means what this normalisation says: scale and zero point follow from mean and std."""
    meant = input_range([float(value) for value in mean], [float(value) for value in std])
    zero = (
        int(tensor.zero_point[0]) - (128 if tensor.dtype == "UINT8" else 0)
        if tensor.zero_point.size
        else None
    )
    scale = float(tensor.scale[0]) if tensor.scale.size == 1 else None
    # mean and std may have passed through float32, which moves the scale by a few units in its last place
    if scale is None or zero != meant.zero_point or abs(scale / meant.scale - 1) > 1e-6:
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
            "the network was trained with another mean or std than this; build again from the qat stage",
        )


def check_bound(
    bound: Mapping[str, Json],
    labels: Sequence[str],
    golden: Mapping[str, npt.NDArray[Any]],
    failures: Failures,
) -> None:
    """labels.txt and golden.npz against what the certificate was made for. Names the line, the array, or the likely cause."""
    if list(labels) != list(bound["labels"]):
        failures.add(
            "labels",
            "file",
            "labels.txt",
            list(bound["labels"]),
            _label_fault(list(labels), list(bound["labels"])),
            AGAIN,
        )
    for name in ("mean", "std"):
        found = [float(value) for value in golden[name]]
        if found != list(bound["input"][name]):
            failures.add(
                "normalisation",
                "file",
                f"golden.npz: {name}",
                list(bound["input"][name]),
                found,
                AGAIN,
            )
    for name in GOLDEN_ARRAYS:
        if digest(golden[name]) != bound["golden"][name]:
            failures.add(
                "golden",
                "file",
                f"golden.npz: {name}",
                f"sha256 {bound['golden'][name][:16]}",
                _golden_fault(name, golden, bound),
                AGAIN,
            )


def _label_fault(found: list[str], expected: list[str]) -> str:
    if sorted(found) == sorted(expected):
        first = next(
            number
            for number, (one, other) in enumerate(zip(found, expected, strict=True))
            if one != other
        )
        return f"another order from line {first + 1} on: {found[first]!r} where {expected[first]!r} belongs"
    return f"{len(found)} labels: {', '.join(found[:4])}"


def _golden_fault(
    name: str, golden: Mapping[str, npt.NDArray[Any]], bound: Mapping[str, Json]
) -> str:
    array = golden[name]
    if (
        name == "inputs"
        and array.shape[3] == 3
        and digest(array[..., ::-1]) == bound["golden"][name]
    ):
        return "the certified images with red and blue exchanged: BGR for RGB"
    if len(array) != bound["golden"]["images"]:
        return f"{len(array)} images instead of {bound['golden']['images']}: a golden set of another build"
    changed = [other for other in GOLDEN_ARRAYS if digest(golden[other]) != bound["golden"][other]]
    if len(changed) > 1 and "inputs" in changed:
        return "other images and other answers: a golden set of another build"
    return f"another array, sha256 {digest(array)[:16]}"
