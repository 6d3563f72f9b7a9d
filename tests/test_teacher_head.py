"""A frozen transformer's head: cross-validation chooses what it reads, and one pass is enough."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edgekd.core.artifacts import Dataset, Network
from edgekd.core.context import Context
from edgekd.core.errors import RecipeError
from edgekd.core.shard_folders import MemoryShards
from edgekd.data import dataset_builder, datasets
from edgekd.data.phantom_source import PhantomSource
from edgekd.networks import builders, token_pooling, weight_files
from edgekd.pipeline.stage_settings import KnowledgeSettings, TeacherSettings
from edgekd.pipeline.stages import knowledge, teacher
from edgekd.settings.model_specs import spec
from edgekd.settings.recipe import DataConfig, TeacherConfig, ViewsConfig
from edgekd.training import linear_head, views
from edgekd.training.linear_head import Validated
from edgekd.training.oracle_settings import OracleSettings
from edgekd.training.teacher_oracle import Oracle
from edgekd.training.view_features import Features
from tests import small_vit
from tests.answers import arrays
from tests.small_vit import PX, VIT

WIDTH = 64
VIEW = ViewsConfig(per_image=2)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return dataset_builder.build_dataset(PhantomSource(100, 32), DataConfig())


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_vit.saved(tmp_path_factory.mktemp("weights"))


class Asked:
    """A context whose folders of answers last, and that counts the images which are asked about."""

    def __init__(self) -> None:
        self.images, self.folders = 0, dict[str, MemoryShards]()

    def progress(self, what: str, done: int, total: int, **figures: float) -> None:
        self.images += what == "teacher views" and done == total and total

    def context(self) -> Context:
        return Context(
            seed=3,
            progress=self.progress,
            answers=lambda what: self.folders.setdefault(str(what), MemoryShards(str(what))),
        )


def frozen(
    dataset: Dataset, weights: Path, asked: Asked, arch: str = VIT, **settings: Any
) -> Network:
    config = TeacherConfig(
        name=arch,
        mode="frozen",
        weights=str(weights),
        precision="float32",
        head_decay=1.0,  # the search for it takes most of the time
        **settings,
    )
    return teacher.run(
        dataset,
        settings=TeacherSettings(config, spec(arch), VIEW, PX),
        context=asked.context(),
    )


def test_one_pass_serves_every_head_and_the_student(dataset: Dataset, weights: Path) -> None:
    asked = Asked()
    made = frozen(dataset, weights, asked)
    train = int((datasets.rows(dataset, "train")).size)
    assert asked.images == VIEW.per_image * train
    other = frozen(dataset, weights, asked, head_features="class+mean")
    said = knowledge.run(
        dataset,
        other,
        settings=KnowledgeSettings(VIEW, OracleSettings("float32", spec(VIT))),
        context=asked.context(),
    )
    assert asked.images == VIEW.per_image * train  # nothing was asked again
    found = arrays(said)
    assert found["pooled"].shape == (VIEW.per_image, train, 2 * WIDTH)
    # As the teacher answers without the cache, bit for bit.
    oracle = Oracle(other, datasets.pixels(dataset), OracleSettings("float32", spec(VIT)))
    rows = torch.tensor(said.rows)
    drawn = views.draw(VIEW, 3, 1, datasets.identities(dataset), rows)
    for name, value in oracle.ask(rows, drawn).items():
        assert torch.equal(value, found[name][1]), name
    assert made.options[token_pooling.KEY] in token_pooling.CHOICES


def test_the_steps_name_every_head_and_the_one_that_holds_out_best_is_kept(
    dataset: Dataset, weights: Path
) -> None:
    made = frozen(dataset, weights, Asked())
    steps = made.facts["steps"]
    assert [step["step"] for step in steps] == [
        "linear head on the class token",
        "linear head on the mean of the patch tokens",
        "linear head on the class token and the mean of the patch tokens",
    ]
    (kept,) = [step for step in steps if step["kept"]]
    assert kept["held_out"] <= steps[0]["held_out"]
    # The kept one is the teacher: it answers the validation images as its own figures say.
    assert kept["top1"] == made.facts["metrics"]["val"]["top1"]


def test_a_network_without_a_class_token_keeps_its_pooled_features(
    dataset: Dataset, tmp_path: Path
) -> None:
    net = builders.create("test_resnet", {"num_classes": 0})
    path = tmp_path / "resnet.safetensors"
    path.write_bytes(weight_files.to_bytes(net.state_dict()))
    made = frozen(dataset, path, Asked(), "test_resnet")
    assert token_pooling.KEY not in made.options
    assert [step["step"] for step in made.facts["steps"]] == ["linear head on the pooled features"]
    with pytest.raises(RecipeError, match="head_features"):
        frozen(dataset, path, Asked(), "test_resnet", head_features="mean")


def test_the_candidate_with_the_information_holds_out_best() -> None:
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    known = torch.eye(3)[labels] + 0.3 * torch.randn(2, 60, 3, generator=draw)
    empty = torch.randn(2, 60, 3, generator=draw)
    candidates = {"empty": Features.of(empty), "known": Features.of(known)}
    tried = linear_head.compare(candidates, labels, 3, 0.1, 0)
    assert tried["known"].loss < 0.6 < 0.9 < tried["empty"].loss
    assert linear_head.better(tried) == "known"


def test_the_networks_own_choice_stays_where_the_gain_may_be_chance() -> None:
    own = torch.linspace(0.2, 1.8, 50)
    noise = torch.tensor([1.0, -1.0]).repeat(25)

    def kept(gain: float) -> str:
        other = Validated(0.1, own - gain + noise)
        return linear_head.better({"own": Validated(0.1, own), "other": other})

    error = float(noise.std()) / 50**0.5
    assert kept(0.9 * error) == "own"
    assert kept(1.1 * error) == "other"
    assert kept(-1.0) == "own"


def test_class_activation_maps_are_of_the_patches_own_weights(dataset: Dataset) -> None:
    """Of a head on both, the maps' mean and the class token's part make the logits."""
    torch.manual_seed(0)
    options = {"num_classes": 4, "img_size": PX, token_pooling.KEY: "class+mean"}
    net = builders.create(VIT, options)
    state = weight_files.to_bytes(net.state_dict())
    network = Network(VIT, options, PX, [0.5] * 3, [0.5] * 3, [], {}, state)
    oracle = Oracle(
        network, datasets.pixels(dataset), OracleSettings("float32", spec(VIT), cam_side=2)
    )
    rows = torch.arange(4)
    drawn = views.draw(VIEW, 0, 0, datasets.identities(dataset), rows)
    said = oracle.ask(rows, drawn)
    head = oracle.net.get_classifier()  # type: ignore[operator]
    assert isinstance(head, nn.Linear)
    of_class = F.linear(said["pooled"][:, :WIDTH].float(), head.weight[:, :WIDTH], head.bias)
    whole = said["cams"].float().mean((2, 3)) + of_class
    torch.testing.assert_close(whole, said["logits"].float(), rtol=0.01, atol=0.01)
