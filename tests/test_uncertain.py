"""Labels of -1: what data.uncertain makes of them, in the data set and in the loss."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from edgekd.app import cli
from edgekd.core.artifacts import Dataset
from edgekd.core.errors import DataError, RecipeError
from edgekd.data import client_parts, dataset_builder, datasets, shard_writer
from edgekd.data.source_registry import open_source
from edgekd.settings import recipe
from edgekd.settings.recipe import DataConfig
from edgekd.training.losses import label_losses


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 images of 80 patients with labels of 1, 0, -1 and nothing."""
    root = tmp_path_factory.mktemp("marks")
    rng, rows = np.random.default_rng(0), []
    for number in range(160):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(pixels).save(root / f"{number}.png")
        cells = ",".join(rng.choice(["1.0", "0.0", "", "-1"], 2, p=(0.4, 0.3, 0.2, 0.1)))
        rows.append(f"{number}.png,{number // 2},{cells}")
    (root / "labels.csv").write_text("Path,Patient ID,Edema,Mass\n" + "\n".join(rows) + "\n")
    return root / "labels.csv"


def built(path: Path, policy: str, seed: int = 0) -> Dataset:
    config = DataConfig(uncertain=policy)
    return dataset_builder.build_dataset(open_source(str(path), config), config, seed)


def unsure(path: Path) -> dict[str, list[int]]:
    """{image: numbers of its uncertain labels}, from the text itself."""
    lines = [line.split(",") for line in path.read_text().splitlines()[1:]]
    return {
        line[0]: [place for place, cell in enumerate(line[2:]) if cell == "-1"]
        for line in lines
        if "-1" in line
    }


def test_zero_and_one_decide_each_label(marked: Path) -> None:
    zero, one = built(marked, "zero"), built(marked, "one")
    found = unsure(marked)
    for row in one.images:
        before = next(other for other in zero.images if other["name"] == row["name"])
        assert sorted(before["label"] + found.get(row["name"], [])) == sorted(row["label"])
        assert "uncertain" not in row
    assert len(zero.images) == len(one.images) == 160
    assert zero.facts["uncertain"]["policy"] == "zero"
    assert sum(one.facts["uncertain"]["counts"].values()) == sum(map(len, found.values()))
    assert one.facts["uncertain"]["left_out"] == 0
    assert datasets.training_labels(one).dtype == np.int64


def test_ignored_labels_stay_in_training_as_unknown(marked: Path) -> None:
    data, found = built(marked, "ignore"), unsure(marked)
    labels = datasets.training_labels(data)
    assert labels.dtype == np.float32
    for row, own in zip(data.images, labels, strict=True):
        assert np.flatnonzero(np.isnan(own)).tolist() == found.get(row["name"], [])
        assert row["split"] == "train" or row["name"] not in found
        known = ~np.isnan(own)
        assert np.array_equal(own[known], np.isin(range(2), row["label"])[known])
    left = data.facts["uncertain"]["left_out"]
    assert len(data.images) == 160 - left
    assert not np.isnan(labels[datasets.rows(data, "test")]).any()
    assert len(datasets.rows(data, "test")) > 10
    (said,) = data.facts["warnings"]
    assert "training leaves them out (data.uncertain = ignore)" in said
    assert f"{left} images with one were left out of val and test" in said


def test_soft_labels_are_a_function_of_the_seed_and_the_image(marked: Path, tmp_path: Path) -> None:
    def targets(path: Path, seed: int) -> dict[str, dict[str, float]]:
        rows = built(path, "soft:0.55-0.85", seed).images
        return {row["name"]: row["uncertain"] for row in rows if "uncertain" in row}

    first = targets(marked, 0)
    drawn = [value for each in first.values() for value in each.values()]
    assert all(0.55 <= value <= 0.85 for value in drawn)
    assert len(set(drawn)) == len(drawn) > 10
    assert abs(np.mean(drawn) - 0.7) < 0.05
    assert first.keys() <= unsure(marked).keys()
    again = targets(marked, 0)
    assert again == first
    other = targets(marked, 1)
    assert all(other[name] != first[name] for name in other.keys() & first.keys())
    # The order of the rows, and images that are not there, change nothing.
    lines = marked.read_text().splitlines()
    (tmp_path / "labels.csv").write_text("\n".join([lines[0], *lines[:1:-1]]) + "\n")
    for image in marked.parent.glob("*.png"):
        (tmp_path / image.name).symlink_to(image)
    shuffled = targets(tmp_path / "labels.csv", 0)
    shared = shuffled.keys() & first.keys()
    assert len(shared) > 5
    assert all(shuffled[name] == first[name] for name in shared)


def test_uncertain_labels_are_refused_by_default(marked: Path) -> None:
    with pytest.raises(DataError, match="which means uncertain"):
        open_source(str(marked))
    config = DataConfig()
    unasked = open_source(str(marked), DataConfig(uncertain="ignore"))
    with pytest.raises(DataError, match="labels are uncertain"):
        dataset_builder.build_dataset(unasked, config)


@pytest.mark.parametrize(
    "value", ["maybe", "soft", "soft:", "soft:0.5", "soft:-0.1-0.5", "soft:0.5-1.5", "soft:a-b", ""]
)
def test_policies_that_are_none_are_refused(value: str) -> None:
    with pytest.raises(RecipeError, match=r"data\.uncertain") as error:
        recipe.load(None, overrides={"data.uncertain": value})
    assert "soft:0.55-0.85" in str(error.value)
    with pytest.raises(RecipeError, match="is more than"):
        recipe.load(None, ["data.uncertain=soft:0.85-0.55"])
    for fine in ("soft:0-1", "soft:0.3-0.3", "ignore"):
        assert recipe.load(None, [f"data.uncertain={fine}"]).data.uncertain == fine


def test_a_data_set_without_uncertain_labels_is_what_it_was(marked: Path) -> None:
    certain = marked.with_name("certain.csv")
    certain.write_text(marked.read_text().replace("-1", "1"))
    plain = built(certain, "refuse")
    for policy in ("ignore", "one", "soft:0.55-0.85"):
        assert built(certain, policy) == plain
    assert "uncertain" not in plain.facts
    assert np.array_equal(datasets.training_labels(plain), datasets.labels(plain))


def test_shards_keep_what_is_uncertain(marked: Path, tmp_path: Path) -> None:
    config = DataConfig(uncertain="ignore")
    shard_writer.write(open_source(str(marked), config), tmp_path / "tars")
    packed = dataset_builder.build_dataset(open_source(f"shards:{tmp_path / 'tars'}"), config)
    assert packed.images == built(marked, "ignore").images


def test_clients_do_not_see_uncertain_labels(marked: Path) -> None:
    shared = client_parts.shared(built(marked, "ignore"))
    assert all("uncertain" not in row for row in shared.images)


# --- the loss -------------------------------------------------------------------------------------


def test_the_loss_takes_probabilities_exactly_and_hard_labels_as_before() -> None:
    torch.manual_seed(0)
    logits, weights = torch.randn(16, 5), label_losses.label_weights(torch.eye(5).long())
    for targets in (torch.randint(0, 2, (16, 5)).float(), torch.rand(16, 5)):
        each = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        assert torch.equal(label_losses.binary_cross_entropy(logits, targets), each.mean())
        weighted = each * torch.lerp(weights[0], weights[1], targets)
        assert torch.equal(
            label_losses.binary_cross_entropy(logits, targets, weights), weighted.mean()
        )
    p = torch.tensor([[0.7]], dtype=torch.float64)
    z = torch.tensor([[0.3]], dtype=torch.float64, requires_grad=True)
    label_losses.binary_cross_entropy(z, p).backward()
    assert torch.allclose(z.grad, torch.sigmoid(z.detach()) - p)
    assert torch.equal(label_losses.soften(torch.tensor([[0.7, 1.0]]), 2, 0.0)[0, :1], p[0].float())


def test_an_unknown_label_has_no_part_in_the_loss() -> None:
    torch.manual_seed(0)
    logits = torch.randn(6, 3, requires_grad=True)
    targets = torch.randint(0, 2, (6, 3)).float()
    targets[1, 2] = targets[4, 0] = torch.nan
    loss = label_losses.binary_cross_entropy(logits, targets)
    known = ~targets.isnan()
    own = F.binary_cross_entropy_with_logits(logits[known], targets[known])
    assert torch.allclose(loss, own)
    loss.backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad == 0, ~known)
    mixed = label_losses.mixed(targets, targets.flip(0), torch.full((6,), 0.5))
    assert mixed[1].isnan().tolist() == [True, False, True]
    # Every view has a partner, also one that is not mixed: its share is then 1.
    alone = label_losses.mixed(targets, targets.flip(0), torch.ones(6))
    assert torch.equal(alone.nan_to_num(9), targets.nan_to_num(9))
    nothing = label_losses.binary_cross_entropy(logits, torch.full((6, 3), torch.nan))
    assert float(nothing.detach()) == 0
    weights = label_losses.label_weights(targets)
    assert torch.allclose(weights[:, 1], label_losses.label_weights(targets[:, 1:2])[:, 0])
    assert weights.isfinite().all()


def test_the_report_names_the_policy(
    marked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["build", "--data", str(marked), "--until", "data", "--out", str(out)]
    assert cli.main(command) == 2
    assert "data.uncertain=ignore" in capsys.readouterr().err
    assert cli.main([*command, "--set", "data.uncertain=soft:0.55-0.85"]) == 0
    assert "data.uncertain = soft:0.55-0.85" in " ".join(capsys.readouterr().out.split())
    report = json.loads((out / "report.json").read_text())
    assert report["data"]["uncertain"]["policy"] == "soft:0.55-0.85"
    assert "data.uncertain = soft:0.55-0.85" in (out / "report.html").read_text()
