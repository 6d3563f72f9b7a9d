"""Judges the answers to images that apps prepare in other ways: what costs too much, what helps."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgekd.core.records import UNSET, UnsetType
from edgekd.core.resizer_names import Resizer
from edgekd.data.app_variants import JPEG_QUALITY, Variant, VariantKind
from edgekd.evaluation import metrics
from edgekd.evaluation.accuracy_record import Change, StageState
from edgekd.evaluation.app_inputs_record import AppInput, AppInputs
from edgekd.evaluation.stage_verdicts import SLACK, top1_fell

RESIZERS = {
    Resizer.PILLOW_BICUBIC: "Pillow's bicubic filter (antialiased)",
    Resizer.OPENCV: "cv2.resize as it is (INTER_LINEAR)",
    Resizer.OPENCV_AREA: "cv2.resize with INTER_AREA",
    Resizer.ANDROID: "Android's createScaledBitmap, TFLite Support",
    Resizer.IOS: "iOS: vImage, Lanczos",
    Resizer.NEAREST: "the nearest pixel",
}
FITS = {
    "squash": "the whole image squashed to the square",
    "crop": "the largest centred square",
    "pad": "the whole image between black bars",
}
TITLES = {
    VariantKind.ORIENTATION: "EXIF orientation ignored (turned by 90 degrees)",
    VariantKind.COMPRESSION: f"compressed to JPEG of quality {JPEG_QUALITY}",
    VariantKind.CHANNELS: "red and blue exchanged (BGR for RGB)",
}


@dataclasses.dataclass(frozen=True)
class Prepared:
    """The answers to images that were prepared in one way: logits, float32 [n, k]."""

    variant: Variant
    logits: npt.NDArray[np.floating]


@dataclasses.dataclass(frozen=True)
class Compared:
    """What all ways are compared with, and how.

    `logits`: float32 [n, k], answers to images prepared as deployment.json says. `labels`: of the
    same images, as in `metrics`. `of`: test images in all. `trained`: views.resizers, none where
    nothing was trained. `seed`: of the bootstrap.
    """

    logits: npt.NDArray[np.floating]
    labels: npt.NDArray[np.int64]
    of: int
    max_drop: float
    trained: Sequence[Resizer]
    seed: int


def report(before: Compared, found: Sequence[Prepared], notes: Sequence[str]) -> AppInputs:
    """The block "app_inputs"."""
    figures = metrics.evaluate(before.logits, before.labels)
    changes = [
        metrics.change(before.logits, each.logits, before.labels, before.seed) for each in found
    ]
    states = [judged(change, before.max_drop) for change in changes]
    costly = [
        each.variant
        for each, state in zip(found, states, strict=True)
        if state is StageState.BEYOND
    ]
    return AppInputs(
        n=len(before.labels),
        of=before.of,
        top1=figures.top1,
        top1_ci95=figures.top1_ci95,
        max_drop=before.max_drop,
        rows=[
            _row(
                before,
                each,
                change,
                state,
                _remedy(each.variant, before.trained, costly) if each.variant in costly else UNSET,
            )
            for each, change, state in zip(found, changes, states, strict=True)
        ],
        notes=list(notes),
    )


def _row(
    before: Compared,
    found: Prepared,
    change: Change,
    state: StageState,
    remedy: str | UnsetType,
) -> AppInput:
    figures = metrics.evaluate(found.logits, before.labels)
    flips = metrics.flips(before.logits, found.logits, before.labels)
    return AppInput(
        kind=found.variant.kind,
        name=found.variant.name,
        title=title(found.variant),
        top1=figures.top1,
        top1_ci95=figures.top1_ci95,
        agree=flips.agree_with_previous,
        flips_bad=flips.flips_bad,
        flips_good=flips.flips_good,
        change=change,
        state=state,
        remedy=remedy,
    )


def judged(change: Change, max_drop: float) -> StageState:
    """Whether a loss is beyond `max_drop`, and whether the flipped images say that it is real."""
    if -change.top1 <= max_drop + SLACK:
        return StageState.WITHIN
    return StageState.BEYOND if top1_fell(change) else StageState.UNCLEAR


def title(variant: Variant) -> str:
    """The way in words."""
    if variant.kind is VariantKind.RESIZER:
        return RESIZERS[Resizer(variant.name)]
    return FITS[variant.name] if variant.kind is VariantKind.FIT else TITLES[variant.kind]


def _remedy(variant: Variant, trained: Sequence[Resizer], costly: Sequence[Variant]) -> str:
    """What helps against the loss in one way, with settings that `edgekd build` takes, or `edgekd
    convert` where nothing was trained. `costly`: all ways that cost too much, since one training
    helps against all of their resizers.
    """
    qat = "" if trained else "--qat 3 "
    match variant.kind:
        case VariantKind.RESIZER if Resizer(variant.name) in trained:
            return (
                "the student was trained on this resizer: resize as deployment.json says, or put "
                "the resize into the file: --set ports.resize=inside"
            )
        case VariantKind.RESIZER:
            wanted = [each.name for each in costly if each.kind is VariantKind.RESIZER]
            known = dict.fromkeys([*(trained or [Resizer.PILLOW]), *wanted])
            names = ",".join(f'"{name}"' for name in known)
            return (
                "resize in the app as deployment.json says, or train on these resizers: "
                f"{qat}--set 'views.resizers=[{names}]'"
            )
        case VariantKind.FIT:
            return (
                "fit images in the app as deployment.json says, or have them fitted in this way "
                f"here: --set data.fit={variant.name}"
            )
        case VariantKind.ORIENTATION:
            return (
                "turn photographs by their EXIF orientation in the app (ExifInterface on Android, "
                "UIImage.imageOrientation on iOS, ImageOps.exif_transpose of Pillow), or train on "
                f"turned images: {qat}--set views.rotate=180"
            )
        case VariantKind.COMPRESSION:
            return (
                "send images with a quality of 90 or more, or train on softer and noisier views: "
                f"{qat}--set views.blur=0.5 --set views.noise=0.03"
            )
        case VariantKind.CHANNELS:
            return "exchange the channels in the app, such as cv2.cvtColor(image, COLOR_BGR2RGB)"
