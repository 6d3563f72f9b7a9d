"""timm's Swin keeps its maps as NHWC: as a student and as a teacher they are read as NCHW."""

from __future__ import annotations

import torch
from torch import nn

from edgekd.networks import builders
from edgekd.networks.watching import watch
from edgekd.settings import model_specs
from edgekd.settings.recipe import DistilConfig
from edgekd.training import objective
from edgekd.training.adapters import resize_map, tokens_to_map
from edgekd.training.batches import Batch
from edgekd.training.fit_plan import Step
from edgekd.training.loss_modules import Setting
from edgekd.training.objective import Objective, Plan, Scheduled

NAME, PX, CLASSES, BATCH = "swin_tiny_patch4_window7_224", 32, 3, 2


def swin(width: int) -> nn.Module:
    """A Swin of two stages: maps of 8 x 8 and then 4 x 4 places."""
    torch.manual_seed(0)
    sizes = {"img_size": PX, "embed_dim": width, "depths": (1, 1), "num_heads": (1, 1)}
    return builders.create(NAME, {"num_classes": CLASSES, "window_size": 4, **sizes})


def test_its_maps_are_the_students_and_the_teachers() -> None:
    teacher, student = swin(16), swin(12)
    taps = builders.taps(model_specs.spec(NAME), student)
    images = torch.randn(BATCH, 3, PX, PX)
    with torch.inference_mode(), watch(teacher, taps) as seen:
        said = teacher(images)
        plain = dict(teacher.named_modules())[taps[0]](teacher.patch_embed(images))
        pooled = teacher.forward_head(teacher.forward_features(images), pre_logits=True)
    assert torch.equal(seen[taps[0]], plain.permute(0, 3, 1, 2))
    grid = resize_map(tokens_to_map(seen[taps[-1]], 0), 2)
    assert grid.shape == (BATCH, 32, 2, 2)

    shapes = objective.shapes(student, taps, PX, 3)
    assert [shapes[tap][1] for tap in taps] == [12, 24]
    half = [0.5] * 3
    widths = {"pooled": pooled.shape[1], "grid": grid.shape[1]}
    at = Setting(student, taps, shapes, CLASSES, "one", 0, half, half, widths)
    losses = [Scheduled(name, 1.0, 0.0) for name in ("pooled", "grid", "exits")]
    training = Objective(DistilConfig(), Plan(0.5, losses, [], []), at).train()
    targets = nn.functional.one_hot(torch.tensor([0, 2]), CLASSES).float()
    batch = Batch(images, targets, said.clone(), pooled.clone(), grid.clone())
    optimiser = torch.optim.SGD(training.parameters(), 0.05)
    before = float(training.loss(batch, Step(0, 10, 0)).detach())
    for _ in range(5):
        optimiser.zero_grad()
        training.loss(batch, Step(0, 10, 0)).backward()
        optimiser.step()
    assert all(part.grad is not None for part in training.terms.parameters())
    assert float(training.loss(batch, Step(0, 10, 0)).detach()) < before
