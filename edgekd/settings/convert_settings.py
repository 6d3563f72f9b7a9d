"""The recipe's table about converting a network that is trained already: [convert]."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from msgspec import Meta

from edgekd.core.number_formats import NumberFormat

# What a model's file may leave open: of a network to convert, and of a finished teacher.
# Beyond these bounds it is a mean of pixels in 0..255, which would need dividing by 255.
Mean = Annotated[
    tuple[Annotated[float, Meta(ge=-16, le=16)], ...],
    Meta(
        description="Mean of each input channel, for pixels in 0..1. Empty: as the model says, "
        "else ImageNet's."
    ),
]
Std = Annotated[
    tuple[Annotated[float, Meta(ge=1e-6, le=16)], ...],
    Meta(description="Standard deviation of each input channel. Empty: as for mean."),
]
Order = Annotated[
    Literal["rgb", "bgr"], Meta(description="Order of the colours in the model's input.")
]
Layout = Annotated[
    Literal["auto", "nchw", "nhwc"],
    Meta(description='Order of the axes of the model\'s input. "auto": by its shape.'),
]
Trust = Annotated[
    bool, Meta(description="Whether code inside the model's file may run. A pickle can do all.")
]


@dataclasses.dataclass(frozen=True)
class ConvertConfig:
    """A network of the user's own in place of a student that is trained, off if `model` is empty;
    and, for any student, the number formats of the files. `edgekd convert` fills this in.
    """

    model: Annotated[
        str,
        Meta(
            description="MODEL.onnx, MODEL.pt2, package.module:function, NAME@WEIGHTS, "
            "torchvision:NAME[@WEIGHTS] or hf-hub:REPO."
        ),
    ] = ""
    px: Annotated[
        int, Meta(ge=0, le=1024, description="Side of its input in pixels. 0: the model's own.")
    ] = 0
    mean: Mean = ()
    std: Std = ()
    order: Order = "rgb"
    layout: Layout = "auto"
    labels: Annotated[
        Literal["auto", "own", "network"],
        Meta(
            description='What the images are measured against: "own" labels, or the answers of the '
            'float "network" itself. "auto": own labels where there are as many classes as outputs.'
        ),
    ] = "auto"
    formats: Annotated[
        tuple[NumberFormat, ...],
        Meta(
            description="Number formats to make beside int8, which is always made. Empty: those of "
            "the device profile."
        ),
    ] = ()
    trust: Trust = False
    outputs: Annotated[
        tuple[str, ...],
        Meta(
            description="Names of the outputs to keep of a network with several, the answers "
            "(logits) first. Empty: all."
        ),
    ] = ()
