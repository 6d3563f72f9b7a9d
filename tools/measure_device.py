"""Measures what training reaches of what a bare script reaches on this machine's device.

    PYTHONPATH=. python tools/measure_device.py [--device cuda:0] [--seconds 8]

It prints images/s of asking a ViT about views, of training a student from cached answers, and of
training it with int8 in the loop, each beside a script of some twenty lines that does the same in
the same process. It needs this checkout, torch and timm. Images, labels and weights are random. On
a GPU it takes 2 to 3 minutes; on a CPU the networks and images are smaller.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

import bare_machine  # noqa: E402

MISSING = bare_machine.prepare()

from edgekd.core.artifacts import Network  # noqa: E402
from edgekd.core.context import Hardware, MemoryCheckpoint  # noqa: E402
from edgekd.core.shard_folders import MemoryShards  # noqa: E402
from edgekd.networks import compute, weight_files  # noqa: E402
from edgekd.networks.compute import Compute  # noqa: E402
from edgekd.networks.inference import precision  # noqa: E402
from edgekd.quantization.qat_network import (  # noqa: E402
    QatNetwork,
    calibrate,
    prepare,
    set_phase,
)
from edgekd.settings.image_settings import ViewsConfig  # noqa: E402
from edgekd.settings.model_specs import ModelSpec  # noqa: E402
from edgekd.settings.training_settings import DistilConfig  # noqa: E402
from edgekd.training import objective, views  # noqa: E402
from edgekd.training.batches import Batch, Feed  # noqa: E402
from edgekd.training.cached_answers import CachedAnswers, knowledge_of  # noqa: E402
from edgekd.training.fit import fit  # noqa: E402
from edgekd.training.fit_plan import FitPlan, Step  # noqa: E402
from edgekd.training.loss_modules import Setting  # noqa: E402
from edgekd.training.losses import logit_losses  # noqa: E402
from edgekd.training.oracle_settings import OracleSettings  # noqa: E402
from edgekd.training.teacher_oracle import Oracle  # noqa: E402

CLASSES, FEATURES, TEMPERATURE = 2, 384, 2.0
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
# How often an epoch shows each image. The checkpoint after an epoch then takes little of its time.
TIMES = 16
WARM_UP = 0.3  # share of the time of each measurement that is not counted


@dataclasses.dataclass(frozen=True)
class Size:
    """What is measured: sides in pixels, images in a batch, and images in the data set."""

    student: str
    student_px: int
    batches: tuple[int, ...]
    teacher: str
    teacher_px: int
    asked: int
    images: int


GPU = Size("mobilenetv2_050", 96, (128, 512), "vit_small_patch14_dinov2", 224, 256, 4096)
HOST = Size("mobilenetv2_050", 48, (32,), "vit_tiny_patch16_224", 64, 32, 256)


class Enough(Exception):
    """The time of a measurement is over."""


class Clock:
    """Counts images after a warm-up. `seconds`: how long a measurement takes."""

    def __init__(self, seconds: float, device: torch.device) -> None:
        self.device, self.start = device, time.perf_counter()
        self.warm, self.end = self.start + WARM_UP * seconds, self.start + seconds
        self.first: tuple[float, int] | None = None
        self.last = (self.start, 0)

    def see(self, images: int) -> None:
        """Note that so many images are done in all. Raises Enough."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        self.last = (now, images)
        if self.first is None and now >= self.warm:
            self.first = self.last
        elif now >= self.end and self.first is not None:
            raise Enough

    @property
    def rate(self) -> float:
        """Images a second."""
        assert self.first is not None
        return (self.last[1] - self.first[1]) / (self.last[0] - self.first[0])


def repeated(step: Callable[[], object], images: int, seconds: float, on: Compute) -> float:
    """Images/s of a function that does some images at each call. Reads the clock every 8 calls."""
    clock, every = Clock(seconds, on.device), 1 if on.is_host else 8
    with contextlib.suppress(Enough):
        for count in itertools.count(1):
            step()
            if count % every == 0:
                clock.see(count * images)
    return clock.rate


def random_pixels(size: Size) -> np.ndarray:
    """Images uint8 [n, 3, px, px]."""
    shape = (size.images, 3, size.student_px, size.student_px)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def ids(images: int) -> np.ndarray:
    """What stands for each image, uint64 [n]."""
    return np.arange(images, dtype=np.uint64)


# --- asking the teacher ---------------------------------------------------------------------------


def teacher(size: Size, seconds: float, on: Compute) -> tuple[float, float]:
    """Images/s of EdgeKD and of a bare script, for a ViT with random weights."""
    options = {"img_size": size.teacher_px, "num_classes": CLASSES}
    net = timm.create_model(size.teacher, pretrained=False, **options).eval()
    artifact = Network(
        size.teacher,
        options,
        size.teacher_px,
        MEAN,
        STD,
        [],
        {},
        weight_files.to_bytes(net.state_dict()),
    )
    settings = OracleSettings("auto", ModelSpec(size.teacher, "random", size.teacher, ()))
    oracle = Oracle(artifact, random_pixels(size), settings, on)
    drawn = views.draw(ViewsConfig(), 0, 0, ids(size.images), torch.arange(size.images))
    parts = itertools.cycle(torch.arange(size.images).split(4 * size.asked))
    own = repeated(
        lambda: oracle.ask(next(parts), drawn)["logits"].cpu(), 4 * size.asked, seconds, on
    )
    net, dtype = net.to(on.device), precision("auto", net, on)
    images = torch.randn(size.asked, 3, size.teacher_px, size.teacher_px, device=on.device)

    @torch.inference_mode()
    def bare() -> Tensor:
        with compute.autocast(dtype, on.device):
            return net(images)

    return own, repeated(bare, size.asked, seconds, on)


# --- training the student -------------------------------------------------------------------------


def feed(size: Size, batch: int, on: Compute, answers: bool) -> Feed:
    """Batches of random images, with random cached answers of a teacher if wanted."""
    stream = torch.Generator().manual_seed(0)
    train = torch.arange(TIMES * size.images) % size.images
    said = {
        "logits": torch.randn(1, len(train), CLASSES, generator=stream).half(),
        "pooled": torch.randn(1, len(train), FEATURES, generator=stream).half(),
    }
    rows = train.tolist()
    cached = CachedAnswers(knowledge_of(rows, CLASSES, said, {}, MemoryShards("said")))
    return Feed(
        views.Renderer(random_pixels(size), size.student_px, MEAN, STD, on.device),
        ids(size.images),
        train,
        torch.randint(CLASSES, (size.images,), generator=stream),
        CLASSES,
        ViewsConfig(),
        0,
        batch,
        knowledge=cached if answers else None,
    )


def created(size: Size) -> nn.Module:
    """The student with random weights."""
    torch.manual_seed(0)
    made: nn.Module = timm.create_model(size.student, num_classes=CLASSES)
    return made.to(memory_format=torch.channels_last)


def fitted(
    module: nn.Module,
    kept: nn.Module,
    shown: Feed,
    loss: Callable[[Batch, Step], Tensor],
    seconds: float,
    on: Compute,
    ema: float,
) -> tuple[float, list[str]]:
    """Images/s of EdgeKD's training loop, and what it said."""
    told: list[str] = []
    clock, epochs = Clock(seconds, on.device), 1_000_000

    def progress(_what: str, done: int, _total: int, **_figures: float) -> None:
        clock.see(done * shown.batch)

    with contextlib.suppress(Enough):
        fit(
            module,
            kept,
            shown.epoch,
            loss,
            FitPlan(epochs, 0.01, 5e-4, ema=ema),
            what="distil",
            steps=shown.steps,
            checkpoint=Forgotten(),
            progress=progress,
            compute=on,
            say=told.append,
        )
    return clock.rate, told


class Forgotten(MemoryCheckpoint):
    """A checkpoint that keeps nothing: an epoch of these few images is over in no time."""

    def save(self, data: bytes) -> None:
        del data


def student(size: Size, batch: int, seconds: float, on: Compute) -> tuple[float, float, list[str]]:
    """Images/s of EdgeKD and of a bare script, for a student that learns from cached answers."""
    net, config = created(size).eval(), DistilConfig()
    shapes = objective.shapes(net, [], size.student_px, 3)
    at = Setting(net, [], shapes, CLASSES, "one", 0, MEAN, STD, {"pooled": FEATURES})
    plan = objective.Plan(config.alpha, [objective.Scheduled("pooled", 1.0, config.ramp)], [], [])
    made = on.place(objective.Objective(config, plan, at, precision=on.training).train())
    own, told = fitted(
        made, net, feed(size, batch, on, answers=True), made.loss, seconds, on, config.ema
    )
    return own, bare_student(size, batch, seconds, on), told


def bare_student(size: Size, batch: int, seconds: float, on: Compute) -> float:
    """A view by grid_sample, labels and KD, SGD; on a CUDA GPU the whole step as a graph."""
    net = created(size).to(on.device).train()
    pixels = torch.from_numpy(random_pixels(size)).to(on.device)
    labels = torch.randint(CLASSES, (size.images,), device=on.device)
    logits = torch.randn(size.images, CLASSES, device=on.device)
    mean, std = (torch.tensor(v, device=on.device).view(1, 3, 1, 1) for v in (MEAN, STD))
    rows = torch.zeros(batch, dtype=torch.int64, device=on.device)
    affine = torch.eye(2, 3, device=on.device).repeat(batch, 1, 1)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, nesterov=True)

    def step() -> None:
        grid = F.affine_grid(affine, [batch, 3, size.student_px, size.student_px], False)
        image = F.grid_sample(pixels[rows].float() / 255, grid, align_corners=False)
        image = ((image - mean) / std).contiguous(memory_format=torch.channels_last)
        with compute.autocast(on.training, on.device):
            found = net(image)
        found = found.float()
        soft = F.log_softmax(found / TEMPERATURE, 1)
        target = F.log_softmax(logits[rows] / TEMPERATURE, 1)
        kd = F.kl_div(soft, target, reduction="batchmean", log_target=True) * TEMPERATURE**2
        optimiser.zero_grad(set_to_none=False)
        (0.1 * F.cross_entropy(found, labels[rows]) + 0.9 * kd).backward()
        optimiser.step()

    run, stream = captured(step, on)

    def shown() -> None:
        rows.copy_(torch.randint(size.images, (batch,)).to(on.device, non_blocking=True))
        run()

    with stream:
        return repeated(shown, batch, seconds, on)


def captured(step: Callable[[], None], on: Compute) -> tuple[Callable[[], None], torch.cuda.stream]:
    """The step as a CUDA graph, or as it is on other devices, and the stream to call it on."""
    if on.device.type != "cuda":
        return step, torch.cuda.stream(None)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(4):
            step()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=side):
            step()
    return graph.replay, torch.cuda.stream(side)


# --- int8 training --------------------------------------------------------------------------------


def int8(size: Size, batch: int, seconds: float, on: Compute) -> tuple[float, float, list[str]]:
    """Images/s of EdgeKD's int8 training, and of the same network in a plain loop."""
    exact = on.exactly()

    def made() -> QatNetwork:
        network = prepare(created(size).eval(), size.student_px, MEAN, STD)
        calibrate(network, [torch.randn(16, 3, size.student_px, size.student_px)])
        set_phase(network, "observe")
        return exact.place(network)

    network, float_net = made(), exact.place(created(size).eval())

    def answers(images: Tensor) -> Tensor:
        with torch.no_grad():
            return float_net(images)

    def loss(shown: Batch, _step: Step) -> Tensor:
        return logit_losses.follow(network(shown.images), answers(shown.images), 1.0, "one")

    shown = feed(size, batch, exact, answers=False)
    own, told = fitted(network, network, shown, loss, seconds, exact, 0.0)
    plain = made()
    optimiser = torch.optim.SGD(plain.parameters(), lr=0.001, momentum=0.9, nesterov=True)
    batches = forever(shown)

    def step() -> None:
        images = next(batches).images
        value = logit_losses.follow(plain(images), answers(images), 1.0, "one")
        optimiser.zero_grad()
        value.backward()
        optimiser.step()

    return own, repeated(step, batch, seconds, exact), told


def forever(shown: Feed) -> Iterator[Batch]:
    """The batches of one epoch after another."""
    for epoch in itertools.count():
        yield from shown.epoch(epoch)


# --- the table ------------------------------------------------------------------------------------


def worst_view(on: Compute) -> float:
    """The largest difference of a view that the CPU and the device render, in steps of 1/255."""
    config = ViewsConfig(noise=0.1, erase=0.5, mixup=0.3, blur=0.5)
    rows = torch.arange(64)
    drawn = views.draw(config, 0, 0, ids(64), rows)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 3, 120, 120), np.uint8)
    one, two = (
        views.Renderer(pixels, 96, [0.0] * 3, [1.0] * 3, device).views(rows, drawn).cpu()
        for device in (compute.CPU, on.device)
    )
    return float((one - two).abs().max()) * 255


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="auto", help="as --device of edgekd build")
    parser.add_argument("--precision", default="auto", help="as run.precision of a recipe")
    parser.add_argument("--seconds", type=float, default=8.0, help="for each measurement")
    parser.add_argument("--no-graphs", action="store_true", help="do not capture CUDA graphs")
    asked = parser.parse_args()
    on = compute.chosen(Hardware(asked.device, asked.precision, not asked.no_graphs))
    size, began = (HOST if on.is_host else GPU), time.perf_counter()
    if on.is_host:
        torch.set_num_threads(1)
    print(f"{on}; torch {torch.__version__}, timm {timm.__version__}")
    if MISSING:
        print(f"without {' and '.join(MISSING)}, which only settings need")
    worst = worst_view(on)
    print(f"views differ from the CPU's by at most {worst:.3f}/255")
    print("\n| | images/s | a bare script | ratio |\n|---|---|---|---|")
    notes: list[str] = []

    def row(what: str, own: float, bare: float, told: list[str]) -> None:
        print(f"| {what} | {own:,.0f} | {bare:,.0f} | {own / bare:.2f} |", flush=True)
        notes.extend(told)

    with compute.full_float32():
        row(f"asking {size.teacher}, {size.teacher_px} px", *teacher(size, asked.seconds, on), [])
        for batch in size.batches:
            what = f"training {size.student}, {size.student_px} px, batch {batch}"
            row(what, *student(size, batch, asked.seconds, on))
        batch = size.batches[0]
        row(f"the same in int8, float32, batch {batch}", *int8(size, batch, asked.seconds, on))
    print("\n" + "\n".join([*notes, f"{time.perf_counter() - began:.0f} s in all"]))
    return 0 if math.isfinite(worst) and worst < 1.0 else 1


if __name__ == "__main__":
    raise SystemExit(main())
