"""What every form of a user's network gives: a module, its input, and what its author says."""

from __future__ import annotations

import dataclasses
import enum
from pathlib import Path

from torch import Tensor, nn

from edgekd.core.errors import ModelFileError, RecipeError
from edgekd.core.files import reason

LARGEST = 1024  # pixels a side, as data.input_px: beyond that a device needs seconds an image


class Layout(enum.StrEnum):
    """The order of an image's axes in the network's input."""

    AUTO = "auto"  # as the model's file says
    NCHW = "nchw"
    NHWC = "nhwc"


@dataclasses.dataclass(frozen=True)
class Options:
    """How the options of a model are written, for the next steps of messages."""

    px: str = "--px {}"
    layout: str = "--layout {}"
    trust: str = "--trust"
    mean: str = "--mean {}"
    std: str = "--std {}"
    order: str = "--order {}"
    outputs: str = "--outputs {}"


CONVERT = Options()  # of `edgekd convert` and `edgekd check`
TEACHER = Options(
    px="--set teacher.px={}",
    layout="--set teacher.layout={}",
    trust="--set teacher.trust=true",
    mean="--set teacher.mean=[{}]",
    std="--set teacher.std=[{}]",
    order="--set teacher.order={}",
    outputs="",  # a teacher gives its answers alone
)


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a user says of a model. `px`: the side of its input, 0 for the model's own.

    `trust`: code inside the file may run. `options`: how the user says it.
    """

    px: int = 0
    layout: Layout = Layout.AUTO
    trust: bool = False
    options: Options = CONVERT


@dataclasses.dataclass(frozen=True)
class Foreign:
    """A network that a user brings.

    `module`: in eval form, from images float32 [n, channels, px, px] to logits float32 [n,
    classes]. `px`: the side of its input, 0 where it takes any. `mean`, `std`: of each channel for
    pixels in 0..1, as the model says; empty where it does not. `classes`: the names of its outputs,
    empty where it does not say. `origin`: where the weights come from, without a folder. `licence`:
    as the model states it, else "". `digest`: a hash or a text that changes with the contents.
    `outputs`: the names of what the module gives, the answers first, where it gives several things
    or its file names them.
    """

    name: str
    module: nn.Module
    px: int
    channels: int
    origin: str
    digest: str
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    classes: tuple[str, ...] = ()
    licence: str = ""
    outputs: tuple[str, ...] = ()


class FromNhwc(nn.Module):
    """A network whose input is [n, px, px, channels], fed with [n, channels, px, px]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images float32 [n, channels, px, px]."""
        found: Tensor = self.network(images.permute(0, 2, 3, 1))
        return found


def read(path: Path) -> bytes:
    """The bytes of a model's file. Raises ModelFileError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelFileError(
            f"{path}: {reason(error)}", "name a model file that exists and can be read"
        ) from None


def no_size(name: str, asked: Asked) -> RecipeError:
    """The error for a model that does not say the size of its input image."""
    return RecipeError(
        f"{name} does not say the size of its input image",
        f"name it, for example {asked.options.px.format(224)}",
    )


def square(name: str, height: int, width: int, asked: Asked) -> int:
    """The side of a model's input in pixels, 0 where the model takes any.

    Raises RecipeError for an image that is not square, and for another size than was asked for.
    """
    if height != width:
        raise RecipeError(
            f"{name}: its input is {height} x {width} (0: any); EdgeKD takes square images",
            "export the model for a square input",
        )
    if max(height, asked.px) > LARGEST:
        raise RecipeError(
            f"{name}: its input is {max(height, asked.px)} px; at most {LARGEST} are taken",
            "export the model for a smaller input, or for any size",
        )
    if height and asked.px and asked.px != height:
        option = asked.options.px.format(asked.px)
        raise RecipeError(
            f"{name}: its input is {height} px, and {option} says {asked.px}",
            f"leave {option} out, or export the model with a dynamic size",
        )
    return height
