"""Federated distillation: skewed classes, logits on shared images only, a student that learns."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekd.core.artifacts import Dataset, Knowledge, Network, sha256
from edgekd.core.context import Context
from edgekd.core.errors import DataError, RecipeError
from edgekd.data import client_parts, datasets
from edgekd.evaluation import metrics
from edgekd.networks import builders
from edgekd.networks.inference import logits_of
from edgekd.pipeline.stage_settings import ClientSettings, DistilSettings
from edgekd.pipeline.stages import distil, federated
from edgekd.settings import model_specs, recipe
from edgekd.settings.recipe import DistilConfig, FederatedConfig, ViewsConfig
from edgekd.training import views
from tests import small_networks

PX = 32
STUDENT = model_specs.spec("test_resnet")  # timm's smallest: learns these blobs in seconds
VIEW = ViewsConfig(per_image=2)
CONFIG = DistilConfig(student="test_resnet", weights="none", batch=16, labels="withheld", ema=0.0)
CLIENTS = FederatedConfig(clients=3, alpha=0.3, shared=0.4)


def rows(labels: list[int], groups: int) -> Dataset:
    """A data set without pixels: only labels and groups decide which client gets an image."""
    images = [
        {
            "name": str(row),
            "sha256": "",
            "label": label,
            "split": "train",
            "group": str(row % groups),
        }
        for row, label in enumerate(labels)
    ]
    return Dataset(
        "rows", [str(label) for label in sorted(set(labels))], 1, 1, images, {}, bytes(len(labels))
    )


def largest_shares(dataset: Dataset) -> float:
    """The share of each class that its largest owner has, mean over classes."""
    counts = np.array(
        [
            np.bincount(
                [dataset.images[row]["label"] for row in own], minlength=len(dataset.classes)
            )
            for own in client_parts.clients(dataset).values()
        ]
    )
    return float((counts.max(0) / counts.sum(0)).mean())


def test_classes_are_skewed_as_asked_and_patients_stay_whole() -> None:
    every = rows([row % 8 for row in range(4000)], 4000)
    even, skewed = (
        client_parts.divide(every, FederatedConfig(clients=4, alpha=alpha), 0)
        for alpha in (1000.0, 0.1)
    )
    assert largest_shares(even) == pytest.approx(0.25, abs=0.03)
    # the mean largest of 4 shares from a Dirichlet of 0.1 is 0.84 (numpy, a million draws)
    assert largest_shares(skewed) == pytest.approx(0.84, abs=0.12)
    assert len(datasets.rows(even, "train")) == 1200
    assert client_parts.divide(every, FederatedConfig(clients=4), 0) == client_parts.divide(
        every, FederatedConfig(clients=4), 0
    )
    patients = client_parts.divide(rows([0, 1] * 400, 100), FederatedConfig(clients=3, alpha=10), 1)
    owners = {(row["group"], row["split"]) for row in patients.images}
    assert len(owners) == 100


def test_a_file_says_who_has_what(tmp_path: Path) -> None:
    every, file = rows([0, 1] * 30, 60), tmp_path / "parts.csv"
    file.write_text(
        "image,group\n"
        + "".join(f"{row},{('east', 'west', 'shared')[row % 3]}\n" for row in range(60))
    )
    made = client_parts.divide(every, FederatedConfig(parts=str(file)), 0)
    assert {name: own.tolist() for name, own in client_parts.clients(made).items()} == {
        "client east": list(range(0, 60, 3)),
        "client west": list(range(1, 60, 3)),
    }
    with pytest.raises(DataError, match="federated"):
        client_parts.divide(rows([0, 1] * 10, 20), FederatedConfig(clients=4), 0)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    pixels, labels = small_networks.images(360, PX)
    images = [
        {
            "name": str(row),
            "sha256": sha256(pixels[row].tobytes()),
            "label": int(label),
            "group": None,
            "split": "train" if row < 240 else "val" if row < 260 else "test",
        }
        for row, label in enumerate(labels)
    ]
    whole = Dataset(
        "blobs", ["a", "b", "c"], PX, 3, images, {}, pixels.transpose(0, 3, 1, 2).tobytes()
    )
    return client_parts.divide(whole, CLIENTS, 0)


def relabelled(dataset: Dataset, shared: bool) -> Dataset:
    """Other labels for the shared training images, or for the clients' own."""
    return dataclasses.replace(
        dataset,
        images=[
            {**row, "label": (row["label"] + 1) % 3}
            if (row["split"] == "train") == shared and row["split"] not in ("val", "test")
            else row
            for row in dataset.images
        ],
    )


def top1(dataset: Dataset, student: Network) -> float:
    render = views.Renderer(datasets.pixels(dataset), PX, student.mean, student.std)
    test = torch.from_numpy(datasets.rows(dataset, "test"))
    return metrics.top1(
        logits_of(builders.restore(student), [render.plain(test)]), datasets.labels(dataset, "test")
    )


def answers(dataset: Dataset, epochs: int, rounds: int = 1) -> Knowledge:
    return federated.run(
        dataset,
        settings=ClientSettings(
            dataclasses.replace(CLIENTS, epochs=epochs, rounds=rounds), CONFIG, STUDENT, VIEW, PX
        ),
        context=Context(),
    )


def learn(dataset: Dataset, said: Knowledge, epochs: int) -> Network:
    return distil.run(
        dataset,
        said,
        None,
        settings=DistilSettings(dataclasses.replace(CONFIG, epochs=epochs), STUDENT, VIEW, PX),
        context=Context(),
    )


def test_only_logits_on_shared_images_pass(dataset: Dataset) -> None:
    said = answers(dataset, 1, rounds=2)
    assert said == answers(relabelled(dataset, shared=True), 1, rounds=2)
    assert said.shards != answers(relabelled(dataset, shared=False), 1, rounds=2).shards
    black = datasets.pixels(dataset).copy()
    black[np.concatenate(list(client_parts.clients(dataset).values()))] = 0
    blind = dataclasses.replace(
        relabelled(relabelled(dataset, shared=True), shared=False), pixels=black.tobytes()
    )
    assert bytes(learn(dataset, said, 1).state) == bytes(learn(blind, said, 1).state)


def test_the_student_knows_more_than_the_mean_client(dataset: Dataset) -> None:
    student = learn(
        dataset, answers(dataset, 8), 16
    )  # after 8 it depends on the threads: 0.79 with one, 1.00 with two
    told = student.facts["clients"]
    assert (
        sum(row["images"] for row in told["clients"]) + len(datasets.rows(dataset, "train")) == 240
    )
    assert told["mean_top1"] == pytest.approx(np.mean([row["top1"] for row in told["clients"]]))
    assert top1(dataset, student) > told["mean_top1"] + 0.1


def test_a_recipe_with_clients_withholds_labels() -> None:
    on = ("federated.clients=3",)
    made = recipe.load(None, on)
    assert made.distil.labels == "withheld"
    assert recipe.load(None, ("federated.clients=0",)).distil.labels == "given"
    for wrong in ("distil.labels=given", "distil.answers=live", "qat.alpha=0.5"):
        with pytest.raises(RecipeError, match=wrong.partition("=")[0].replace(".", r"\.")):
            recipe.load(None, (*on, wrong))
