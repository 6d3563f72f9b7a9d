"""Knowledge distillation in plain torch: the script that one would write without EdgeKD.

It has the same student, views, teacher's answers and number of steps as the rows beside it in
`tools.compare_methods`, and nothing else: cross-entropy and KL divergence (Hinton et al. 2015,
arXiv 1503.02531), SGD with Nesterov momentum and a cosine. It has no warm-up, no average of the
weights, no even draw of the classes and timm's own first classifier.
"""

from __future__ import annotations

from collections.abc import Mapping

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekd.core.artifacts import Dataset, Knowledge, Network
from edgekd.data import datasets
from edgekd.networks import builders, weight_files
from edgekd.pipeline.jobs import Job
from edgekd.training import views
from edgekd.training.cached_answers import CachedAnswers

RATE, MOMENTUM, WEIGHT_DECAY = 0.05, 0.9, 5e-4  # the recipe's, for random weights
BATCH = 32


def train(job: Job, dataset: Dataset, knowledge: Knowledge) -> Network:
    """The student of a job, taught by answers about views without mixup."""
    config, view, spec = job.recipe.distil, job.recipe.views, job.student
    torch.manual_seed(job.recipe.seed + config.seed)
    options = {**spec.options, "num_classes": len(dataset.classes)}
    net: nn.Module = timm.create_model(spec.arch, **options).train()
    mean, std = builders.normalisation(spec, net)
    render = views.Renderer(datasets.pixels(dataset), job.recipe.data.input_px, mean, std)
    answers, rows = CachedAnswers(knowledge), torch.tensor(knowledge.rows)
    labels, images = torch.from_numpy(datasets.labels(dataset)), datasets.identities(dataset)
    batch = min(BATCH, len(rows))
    optimiser = torch.optim.SGD(
        net.parameters(), RATE, MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True
    )
    steps = config.epochs * (len(rows) // batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    t, alpha = config.temperature, config.alpha
    for epoch in range(config.epochs):
        number = epoch % view.per_image
        drawn = views.draw(view, job.recipe.seed, number, images, rows)
        for order in torch.randperm(len(rows)).split(batch):
            if len(order) < batch:
                continue
            logits = net(render.draw(render.gather(rows[order], drawn)))
            said = answers.take(number, order)["logits"].float()
            kl = F.kl_div(
                F.log_softmax(logits / t, 1), F.softmax(said / t, 1), reduction="batchmean"
            )
            loss = alpha * t * t * kl
            loss = loss + (1 - alpha) * F.cross_entropy(logits, labels[rows[order]])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    return kept(job, dataset, net.eval().state_dict())


def kept(job: Job, dataset: Dataset, state: Mapping[str, Tensor]) -> Network:
    """The network that `train` returned, from its weights."""
    spec = job.student
    options = {**spec.options, "num_classes": len(dataset.classes)}
    mean, std = builders.normalisation(spec, builders.create(spec.arch, options))
    packed = weight_files.to_bytes(state)
    return Network(spec.arch, options, job.recipe.data.input_px, mean, std, [], {}, packed)
