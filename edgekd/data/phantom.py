"""The built-in SYNTHETIC chest radiographs: a seeded X-ray through a model thorax.

No image comes from a patient. A body is described by how many centimetres of air, soft tissue and
bone each ray crosses (`phantom_anatomy`, `phantom_rays`). Two photon energies, scatter, detector
blur and photon counts turn it into an exposure, and a window into grey levels (`exposure`).

    plan(count)                    which indices make up train and test
    label(index), patient(index)   the class and the patient of an image
    findings(index)                its diseases, in the set where an image may show several
    render(seed, index, px)        one radiograph, uint8 [px, px]

Each index determines its image alone, so that a set can be drawn in any order and by several
threads. All arithmetic is float64: machines differ in the last bit of exp(), which is then too
little to move a grey level. Needs numpy only.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from edgekd.core.errors import DataError
from edgekd.data import exposure
from edgekd.data.phantom_anatomy import USUAL, Severity, draw_anatomy, draw_view, grid
from edgekd.data.phantom_rays import project

# Part of the source's fingerprint. Raise it whenever a change moves a pixel.
VERSION = 1

CLASSES = ("normal", "opacity", "effusion", "cardiomegaly")
FINDINGS = CLASSES[1:]

# The default set: about 10 s to draw, and minutes to train a student on.
TRAIN_IMAGES = 2000
TEST_IMAGES = 600
PX = exposure.PX
# Below LEAST_PX ribs vanish; above MOST_PX the model has no more detail to show.
LEAST_PX, MOST_PX = 16, 512
# Enough for four classes with five images in each of train, val and test.
FEWEST_IMAGES = 80

# Images come in twelves: eight patients, four with two images and four with one, and three images
# of each class.
_CYCLE = 12
# Test indices start far behind those of train, so that neither range moves when a set grows.
_TEST_START = 100_000 * _CYCLE


def plan(count: int) -> tuple[range, range]:
    """The indices of train (val included) and of test, for a set of `count` images.

    They are divided as 2,000 to 600. Raises DataError below FEWEST_IMAGES, or where the two ranges
    would meet.
    """
    if not FEWEST_IMAGES <= count < _TEST_START:
        raise DataError(
            f"a phantom set of {count} images", f"ask for {FEWEST_IMAGES} to {_TEST_START - 1}"
        )
    test = max(5 * len(CLASSES), round(count * TEST_IMAGES / (TRAIN_IMAGES + TEST_IMAGES)))
    return range(count - test), range(_TEST_START, _TEST_START + test)


def patient(index: int) -> int:
    """The synthetic patient of an image. Of three images in a row, two share one patient."""
    return 2 * (index // 3) + (index % 3) // 2


def label(index: int) -> str:
    """The class of an image. Every run of twelve indices has three of each class."""
    block, second = divmod(patient(index), 2)
    return CLASSES[(block + 2 * second) % len(CLASSES)]


def findings(index: int) -> tuple[str, ...]:
    """The diseases of an image in the set where it may show none, one or several.

    Every run of twelve indices has each combination.
    """
    return tuple(name for bit, name in enumerate(FINDINGS) if patient(index) >> bit & 1)


def render(
    seed: int,
    index: int,
    px: int = PX,
    diseases: Collection[str] | None = None,
    severity: Severity = USUAL,
) -> NDArray[np.uint8]:
    """Draw image `index` of the set `seed`: uint8 [px, px], bone white.

    `diseases`: what to draw; None means the image's label only. `severity`: how severe diseases
    are. Anatomy and disease belong to the patient; position, breath, exposure and window belong to
    the image.
    """
    shown = (label(index),) if diseases is None else diseases
    body = draw_anatomy(np.random.default_rng([seed, patient(index), 1]), shown, severity)
    rng = np.random.default_rng([seed, index, 2])
    view = draw_view(rng, body)
    x, y = grid(px, view)
    soft, bone = project(body, view, x, y)
    return exposure.window(exposure.expose(soft, bone, px, rng), rng)
