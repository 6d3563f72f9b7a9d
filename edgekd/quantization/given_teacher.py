"""A finished network of the user's as a teacher: an ONNX model runs in ONNX Runtime, and any other
form is recorded, as a network to convert is.

It gives logits alone: a recorded graph and an ONNX model have no features that losses could read.
"""

from __future__ import annotations

import dataclasses
import functools
from importlib.metadata import version
from pathlib import Path

import onnx
import torch

from edgekd.core.artifacts import ONNX, Json, Network
from edgekd.core.errors import EdgeKDError, ModelFileError, RecipeError, UnsupportedNetwork
from edgekd.networks import onnx_network
from edgekd.networks.foreign import onnx_reading, onnx_size
from edgekd.networks.foreign.model import TEACHER, Asked, Layout, read
from edgekd.networks.foreign.onnx_reading import OnnxImage, OnnxText
from edgekd.quantization import given_network
from edgekd.quantization.given_network import DIGEST, NAMES, FileState
from edgekd.settings.recipe import ConvertConfig

LARGEST = 2**31 - 1  # bytes that a protobuf message, and so one ONNX file, can hold


def network(config: ConvertConfig) -> Network:
    """The teacher as an artifact.

    Raises what reading it raises, and UnsupportedNetwork for what is no classifier.
    """
    path = Path(config.model).expanduser()
    if path.suffix.lower() == ".onnx":
        return _onnx(path, config, given_network.state(config.model))
    return given_network.network(config, TEACHER)


def digest(config: ConvertConfig) -> str:
    """A text that changes with the contents of the network."""
    path = Path(config.model).expanduser()
    if path.suffix.lower() == ".onnx":
        return onnx_reading.digest(path, read(path))
    return given_network.foreign(config, TEACHER).digest


def states_normalisation(config: ConvertConfig) -> bool:
    """Whether the user or the model says how pixels are normalised."""
    path = Path(config.model).expanduser()
    if path.suffix.lower() == ".onnx":
        return bool(
            config.mean
            or config.std
            or _described(config, given_network.state(config.model)).told.mean
        )
    return given_network.states_normalisation(config, TEACHER)


@dataclasses.dataclass(frozen=True)
class _Described:
    """An ONNX file that was read: its model with all weights, its input, and its metadata."""

    model: onnx.ModelProto
    image: OnnxImage
    told: OnnxText


@functools.lru_cache(maxsize=1)
def _described(config: ConvertConfig, _state: FileState | None) -> _Described:
    path = Path(config.model).expanduser()
    model = onnx_reading.parsed(path, read(path))
    asked = Asked(config.px, Layout(config.layout), config.trust, TEACHER)
    image = onnx_reading.image_input(path, model, asked)
    onnx_reading.check_one_output(path, model)
    return _Described(model, image, onnx_reading.text(model, image.channels))


@functools.lru_cache(maxsize=2)
def _onnx(path: Path, config: ConvertConfig, state: FileState | None) -> Network:
    found = _described(config, state)
    image, told = found.image, found.told
    mean, std = given_network.pixels(config, image.channels, told.mean, told.std, TEACHER)
    options: dict[str, Json] = {
        onnx_network.NHWC: image.layout is Layout.NHWC,
        onnx_network.BGR: config.order == "bgr",
        onnx_network.BATCH: image.batch,
        onnx_network.RUNTIME: version("onnxruntime"),
    }
    whole = _whole(path, found.model)
    outputs = _outputs(path, whole, options, (image.channels, image.px, image.px))
    names: list[Json] = [*told.classes] if len(told.classes) == outputs else []
    return Network(
        arch=ONNX,
        options={**options, "num_classes": outputs},
        px=image.px,
        mean=mean,
        std=std,
        history=[],
        facts={
            "name": path.stem,
            "weights": path.name,
            "licence": told.licence,
            DIGEST: digest(config),
            NAMES: names or [str(number) for number in range(outputs)],
            **onnx_size.size(found.model),
        },
        state=whole,
    )


def _whole(path: Path, model: onnx.ModelProto) -> bytes:
    """The model with all weights in one message. Raises ModelFileError if that is too large."""
    if model.ByteSize() > LARGEST:
        raise ModelFileError(
            f"{path}: {model.ByteSize() / 2**30:.1f} GiB with its weights, more than one ONNX file "
            "can hold",
            "give a smaller teacher, or a .pt2",
        )
    return model.SerializeToString()


@torch.inference_mode()
def _outputs(
    path: Path, model: bytes, options: dict[str, Json], shape: tuple[int, int, int]
) -> int:
    """The number of the model's outputs. Raises UnsupportedNetwork."""
    try:
        answer = onnx_network.OnnxNetwork(model, options)(torch.zeros(1, *shape))
    except EdgeKDError as error:
        raise ModelFileError(f"{path}: {error.what}", "export the model again") from None
    except Exception as error:  # ONNX Runtime raises its own family of types
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UnsupportedNetwork(
            f"{path}: ONNX Runtime cannot run it on an image {list(shape)}: {reason}",
            f"name the size that it takes, for example {TEACHER.px.format(224)}",
        ) from None
    if answer.ndim != 2 or answer.shape[1] < 2:
        raise UnsupportedNetwork(
            f"{path}: gives {list(answer.shape)} for one image; logits [1, classes] of two or more "
            "classes are expected",
            "give a classifier: export the model's part up to the logits",
        )
    return int(answer.shape[1])


def check_outputs(made: Network, model: str, classes: list[str]) -> None:
    """Raise RecipeError unless a teacher answers the classes of the data, in their order."""
    outputs, names = int(made.options["num_classes"]), given_network.classes(made)
    if outputs != len(classes):
        raise RecipeError(
            f"{model} has {outputs} outputs, and the data has {len(classes)} classes, so it cannot "
            "teach as it is",
            f"give a teacher of these {len(classes)} classes, or images of its classes",
        )
    if names != classes and sorted(names) == sorted(classes):
        raise RecipeError(
            f"{model} answers its classes in the order {', '.join(names[:4])}, and the data has "
            f"them in the order {', '.join(classes[:4])}",
            "export it with its outputs in the order of the data's classes",
        )
