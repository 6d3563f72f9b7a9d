"""Manifests of calibration and golden sets: which images, by name and sha256, and never the images themselves.

With a manifest at hand anyone who has the source can draw the same sets again and see that they are the same.
"""

from __future__ import annotations

from edgekd.core.artifacts import Dataset, Inputs, Json, pack
from edgekd.core.errors import DataError

SCHEMA = "edgekd.calibration/1"


def manifest(dataset: Dataset, inputs: Inputs, seed: int) -> dict[str, Json]:
    """The manifest of a dataset's calibration and golden sets, as plain JSON (schema edgekd.calibration/1)."""
    return {
        "schema": SCHEMA,
        "data": dataset.name,
        "synthetic": dataset.facts["synthetic"],
        "licence": dataset.facts["licence"],
        "dataset_digest": pack(dataset).digest,
        "fit": dataset.facts["fit"],
        "px": inputs.px,
        "channels": inputs.channels,
        "seed": seed,
        "classes": dataset.classes,
        **{
            part: [
                {
                    "row": row,
                    "name": dataset.images[row]["name"],
                    "sha256": dataset.images[row]["sha256"],
                    "label": _label(dataset, row),
                }
                for row in inputs.rows[part]
            ]
            for part in ("calibration", "golden")
        },
    }


def _label(dataset: Dataset, row: int) -> Json:
    """An image's class by name, or the list of its labels."""
    label = dataset.images[row]["label"]
    return (
        [dataset.classes[one] for one in label]
        if dataset.labels == "many"
        else dataset.classes[label]
    )


def check(expected: dict[str, Json], dataset: Dataset, inputs: Inputs) -> None:
    """Raises DataError naming the images in which a manifest and a dataset's drawn sets differ."""
    if expected.get("schema") != SCHEMA:
        raise DataError(
            f"a calibration manifest of schema {expected.get('schema')!r}", f"expected {SCHEMA!r}"
        )
    found = manifest(dataset, inputs, expected["seed"])
    for part in ("calibration", "golden"):
        before = {(image["name"], image["sha256"]) for image in expected[part]}
        after = {(image["name"], image["sha256"]) for image in found[part]}
        if before != after:
            names = ", ".join(sorted({name for name, _ in before ^ after})[:10])
            raise DataError(
                f"the {part} set of {dataset.name} is not the manifest's: {len(before ^ after)} entries "
                f"differ ({names})",
                "use the same images, seed and counts, or write a new manifest",
            )
    for key in sorted(found.keys() - {"calibration", "golden"}):
        if found[key] != expected.get(key):
            raise DataError(
                f"{key} is {found[key]!r}, and {expected.get(key)!r} in the manifest",
                "use the same data settings, or write a new manifest",
            )
