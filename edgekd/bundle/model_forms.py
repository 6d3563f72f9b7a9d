"""The two .tflite files of a bundle: the certified int8 network behind uint8 ports and behind
float32 ports.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from edgekd.bundle.bundle_record import FormAnswers, ModelForm
from edgekd.bundle.deployment_record import Deployment
from edgekd.core.artifacts import sha256
from edgekd.core.errors import ModelFileError
from edgekd.tflite import model_metadata, ports, runtime
from edgekd.tflite.metadata_codec import Table

MODEL, FLOAT_IO = "model.tflite", "model_float_io.tflite"
PORTS = {MODEL: "uint8", FLOAT_IO: "float32"}
# The name of FLOAT_IO up to version 0.1, which read like a network in float32. Bundles of 0.2 hold
# a copy under it, so that an app has one version's time to change the name. 0.3 leaves it out.
OLD_FLOAT_IO = "model_float32.tflite"

Pixels = npt.NDArray[np.uint8]


def with_metadata(
    tflite: bytes, metadata: Table, attached: Mapping[str, bytes]
) -> dict[str, bytes]:
    """Both files, {name: bytes}, of the certified int8 file: with their ports, metadata and
    attached files.
    """
    return {
        name: model_metadata.attach(ports.with_ports(tflite, form), metadata, attached)
        for name, form in PORTS.items()
    }


def ports_of(files: Mapping[str, bytes]) -> dict[str, str]:
    """{name: port type} of the two files of a bundle, {path: bytes}.

    A bundle of version 0.1 has the float ports under their old name only.
    """
    return PORTS if FLOAT_IO in files else {MODEL: PORTS[MODEL], OLD_FLOAT_IO: PORTS[FLOAT_IO]}


def check_answers(
    models: Mapping[str, bytes], contract: Deployment, images: Pixels, codes: npt.NDArray[np.int8]
) -> dict[str, ModelForm]:
    """Run both files over the test images and compare with the certified file's codes, int8 [n, k].

    Raises ModelFileError unless every answer is the same, code for code.
    """
    forms = {}
    for name, model in models.items():
        found = answers(model, images, contract)
        off = np.abs(found - codes.astype(int)).reshape(len(found), -1).max(1)
        if off.any():
            raise ModelFileError(
                f"{name} does not answer as the certified file does on {int((off > 0).sum())} of "
                f"{len(off)} test images; the largest difference is {int(off.max())} LSB",
                "report this as a bug, with the version of the TFLite runtime",
            )
        same = FormAnswers(images=len(images), identical=len(images))
        forms[name] = ModelForm(sha256(model), PORTS[name], same)
    return forms


def answers(model: bytes, images: Pixels, contract: Deployment) -> npt.NDArray[np.int64]:
    """Output codes of either file on images uint8 [n, px, px, c], counted as int8: [n, k]."""
    runner = runtime.LiteRunner(model)
    rows = [
        _float_codes(runner, image[None], contract)
        if runner.input.dtype == "FLOAT32"
        else _codes(runner, image[None])
        for image in images
    ]
    return np.concatenate(rows).reshape(len(images), -1).astype(np.int64)


def _float_codes(
    runner: runtime.LiteRunner, image: Pixels, contract: Deployment
) -> npt.NDArray[np.float64]:
    source, target = contract.input, contract.output
    mean, std = np.asarray(source.mean, np.float32), np.asarray(source.std, np.float32)
    normalised = (image.astype(np.float32) / np.float32(255) - mean) / std
    real = runner.invoke(normalised.astype(np.float32)).astype(np.float64)
    return np.rint(real / target.scale) + target.zero_point - ports.SHIFT


def _codes(runner: runtime.LiteRunner, image: Pixels) -> npt.NDArray[np.int64]:
    codes = runner.invoke(runtime.quantize_pixels(image, runner.input)).astype(np.int64)
    return codes - (ports.SHIFT if runner.output.dtype == "UINT8" else 0)
