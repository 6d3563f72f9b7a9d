"""Prints what students lose when apps resize in other ways, with and without views.resizers.

    python -m tools.measure_resizers DATA --out builds/resizers --px 64 --px 96 --seeds 2

For each size and seed it builds the same student twice: on images that Pillow resized, and on
images of five resizers. Both builds differ in nothing else. It prints a Markdown table of top-1 of
the int8 files, by resizer.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import edgekd
from edgekd.core.records import present
from edgekd.core.resizer_names import Resizer
from edgekd.evaluation.app_inputs_record import AppInputs

TRAINED = (Resizer.PILLOW, Resizer.OPENCV, Resizer.ANDROID, Resizer.IOS, Resizer.NEAREST)
ARMS = {"today": (Resizer.PILLOW,), "resizers": TRAINED}


def main() -> None:
    """Build all students and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--student", default="mobilenetv2_035")
    parser.add_argument("--px", type=int, action="append", required=True)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    asked = parser.parse_args()
    columns = [name.value for name in Resizer]
    print(
        f"| px | seed | student | {' | '.join(columns)} | range over the five | turned | jpeg60 |"
    )
    print("|---" * (len(columns) + 6) + "|", flush=True)
    for px in asked.px:
        for seed in range(asked.seeds):
            for arm, resizers in ARMS.items():
                found = _build(asked, px, seed, arm, resizers)
                top1 = {row.name: row.top1 for row in found.rows}
                top1[Resizer.PILLOW] = found.top1
                five = [top1[name] for name in TRAINED]
                cells = [f"{top1[name]:.1%}" for name in (*columns, "turned", "jpeg60")]
                cells.insert(len(columns), f"{(max(five) - min(five)) * 100:.1f} points")
                print(f"| {px} | {seed} | {arm} | {' | '.join(cells)} |", flush=True)


def _build(
    asked: argparse.Namespace, px: int, seed: int, arm: str, resizers: tuple[Resizer, ...]
) -> AppInputs:
    """The block "app_inputs" of one build."""
    names = ",".join(f'"{name}"' for name in resizers)
    result = edgekd.build(
        data=asked.data,
        profile="pi4",
        teacher="none",
        student=asked.student,
        seed=seed,
        out=asked.out / f"{px}-{seed}-{arm}",
        store=asked.out / "store",
        settings=[
            *asked.set,
            f"data.input_px={px}",
            f"views.resizers=[{names}]",
            "app_inputs.images=100000",
        ],
    )
    assert result.report is not None, result.failed
    found = present(result.report.app_inputs)
    assert found is not None
    return found


if __name__ == "__main__":
    main()
