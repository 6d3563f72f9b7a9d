"""data, teacher -> knowledge: what the teacher says about seeded views of each training image, computed once.

Training then costs the student only. float16 keeps logits to 3 digits, which is far below what augmentation moves.
"""

from __future__ import annotations

import numpy as np
import torch

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
    kept: dict[str, np.ndarray] = {}
    with networks.watch(net, [tap] if grid_side else []) as seen:
        for number in range(view.per_image):
            drawn = views.draw(view, context.seed, number, count, train)
            for start in range(0, len(train), BATCH):
                rows = train[start : start + BATCH]
                logits, pooled = logits_and_features(net, render.views(rows, drawn), dtype)
                said = {"logits": logits, "pooled": pooled}
                if grid_side:
                    said["grid"] = resize_map(tokens_to_map(seen[tap].float(), prefix), grid_side)
                for name, value in said.items():
                    if name not in kept:
                        # One block for all: small results kept between large temporaries would pin the heap (9 MB a batch).
                        kept[name] = np.empty((view.per_image, len(train), *value.shape[1:]), np.float16)
                    kept[name][number, start : start + BATCH] = value.half().numpy()
                context.progress("teacher views", number * len(train) + start + len(rows), view.per_image * len(train))
    return Knowledge(
        views=view.per_image, rows=train.tolist(), classes=len(dataset.classes), features=kept["pooled"].shape[-1],
        grid_shape=list(kept["grid"].shape[2:]) if grid_side else [],
        logits=kept["logits"].tobytes(), pooled=kept["pooled"].tobytes(), grid=kept["grid"].tobytes() if grid_side else b"",
    )

