"""data -> knowledge: clients who keep their images answer about shared ones, and the student learns
from the blend.

FedMD (Li and Wang 2019, arXiv 1910.03581), and FedDF (Lin et al. 2020, arXiv 2006.07242) for what
the student does with the answers. All clients run in one process here: the stage measures what such
a student would reach, and protects nobody's data.

A client is given its own images with their labels, the shared images without labels, and from the
second round on the clients' common answers. It returns logits and nothing else. The data stage has
put the clients' images into splits of their own, so that every later stage (student, pruning, QAT,
calibration) finds only the shared images in "train".
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from edgekd.core.artifacts import Dataset, Json, Knowledge, Network, sha256
from edgekd.core.context import Context, MemoryCheckpoint, Shards
from edgekd.core.shard_folders import MemoryShards
from edgekd.data import client_parts, datasets
from edgekd.evaluation import metrics
from edgekd.networks import builders, compute, timm_networks, weight_files
from edgekd.networks.inference import logits_of
from edgekd.pipeline.stage_settings import ClientSettings
from edgekd.settings import model_specs
from edgekd.settings.recipe import DistilConfig
from edgekd.training import teacher_blend, views
from edgekd.training.cached_answers import knowledge_of
from edgekd.training.fit import fit
from edgekd.training.fit_plan import first_rate
from edgekd.training.lesson import lesson
from edgekd.training.oracle_settings import OracleSettings
from edgekd.training.teacher_answers import TeacherAnswers
from edgekd.training.teacher_oracle import Oracle

BATCH = 64  # images a forward pass, for a client's accuracy


@compute.in_full_float32
def run(dataset: Dataset, *, settings: ClientSettings, context: Context) -> Knowledge:
    """Let each client learn and answer about `view.per_image` views of the shared images, and blend
    the answers.

    The knowledge is the blend, logits only. Its facts hold each client's images by class and its
    accuracy on test.
    """
    config = settings.config
    channels = datasets.student_channels(dataset, settings.channels)
    settings = dataclasses.replace(
        settings, model=model_specs.of_channels(settings.model, channels)
    )
    handed, shared = client_parts.shared(dataset), torch.from_numpy(datasets.rows(dataset, "train"))
    clients = [
        _Client(client_parts.part(dataset, rows), handed, settings, name, context)
        for name, rows in client_parts.clients(dataset).items()
    ]
    said: Tensor | None = None
    for number in range(config.rounds):
        each = []
        for client in clients:
            if said is not None:
                consensus = _knowledge(dataset, shared, said, {}, MemoryShards("consensus"))
                client.digest(consensus, config.epochs, number)
            client.learn(config.epochs, number)
            each.append(client.answer())
        said = _blend(torch.stack(each, 2), dataset.labels == "one")
    assert said is not None
    clients_facts = [client.facts(dataset) for client in clients]
    one = dataset.labels == "one"
    facts = {
        "source": "clients",
        "rounds": config.rounds,
        "clients": clients_facts,
        "mean_top1": float(np.mean([row["top1"] for row in clients_facts])) if one else None,
    }
    folder = context.answers({"clients": sha256(said.numpy().tobytes())})
    return _knowledge(dataset, shared, said, facts, folder)


def _blend(answers: Tensor, one_label: bool) -> Tensor:
    """Blend float16 logits [views, n, clients, k] to [views, n, k].

    Clients are weighted by how sure each is (`teacher_blend.sureness`). Where an image may have
    several labels, the blend is the plain mean.
    """
    if not one_label or answers.shape[2] == 1:
        return answers.float().mean(2).half()
    flat = answers.flatten(0, 1).float()
    blended = teacher_blend.blend(flat, teacher_blend.sureness(flat))
    return blended.half().view(*answers.shape[:2], -1)


def _knowledge(
    dataset: Dataset, rows: Tensor, said: Tensor, facts: dict[str, Json], folder: Shards
) -> Knowledge:
    """Knowledge of logits `said`, float16 [views, n, k], about the images `rows`."""
    return knowledge_of(rows.tolist(), len(dataset.classes), {"logits": said}, facts, folder)


class _Client:
    """One client with everything that it is given: the student's network, its own images, and the
    shared ones.
    """

    def __init__(
        self, own: Dataset, shared: Dataset, settings: ClientSettings, name: str, context: Context
    ) -> None:
        self.own, self.shared, self.name, self.context = own, shared, name, context
        self.compute = compute.of(context)
        self.model, self.view, self.px = settings.model, settings.view, settings.px
        # A client has no teacher and no groups: its labels are what it learns from.
        self.config = dataclasses.replace(settings.distil, labels="given", groups="", losses=())
        # All clients start from the same weights, as the student does.
        torch.manual_seed(context.seed + settings.distil.seed)
        self.net, origin = timm_networks.pretrained(
            self.model, self.config.weights, len(own.classes), self.model.options
        )
        self.mean, self.std = builders.normalisation(self.model, self.net)
        self.rate = first_rate(self.config.lr, origin)

    def learn(self, epochs: int, number: int) -> None:
        """Train on its own images and labels, in the round `number`."""
        self._train(self.own, None, self.config, epochs, number)

    def digest(self, consensus: Knowledge, epochs: int, number: int) -> None:
        """Learn the clients' common answers about the shared images.

        This is FedMD's "digest"; its "revisit" is `learn`.
        """
        unlabelled = dataclasses.replace(self.config, labels="withheld")
        self._train(self.shared, consensus, unlabelled, epochs, number)

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
            TeacherAnswers.of(images, said, self.view, self.context.seed),
            config,
            builders.taps(self.model, self.net),
            self._renderer(images),
            compute=self.compute,
            say=self.context.say,
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
            compute=self.compute,
            capturable=distiller.capturable,
            say=self.context.say,
        )
        self.net.cpu()

    def _renderer(self, images: Dataset) -> views.Renderer:
        """Views of some images at the student's size."""
        return views.Renderer(
            datasets.pixels(images), self.px, self.mean, self.std, self.compute.device
        )

    def answer(self) -> Tensor:
        """Float16 logits [views, n, k] about the same views of the shared images that the student
        will see.
        """
        shared = torch.from_numpy(datasets.rows(self.shared, "train"))
        network = Network(
            self.model.arch,
            {**self.model.options, "num_classes": len(self.own.classes)},
            self.px,
            self.mean,
            self.std,
            [],
            {},
            weight_files.to_bytes(self.net.state_dict()),
        )
        oracle = Oracle(
            network,
            datasets.pixels(self.shared),
            OracleSettings("float32", self.model),
            self.compute,
        )
        found = []
        for number in range(self.view.per_image):
            drawn = views.draw(
                self.view, self.context.seed, number, datasets.identities(self.shared), shared
            )
            found.append(oracle.ask(shared, drawn)["logits"].cpu())
        return torch.stack(found)

    def facts(self, dataset: Dataset) -> dict[str, Json]:
        """Its images by class, and its accuracy on the test images (None where an image may have
        several labels).
        """
        one, labels = dataset.labels == "one", datasets.labels(self.own)
        each = np.bincount(labels, minlength=len(dataset.classes)) if one else labels.sum(0)
        top1 = None
        if one:
            rows = torch.from_numpy(datasets.rows(dataset, "test"))
            render = self._renderer(dataset)
            images = (render.plain(part) for part in rows.split(BATCH))
            net = self.compute.place(self.net)
            top1 = metrics.top1(logits_of(net, images), datasets.labels(dataset, "test"))
            net.cpu()
        return {
            "name": self.name,
            "images": len(self.own.images),
            "by_class": each.tolist(),
            "top1": top1,
        }
