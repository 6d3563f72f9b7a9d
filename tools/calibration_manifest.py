"""Writes or checks a manifest of calibration and golden images: names and hashes, without pixels.

    python tools/calibration_manifest.py FILE --data phantom:120 --calibration 24 --golden 8
    python tools/calibration_manifest.py FILE --data phantom:120 --calibration 24 --golden 8 --check

With a manifest, others who have the source can draw the same two sets and check that they are the
same. calib_data/README.md describes the file. Exits 2 when `--check` finds a difference.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from edgekd.core.artifacts import Dataset, Inputs
from edgekd.core.errors import DataError, EdgeKDError
from edgekd.core.packing import pack
from edgekd.core.records import Record, from_json, to_json
from edgekd.data.dataset_builder import build_dataset
from edgekd.data.input_builder import build_inputs
from edgekd.data.source_registry import open_all
from edgekd.settings.recipe import DataConfig

SCHEMA = "edgekd.calibration/1"


class ManifestImage(Record, frozen=True):
    """One image: its row in `Dataset.images`, its name and hash, and its class or its labels."""

    row: int
    name: str
    sha256: str
    label: str | list[str]


class Manifest(Record, frozen=True):
    """The calibration and golden images of a data set, and the settings that drew them."""

    schema: str
    data: str
    synthetic: bool
    licence: str
    dataset_digest: str
    fit: str
    px: int
    channels: int
    seed: int
    classes: list[str]
    calibration: list[ManifestImage]
    golden: list[ManifestImage]


def manifest(dataset: Dataset, inputs: Inputs, seed: int) -> Manifest:
    """The manifest of the calibration and golden images in `inputs`."""
    return Manifest(
        schema=SCHEMA,
        data=dataset.name,
        synthetic=dataset.facts["synthetic"],
        licence=dataset.facts["licence"],
        dataset_digest=pack(dataset).digest,
        fit=dataset.facts["fit"],
        px=inputs.px,
        channels=inputs.channels,
        seed=seed,
        classes=dataset.classes,
        calibration=[_image(dataset, row) for row in inputs.rows["calibration"]],
        golden=[_image(dataset, row) for row in inputs.rows["golden"]],
    )


def _image(dataset: Dataset, index: int) -> ManifestImage:
    """The entry of the image in one row of `dataset.images`."""
    row = dataset.images[index]
    label = (
        [dataset.classes[one] for one in row["label"]]
        if dataset.labels == "many"
        else dataset.classes[row["label"]]
    )
    return ManifestImage(index, row["name"], row["sha256"], label)


def check(expected: Manifest, found: Manifest) -> None:
    """Raise DataError if two manifests differ. The message names the images, or the setting."""
    if expected.schema != SCHEMA:
        raise DataError(
            f"a calibration manifest of schema {expected.schema!r}", f"expected {SCHEMA!r}"
        )
    for part, before, after in (
        ("calibration", expected.calibration, found.calibration),
        ("golden", expected.golden, found.golden),
    ):
        differing = {(image.name, image.sha256) for image in before} ^ {
            (image.name, image.sha256) for image in after
        }
        if differing:
            names = ", ".join(sorted({name for name, _ in differing})[:10])
            raise DataError(
                f"the {part} set of {found.data} differs from the manifest in {len(differing)} "
                f"entries ({names})",
                "use the same images, seed and counts, or write a new manifest",
            )
    for field in Manifest.__struct_fields__:
        if getattr(found, field) != getattr(expected, field):
            raise DataError(
                f"{field} is {getattr(found, field)!r}, but {getattr(expected, field)!r} in the "
                "manifest",
                "use the same settings, or write a new manifest",
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("file", type=Path, help="the manifest, a JSON file")
    parser.add_argument("--data", required=True, help="as for edgekd build")
    parser.add_argument("--px", type=int, default=96, help="side of the network's input in pixels")
    parser.add_argument("--fit", choices=("squash", "crop", "pad"), default="squash")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--calibration", type=int, default=256, help="how many images")
    parser.add_argument("--golden", type=int, default=32, help="how many images")
    parser.add_argument("--check", action="store_true", help="compare with the file")
    arguments = parser.parse_args()
    config = DataConfig(source=arguments.data, fit=arguments.fit)
    try:
        source = open_all(config)
        dataset = build_dataset(source, config, arguments.seed)
        inputs = build_inputs(
            source,
            dataset,
            arguments.px,
            arguments.seed,
            arguments.fit,
            arguments.calibration,
            arguments.golden,
        )
        found = manifest(dataset, inputs, arguments.seed)
        if arguments.check:
            body = json.loads(arguments.file.read_text(encoding="utf-8"))
            check(from_json(Manifest, body, str(arguments.file)), found)
        else:
            arguments.file.write_text(json.dumps(to_json(found), indent=1) + "\n", encoding="utf-8")
    except EdgeKDError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    print(f"{arguments.file}: {len(found.calibration)} and {len(found.golden)} images")


if __name__ == "__main__":
    main()
