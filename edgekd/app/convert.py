"""`edgekd convert`: a build whose student is a network that is trained already."""

from __future__ import annotations

from pathlib import Path

from edgekd.app import build
from edgekd.app.arguments import Build, Convert
from edgekd.app.progress import Note, silent
from edgekd.app.results import BuildResult
from edgekd.app.settings import listed, sets
from edgekd.core.artifacts import sha256
from edgekd.core.errors import RecipeError
from edgekd.core.number_formats import NumberFormat
from edgekd.core.store import Store
from edgekd.settings.setting_types import Toml

KEY = "edgekd"  # in the metadata of a model.onnx that EdgeKD published
# The name of each argument that is a setting of the table [convert].
TABLE = ("order", "layout")
# Above it a mean or a deviation is one of pixels of 0..255: the bound of convert.mean.
BRIGHTEST = 16.0


def run(asked: Convert) -> BuildResult:
    """Convert what the arguments describe. Raises EdgeKDError for bad input."""
    path = Path(asked.model).expanduser()
    if path.suffix.lower() == ".onnx":
        from edgekd.networks.foreign import onnx_file
        from edgekd.networks.foreign.model import read as model_bytes

        data = model_bytes(path)
        if KEY.encode() in data and onnx_file.is_published(path, data):
            return _again(asked, path, data)
    return build.run(as_build(asked))


def _again(asked: Convert, path: Path, data: bytes) -> BuildResult:
    """Convert a model.onnx that EdgeKD published: its numbers are final, so no image is needed.

    Raises RecipeError for other formats than int8, since its weights are rounded to int8.
    """
    others = [one for one in listed(asked.formats or "") if one != NumberFormat.INT8]
    if others:
        raise RecipeError(
            f"{path}: a build's own model.onnx holds the int8 network alone, and --formats asks "
            f"for {', '.join(others)}",
            "give --formats to the `edgekd build` that made it; finished stages are not repeated",
        )
    from edgekd.export import published_onnx, tflite_convert

    made = tflite_convert.convert(published_onnx.read(data, str(path)))
    out = Path(asked.out or build.BUILDS / f"{path.resolve().parent.name}-again")
    store = Store(out)
    with store.lock():
        store.publish("model.tflite", bytes(made.tflite))
    told = f"{out / 'model.tflite'}: {len(made.tflite)} bytes, sha256 {sha256(made.tflite)}"
    beside = path.parent / "model.tflite"
    if beside.is_file():
        same = beside.read_bytes() == bytes(made.tflite)
        told += f"; {'the same bytes as' if same else 'NOT the bytes of'} {beside}"
    (asked.progress or silent)(Note(told))
    return BuildResult(out, None, file=out / "model.tflite")


def as_build(asked: Convert) -> Build:
    """The build that converts the network. Raises RecipeError for what is no list of numbers."""
    if asked.data is None:
        raise RecipeError(
            "convert needs images to calibrate and to test with, and --data is missing",
            "name a folder of images, labelled or not: --data DIR",
        )
    own: dict[str, Toml] = {
        "convert.model": asked.model,
        "qat.epochs": asked.qat or 0,
        **({} if asked.qat else {"qat.rounding": "quick"}),
        # 64 images at 224 px take about 8 s, and show what costs several points.
        "app_inputs.images": 64,
        "convert.px": asked.px or 0,
        "convert.trust": asked.trust,
    }
    for name in TABLE:
        if (value := getattr(asked, name)) is not None:
            own[f"convert.{name}"] = value
    if asked.outputs is not None:
        own["convert.outputs"] = [*listed(asked.outputs)]
    for name, text in (("mean", asked.mean), ("std", asked.std)):
        if text is not None:
            own[f"convert.{name}"] = _numbers(name, text)
    return Build(
        profile=asked.profile,
        data=asked.data,
        out=asked.out,
        store=asked.store,
        until=asked.until,
        settings=[*sets(own), *sets(asked.settings)],
        device=asked.device,
        formats=asked.formats,
        seed=asked.seed,
        progress=asked.progress,
    )


def _numbers(name: str, text: str) -> list[Toml]:
    """The numbers of "0.485,0.456,0.406". Raises RecipeError."""
    try:
        found = [float(part) for part in text.replace(" ", ",").split(",") if part]
    except ValueError:
        raise RecipeError(
            f"--{name} {text!r}: expected numbers with commas between them",
            f"for example --{name} 0.5,0.5,0.5",
        ) from None
    if any(abs(value) > BRIGHTEST for value in found):
        divided = ",".join(f"{value / 255:.6g}" for value in found)
        raise RecipeError(
            f"--{name} {text}: these are numbers for pixels of 0..255, and --{name} is for pixels "
            "in 0..1",
            f"divide them by 255: --{name} {divided}",
        )
    return [*found]
