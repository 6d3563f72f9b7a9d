"""The one module that opens a TFLite runtime: checks a .tflite and runs uint8 images."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.core import cores, pages
from edgekd.core.artifact_rows import LiteFacts, PortFacts
from edgekd.core.errors import DataError, DeviceError, MissingExtra, ModelFileError
from edgekd.tflite.flatbuffer import LiteGraph, LiteTensor, read, read_main
from edgekd.tflite.int8_rules import Range
from edgekd.tflite.integer_graph import is_full_integer

RUNTIMES = ("ai_edge_litert", "tflite_runtime", "tensorflow")  # the first that is installed is used
# "default": what an app gets, XNNPACK where it can. "builtin": TFLite's own optimized kernels, no
# delegate. "reference": TFLite's reference kernels.
KERNELS = ("default", "builtin", "reference")


def load_runtime(name: str | None = None) -> tuple[str, ModuleType]:
    """(name with version, module that holds Interpreter and OpResolverType) of a TFLite runtime.

    By default the first of RUNTIMES that is installed. Raises MissingExtra when there is none.
    """
    for candidate in (name,) if name else RUNTIMES:
        try:
            package = importlib.import_module(candidate)
            if candidate == "tensorflow":
                return f"tensorflow {package.__version__}", package.lite
            module = importlib.import_module(f"{candidate}.interpreter")
        except ImportError:
            continue
        version = getattr(package, "__version__", None) or _installed_version(candidate)
        return f"{candidate} {version}", module
    raise MissingExtra("ai-edge-litert", "", "running a .tflite")


def _installed_version(package: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(package.replace("_", "-"))
    except metadata.PackageNotFoundError:
        return "unknown"


class LiteRunner:
    """An interpreter for a checked model. `graph`: the model as read. `name`: the runtime with its
    version.
    """

    def __init__(
        self,
        data: bytes | memoryview,
        *,
        kernels: str = "default",
        keep: str = "outputs",
        threads: int = 1,
        runtime: str | None = None,
    ) -> None:
        """`keep`: "outputs", or "everything", so that `value` can read every tensor after `invoke`.

        Raises ModelFileError for a file that is broken or that the runtime refuses, MissingExtra
        without a runtime, and ValueError for an unknown `kernels` or `keep`.
        """
        if kernels not in KERNELS or keep not in ("outputs", "everything"):
            raise ValueError(
                f"kernels {kernels!r} can be one of {KERNELS}, keep {keep!r} outputs or everything"
            )
        self.graph: LiteGraph = read_main(data)  # which is what an interpreter runs
        self.name, module = load_runtime(runtime)
        types = (
            module.experimental.OpResolverType
            if self.name.startswith("tensorflow")
            else module.OpResolverType
        )
        resolver = {
            "default": types.AUTO,
            "builtin": types.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            "reference": types.BUILTIN_REF,
        }[kernels]

        def opened() -> Any:
            made = module.Interpreter(
                model_content=bytes(data),
                num_threads=threads,
                experimental_op_resolver_type=resolver,
                experimental_preserve_all_tensors=keep == "everything",
            )
            made.allocate_tensors()
            return made

        try:
            self.interpreter = opened()
        except (ValueError, RuntimeError) as error:
            raise ModelFileError(
                f"{self.name} refuses this .tflite: {str(error).strip()}",
                "convert it again, or install a newer runtime: this one may lack an operator of it",
            ) from error
        self._opened: Callable[[], Any] = opened
        self.input: LiteTensor = self.graph.tensors[self.graph.inputs[0]]
        # The answers come first.
        self.outputs: list[LiteTensor] = [self.graph.tensors[at] for at in self.graph.outputs]
        self.output: LiteTensor = self.outputs[0]

    def invoke(self, value: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Run one input of the model's own shape and dtype. Returns a copy of the output."""
        return self._answer(self.interpreter, value)

    def _answer(self, interpreter: Any, value: npt.NDArray[Any]) -> npt.NDArray[Any]:
        interpreter.set_tensor(self.input.index, value)
        try:
            interpreter.invoke()
        except RuntimeError as error:
            raise DeviceError(
                f"{self.name} failed: {str(error).strip()}", "run it with kernels='reference'"
            ) from error
        return np.array(interpreter.get_tensor(self.output.index))

    def value(self, index: int) -> npt.NDArray[Any]:
        """A copy of a tensor after `invoke` (with keep="everything")."""
        return np.array(self.interpreter.get_tensor(index))

    def further_codes(self) -> dict[str, npt.NDArray[Any]]:
        """{name: codes} of the outputs behind the answers after `codes` of one image.

        They are counted as int8, as `codes` does.
        """
        return {
            tensor.name: as_int8(self.interpreter.get_tensor(tensor.index))
            for tensor in self.outputs[1:]
        }

    def delegated(self) -> set[int] | None:
        """Indices of the tensors that a delegate writes (XNNPACK, with kernels="default").

        None where the runtime does not tell.
        """
        # No public function says which operators a delegate took.
        details = getattr(self.interpreter, "_get_ops_details", None)
        if details is None:
            return None
        return {
            int(index) for op in details() if op["op_name"] == "DELEGATE" for index in op["outputs"]
        }

    def codes(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """Output codes, int8 [n, ...], of images uint8 [n, px, px, channels].

        Each image runs alone. With several images, several threads run an interpreter each.
        An int8 input gets pixel - 128, a uint8 input the pixels. A uint8 output gives code - 128,
        as `tensor_range` counts them. Raises DataError when the images do not fit the model.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != self.input.shape[1:]:
            raise DataError(
                f"the model takes uint8 images {self.input.shape[1:]}, found {images.dtype} "
                f"{images.shape[1:]}",
                "decode images to the model's own size",
            )
        first = [self.interpreter]  # of the first thread that asks

        def some(part: slice) -> npt.NDArray[Any]:
            try:
                interpreter = first.pop()
            except IndexError:
                interpreter = self._opened()
            found, resident = [], pages.Resident(images)
            for image in images[part]:
                found.append(self._answer(interpreter, quantize_pixels(image[None], self.input)))
                resident.used(1, image.nbytes)
            return np.concatenate(found)

        return as_int8(np.concatenate(cores.in_order(some, cores.shares(len(images)))))


def as_int8(codes: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Codes counted as int8: those of uint8 less 128. A copy, since the interpreter reuses its
    tensors.
    """
    if codes.dtype == np.uint8:
        return (codes.astype(np.int16) - 128).astype(np.int8)
    return codes.copy()


def quantize_pixels(images: npt.NDArray[np.uint8], tensor: LiteTensor) -> npt.NDArray[Any]:
    """Pixels as codes of the input tensor: uint8 as they are, int8 as pixel - 128.

    The scale of an EdgeKD input makes this exact. Raises ModelFileError for an input of another
    type.
    """
    if tensor.dtype == "UINT8":
        return images
    if tensor.dtype == "INT8":
        return (images.astype(np.int16) - 128).astype(np.int8)
    raise ModelFileError(
        f"the model's input is {tensor.dtype}; images go into INT8 or UINT8",
        "convert it with int8 inputs",
    )


def run(
    data: bytes | memoryview,
    images: npt.NDArray[np.uint8],
    *,
    kernels: str = "default",
    threads: int = 1,
) -> npt.NDArray[Any]:
    """Output codes of a .tflite on uint8 images [n, px, px, channels]: int8 [n, classes]."""
    return LiteRunner(data, kernels=kernels, threads=threads).codes(images)


def logits(
    data: bytes | memoryview,
    images: npt.NDArray[np.uint8],
    *,
    kernels: str = "default",
    threads: int = 1,
) -> npt.NDArray[np.float32]:
    """Dequantized outputs, float32 [n, classes], on uint8 images [n, px, px, channels]."""
    runner = LiteRunner(data, kernels=kernels, threads=threads)
    return tensor_range(runner.output).dequantize(runner.codes(images))


def tensor_range(tensor: LiteTensor) -> Range:
    """The range of an activation for int8 codes (those of uint8 less 128).

    Raises ModelFileError when it has no single scale.
    """
    if tensor.scale.size != 1 or tensor.zero_point.size != 1:
        raise ModelFileError(
            f"tensor {tensor.name!r} has no per-tensor scale", "convert it to int8"
        )
    return Range(
        float(tensor.scale[0]), int(tensor.zero_point[0]) - (128 if tensor.dtype == "UINT8" else 0)
    )


def describe(data: bytes | memoryview) -> LiteFacts:
    """What a .tflite consists of: its operators, its input and output, whether all of it is
    integer.
    """
    graph = read(data)
    facts = LiteFacts(
        ops=graph.counts(),
        full_integer=is_full_integer(graph),
        input=_port(graph.tensors[graph.inputs[0]]),
        output=_port(graph.tensors[graph.outputs[0]]),
        bytes=len(data),
    )
    if further := [_port(graph.tensors[index]) for index in graph.outputs[1:]]:
        facts["further"] = further
    return facts


def _port(tensor: LiteTensor) -> PortFacts:
    quantized = tensor.scale.size == 1
    return PortFacts(
        name=tensor.name,
        dtype=tensor.dtype.lower(),
        shape=list(tensor.shape),
        scale=float(tensor.scale[0]) if quantized else None,
        zero_point=int(tensor.zero_point[0]) if quantized else None,
    )
