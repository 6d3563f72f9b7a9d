"""Checks of the firmware sample in a bundle: its files, and its answers in the real runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgekd.bundle import micro_sample
from edgekd.bundle.deployment_record import Deployment, Golden
from edgekd.bundle.micro_sample import MicroParts
from edgekd.bundle.model_forms import MODEL
from edgekd.bundle.other_formats import Pixels
from edgekd.core.errors import ModelFileError
from edgekd.core.records import present
from edgekd.tflite import micro_runtime, model_metadata, ports, runtime
from edgekd.tflite.flatbuffer import read

Files = Mapping[str, bytes]
ROUNDED_TWICE = 1  # steps of an output code, see `answers`


def sample(
    files: Files, contract: Deployment, labels: Sequence[str], golden: Golden, pictures: Pixels
) -> dict[str, bytes]:
    """The files of samples/micro that this version makes, empty for another device's bundle.

    `pictures`: the golden images, uint8 [n, height, width, channels].
    """
    firmware = present(contract.firmware)
    if firmware is None:
        return {}
    model = bare_model(files)
    return micro_sample.render(MicroParts(contract, firmware, labels, model, pictures, golden))


def bare_model(files: Files) -> bytes:
    """The certified int8 file in the bundle's model."""
    return ports.core(model_metadata.detach(files[MODEL]))


def answers(files: Files, contract: Deployment, golden: Golden, pictures: Pixels) -> list[str]:
    """What differs between TensorFlow Lite Micro and LiteRT's reference kernels on golden images.

    All kernels are equal to the bit except FULLY_CONNECTED: TensorFlow Lite Micro rounds its sum
    twice (to 31 bits, then to 8), LiteRT once, so that a sum within 1/256 of a half may end one
    step off. One step is allowed for that. Empty for another device's bundle, and where the package
    tflite-micro is not installed.
    """
    if present(contract.firmware) is None or not micro_runtime.installed():
        return []
    model = bare_model(files)
    source = read(model).tensors[read(model).inputs[0]]
    try:
        found = micro_runtime.run(model, runtime.quantize_pixels(pictures, source)).outputs
    except ModelFileError as error:
        return [error.what]
    expected = runtime.run(model, pictures, kernels="reference")
    off = np.abs(found.astype(np.int16) - expected.reshape(found.shape)).max(axis=1)
    return [
        f"TensorFlow Lite Micro answers {row.file} otherwise than LiteRT, by {steps} steps"
        for row, steps in zip(golden.images, off, strict=True)
        if steps > ROUNDED_TWICE
    ]
