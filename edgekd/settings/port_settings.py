"""The recipe's table [ports]: what the file takes in."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from msgspec import Meta

from edgekd.core.errors import RecipeError
from edgekd.core.frames import FACTORS, USUAL_FACTOR
from edgekd.core.number_formats import NumberFormat
from edgekd.settings.convert_settings import ConvertConfig


@dataclasses.dataclass(frozen=True)
class PortsConfig:
    """What the int8 file takes in: images of the network's size, or larger frames."""

    resize: Annotated[
        Literal["outside", "inside"],
        Meta(
            description='"outside": the app resizes images to data.input_px. "inside": the file '
            "takes a larger frame and reduces it itself, to Pillow's pixels on every platform."
        ),
    ] = "outside"
    frame: Annotated[
        tuple[Annotated[int, Meta(ge=32, le=4096)], ...],
        Meta(
            max_length=2,
            description="Height and width of the frame in pixels, with ports.resize=inside: each "
            "is at least 2 times data.input_px. The file looks at the largest centred square of "
            "2, 3, 4, 5 or 7 times that side. Empty: a square of 3 times.",
        ),
    ] = ()

    def sides(self, px: int) -> tuple[int, ...]:
        """[height, width] of the frame for a network of px x px; () where the app resizes.

        Raises RecipeError for a frame that is too small for px.
        """
        if self.resize == "outside":
            return ()
        usual = USUAL_FACTOR * px
        frame = self.frame or (usual, usual)
        if len(frame) != 2 or min(frame) < FACTORS[0] * px:
            raise RecipeError(
                f"ports.frame is {list(frame)}, and data.input_px is {px}: expected a height and a "
                f"width of at least {FACTORS[0]} times that side",
                f"--set 'ports.frame=[{usual},{usual}]', or a smaller data.input_px",
            )
        return frame

    def check(self, px: int, convert: ConvertConfig, where: str) -> None:
        """Raise RecipeError for a frame that `sides` refuses, and for formats that take no frame.

        `where`: the place of the settings, for messages.
        """
        if not convert.model:  # which knows its own size
            self.sides(px)
        if self.resize == "inside" and set(convert.formats) - {NumberFormat.INT8}:
            raise RecipeError(
                f'{where}: ports.resize = "inside" makes the int8 file alone, and convert.formats '
                "asks for others, which would take images of another size",
                "leave one of the two out",
            )
