"""What TensorFlow Lite Micro's interpreter answers here, for the profile of a microcontroller.

It says nothing about time: the interpreter runs reference kernels here, and its arena is that of
64-bit pointers.
"""

from __future__ import annotations

import io

import msgspec
import numpy as np

from edgekd.core.errors import ModelFileError
from edgekd.core.records import UNSET, UnsetType
from edgekd.device.bench_record import Bench, GoldenAnswers, MicroAnswers
from edgekd.device.bench_targets import Measure, Subject
from edgekd.settings.device_profiles import DeviceProfile
from edgekd.tflite import micro_runtime, model_metadata, ports, runtime
from edgekd.tflite.flatbuffer import read

NOT_INSTALLED = (
    "pip install 'edgekd[micro]' adds the answers of TensorFlow Lite Micro's interpreter to this"
)


def beside(measure: Measure, subject: Subject) -> Measure:
    """`measure` on this machine, with the answers that `added` adds."""
    return lambda profile, on_progress: added(
        measure(profile, on_progress), subject.model, subject.golden, profile
    )


def added(result: Bench, model: bytes, golden: bytes | None, profile: DeviceProfile) -> Bench:
    """The measurement of a model on this machine, with the answers of TensorFlow Lite Micro.

    `golden`: the bytes of a golden.npz. As it was for a profile that is no microcontroller's. A
    model that the interpreter does not run gets a warning.
    """
    if not profile.micro_kernels:
        return result
    warnings = list(result.warnings)
    micro: MicroAnswers | UnsetType = UNSET
    if not micro_runtime.installed():
        warnings.append(NOT_INSTALLED)
    else:
        try:
            micro = _answers(ports.core(model_metadata.detach(model)), golden)
        except ModelFileError as error:
            warnings.append(error.what)
    return msgspec.structs.replace(result, micro=micro, warnings=warnings)


def _answers(model: bytes, golden: bytes | None) -> MicroAnswers:
    """Raises ModelFileError for a model that the interpreter does not run."""
    graph = read(model)
    source = graph.tensors[graph.inputs[0]]
    if len(graph.inputs) != 1 or source.dtype != "INT8":
        raise ModelFileError(
            "TensorFlow Lite Micro was not asked: it is for models with one int8 input",
            "give the int8 model of a build",
        )
    if golden is None:
        found = micro_runtime.run(model, np.zeros((1, *source.shape[1:]), np.int8))
        return MicroAnswers(found.version, found.arena_bytes, None)
    with np.load(io.BytesIO(golden)) as stored:
        pixels, labels, expected = (stored[name] for name in ("inputs", "labels", "logits_int8"))
    found = micro_runtime.run(model, runtime.quantize_pixels(pixels, source))
    codes = found.outputs.astype(np.int16).reshape(expected.shape)
    answers = GoldenAnswers(
        images=len(codes),
        argmax_agreement=float((codes.argmax(1) == expected.argmax(1)).mean()),
        max_abs_lsb=int(np.abs(codes - expected).max()),
        top1=float((codes.argmax(1) == labels).mean()),
    )
    return MicroAnswers(found.version, found.arena_bytes, answers)
