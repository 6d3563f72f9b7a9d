"""What to say when the memory of a GPU runs out in training."""

from __future__ import annotations

import operator

import torch

from edgekd.core.errors import OutOfMemory
from edgekd.training.captured_step import mapped, tensors
from edgekd.training.fit_plan import Step
from edgekd.training.steps import Run

# The stage whose batch a training uses, where its messages begin with another name.
BATCH_OF = {"prune": "distil", "pretrain": "distil"}
FEWEST = 2  # images that batch norm needs


def out_of_memory[B](run: Run[B], batch: B | None, step: Step) -> OutOfMemory:
    """The error for a batch that did not fit, which names one that does.

    `batch`: the one that did not fit; None where not even its images could be rendered.
    """
    fitting = None if batch is None else _fitting(run, batch, step)
    stage = run.what.split()[0]
    key = f"{BATCH_OF.get(stage, stage)}.batch"
    size = "" if batch is None else f" of {_size(batch)} images"
    return OutOfMemory(
        f"{run.what}: a batch{size} does not fit into the memory of {run.compute.device}; finished "
        f"stages are kept, and the state after epoch {step.epoch}",
        f"--set {key}={fitting}"
        if fitting
        else f"set a smaller {key}, end other programs on that GPU, or --device cpu",
    )


def _size(batch: object) -> int:
    return len(tensors(batch)[0])


def _fitting[B](run: Run[B], batch: B, step: Step) -> int | None:
    """The largest half, quarter and so on of a batch whose gradients can be computed."""
    whole = _size(batch)
    size = whole // 2
    while size >= FEWEST:
        run.module.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        try:
            run.loss(mapped(batch, operator.itemgetter(slice(size))), step).backward()
        except torch.OutOfMemoryError:
            size //= 2
        else:
            return size
    return None
