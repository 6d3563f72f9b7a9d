"""data -> knowledge: clients who keep their images answer about shared ones, and their answers together teach the student.

FedMD (Li and Wang 2019, arXiv 1910.03581), and FedDF (Lin et al. 2020, arXiv 2006.07242) for what the student does with the
answers. Here all clients live in one process: it measures what such a student would reach, and protects nobody's data.

A client is handed its own images with their labels, the shared images without, and from the second round on the clients'
common answers. It gives back logits and nothing else. The data stage has put the clients' images into splits of their own,
so that every later stage (student, pruning, QAT, calibration) finds the shared ones alone in "train".
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgekd.core.artifacts import Dataset, Knowledge, Network
from edgekd.core.context import Context, MemoryCheckpoint
from edgekd.data import client_parts, datasets
from edgekd.evaluation import metrics
from edgekd.networks import builders
from edgekd.networks.inference import logits_of
from edgekd.settings import model_specs
from edgekd.settings.model_specs import ModelSpec
from edgekd.settings.recipe import DistilConfig, FederatedConfig, ViewsConfig
from edgekd.training import teacher_blend, views
from edgekd.training.fit import first_rate, fit
from edgekd.training.lesson import lesson
from edgekd.training.teacher_oracle import Oracle


def run(
    dataset: Dataset,
    *,
    config: FederatedConfig,
    distil: DistilConfig,
    model: ModelSpec,
    view: ViewsConfig,
    px: int,
    weights_sha256: str,
    context: Context,
    channels: str = "3",
) -> Knowledge:
    """Let each client learn, answer about `view.per_image` views of the shared images, and blend the answers.

    The knowledge is the blend, logits alone; its facts tell each client's images by class and its accuracy on test.
    """
    model = model_specs.of_channels(model, datasets.student_channels(dataset, channels))
    handed, shared = client_parts.shared(dataset), torch.from_numpy(datasets.rows(dataset, "train"))
    clients = [
        _Client(client_parts.part(dataset, rows), handed, distil, model, view, px, name, context)
        for name, rows in client_parts.clients(dataset).items()
    ]
    said: Tensor | None = None
    for number in range(config.rounds):
        each = []
        for client in clients:
            if said is not None:
                client.digest(_knowledge(dataset, shared, said, {}), config.epochs, number)
            client.learn(config.epochs, number)
            each.append(client.answer())
        said = _blend(torch.stack(each, 2), dataset.labels == "one")
    assert said is not None
    told = [client.facts(dataset) for client in clients]
    facts = {
        "source": "clients",
        "rounds": config.rounds,
        "clients": told,
        "mean_top1": float(np.mean([row["top1"] for row in told]))
        if dataset.labels == "one"
        else None,
    }
    return _knowledge(dataset, shared, said, facts)


def _blend(answers: Tensor, one_label: bool) -> Tensor:
    """Float16 logits [views, n, clients, k] to [views, n, k]: by each client's sureness, or where an image may have several
    labels the plain mean.
    """
    if not one_label or answers.shape[2] == 1:
        return answers.float().mean(2).half()
    flat = answers.flatten(0, 1).float()
    return (
        teacher_blend.blend(flat, teacher_blend.sureness(flat)).half().view(*answers.shape[:2], -1)
    )


def _knowledge(dataset: Dataset, rows: Tensor, said: Tensor, facts: dict[str, Any]) -> Knowledge:
    return Knowledge(
        views=len(said),
        rows=rows.tolist(),
        classes=len(dataset.classes),
        features=0,
        grid_shape=[],
        cam_side=0,
        teachers=1,
        facts=facts,
        logits=said.numpy().tobytes(),
        pooled=b"",
        grid=b"",
        cams=b"",
        others=b"",
    )


class _Client:
    """One client, with all that it is handed: the student's network, its own images, the shared ones."""

    def __init__(
        self,
        own: Dataset,
        shared: Dataset,
        distil: DistilConfig,
        model: ModelSpec,
        view: ViewsConfig,
        px: int,
        name: str,
        context: Context,
    ) -> None:
        self.own, self.shared = own, shared
        self.model, self.view, self.px, self.name, self.context = model, view, px, name, context
        self.config = dataclasses.replace(
            distil, labels="given", groups="", losses=()
        )  # no teacher: labels are what it has
        torch.manual_seed(
            context.seed + distil.seed
        )  # all clients start alike, as the student does
        self.net, origin = builders.pretrained(
            model, distil.weights, len(own.classes), model.options
        )
        self.mean, self.std = builders.normalisation(model, self.net)
        self.rate = first_rate(distil.lr, origin)

    def learn(self, epochs: int, number: int) -> None:
        """Train on its own images and labels."""
        self._train(self.own, None, self.config, epochs, number)

    def digest(self, consensus: Knowledge, epochs: int, number: int) -> None:
        """Learn the clients' common answers about the shared images (FedMD's digest; its revisit is `learn`)."""
        self._train(
            self.shared,
            consensus,
            dataclasses.replace(self.config, labels="withheld"),
            epochs,
            number,
        )

    def _train(
        self,
        images: Dataset,
        said: Knowledge | None,
        config: DistilConfig,
        epochs: int,
        number: int,
    ) -> None:
        torch.manual_seed(self.context.seed + number)
        taught = lesson(
            images,
            said,
            config,
            builders.taps(self.model, self.net),
            self.view,
            views.Renderer(datasets.pixels(images), self.px, self.mean, self.std),
            self.context.seed,
        )
        distiller = taught.distiller(self.net)
        fit(
            distiller,
            self.net,
            lambda epoch: taught.feed.epoch(number * epochs + epoch),
            distiller.loss,
            taught.fit_plan(epochs, self.rate),
            what=f"distil ({self.name})",
            steps=taught.feed.steps,
            checkpoint=MemoryCheckpoint(),
            progress=self.context.progress,
        )

    def answer(self) -> Tensor:
        """Float16 logits [views, n, k] about the views of the shared images that the student will see."""
        shared = torch.from_numpy(datasets.rows(self.shared, "train"))
        network = Network(
            self.model.arch,
            {**self.model.options, "num_classes": len(self.own.classes)},
            self.px,
            self.mean,
            self.std,
            [],
            {},
            builders.to_bytes(self.net.state_dict()),
        )
        oracle = Oracle(
            network, datasets.pixels(self.shared), wanted_precision="float32", model=self.model
        )
        found = []
        for number in range(self.view.per_image):
            drawn = views.draw(
                self.view, self.context.seed, number, len(self.shared.images), shared
            )
            found.append(oracle.ask(shared, drawn)["logits"])
        return torch.stack(found)

    def facts(self, dataset: Dataset) -> dict[str, Any]:
        """What it had, and its accuracy on the test images."""
        counts = datasets.labels(self.own)
        each = (
            np.bincount(counts, minlength=len(dataset.classes))
            if dataset.labels == "one"
            else counts.sum(0)
        )
        rows = torch.from_numpy(datasets.rows(dataset, "test"))
        render = views.Renderer(datasets.pixels(dataset), self.px, self.mean, self.std)
        answers = logits_of(
            self.net, (render.plain(part) for part in rows.split(self.config.batch))
        )
        top1 = (
            metrics.top1(answers, datasets.labels(dataset, "test"))
            if dataset.labels == "one"
            else None
        )
        return {
            "name": self.name,
            "images": len(self.own.images),
            "by_class": each.tolist(),
            "top1": top1,
        }
