"""Fine-tuning of pretrained transformers: which teachers get it, its rates, and what it reports."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from edgekd.app import build
from edgekd.core.artifacts import Dataset, Network
from edgekd.core.context import Context
from edgekd.data import dataset_builder
from edgekd.data.phantom_source import PhantomSource
from edgekd.networks import builders, layer_rates, timm_networks, token_pooling, weight_files
from edgekd.pipeline import teacher_stages
from edgekd.pipeline.stage_settings import TeacherSettings, TransformerTuning
from edgekd.pipeline.stages import teacher
from edgekd.settings import recipe
from edgekd.settings.model_specs import spec
from edgekd.settings.recipe import DataConfig, Recipe, TeacherConfig, ViewsConfig
from tests import small_vit
from tests.small_vit import PX, VIT


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return dataset_builder.build_dataset(PhantomSource(100, 32), DataConfig())


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_vit.saved(tmp_path_factory.mktemp("weights"))


def settings(**given: Any) -> TeacherSettings:
    """Of the stage "teacher" of a recipe with these settings of [teacher]."""
    values = {f"teacher.{name}": value for name, value in given.items()}
    asked = recipe.changed(Recipe(), {"data.source": "phantom:120@40", **values})
    return teacher_stages.settings(build.job(asked, "pi4"))


def test_a_pretrained_transformer_is_tuned_with_adamw_and_other_networks_as_before(
    weights: Path,
) -> None:
    file = str(weights)
    tuned = settings(name=VIT, weights=file)
    assert (tuned.config.optimiser, tuned.tuning) == ("adamw", TransformerTuning(0.75, 0.1, True))
    asked = settings(name=VIT, weights=file, optimiser="sgd", layer_decay=0.9, head_first=False)
    assert (asked.config.optimiser, asked.tuning) == ("sgd", TransformerTuning(0.9, 0.1, False))
    for given in (
        {"name": "resnet18", "weights": file},
        {"name": VIT, "weights": "none"},
        {"name": VIT, "weights": file, "mode": "frozen"},
    ):
        plain = settings(**given)
        assert (plain.config.optimiser, plain.tuning) == ("sgd", None)
        # Settings that the stage does not read are not in its key.
        assert settings(**given, layer_decay=0.5, drop_path=0.3, head_first=False) == plain


def test_the_rate_falls_towards_the_first_layer() -> None:
    net = builders.create(VIT, {"num_classes": 4, "img_size": PX})
    found = layer_rates.factors(net, 0.5)
    assert found.keys() == dict(net.named_parameters()).keys()
    assert found["head.weight"] == 1
    blocks = [found[f"blocks.{number}.attn.qkv.weight"] for number in range(len(net.blocks))]  # type: ignore[arg-type]
    assert blocks == sorted(blocks)
    assert all(later == 2 * block for block, later in itertools.pairwise(blocks))
    assert found["patch_embed.proj.weight"] == blocks[0] / 2


def tuned(dataset: Dataset, weights: Path, said: list[str], **tuning: Any) -> Network:
    config = TeacherConfig(
        name=VIT,
        weights=str(weights),
        epochs=1,
        optimiser="adamw",
        precision="float32",
        head_decay=1.0,
        head_views=1,
    )
    how = TransformerTuning(**{"layer_decay": 0.75, "drop_path": 0.5, "head_first": True, **tuning})
    return teacher.run(
        dataset,
        settings=TeacherSettings(config, spec(VIT), ViewsConfig(), PX, "", how),
        context=Context(seed=3, say=said.append),
    )


def test_tuning_begins_with_a_head_and_reports_both(dataset: Dataset, weights: Path) -> None:
    said: list[str] = []
    made = tuned(dataset, weights, said)
    *heads, last = made.facts["steps"]
    assert len(heads) == 3
    assert last["step"] == "fine-tuned for 1 epoch"
    assert last["top1"] == pytest.approx(made.facts["metrics"]["val"]["top1"])
    assert made.facts["lr"] == 1e-4
    assert made.options[token_pooling.KEY] in token_pooling.CHOICES
    assert timm_networks.DROP_PATH not in made.options
    # Where the rates are so small, one epoch changes the first layer less than the last.
    begun, ended = builders.create(VIT, {"img_size": PX, "num_classes": 0}), builders.restore(made)
    begun.load_state_dict(weight_files.read_weights(weights))
    name = "blocks.{}.attn.qkv.weight"
    first, last = (
        float((ended.get_parameter(at) - begun.get_parameter(at)).norm().detach())
        for at in (name.format(0), name.format(len(begun.blocks) - 1))  # type: ignore[arg-type]
    )
    assert 0 < first < last


def test_tuning_may_begin_with_a_random_head(dataset: Dataset, weights: Path) -> None:
    made = tuned(dataset, weights, [], head_first=False, drop_path=0.0)
    assert [step["step"] for step in made.facts["steps"]] == ["fine-tuned for 1 epoch"]
    assert token_pooling.KEY not in made.options
