"""Arguments of the student's builder, model files beside a recipe, and maps kept as NHWC."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgekd.core.errors import RecipeError
from edgekd.networks import input_size
from edgekd.networks.watching import watch
from edgekd.pipeline import runner
from edgekd.settings import model_specs, recipe

OWN = (Path(model_specs.__file__).parents[2] / "models" / "mobilenetv2_050.toml").read_text()


def test_options_of_the_recipe_stand_over_those_of_the_model_file() -> None:
    settings = recipe.load(None, ["distil.options.act_layer=relu6", "distil.options.drop_rate=0.1"])
    spec = model_specs.spec("mobilenetv2_050").with_options(settings.distil.options)
    assert spec.options == {"act_layer": "relu6", "drop_rate": 0.1}


def test_options_survive_recipe_toml(tmp_path: Path) -> None:
    settings = recipe.load(None, ["distil.options.act_layer=relu6"])
    (tmp_path / "recipe.toml").write_text(recipe.to_toml(settings))
    assert recipe.load(tmp_path / "recipe.toml") == settings


@pytest.mark.parametrize("name", ["num_classes", "in_chans", "pretrained"])
def test_what_other_settings_decide_is_no_option(name: str) -> None:
    with pytest.raises(RecipeError, match=f"distil.options.{name} cannot be set"):
        model_specs.spec("mobilenetv2_050").with_options({name: 3})


def test_options_are_part_of_a_key_only_when_given() -> None:
    plain = {"config": {"epochs": 3, "options": {}}, "px": 96}
    assert runner._without_later(plain) == {"config": {"epochs": 3}, "px": 96}
    given = {"config": {"options": {"drop_rate": 0.1}}}
    assert runner._without_later(given) == given


def test_a_model_file_beside_the_recipe_is_found(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "ours.toml").write_text(OWN)
    (tmp_path / "recipe.toml").write_text('[distil]\nstudent = "ours"\n')
    recipe.load(tmp_path / "recipe.toml")
    assert model_specs.spec("ours").arch == model_specs.spec("mobilenetv2_050").arch
    assert "ours" in model_specs.names()
    recipe.load(None)
    assert "ours" not in model_specs.names()


class Last(nn.Module):
    """A network that keeps its maps as NHWC and says so, as timm's Swin does."""

    output_fmt = "NHWC"

    def __init__(self, channels: int, listed: bool) -> None:
        super().__init__()
        self.conv, self.stage = nn.Conv2d(3, channels, 2, 2), nn.Linear(channels, channels)
        self.feature_info = [{"module": "stage", "num_chs": channels}] if listed else []

    def forward(self, x: Tensor) -> Tensor:
        return self.stage(self.conv(x).permute(0, 2, 3, 1))


@pytest.mark.parametrize(("channels", "listed"), [(6, True), (6, False), (4, True)])
def test_a_tap_of_nhwc_gives_channels_first(channels: int, listed: bool) -> None:
    model = Last(channels, listed)
    with torch.inference_mode(), watch(model, ["stage"]) as seen:
        out = model(torch.rand(2, 3, 8, 8))
    assert torch.equal(seen["stage"], out.permute(0, 3, 1, 2))


def test_a_convolution_of_such_a_network_stays_as_it_is_where_the_table_says_so() -> None:
    model = Last(6, listed=False)
    model.feature_info = [{"module": "conv", "num_chs": 6}]
    with torch.inference_mode(), watch(model, ["conv"]) as seen:
        model(torch.rand(2, 3, 8, 8))
    assert seen["conv"].shape == (2, 6, 4, 4)


@pytest.mark.parametrize(
    ("name", "px", "option"),
    [
        ("vit_tiny_patch16_224", 64, {"img_size": 64}),
        ("vit_tiny_patch16_224", 224, {}),  # its own size
        ("shvit_s1", 64, {}),  # a CNN in a file that has no such option
        ("mobilenetv2_050", 64, {}),  # a CNN of models/, which needs no torch
    ],
)
def test_a_student_is_built_for_its_images(name: str, px: int, option: dict[str, int]) -> None:
    spec = model_specs.spec(name)
    assert input_size.sized(spec, px).options == option
    own = spec.with_options({"img_size": 96})
    assert input_size.sized(own, px) == own
