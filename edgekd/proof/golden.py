"""golden.npz, the golden set: held-out images, and the answers of every correct copy of the model.

It is published beside the model.
"""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np

from edgekd.core.artifacts import Blob, Evaluation, Inputs, Network, QuantNetwork
from edgekd.data import datasets
from edgekd.proof.companion_files import FURTHER


def further_arrays(evaluation: Evaluation, codes: Blob) -> dict[str, Any]:
    """{name in golden.npz: codes int8 [images, ...]} of the outputs beside the answers.

    `codes`: the evaluation's `further_codes` or `further_trained`.
    """
    found, start = {}, 0
    flat = np.frombuffer(codes, np.int8)
    for number, row in enumerate(evaluation.further, 1):
        shape = (row["golden"], *row["shape"])
        end = start + math.prod(shape)
        found[FURTHER.format(number)] = flat[start:end].reshape(shape)
        start = end
    return found


def golden_npz(inputs: Inputs, evaluation: Evaluation, student: Network | QuantNetwork) -> bytes:
    """The bytes of golden.npz. Equal input gives equal bytes: the archive has no time stamps.

    Arrays: `inputs` uint8 [n, px, px, c]; `logits_int8` int8 [n, classes]; `logits` float32 [n,
    classes]; `labels` int64 [n], or 0 and 1 [n, classes] where an image may have several labels;
    `mean` and `std` float32 [c]. Of a file with several outputs: `output_N_int8` int8 [m, ...], the
    codes of its output N (the answers are output 0) for the first m images.
    """
    place = {row: number for number, row in enumerate(inputs.rows["test"])}
    chosen = [place[row] for row in inputs.rows["golden"]]
    shape = (len(evaluation.stages), len(evaluation.labels), evaluation.classes)
    logits = np.frombuffer(evaluation.logits, np.float32).reshape(shape)[
        evaluation.stages.index("tflite")
    ]
    codes = np.frombuffer(evaluation.codes, np.int8).reshape(shape[1:])
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        inputs=datasets.input_images(inputs, "golden", len(student.mean)),
        logits_int8=codes[chosen],
        logits=logits[chosen],
        labels=np.asarray(evaluation.labels, np.int64)[chosen],
        mean=np.asarray(student.mean, np.float32),
        std=np.asarray(student.std, np.float32),
        **further_arrays(evaluation, evaluation.further_codes),
    )
    return buffer.getvalue()
