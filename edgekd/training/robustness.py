"""Adversarial views: images changed within a small box so that a loss rises, by gradient ascent."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

# Standard deviation of the first change, in normalised units. At the image itself the gradient of a
# distance between answers is 0.
START = 1e-3
# All steps together, in half-widths of the box: enough to cross it from side to side.
OVERSHOOT = 2.0


def attack(
    net: nn.Module,
    images: Tensor,
    loss: Callable[[Tensor], Tensor],
    *,
    epsilon: Tensor,
    steps: int,
    low: Tensor,
    high: Tensor,
    stream: torch.Generator,
) -> Tensor:
    """Images [b, c, h, w] within `epsilon` of the given ones for which `loss(logits)` is larger.

    PGD (Madry et al. 2018, arXiv 1706.06083): `steps` signed steps of OVERSHOOT * epsilon / steps,
    each projected back into the box and into `low` to `high`. `epsilon`, `low`, `high`: [1, c, 1,
    1] in the units of the images. The network runs in eval mode, so that batch norm uses the
    statistics of real images, and is then set back to its mode.
    """
    training = net.training
    net.eval()
    noise = torch.randn(images.shape, generator=stream).to(images.device) * START
    moved = torch.clamp(images + torch.minimum(torch.maximum(noise, -epsilon), epsilon), low, high)
    with torch.enable_grad():
        for _ in range(steps):
            moved = moved.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(loss(net(moved)), moved)
            moved = moved.detach() + gradient.sign() * epsilon * (OVERSHOOT / steps)
            moved = torch.clamp(
                torch.minimum(torch.maximum(moved, images - epsilon), images + epsilon), low, high
            )
    net.train(training)
    return moved.detach().contiguous(memory_format=torch.channels_last)
