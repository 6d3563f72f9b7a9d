"""Steps on a GPU, where none is: fake tensors show where devices mix and where the CPU would wait,
and the steps themselves run on the CPU beside those that a CPU takes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekd.core.context import MemoryCheckpoint
from edgekd.core.errors import OutOfMemory, TrainingDiverged
from edgekd.networks import builders, compute
from edgekd.networks.compute import Compute
from edgekd.quantization import fakequant
from edgekd.quantization.qat_network import QatNetwork, calibrate, prepare, set_phase
from edgekd.settings import loss_catalogue
from edgekd.settings.loss_catalogue import METHODS, Term
from edgekd.settings.recipe import DistilConfig, ViewsConfig
from edgekd.tflite import int8_rules
from edgekd.training import (
    batch_rule,
    before_step,
    device_steps,
    fit,
    objective,
    orthogonal,
    pixels,
    threads,
    views,
)
from edgekd.training import optimisers as optimisers_
from edgekd.training.ahead import ahead
from edgekd.training.batches import Batch
from edgekd.training.fit_plan import FitPlan, Step
from edgekd.training.loss_modules import Seen, Setting
from edgekd.training.losses import label_losses
from tests import small_networks
from tests.fake_gpu import CUDA, fake_gpu, move, on_gpu

PX, CLASSES = 64, 4
CONFIG = DistilConfig(student="mobilenetv2_035", weights="none", pooled=0.0, alpha=0.5)
STEP = Step(3, 10, 0)
# Every kind of change, so that each function of `views` runs.
BUSY = ViewsConfig(blur=0.5, noise=0.1, erase=0.5, mixup=0.4)


# --- on a GPU that does not exist -----------------------------------------------------------------


class Student(nn.Module):
    """What losses ask of a student: taps of two sizes, a map, pooled features, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 16, 3, 32, 1), nn.Linear(16, CLASSES)

    def get_classifier(self) -> nn.Module:
        return self.head

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images).mean((2, 3)))


SHAPES = {
    "pooled": torch.Size([1, 16]),
    "last": torch.Size([1, 16, 2, 2]),
    "early": torch.Size([1, 8, 4, 4]),
    "late": torch.Size([1, 16, 2, 2]),
}


def setting(labels: loss_catalogue.Labels) -> Setting:
    return Setting(
        Student(),
        ["early", "late"],
        SHAPES,
        CLASSES,
        labels,
        0,
        [0.5] * 3,
        [0.5] * 3,
        {"pooled": 24, "grid": 24},
        True,
        Student,
        torch.arange(8) % 2,
    )


def batch(labels: loss_catalogue.Labels) -> Batch:
    targets = label_losses.soften(torch.arange(8) % CLASSES, CLASSES, 0.0)
    if labels == "many":
        targets[0, 0] = torch.nan
    return Batch(
        torch.zeros(8, 3, PX, PX),
        targets,
        torch.zeros(8, CLASSES),
        torch.zeros(8, 24),
        torch.zeros(8, 24, 2, 2),
        torch.zeros(8, CLASSES, 2, 2),
        rows=torch.arange(8),
    )


def seen() -> Seen:
    parts = {name: torch.empty(8, *shape[1:], device=CUDA) for name, shape in SHAPES.items()}
    logits = torch.empty(8, CLASSES, device=CUDA)
    return Seen(logits, parts["pooled"], parts["last"], parts)


@pytest.mark.parametrize("labels", ["one", "many"])
def test_a_loss_waits_for_the_gpu_if_and_only_if_it_says_so(labels: loss_catalogue.Labels) -> None:
    names = [name for name, method in METHODS.items() if labels == "one" or not method.not_many]
    every = dataclasses.replace(CONFIG, pooled=1.0, grid=1.0, exits=1.0)
    for name in ("", *names):
        term = (Term(name, 1.0, 0.5, METHODS[name].defaults),) if name else ()
        config = dataclasses.replace(CONFIG, losses=term) if name else every
        plan = objective.plan(config, ("logits", "pooled", "grid", "cams"), CLASSES, labels)
        made, waited = objective.Objective(config, plan, setting(labels)), False
        with fake_gpu():
            move(made)
            for part in before_step.parts(made):
                part.before_step()
            step = dataclasses.replace(STEP, clock=torch.empty((), device=CUDA))
            try:
                value = made.value(seen(), batch(labels).each(on_gpu), step)
            except (
                torch._subclasses.fake_tensor.DataDependentOutputException,
                torch._subclasses.fake_tensor.DynamicOutputShapeException,
            ):
                waited = True
            else:
                assert value.device == CUDA, name
        assert made.capturable != waited, name


def default_losses(precision: torch.dtype) -> objective.Objective:
    """Labels, KD and the pooled features, for a student whose weights are random."""
    torch.manual_seed(0)
    student = builders.create("mobilenetv2_035", {"num_classes": CLASSES}).eval()
    shapes = objective.shapes(student, [], 32, 3)
    at = dataclasses.replace(setting("one"), student=student, taps=[], shapes=shapes)
    plan = objective.plan(dataclasses.replace(CONFIG, pooled=1.0), ("logits", "pooled"), CLASSES)
    return objective.Objective(CONFIG, plan, at, precision=precision).train()


def test_a_student_computes_in_bfloat16_and_its_losses_in_float32() -> None:
    values, shown = [], torch.randn(8, 3, 32, 32)
    for precision in (torch.float32, torch.bfloat16):
        made, inside = default_losses(precision).eval(), []
        made.student.conv_head.register_forward_hook(
            lambda _m, _i, y, to=inside: to.append(y.dtype)
        )
        found = made.see(shown)
        assert inside == [precision]
        assert {found.logits.dtype, found.pooled.dtype, found.last.dtype} == {torch.float32}
        values.append(made.value(found, batch("one"), STEP))
    assert values[0].dtype == values[1].dtype == torch.float32
    torch.testing.assert_close(values[1], values[0], rtol=0.03, atol=0.0)
    assert float(values[0]) != float(values[1])


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_views_are_rendered_without_waiting(kind: type) -> None:
    render = views.Renderer(np.zeros((6, 1, 40, 40), kind), 32, [0.5] * 3, [0.2] * 3)
    drawn = views.draw(BUSY, 0, 0, np.arange(6, dtype=np.uint64), torch.arange(6))
    sight = render.gather(torch.arange(6), drawn)
    stored = pixels.Resident(np.zeros((6, 1, 40, 40), kind), torch.device("cpu"))
    with fake_gpu():
        views._grain.cache_clear()
        stored.pixels = on_gpu(stored.pixels)
        render.pixels, render.device = stored, CUDA
        render.mean, render.std = on_gpu(render.mean), on_gpu(render.std)
        rows = on_gpu(torch.arange(6))
        image = render.draw(dataclasses.replace(sight, pixels=rows, partners=rows))
        assert (image.device, image.shape) == (CUDA, (6, 3, 32, 32))
    views._grain.cache_clear()


@pytest.mark.parametrize("phase", ["observe", "frozen"])
def test_int8_training_does_not_wait_for_the_gpu(phase: str) -> None:
    network = int8_network()
    set_phase(network, phase)
    with fake_gpu():
        move(network)
        network._trunk = (network.graph,)
        logits = network(torch.empty(4, 3, 32, 32, device=CUDA))
        assert logits.device == CUDA


def int8_network() -> QatNetwork:
    made = small_networks.Branches().eval()
    network = prepare(made, 32, [0.5] * 3, [0.5] * 3)
    calibrate(network, [torch.rand(4, 3, 32, 32)])
    return network


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_an_optimiser_does_not_wait_for_the_gpu(optimiser: str) -> None:
    net, plan = nn.Linear(3, 2), FitPlan(1, 0.1, 0.01, optimiser=optimiser)
    with fake_gpu():
        move(net)
        for parameter in net.parameters():
            parameter.grad = torch.empty_like(parameter)
        made = optimisers_.rated(net, plan, CUDA)
        made.prepare(0.1)
        optimisers_.clip([p.grad for p in net.parameters()], 5.0)
        made.update()
        made.tensors()


# --- the steps of a GPU, taken on a CPU -----------------------------------------------------------

X = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
PLAN = FitPlan(epochs=3, lr=0.05, weight_decay=0.01, ema=0.9)
DEVICE = Compute(training=torch.float16)  # its steps are those of a GPU, on the CPU too


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(8, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2)
    )


def train(
    plan: FitPlan,
    on: Compute,
    checkpoint: MemoryCheckpoint | None = None,
    breaks_at: int | None = None,
    times: float = 1.0,
) -> tuple[nn.Module, list]:
    net = network()

    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        return ((X[rows], Y[rows]) for rows in fit.shuffled(64, 16, 0, epoch))

    def loss(batch: tuple[Tensor, Tensor], step: Step) -> Tensor:
        value = F.cross_entropy(net(batch[0]), batch[1]) * times
        return value * torch.inf if step.index == breaks_at else value

    history = fit.fit(
        net,
        net,
        batches,
        loss,
        plan,
        what="distil",
        steps=4,
        checkpoint=checkpoint or MemoryCheckpoint(),
        compute=on,
    )
    return net, history


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
@pytest.mark.parametrize("schedule", ["cosine", "onecycle"])
def test_steps_of_a_gpu_train_the_same_network(optimiser: str, schedule: str) -> None:
    """The loss is scaled and the gradients are scaled back, by powers of two: nothing is lost."""
    plan = dataclasses.replace(
        PLAN, optimiser=optimiser, schedule=schedule, factors={"0.weight": 0.25, "3.bias": 0.0}
    )
    (own, rows), (other, others) = train(plan, Compute()), train(plan, DEVICE)
    assert torch.equal(own[3].bias, network()[3].bias)  # its rate is 0
    for one, two in zip(own.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
    assert [row["loss"] for row in others] == pytest.approx([row["loss"] for row in rows], rel=1e-4)


def test_a_training_goes_on_on_another_device() -> None:
    """Both kinds of steps write the same checkpoint."""
    for optimiser in ("sgd", "adamw"):
        plan = dataclasses.replace(PLAN, optimiser=optimiser)
        whole, _ = train(plan, Compute())
        for first, second in ((Compute(), DEVICE), (DEVICE, Compute())):
            kept = Cut(after=2)
            with pytest.raises(KeyboardInterrupt):
                train(plan, first, kept)
            rest, rows = train(
                plan, second, MemoryCheckpoint.__new__(MemoryCheckpoint) and kept.whole()
            )
            assert [row["epoch"] for row in rows] == [1, 2, 3]
            for one, two in zip(whole.parameters(), rest.parameters(), strict=True):
                torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


class Cut(MemoryCheckpoint):
    """A checkpoint after which the run is interrupted."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def save(self, data: bytes) -> None:
        super().save(data)
        self.after -= 1
        if not self.after:
            raise KeyboardInterrupt

    def whole(self) -> MemoryCheckpoint:
        kept = MemoryCheckpoint()
        kept.data = self.data
        return kept


def test_the_step_that_diverged_is_named_although_it_is_found_out_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(device_steps, "READ_EVERY", 1e9)
    with pytest.raises(TrainingDiverged, match="step 2 of 4 in epoch 2; the state after epoch 1"):
        train(PLAN, DEVICE, breaks_at=5)


def test_gradients_that_are_too_large_for_float16_cost_a_step_and_no_weight(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first scale is far too large: steps are left out until it is small enough."""
    whole, _ = train(PLAN, DEVICE, times=1e3)
    monkeypatch.setattr(device_steps, "FIRST_SCALE", 2.0**127)
    net, history = train(PLAN, DEVICE, times=1e3)
    assert all(bool(torch.isfinite(p).all()) for p in net.parameters())
    assert all(np.isfinite(row["loss"]) for row in history)
    assert not torch.allclose(net[0].weight, whole[0].weight, rtol=1e-3)


def test_a_full_gpu_names_the_batch_that_fits() -> None:
    net = network()

    def loss(batch: tuple[Tensor, Tensor], step: Step) -> Tensor:
        if len(batch[0]) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return F.cross_entropy(net(batch[0]), batch[1])

    with pytest.raises(OutOfMemory, match="a batch of 16 images") as caught:
        fit.fit(
            net,
            net,
            lambda epoch: ((X[rows], Y[rows]) for rows in fit.shuffled(64, 16, 0, epoch)),
            loss,
            PLAN,
            what="prune 1/2",
            steps=4,
            checkpoint=MemoryCheckpoint(),
            compute=DEVICE,
        )
    assert caught.value.next_step == "--set distil.batch=4"


# --- what they rest on ----------------------------------------------------------------------------


@pytest.mark.parametrize(("d_in", "d_out"), [(12, 7), (12, 20), (9, 9)])
@pytest.mark.parametrize("kind", ["_on_host", "_on_device"])
def test_a_projection_has_torchs_own_derivative(d_in: int, d_out: int, kind: str) -> None:
    stream = torch.Generator().manual_seed(0)
    made = orthogonal.Orthogonal(d_in, d_out, stream)
    made.raw.data += 0.1 * torch.randn(made.raw.shape, generator=stream)
    features = torch.randn(5, d_in, generator=stream, requires_grad=True)
    weights = made.raw.detach().clone().requires_grad_()
    lower = torch.linalg.cholesky(weights @ weights.T)
    basis = torch.linalg.solve_triangular(lower, weights, upper=False)
    expected = features @ basis if made.widens else features @ basis.T
    expected.square().sum().add(expected[:, 0].sum()).backward()
    wanted, features.grad = features.grad, None

    made.inverse.copy_(torch.linalg.inv(lower.detach()))
    found = orthogonal._Projection.apply(features, made.raw, getattr(made, kind)(), made.widens)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    found.square().sum().add(found[:, 0].sum()).backward()
    torch.testing.assert_close(made.raw.grad, weights.grad, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(features.grad, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("cores", [1, 2])
def test_a_projection_learns_the_same_beside_the_step(
    cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradients of two backward passes add up, with a thread for them and without."""
    monkeypatch.setattr(threads, "preparing", lambda: cores - 1)
    made = orthogonal.Orthogonal(12, 7, torch.Generator().manual_seed(0))
    features = torch.randn(5, 12, generator=torch.Generator().manual_seed(1))
    gradients = []
    for times in (1, 2):
        made.raw.grad = None
        made.before_step()
        for _ in range(times):
            made(features)[:, 0].sum().backward()
        assert made.raw.grad is not None
        gradients.append(made.raw.grad / times)
    torch.testing.assert_close(*gradients)


def test_ranges_on_a_gpu_are_those_of_the_file() -> None:
    stream = torch.Generator().manual_seed(0)
    drawn = torch.randn(400, 2, generator=stream, dtype=torch.float64).sort(1).values
    size = 10.0 ** torch.randint(-9, 9, (400, 1), generator=stream)
    for low, high in drawn * size:
        for symmetric, expected in (
            (False, int8_rules.range_from_minmax),
            (True, int8_rules.symmetric_range),
        ):
            scale, zero_point = fakequant.grid_of(low, high, symmetric)
            wanted = expected(float(low), float(high))
            assert (float(scale), int(zero_point)) == (wanted.scale, wanted.zero_point)


def test_ranges_follow_on_a_gpu_as_on_the_cpu() -> None:
    stream = torch.Generator().manual_seed(0)
    one, two = fakequant.ActivationFakeQuant(), fakequant.ActivationFakeQuant()
    for phase in ("calibrate", "calibrate", "observe", "observe"):
        x = torch.randn(50, generator=stream) * 3
        one.phase = two.phase = phase
        one.observe(x)
        two._observe_there(x)
        assert one.range == two.range
        assert (float(one.low), float(one.high)) == (float(two.low), float(two.high))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_pixels_are_the_same_wherever_they_are_kept(kind: type) -> None:
    stored = np.random.default_rng(0).integers(0, np.iinfo(kind).max, (9, 3, 40, 40), kind, True)
    render = views.Renderer(stored, 32, [0.5] * 3, [0.2] * 3)
    drawn = views.draw(BUSY, 0, 0, np.arange(9, dtype=np.uint64), torch.arange(9))
    rows = torch.tensor([4, 0, 8])
    shown = [render.views(rows, drawn)]
    for place in (pixels.Resident, pixels.Sent):
        render.pixels = place(stored, torch.device("cpu"))
        shown.append(render.views(rows, drawn))
    assert torch.equal(shown[0], shown[1])
    assert torch.equal(shown[0], shown[2])


def test_batches_are_prepared_ahead_in_their_order() -> None:
    prepared = []

    def batches() -> Iterator[int]:
        for number in range(50):
            prepared.append(number)
            yield number

    assert list(ahead(batches())) == list(range(50))
    stopped = ahead(batches())
    assert next(stopped) == 0
    stopped.close()
    assert len(prepared) < 60


def test_an_error_in_the_thread_is_raised_where_the_batches_are_read() -> None:
    def batches() -> Iterator[int]:
        yield 1
        raise RuntimeError("torn")

    with pytest.raises(RuntimeError, match="torn"):
        list(ahead(batches()))


@pytest.mark.parametrize("allowed", ["high", "highest"])
def test_products_of_float32_are_exact_within_a_stage_and_as_before_afterwards(
    allowed: str,
) -> None:
    """Fails when TensorFloat-32 is on in a stage that the certificate or the waterfall compares."""

    def flags() -> tuple[str, ...]:
        backends = torch.backends
        return (
            torch.get_float32_matmul_precision(),
            str(backends.cudnn.allow_tf32),
            backends.cuda.matmul.fp32_precision,
            backends.cudnn.conv.fp32_precision,
            backends.cudnn.rnn.fp32_precision,
        )

    before = flags()
    try:
        torch.set_float32_matmul_precision(allowed)
        outside = flags()
        assert compute.in_full_float32(flags)() == ("highest", "False", "ieee", "ieee", "ieee")
        assert flags() == outside
    finally:
        torch.set_float32_matmul_precision(before[0])


def test_every_stage_that_computes_networks_computes_in_full_float32() -> None:
    from edgekd.pipeline.stages import (
        distil,
        evaluate,
        federated,
        knowledge,
        prune,
        qat,
        saliency,
        sensitivity,
        teacher,
    )

    for stage in (
        teacher, knowledge, federated, distil, prune, qat, evaluate, saliency, sensitivity
    ):  # fmt: skip
        assert stage.run.__wrapped__ is not None, stage.__name__
        assert stage.run.__code__ is compute.in_full_float32(len).__code__


def test_a_batch_of_0_suits_the_device_and_scales_the_plan() -> None:
    gpu = Compute(CUDA)
    assert batch_rule.chosen(0, 100_000, 96, Compute()) == 32
    assert batch_rule.chosen(48, 100_000, 96, gpu) == 48
    assert batch_rule.chosen(0, 100_000, 96, gpu) == 512
    assert batch_rule.chosen(0, 100_000, 224, gpu) == 64  # as many pixels
    assert batch_rule.chosen(0, 5_216, 96, gpu) == 128
    assert batch_rule.chosen(0, 2_000, 96, gpu) == 32
    assert batch_rule.chosen(0, 40, 96, gpu) == 32
    plan = FitPlan(1, 0.05, 0.0, ema=0.998)
    assert batch_rule.scaled(plan, 32) == plan
    found = batch_rule.scaled(plan, 128)
    assert (found.lr, found.ema) == (pytest.approx(0.2), pytest.approx(0.998**4))
    adam = batch_rule.scaled(dataclasses.replace(plan, optimiser="adamw"), 128)
    assert adam.lr == pytest.approx(0.1)
