"""Adversarial views: images moved within a small box to where a network is worst, by projected gradient ascent."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

START = 1e-3  # standard deviation of the first move, in normalised units: at the image itself the gradient is 0
OVERSHOOT = 2.0  # steps times their size, in boxes: far enough to cross from wall to wall


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
    """Images [b, c, h, w] within `epsilon` of the given ones that raise `loss(logits)`, and within `low` .. `high`.

    PGD (Madry et al. 2018, arXiv 1706.06083): `steps` signed steps of OVERSHOOT * epsilon / steps, each projected back
    into the box. `epsilon`, `low`, `high`: [1, c, 1, 1] in the images' own units. The network runs in eval form, so
    that batch statistics are those of real images, and ends in the form it came in.
    """
    training = net.training
    net.eval()
    noise = torch.randn(images.shape, generator=stream) * START
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
