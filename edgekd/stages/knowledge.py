"""data, teacher -> knowledge: what the teacher says about seeded views of each training image, computed once.

Training then costs the student only. float16 keeps logits to 3 digits, which is far below what augmentation moves.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from edgekd import data, networks, views
from edgekd.adapters import resize_map, tokens_to_map
from edgekd.artifacts import Dataset, Knowledge, Network
from edgekd.context import Context
from edgekd.inference import logits_and_features, precision
from edgekd.models import ModelSpec
from edgekd.recipe import ViewsConfig

BATCH = 64


def run(dataset: Dataset, teacher: Network, *, view: ViewsConfig, wanted_precision: str, model: ModelSpec,
        grid_side: int, context: Context) -> Knowledge:
    """Ask the teacher about `view.per_image` views of every training image.

    `grid_side`: side of the feature map that the grid loss aligns to, 0 keeps none (a map is 20 to 100 times as large
    as the pooled features).
    """
    net = networks.restore(teacher)
    dtype = precision(wanted_precision, net)
    render = views.Renderer(data.pixels(dataset), teacher.px, teacher.mean, teacher.std)
    train = torch.from_numpy(data.rows(dataset, "train"))
    count = len(dataset.images)
    tap = networks.taps(model, net)[-1]
    prefix = getattr(net, "num_prefix_tokens", 0)
    logits, pooled, grids = [], [], []

    def answers() -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        with networks.watch(net, [tap] if grid_side else []) as seen:
            for number in range(view.per_image):
                drawn = views.draw(view, context.seed, number, count, train)
                for rows in train.split(BATCH):
                    said, features = logits_and_features(net, render.views(rows, drawn), dtype)
                    grid = resize_map(tokens_to_map(seen[tap].float(), prefix), grid_side) if grid_side else None
                    yield said, features, grid

    total, done = view.per_image * len(train), 0
    for said, features, grid in answers():
        logits.append(said.half().numpy())
        pooled.append(features.half().numpy())
        if grid is not None:
            grids.append(grid.half().numpy())
        done += len(said)
        context.progress("teacher views", done, total)
    return Knowledge(
        views=view.per_image, rows=train.tolist(), classes=len(dataset.classes), features=pooled[0].shape[1],
        grid_shape=list(grids[0].shape[1:]) if grids else [],
        logits=np.concatenate(logits).tobytes(), pooled=np.concatenate(pooled).tobytes(),
        grid=np.concatenate(grids).tobytes() if grids else b"",
    )

