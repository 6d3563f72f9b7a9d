"""Collects the published measurements for the latency models, and computes their features.

    python -m tools.collect_rows published_latencies.csv

Reads a table of published latencies and writes device_profiles/NAME.latency.csv, which
tools/fit_profile.py reads. The column `use` says what a row is for:

    fit                     the model's shapes are known, and the fit uses the row
    other                   another board or runtime; its factor on the fit is learnt from the row
    over:WHAT, under:WHAT   the two halves of a ratio between runtimes or boards, paired by model
    check                   the row only tests the model
    threads:N               a model measured with 1, 2, 3 and 4 threads in one place
"""

from __future__ import annotations

import argparse
import csv
import functools
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import timm
import torchvision

from edgekd.assessment.edgetpu.edgetpu_cost import features as edgetpu_features
from edgekd.assessment.workload import Work
from edgekd.assessment.workload import features as cpu_features
from tools.published_detectors import SIZES, Detector
from tools.published_networks import captured, mobilenet_v1, mobilenet_v2

PROFILES = Path(__file__).resolve().parent.parent / "device_profiles"
PLAIN = (
    "use",
    "precision",
    "device",
    "runtime",
    "threads",
    "model",
    "family",
    "input_px",
    "latency_ms",
)
# Bytes of the Edge TPU's memory that hold parameters. Logs of the real compiler show 6.9 to 7.1 MiB
# for larger classifiers.
USABLE_SRAM = 7 * 2**20
Row = dict[str, str]

V1_OR_V2 = re.compile(
    r"mobilenet[-_ ]?v([12])[-_ ]([\d.]+)[-_](\d+)(?:[-_](?:non[-_])?quant.*)?$", re.IGNORECASE
)
# Models of Coral's table and of pycoral's references: (family, builder). The builder is a function,
# or (version, alpha) for a MobileNet.
KNOWN: dict[str, tuple[str, Callable[[], object] | tuple[int, float]]] = {
    "MobileNet v1": ("MobileNetV1", (1, 1.0)),
    "MobileNet v2": ("MobileNetV2", (2, 1.0)),
    "DenseNet": ("DenseNet", lambda: timm.create_model("densenet121")),
    "Inception v1": (
        "Inception",
        lambda: torchvision.models.googlenet(aux_logits=False, init_weights=False),
    ),
    "inception_v1_224_quant_edgetpu": (
        "Inception",
        lambda: torchvision.models.googlenet(aux_logits=False, init_weights=False),
    ),
    "Inception v4": ("Inception", lambda: timm.create_model("inception_v4")),
    "inception_v4_299_quant_edgetpu": ("Inception", lambda: timm.create_model("inception_v4")),
    "Inception-ResNet V2": ("Inception", lambda: timm.create_model("inception_resnet_v2")),
    "ResNet-50 V1": ("ResNet", lambda: timm.create_model("resnet50")),
    "ResNet-50 V2": ("ResNet", lambda: timm.create_model("resnetv2_50")),
    "ResNet-152 V2": ("ResNet", lambda: timm.create_model("resnetv2_152")),
    "SqueezeNet": ("SqueezeNet", lambda: torchvision.models.squeezenet1_0()),
    "VGG16": ("VGG", lambda: timm.create_model("vgg16")),
    "VGG19": ("VGG", lambda: timm.create_model("vgg19")),
    "EfficientNet-EdgeTpu-S": (
        "EfficientNet-EdgeTPU",
        lambda: timm.create_model("efficientnet_es"),
    ),
    "EfficientNet-EdgeTpu-M": (
        "EfficientNet-EdgeTPU",
        lambda: timm.create_model("efficientnet_em"),
    ),
    # As XNNPACK's README calls them.
    "mobilenet_v1_1.0": ("MobileNetV1", (1, 1.0)),
    "mobilenet_v2_1.0": ("MobileNetV2", (2, 1.0)),
    "mobilenet_v3_large": ("MobileNetV3", lambda: timm.create_model("tf_mobilenetv3_large_100")),
    "mobilenet_v3_small": ("MobileNetV3", lambda: timm.create_model("tf_mobilenetv3_small_100")),
}


@functools.cache
def network(model: str, px: int, precision: str) -> tuple[str, tuple[Work, ...]] | None:
    """The family and the work of a published model, or None if its shapes are not known."""
    match = V1_OR_V2.match(model)
    if match:
        build = mobilenet_v1 if match[1] == "1" else mobilenet_v2
        return f"MobileNetV{match[1]}", tuple(build(float(match[2]), int(match[3]), precision))
    if spelling(model) in SIZES:
        detector = Detector(SIZES[spelling(model)])
        return "EfficientDet-Lite", tuple(captured(detector, px, precision))
    if model not in KNOWN:
        return None
    family, how = KNOWN[model]
    if isinstance(how, tuple):
        return family, tuple((mobilenet_v1 if how[0] == 1 else mobilenet_v2)(how[1], px, precision))
    return family, tuple(captured(how(), px, precision))  # type: ignore[arg-type]


def fit_rows(rows: Iterable[Row], on_edgetpu: bool = False, use: str = "fit") -> list[Row]:
    """The rows whose networks are known, with features.

    `use`: "fit", "other" or "check", as in the module's docstring.
    """
    found = []
    for row in rows:
        precision = "int8" if row["precision"] == "int8" else "fp32"
        known = network(row["model"], int(row["input_px"]), precision)
        if known is None:
            continue
        family, works = known
        if on_edgetpu:
            parameters = sum(work.parameter_bytes for work in works)
            counts = edgetpu_features(works, max(0, parameters - USABLE_SRAM))
        else:
            counts = cpu_features(works)
        found.append(
            {
                **_plain(row, use),
                "precision": precision,
                "family": family,
                **{name: f"{value:.0f}" for name, value in counts.items()},
            }
        )
    return found


def _plain(row: Row, use: str) -> Row:
    return {
        "use": use,
        "precision": row["precision"],
        "device": row["device"],
        "runtime": row["accelerator"],
        "threads": row["threads"],
        "model": row["model"],
        "family": "",
        "input_px": row["input_px"],
        "latency_ms": row["latency_ms"],
        "source": row["source"],
    }


def ratio_rows(
    what: str, over: Iterable[Row], under: Iterable[Row], name: Callable[[str], str]
) -> list[Row]:
    """Both halves of the ratio for each model that is in both tables.

    `name` maps the spellings of both tables to one.
    """
    halves = [
        {(name(row["model"]), row["precision"]): row for row in part} for part in (over, under)
    ]
    found = []
    for key in sorted(halves[0].keys() & halves[1].keys()):
        found += [
            {**_plain(half[key], f"{side}:{what}"), "model": key[0]}
            for side, half in zip(("over", "under"), halves, strict=True)
        ]
    return found


def thread_rows(rows: Iterable[Row]) -> list[Row]:
    """The rows of models that were measured with each of 1 to 4 threads."""
    found: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        found.setdefault((spelling(row["model"]), row["precision"]), {})[row["threads"]] = row
    return [
        {**_plain(row, f"threads:{count}"), "model": model}
        for (model, _), by_count in found.items()
        if by_count.keys() == {"1", "2", "3", "4"}
        for count, row in sorted(by_count.items())
    ]


def spelling(model: str) -> str:
    """One spelling of a model's name, such as efficientdet-lite0 or mobilenet_v1_1.0."""
    text = re.sub(r"_(fp32|int8)$", "", model.lower())
    match = re.match(r"mobilenet-v([12])-1\.0-224-", text)
    return f"mobilenet_v{match[1]}_1.0" if match else text


def collect(table: list[Row]) -> dict[str, list[Row]]:
    """The rows of each profile, by the profile's name."""

    def pick(
        device: str, runtime: str, threads: str | None = None, precision: str | None = None
    ) -> list[Row]:
        return [
            row
            for row in table
            if row["device"] == device
            and row["accelerator"] == runtime
            and threads in (None, row["threads"])
            and precision in (None, row["precision"])
        ]

    ruy = pick("Raspberry Pi 4B 1.5GHz (aarch64 Ubuntu 20.04, fan)", "cpu:tflite-2.4.1-ruy")
    pi4_new = pick("Raspberry Pi 4B 4GB (aarch64)", "cpu:tflite-2.18-xnnpack", "4")
    pi5_new = pick("Raspberry Pi 5 8GB (aarch64)", "cpu:tflite-2.18-xnnpack", "4")
    old = {
        board: [
            *pick(f"{board} 64bit", "cpu:tflite-2.5.0", "4"),
            *pick(f"{board} 64bit", "cpu:tflite-2.5.0-xnnpack", "4"),
        ]
        for board in ("Raspberry Pi 4", "Raspberry Pi 3B")
    }
    others = [
        *pick("Raspberry Pi 4B 1.5GHz (aarch64 Ubuntu, fan)", "cpu:tflite-2.5.0-ruy"),
        *pick(
            "Raspberry Pi 4B r1.4 1.8GHz (aarch64 Ubuntu 21.10, passive Flirc)",
            "cpu:tflite-2.7.1-ruy",
        ),
        *pick("Raspberry Pi 4 (BCM2711, aarch64)", "cpu:xnnpack"),
        *pi4_new,
        *old["Raspberry Pi 4"],
    ]
    pixel = "Pixel 3 (Android 10)"
    edgetpu = [row for row in table if row["accelerator"] == "edgetpu"]
    return {
        "pi4": [
            *fit_rows(ruy),
            *fit_rows(others, use="other"),
            *thread_rows(pick("Raspberry Pi 4B 4GB (aarch64)", "cpu:tflite-2.18-xnnpack")),
        ],
        "pi5": [
            *ratio_rows("Pi 5 over Pi 4", pi5_new, pi4_new, spelling),
            *thread_rows(pick("Raspberry Pi 5 8GB (aarch64)", "cpu:tflite-2.18-xnnpack")),
            *fit_rows(pi5_new, use="check"),
        ],
        "pi3": [
            *ratio_rows("Pi 3B over Pi 4", old["Raspberry Pi 3B"], old["Raspberry Pi 4"], spelling),
            *thread_rows(pick("Raspberry Pi 3B 64bit", "cpu:tflite-2.5.0")),
        ],
        "coral-usb": fit_rows(
            (
                r
                for r in edgetpu
                if r["device"] in ("Desktop + Coral USB 3.0", "x86_64 desktop + Coral USB")
            ),
            True,
        ),
        "coral-dev-board": fit_rows((r for r in edgetpu if r["device"] == "Coral Dev Board"), True),
        "android-cpu": fit_rows(pick(pixel, "cpu", "4", "int8")),
        "android-nnapi": fit_rows(pick(pixel, "nnapi", None, "int8")),
        "android-gpu": fit_rows(pick(pixel, "gpu")),
    }


def main() -> None:
    """Read the table, and write one file per profile."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path, metavar="published_latencies.csv")
    with parser.parse_args().table.open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    for profile, rows in collect(table).items():
        columns = [
            *PLAIN,
            *dict.fromkeys(key for row in rows for key in row if key not in (*PLAIN, "source")),
            "source",
        ]
        path = PROFILES / f"{profile}.latency.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        print(f"{path.name}: {len(rows)} rows")


if __name__ == "__main__":
    main()
