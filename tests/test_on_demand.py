"""`data.cache = "none"`: images that worker processes decode whenever they are needed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edgekd.core.artifacts import Dataset
from edgekd.core.errors import DataError, RecipeError
from edgekd.data import datasets, on_demand, shard_writer
from edgekd.data.dataset_builder import build_dataset
from edgekd.data.source_registry import open_source
from edgekd.data.sources import Source
from edgekd.settings import recipe
from edgekd.settings.recipe import DataConfig, ViewsConfig
from edgekd.training import views


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes: grey images, coloured ones, and one of 16 bits."""
    made = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for number in range(60):
        image = rng.integers(0, 256, (40, 36, 3) if number % 3 else (40, 36)).astype(np.uint8)
        if number == 6:
            image = image.astype(np.uint16) * 257
        path = made / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    return made


def opened(text: str) -> tuple[Source, Dataset, Dataset]:
    """A source, its data set with pixels, and the same without."""
    config = DataConfig(source=text, cache_px=32)
    source = open_source(text, config)
    stored = build_dataset(source, config)
    return source, stored, build_dataset(source, dataclasses.replace(config, cache="none"))


@pytest.mark.parametrize("kind", ["folder", "shards"])
def test_they_are_the_pixels_that_would_be_stored(kind: str, folder: Path, tmp_path: Path) -> None:
    text = str(folder)
    if kind == "shards":
        config = DataConfig(source=text)
        shard_writer.write(open_source(text, config), tmp_path / "shards")
        text = f"shards:{tmp_path / 'shards'}"
    source, stored, bare = opened(text)
    assert not len(bare.pixels)
    assert bare.images == stored.images
    assert (bare.channels, bare.bits) == (3, 16)
    shown, wanted = on_demand.pixels(bare, source), datasets.pixels(stored)
    assert (shown.shape, shown.dtype, shown.nbytes) == (wanted.shape, wanted.dtype, wanted.nbytes)
    rows = np.array([5, 3, 3, len(wanted) - 1, 0, 41])
    np.testing.assert_array_equal(shown[rows], wanted[rows])
    np.testing.assert_array_equal(shown[50:], wanted[50:])
    drawn = views.draw(
        ViewsConfig(), 0, 0, datasets.identities(bare), torch.arange(len(bare.images))
    )
    one, other = (views.Renderer(each, 32, [0.5] * 3, [0.5] * 3) for each in (shown, wanted))
    assert torch.equal(
        one.views(torch.from_numpy(rows), drawn), other.views(torch.from_numpy(rows), drawn)
    )


def test_an_image_that_changed_is_named(folder: Path, tmp_path: Path) -> None:
    for path in folder.rglob("*.png"):
        copy = tmp_path / path.relative_to(folder)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(path.read_bytes())
    source, _, bare = opened(str(tmp_path))
    name = str(bare.images[7]["name"])
    Image.new("L", (40, 40)).save(tmp_path / name)
    with pytest.raises(DataError, match=name) as raised:
        on_demand.pixels(bare, source)[[6, 7]]
    assert "run the build again" in raised.value.next_step


def test_clients_need_stored_pixels() -> None:
    with pytest.raises(RecipeError, match=r"data\.cache"):
        recipe.load(None, ("data.cache=none", "federated.clients=2"))
