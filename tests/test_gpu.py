"""Training on a real NVIDIA GPU. Needs this checkout, torch, timm and pytest alone:

python -m pytest -m gpu
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tools import bare_machine

bare_machine.prepare()

from edgekd.core.artifacts import Network  # noqa: E402
from edgekd.core.context import Hardware, MemoryCheckpoint  # noqa: E402
from edgekd.core.errors import OutOfMemory, TrainingDiverged  # noqa: E402
from edgekd.core.shard_folders import MemoryShards  # noqa: E402
from edgekd.networks import builders, compute, weight_files  # noqa: E402
from edgekd.networks.compute import Compute  # noqa: E402
from edgekd.quantization.qat_network import (  # noqa: E402
    QatNetwork,
    calibrate,
    prepare,
    set_phase,
)
from edgekd.settings.image_settings import ViewsConfig  # noqa: E402
from edgekd.settings.loss_catalogue import METHODS, Term  # noqa: E402
from edgekd.settings.model_specs import ModelSpec  # noqa: E402
from edgekd.settings.training_settings import DistilConfig  # noqa: E402
from edgekd.training import (  # noqa: E402
    captured_step,
    device_steps,
    fit,
    loss_builder,
    objective,
    optimisers,
    pixels,
    views,
)
from edgekd.training.batches import Batch, Feed  # noqa: E402
from edgekd.training.cached_answers import CachedAnswers, knowledge_of  # noqa: E402
from edgekd.training.fit_plan import FitPlan, Step  # noqa: E402
from edgekd.training.loss_modules import Setting  # noqa: E402
from edgekd.training.losses import logit_losses  # noqa: E402
from edgekd.training.oracle_settings import OracleSettings  # noqa: E402
from edgekd.training.steps import Run  # noqa: E402
from edgekd.training.teacher_oracle import Oracle  # noqa: E402

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU"),
]

CUDA = torch.device("cuda", 0)
EXACT = Compute(CUDA)
HALF = [0.5] * 3
PX, CLASSES, BATCH, IMAGES = 64, 4, 16, 160
BUSY = ViewsConfig(blur=0.5, noise=0.1, erase=0.5, mixup=0.4)
IDS = np.arange(IMAGES, dtype=np.uint64)  # what stands for each image
TAPS = ["blocks.2", "blocks.4", "blocks.6"]
# Steps of an epoch: more than come before a capture.
STEPS = IMAGES // BATCH


def images(kind: type = np.uint8, channels: int = 3) -> np.ndarray:
    shape = (IMAGES, channels, 80, 80)
    return np.random.default_rng(0).integers(0, np.iinfo(kind).max, shape, kind, endpoint=True)


def student() -> nn.Module:
    torch.manual_seed(0)
    return builders.create("mobilenetv2_035", {"num_classes": CLASSES})


def feed(on: Compute) -> Feed:
    stream = torch.Generator().manual_seed(0)
    shapes = {
        "logits": (CLASSES,),
        "pooled": (24,),
        "grid": (24, 2, 2),
        "cams": (CLASSES, 2, 2),
    }
    said = {n: torch.randn(2, IMAGES, *s, generator=stream).half() for n, s in shapes.items()}
    return Feed(
        views.Renderer(images(), PX, HALF, HALF, on.device),
        IDS,
        torch.arange(IMAGES),
        torch.randint(CLASSES, (IMAGES,), generator=stream),
        CLASSES,
        ViewsConfig(per_image=2),
        0,
        BATCH,
        knowledge=CachedAnswers(
            knowledge_of(list(range(IMAGES)), CLASSES, said, {}, MemoryShards("said"))
        ),
    )


def made(on: Compute, loss: str = "") -> objective.Objective:
    """A student with labels, KD and pooled features, and one more loss if one is named."""
    net = student().eval()
    shapes = objective.shapes(net, TAPS, PX, 3)
    widths, groups = {"pooled": 24, "grid": 24}, torch.arange(IMAGES) % 2
    at = Setting(net, TAPS, shapes, CLASSES, "one", 0, HALF, HALF, widths, True, student, groups)
    plan = objective.Plan(0.5, [objective.Scheduled("pooled", 1.0, 0.2)], [], [])
    found = objective.Objective(DistilConfig(drop=0.1), plan, at, precision=on.training)
    if loss:
        found.terms[loss] = loss_builder.build(Term(loss, 0.1, 0.5, METHODS[loss].defaults), at)
        found.schedule.append((0.1, 0.5))
    return on.place(found.to(memory_format=torch.channels_last)).train()


class Trained:
    """A student that was trained for some epochs, with what it said, and how its steps ran."""

    def __init__(
        self,
        on: Compute,
        loss: str = "",
        epochs: int = 2,
        optimiser: str = "sgd",
        checkpoint: MemoryCheckpoint | None = None,
        monkeypatch: pytest.MonkeyPatch | None = None,
    ) -> None:
        self.said: list[str] = []
        self.replays = 0
        module = made(on, loss)
        if monkeypatch is not None:
            replay = torch.cuda.CUDAGraph.replay

            def counted(graph: torch.cuda.CUDAGraph) -> None:
                self.replays += 1
                replay(graph)

            monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", counted)
        self.history = fit.fit(
            module,
            module.student,
            feed(on).epoch,
            module.loss,
            FitPlan(epochs, 0.01, 5e-4, ema=0.9, optimiser=optimiser),
            what="distil",
            steps=STEPS,
            checkpoint=checkpoint or MemoryCheckpoint(),
            compute=on,
            capturable=module.capturable,
            say=self.said.append,
        )
        self.net = module.student.cpu()


def test_the_gpu_is_found() -> None:
    found = compute.chosen(Hardware("auto"))
    assert found.device.type == "cuda"
    assert torch.cuda.get_device_name(found.device) in str(found)
    assert compute.free_bytes(found.device) > 0


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("place", [pixels.Resident, pixels.Sent])
def test_a_view_differs_from_the_cpus_by_less_than_a_step(kind: type, place: type) -> None:
    rows, stored = torch.arange(32), images(kind)
    drawn = views.draw(BUSY, 0, 0, IDS, torch.arange(IMAGES))
    host = views.Renderer(stored, PX, [0.0] * 3, [1.0] * 3)
    there = views.Renderer(stored, PX, [0.0] * 3, [1.0] * 3, CUDA)
    there.pixels = place(stored, CUDA)
    for one, two in (
        (host.views(rows, drawn), there.views(rows, drawn)),
        (host.plain(rows), there.plain(rows)),
    ):
        assert float((one - two.cpu()).abs().max()) < 1 / 255


def test_steps_are_captured_and_train_the_network_of_eager_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    eager = Trained(dataclasses.replace(EXACT, cuda_graphs=False))
    graphs = Trained(EXACT, monkeypatch=monkeypatch)
    assert graphs.said == []
    assert graphs.replays == 2 * STEPS - captured_step.WARM_UP
    assert [row["loss"] for row in graphs.history] == pytest.approx(
        [row["loss"] for row in eager.history], rel=0.05
    )


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_the_optimiser_takes_the_steps_of_torchs(optimiser: str) -> None:
    plan = FitPlan(2, 0.01, 0.01, ema=0.9, optimiser=optimiser)
    nets = []
    for on in (Compute(), EXACT):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(8, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU())
        net.append(nn.Linear(16, 2))
        on.place(net)
        x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0)).to(on.device)
        y = (x[:, 0] > 0).long()

        def batches(epoch: int, x: Tensor = x, y: Tensor = y) -> Iterator[tuple[Tensor, Tensor]]:
            return ((x[rows], y[rows]) for rows in fit.shuffled(64, 8, 0, epoch))

        def loss(batch: tuple[Tensor, Tensor], _step: Step, net: nn.Module = net) -> Tensor:
            return F.cross_entropy(net(batch[0]), batch[1])

        fit.fit(
            net, net, batches, loss, plan, what="distil", steps=8,
            checkpoint=MemoryCheckpoint(), compute=on,
        )  # fmt: skip
        nets.append(net.cpu())
    for one, two in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("loss", sorted(METHODS))
def test_every_loss_trains(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Trained(EXACT, loss, epochs=1, monkeypatch=monkeypatch)
    assert np.isfinite(found.history[0]["loss"])
    assert found.said == []
    assert bool(found.replays) == made(Compute(), loss).capturable


def test_no_captured_step_waits_for_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    module = made(EXACT)
    run = Run(
        module, module.student, None, module.loss, FitPlan(1, 0.01, 0.0), "distil", STEPS, EXACT,
        lambda _step: None, True, lambda _text: None,
    )  # fmt: skip
    steps = device_steps.DeviceSteps(run, optimisers.rated(module, run.plan, CUDA), 0.0)
    monkeypatch.setattr(device_steps, "READ_EVERY", 1e9)
    with steps.at_work():
        for number, batch in enumerate(feed(EXACT).epoch(0)):
            torch.cuda.set_sync_debug_mode("error" if number > captured_step.WARM_UP else "default")
            try:
                steps.take(batch, Step(number, STEPS, 0))
            finally:
                torch.cuda.set_sync_debug_mode("default")
        assert all(np.isfinite(steps.known()))
    assert steps.captured is not None
    assert steps.captured.graph is not None


def test_a_capture_that_fails_leaves_an_eager_training_and_random_numbers() -> None:
    torch.manual_seed(0)
    net, said = nn.Linear(8, 2).to(CUDA), []

    def loss(batch: tuple[Tensor, Tensor], _step: Step) -> Tensor:
        if torch.cuda.is_current_stream_capturing():
            float(batch[0].sum())  # waits, which no capture survives
        return F.cross_entropy(net(F.dropout(batch[0], 0.1)), batch[1])

    x, y = torch.randn(64, 8, device=CUDA), torch.zeros(64, dtype=torch.int64, device=CUDA)
    history = fit.fit(
        net, net, lambda _e: ((x[i : i + 8], y[i : i + 8]) for i in range(0, 64, 8)), loss,
        FitPlan(2, 0.1, 0.0), what="distil", steps=8, checkpoint=MemoryCheckpoint(),
        compute=EXACT, say=said.append,
    )  # fmt: skip
    assert len(said) == 1
    assert "not captured" in said[0]
    assert history[1]["loss"] < history[0]["loss"]
    assert bool(torch.isfinite(torch.rand(5, device=CUDA)).all())


def test_a_step_that_diverged_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_steps, "READ_EVERY", 1e9)
    net = nn.Linear(8, 2).to(CUDA)
    x, y = torch.randn(64, 8, device=CUDA), torch.zeros(64, dtype=torch.int64, device=CUDA)

    def batches(_epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, 64, 8):
            yield x[start : start + 8] * (torch.inf if start == 48 else 1.0), y[:8]

    with pytest.raises(TrainingDiverged, match="step 7 of 8 in epoch 1"):
        fit.fit(
            net, net, batches, lambda b, _s: F.cross_entropy(net(b[0]), b[1]),
            FitPlan(1, 0.1, 0.0), what="distil", steps=8, checkpoint=MemoryCheckpoint(),
            compute=EXACT,
        )  # fmt: skip


def test_a_full_gpu_names_the_batch_that_fits() -> None:
    net = nn.Linear(8, 2).to(CUDA)
    x = torch.randn(64, 8, device=CUDA)

    def loss(batch: tuple[Tensor], _step: Step) -> Tensor:
        if len(batch[0]) > 5:
            torch.empty(2**50, dtype=torch.uint8, device=CUDA)
        return net(batch[0]).sum()

    with pytest.raises(OutOfMemory) as caught:
        fit.fit(
            net, net, lambda _e: ((x[i : i + 16],) for i in range(0, 64, 16)), loss,
            FitPlan(1, 0.1, 0.0), what="distil", steps=4, checkpoint=MemoryCheckpoint(),
            compute=EXACT,
        )  # fmt: skip
    assert caught.value.next_step == "--set distil.batch=4"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_student_trains_in_half_precision(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Trained(Compute(CUDA, dtype), epochs=3, monkeypatch=monkeypatch)
    assert found.said == []
    assert found.replays
    assert found.history[-1]["loss"] < found.history[0]["loss"]
    assert all(bool(torch.isfinite(p).all()) for p in found.net.parameters())


def test_a_training_of_the_cpu_goes_on_on_the_gpu() -> None:
    kept = MemoryCheckpoint()
    Trained(Compute(), epochs=1, checkpoint=kept)
    found = Trained(EXACT, epochs=2, checkpoint=kept)
    assert [row["epoch"] for row in found.history] == [1, 2]


def int8_network() -> QatNetwork:
    network = prepare(student().eval(), PX, HALF, HALF)
    calibrate(network, [torch.rand(8, 3, PX, PX, generator=torch.Generator().manual_seed(0))])
    return network


def test_int8_training_is_captured_in_each_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    network, net, said = int8_network().to(CUDA), student().eval().to(CUDA), []
    captures: list[object] = []
    replay = torch.cuda.CUDAGraph.replay

    def seen(graph: torch.cuda.CUDAGraph) -> None:
        captures.append(id(graph))
        replay(graph)

    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", seen)

    def phase(step: Step) -> str:
        return "observe" if step.index < STEPS else "frozen"

    def loss(batch: Batch, step: Step) -> Tensor:
        set_phase(network, phase(step))
        with torch.no_grad():
            said = net(batch.images)
        return logit_losses.follow(network(batch.images), said, 1.0, "one")

    before = {name: network.edge(name).range for name in network.edges}
    history = fit.fit(
        network, network, feed(EXACT).epoch, loss, FitPlan(2, 1e-3, 0.0), what="qat", steps=STEPS,
        checkpoint=MemoryCheckpoint(), compute=EXACT, variant=phase, say=said.append,
    )  # fmt: skip
    assert said == []
    assert len(captures) == 2 * (STEPS - captured_step.WARM_UP)
    assert all(np.isfinite(row["loss"]) for row in history)
    assert before != {name: network.edge(name).range for name in network.edges}


def test_int8_answers_are_those_of_the_cpu() -> None:
    network, shown = int8_network(), torch.rand(8, 3, PX, PX)
    set_phase(network, "frozen")
    with torch.no_grad(), compute.full_float32():
        host = network(shown)
        there = network.to(CUDA)(shown.to(CUDA)).cpu()
    # One code of difference in a layer can move the logits by some steps.
    step = network.edge("output").range.scale if "output" in network.edges else 0.05
    assert float((host - there).abs().mean()) < 3 * step


def test_a_teacher_answers_as_on_the_cpu() -> None:
    net = builders.create("vit_tiny_patch16_224", {"num_classes": 3, "img_size": 32})
    state = weight_files.to_bytes(net.state_dict())
    options = {"num_classes": 3, "img_size": 32}
    teacher = Network("vit_tiny_patch16_224", options, 32, HALF, HALF, [], {}, state)
    drawn = views.draw(ViewsConfig(), 0, 0, IDS, torch.arange(IMAGES))
    spec = ModelSpec("vit", "vit", "vit_tiny_patch16_224", ())
    for precision, close in (("float32", 2e-3), ("bfloat16", 0.1)):
        settings = OracleSettings(precision, spec)
        with compute.full_float32():
            host = Oracle(teacher, images(), settings).ask(torch.arange(40), drawn)
            there = Oracle(teacher, images(), settings, EXACT).ask(torch.arange(40), drawn)
        for name, answers in host.items():
            off = (answers.float() - there[name].cpu().float()).abs().max()
            assert float(off) < close * max(1.0, float(answers.abs().max())), name


def test_products_are_exact_within_a_stage() -> None:
    """TensorFloat-32 would be off by about 1e-3 of a factor."""
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    try:
        stream = torch.Generator().manual_seed(0)
        a, b = (torch.randn(256, 256, generator=stream).to(CUDA) for _ in range(2))
        exact = (a.double() @ b.double()).float()
        image, kernel = a.view(1, 16, 64, 64), b[:16, :144].reshape(16, 16, 3, 3).contiguous()
        wanted = F.conv2d(image.double(), kernel.double()).float()
        with compute.full_float32():
            assert float((a @ b - exact).abs().max()) < 1e-3
            assert float((F.conv2d(image, kernel) - wanted).abs().max()) < 1e-3
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    finally:
        torch.backends.cuda.matmul.fp32_precision = "none"


def test_a_build_trains_on_the_gpu_and_says_so(tmp_path: Path) -> None:
    """The stages themselves, where all of EdgeKD's packages are installed."""
    for package in ("msgspec", "tomlkit", "ai_edge_litert"):
        pytest.importorskip(package)
    from edgekd.app.cli import main
    from tests.small_build import SMALL

    assert main([*SMALL, "--device", "cuda", "--until", "evaluate", "--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "report.json").read_text())["stages"]
    devices = {row["stage"]: row.get("device", "") for row in rows}
    for stage in ("teacher", "knowledge", "distil", "qat", "evaluate"):
        assert devices[stage].startswith("cuda:0"), stage
