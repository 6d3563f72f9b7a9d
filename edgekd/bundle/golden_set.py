"""The golden folder: images with the answers that every correct copy of the model gives (schema
edgekd.golden/1).

A sample runs them at its start through its own decoding, fitting and normalisation, and refuses to
work when an answer differs. `self_test` does the same here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edgekd.bundle import deployment, other_formats
from edgekd.bundle.deployment_record import Deployment, Golden, GoldenImage, ImageInput
from edgekd.core.errors import ModelFileError
from edgekd.core.records import UNSET, UnsetType, to_json
from edgekd.core.store import facts_json
from edgekd.data import images
from edgekd.tflite import runtime
from edgekd.tflite.ports import SHIFT

# XNNPACK gave the same bytes on x86, on Arm and in WebAssembly, and differed by one LSB between two
# releases of one runtime.
TOLERANCE_LSB = 1
# As for files in other number formats, of which float16 is what a GPU computes in: it dequantizes
# the weights, and rounds activations by other rules. A wrong file is off by far more.
ACCELERATOR_TOLERANCE = other_formats.TOLERANCE
# Height and width: prime and not square, so that a wrong way of fitting changes the picture.
PATTERN_SIDES = (61, 47)
PATTERN_SEEDS = 64  # patterns that are tried until the model tells RGB from BGR on one
FOLDER = "golden"
INDEX, PATTERN, FITTED = (
    f"{FOLDER}/{name}" for name in ("golden.json", "pattern.png", "pattern_fitted.png")
)

Pixels = npt.NDArray[np.uint8]
Codes = npt.NDArray[np.int8]


def golden_files(
    contract: Deployment,
    labels: Sequence[str],
    model: bytes,
    pictures: Pixels,
    truth: npt.NDArray[np.int64],
) -> dict[str, bytes]:
    """The files of the golden folder, {path: bytes}.

    `model`: the deployed .tflite. `pictures`: uint8 [n, px, px, channels]. `truth`: the indices of
    their labels [n], or 0 and 1 for each label [n, k].
    """
    runner = runtime.LiteRunner(model)
    files: dict[str, bytes] = {}
    rows = []
    found = zip(pictures, truth, runner.codes(pictures), strict=True)
    for number, (picture, known, codes) in enumerate(found):
        name = f"{FOLDER}/{number:03d}.png"
        files[name] = images.encode_png(picture)
        several = [labels[k] for k in np.flatnonzero(known)] if truth.ndim > 1 else UNSET
        label = labels[known] if truth.ndim == 1 else UNSET
        rows.append(_golden_image(contract, labels, name, as_int8(codes), label, several))
    picture, fitted, codes = _telling_pattern(contract, runner)
    files[PATTERN], files[FITTED] = images.encode_png(picture), images.encode_png(fitted)
    pattern_row = _golden_image(contract, labels, PATTERN, codes, fitted=FITTED)
    golden = Golden(
        tolerance_lsb=TOLERANCE_LSB,
        accelerator_tolerance=ACCELERATOR_TOLERANCE,
        images=rows,
        pattern=pattern_row,
    )
    files[INDEX] = facts_json(to_json(golden))
    return files


def _golden_image(
    contract: Deployment,
    labels: Sequence[str],
    file: str,
    codes: Codes,
    label: str | UnsetType = UNSET,
    several: list[str] | UnsetType = UNSET,
    fitted: str | UnsetType = UNSET,
) -> GoldenImage:
    said = deployment.answer(contract, labels, codes)
    return GoldenImage(
        file=file,
        fitted=fitted,
        label=label,
        labels=several,
        codes_int8=codes.astype(int).tolist(),
        codes_uint8=(codes.astype(int) + SHIFT).tolist(),
        answer=said.answer,
        set=said.set,
        unsure=said.unsure,
    )


def pattern(channels: int, seed: int) -> Pixels:
    """A coloured test picture, uint8 [61, 47, channels].

    Its waves and blocks change under a wrong resize or a wrong order of channels.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : PATTERN_SIDES[0], 0 : PATTERN_SIDES[1]].astype(np.float64)
    waves = [
        127.5
        + 110 * np.sin(x * rng.uniform(0.05, 0.5) + y * rng.uniform(0.05, 0.5) + rng.uniform(0, 6))
        for _ in range(channels)
    ]
    picture = np.clip(np.rint(np.stack(waves, -1)), 0, 255).astype(np.uint8)
    top, left = rng.integers(5, 25, 2)
    picture[top : top + 20, left : left + 15] = rng.integers(0, 256, channels)
    return picture


def _telling_pattern(
    contract: Deployment, runner: runtime.LiteRunner
) -> tuple[Pixels, Pixels, Codes]:
    """(pattern, pattern fitted to the input, output codes) of the first pattern that RGB and BGR
    answer differently.
    """
    source = contract.input
    for seed in range(PATTERN_SEEDS):
        picture = pattern(source.channels, seed)
        fitted = deployment.fitted(picture, source)
        codes = as_int8(runner.codes(fitted[None])[0])
        turned = as_int8(runner.codes(fitted[..., ::-1][None])[0])
        moved = np.abs(codes.astype(int) - turned.astype(int)).max()
        if source.channels == 1 or moved > 2 * TOLERANCE_LSB:
            break
    return picture, fitted, codes


def as_int8(codes: npt.NDArray[np.integer]) -> Codes:
    """Output codes counted as int8, whether the runner counted uint8 ports so or not."""
    shift = SHIFT if codes.dtype == np.uint8 else 0
    return (codes.astype(np.int16) - shift).astype(np.int8)


def self_test(
    contract: Deployment,
    golden: Golden,
    labels: Sequence[str],
    model: bytes,
    files: Mapping[str, bytes],
) -> list[str]:
    """How a sample's answers differ from the stored ones, a sentence each; empty when none does.

    Raises ModelFileError when a golden image is missing or deployment.json does not fit the model.
    """
    try:
        runner = runtime.LiteRunner(model)
        rows = [*golden.images, golden.pattern]
        found = (
            _difference(contract, golden.tolerance_lsb, labels, runner, row, files) for row in rows
        )
        return [text for text in found if text]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ModelFileError(
            f"the bundle's deployment.json or golden.json is incomplete: {error!r}",
            "build the bundle again",
        ) from None


def _difference(
    contract: Deployment,
    tolerance: int,
    labels: Sequence[str],
    runner: runtime.LiteRunner,
    row: GoldenImage,
    files: Mapping[str, bytes],
) -> str:
    """How the answer to one golden image differs from the stored one, or ""."""
    picture = images.as_rgb(images.decode(files[row.file], row.file))
    fitted = deployment.fitted(picture, contract.input)
    codes = as_int8(runner.codes(input_codes(contract.input, fitted)[None])[0])
    off = int(np.abs(codes.astype(int) - np.asarray(row.codes_int8)).max())
    said = deployment.answer(contract, labels, codes)
    if off > tolerance:
        return f"{row.file}: {off} LSB from the stored answer"
    if off == 0 and said != row.expected:
        return f"{row.file}: the answer is {to_json(said)}, stored is {row.answer!r}"
    if not isinstance(row.fitted, UnsetType):
        stored = images.as_rgb(images.decode(files[row.fitted], row.fitted))
        if not np.array_equal(fitted, stored):
            return f"{row.file}: fitting gives other pixels than {row.fitted}"
    return ""


def input_codes(source: ImageInput, fitted: Pixels) -> Pixels:
    """The input tensor's codes of an RGB image of the right size, by what deployment.json says."""
    ordered = fitted[..., ::-1] if source.order == "BGR" else fitted
    if source.channels == 1:
        ordered = ordered[..., :1]
    mean, std = np.asarray(source.mean, np.float64), np.asarray(source.std, np.float64)
    codes = np.rint((ordered / 255.0 - mean) / std / source.scale) + source.zero_point
    return np.clip(codes, 0, 255).astype(np.uint8)
