"""Gradients of a student's loss, for pruning that ranks channels by them."""

from __future__ import annotations

from torch import nn

from edgekd.training import before_step
from edgekd.training.fit_plan import Step
from edgekd.training.lesson import Lesson
from edgekd.training.processes import team


def add_up(net: nn.Module, taught: Lesson, batches: int) -> None:
    """Sum the gradients of the loss over training batches, in the network's parameters.

    Feature losses count nothing here: their adapters are untrained. Batch norms keep their
    statistics.
    """
    distiller = taught.distiller(net).eval()
    net.zero_grad()
    for part in before_step.parts(distiller):
        part.before_step()
    for _, batch in zip(range(batches), taught.feed.epoch(0), strict=False):
        distiller.loss(batch, Step(0, 1, 0)).backward()
    net.cpu()  # with its gradients
    team().average_gradients(net)
