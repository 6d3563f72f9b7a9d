"""The resizers of apps: OpenCV's own numbers, Pillow's, hand-counted ones, and training on them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edgekd.core.errors import RecipeError
from edgekd.core.frames import Frame
from edgekd.core.resizer_names import Resizer
from edgekd.data import app_variants, frames, images, pixel_rules
from edgekd.data.app_variants import VariantKind
from edgekd.data.dataset_builder import build_dataset
from edgekd.data.datasets import input_images
from edgekd.data.input_builder import build_inputs, originals
from edgekd.data.resizers.algorithms import ALGORITHMS, fitted
from edgekd.data.source_registry import open_source
from edgekd.evaluation import app_inputs
from edgekd.evaluation.accuracy_record import StageState
from edgekd.evaluation.app_inputs import Compared, Prepared
from edgekd.evaluation.app_inputs_record import AppInput
from edgekd.pipeline import runner
from edgekd.settings import recipe
from edgekd.settings.recipe import DataConfig, ViewsConfig
from edgekd.training import answer_keys, views
from edgekd.training.batches import Batch, Feed
from edgekd.training.view_sizes import Resizing
from tests.noise_folder import noise_folder

OBLONG = ((np.arange(9 * 7).reshape(9, 7) * 37) % 256).astype(np.uint8)
EVEN = ((np.arange(8 * 6).reshape(8, 6) * 53) % 256).astype(np.uint8)
# What cv2.resize of opencv-python-headless 5.0.0 gives of these images (x86-64): the resizer, the
# image, width and height, and the first and the last row.
OF_OPENCV = [
    (Resizer.OPENCV, OBLONG, (4, 5), [15, 80, 145, 209], [36, 101, 166, 231]),
    (
        Resizer.OPENCV,
        OBLONG,
        (9, 11),
        [0, 24, 53, 82, 111, 140, 168, 197, 222],
        [24, 48, 77, 106, 135, 164, 192, 221, 246],
    ),
    (Resizer.OPENCV, EVEN, (3, 4), [58, 164, 78], [174, 88, 130]),
    (Resizer.OPENCV_AREA, OBLONG, (4, 5), [17, 81, 144, 207], [39, 102, 165, 229]),
    (
        Resizer.OPENCV_AREA,
        OBLONG,
        (9, 11),
        [0, 26, 53, 79, 111, 143, 169, 196, 222],
        [24, 50, 77, 103, 135, 167, 193, 220, 246],
    ),
]


@pytest.mark.parametrize(("name", "image", "size", "first", "last"), OF_OPENCV)
def test_opencv_to_the_bit(
    name: Resizer, image: np.ndarray, size: tuple[int, int], first: list[int], last: list[int]
) -> None:
    found = ALGORITHMS[name].resize(image, *size)
    assert found.shape == size[::-1]
    assert [found[0].tolist(), found[-1].tolist()] == [first, last]


def test_android_counts_sixteenths_and_cuts_off() -> None:
    # 7 columns to 4: places 0.375, 2.125, 3.875 and 5.625, in sixteenths 6, 2, 14 and 10.
    row = np.array([[0, 100, 50, 200, 7, 255, 30]], np.uint8)
    expected = [
        (0 * 10 + 100 * 6) // 16,
        (50 * 14 + 200 * 2) // 16,
        (200 * 2 + 7 * 14) // 16,
        (255 * 6 + 30 * 10) // 16,
    ]
    assert ALGORITHMS[Resizer.ANDROID].resize(row, 4, 1).tolist() == [expected]


@pytest.mark.parametrize("name", Resizer)
@pytest.mark.parametrize("size", [(40, 30), (17, 90), (160, 120)])
def test_the_weights_are_the_resizer_without_its_rounding(
    name: Resizer, size: tuple[int, int]
) -> None:
    image = np.random.default_rng(1).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    width, height = size
    found = ALGORITHMS[name].resize(image, width, height)
    rows, columns = (
        ALGORITHMS[name].weights(source, target) for source, target in ((60, height), (80, width))
    )
    np.testing.assert_allclose(rows.sum(1), 1.0, atol=1e-9)
    if name is Resizer.PILLOW_BICUBIC or (name, width) == (Resizer.OPENCV_AREA, 17):
        # Pillow clips between its two passes, which moves pixels by more than a step. OpenCV reads
        # neighbours along both sides where either grows.
        return
    exact = np.einsum("yh,hwc,xw->yxc", rows, image.astype(np.float64), columns, optimize=True)
    assert found.dtype == np.uint8
    # Pillow and Android round twice, others once.
    assert np.abs(found - exact.clip(0, 255)).max() <= 1.05


def test_lanczos_is_pillows_but_at_the_edges() -> None:
    image = np.random.default_rng(2).integers(0, 256, (90, 90), dtype=np.uint8)
    found = ALGORITHMS[Resizer.IOS].resize(image, 30, 30).astype(int)
    other = np.asarray(Image.fromarray(image).resize((30, 30), Image.Resampling.LANCZOS))
    assert np.abs(found - other)[3:-3, 3:-3].max() <= 2  # Pillow clips between its two passes


@pytest.mark.parametrize("mode", images.FIT_MODES)
@pytest.mark.parametrize("shape", [(50, 70), (33, 20, 3), (12, 12)])
def test_every_variant_makes_an_input(shape: tuple[int, ...], mode: str) -> None:
    image = np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)
    ways = app_variants.variants(24, mode, coloured=True)
    assert {way.kind for way in ways} == set(VariantKind)
    for way in ways:
        made = way.make(image)
        assert (made.shape[:2], made.dtype) == ((24, 24), np.uint8)
    flipped = next(way for way in ways if way.kind is VariantKind.CHANNELS).make(image)
    usual = images.as_rgb(images.fit(image, 24, mode))
    assert np.array_equal(flipped, usual[..., ::-1])


# --- training -------------------------------------------------------------------------------------

STILL = ViewsConfig(8, *[0.0] * 12)  # 8 views an image, none of which changes anything
ROWS = torch.arange(40)
IMAGES = np.arange(40, dtype=np.uint64)


def blobs() -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, (40, 1, 48, 48), dtype=np.uint8)


def shown(*names: Resizer) -> np.ndarray:
    """Views without any other change, in 0..255."""
    drawn = views.draw(STILL, 0, 0, IMAGES, ROWS)
    render = views.Renderer(blobs(), 16, [0.0], [1.0], resizing=Resizing(names))
    return (render.views(ROWS, drawn) * 255).numpy()[:, 0]


def test_each_view_is_resized_by_one_of_the_resizers() -> None:
    pixels = blobs()[:, 0]
    each = np.stack([fitted(image, 16, "squash", Resizer.NEAREST) for image in pixels])
    np.testing.assert_allclose(shown(Resizer.NEAREST), each, atol=0.6)
    both = shown(Resizer.OPENCV_AREA, Resizer.NEAREST)
    nearest = np.abs(both - each).max((1, 2)) < 0.6
    area = np.abs(both - shown(Resizer.OPENCV_AREA)).max((1, 2)) < 1e-3
    assert np.array_equal(nearest, ~area)
    assert 8 < nearest.sum() < 32
    assert np.array_equal(both, shown(Resizer.OPENCV_AREA, Resizer.NEAREST))


def test_views_of_a_file_with_its_resize_inside_are_resized_to_its_frame() -> None:
    by = Resizing.of([Resizer.NEAREST], [40, 36], 16)
    assert by.side == 32
    render = views.Renderer(blobs(), 16, [0.0], [1.0], resizing=by)
    found = (render.views(ROWS, views.draw(STILL, 0, 0, IMAGES, ROWS)) * 255).numpy()[:, 0]
    framed = np.stack([fitted(image, 32, "squash", Resizer.NEAREST) for image in blobs()[:, 0]])
    seen = frames.reduced(framed[..., None], Frame(32, 32, 16))[..., 0]
    np.testing.assert_allclose(found, seen, atol=1.1)  # which the file rounds twice


def test_the_teacher_of_int8_training_sees_the_same_views_by_pillow() -> None:
    def batch(resizer: Resizer) -> Batch:
        render = views.Renderer(blobs(), 16, [0.0], [1.0], resizing=Resizing((resizer,)))
        labels, config = torch.zeros(40, dtype=torch.int64), ViewsConfig()
        feed = Feed(render, IMAGES, ROWS, labels, 2, config, 0, 40, antialiased=True)
        (found,) = feed.epoch(0)
        return found

    area, nearest, usual = map(batch, (Resizer.OPENCV_AREA, Resizer.NEAREST, Resizer.PILLOW))
    assert torch.equal(area.clearest, nearest.clearest)
    # The same parts of the same images: means of areas are close to Pillow's, pixels are not.
    assert float((area.images - area.clearest).abs().mean()) < 0.03
    assert float((nearest.images - nearest.clearest).abs().mean()) > 0.1
    assert usual.clearest is usual.images


def test_a_teacher_sees_and_is_asked_the_same_whatever_the_student_trains_on() -> None:
    usual, varied = ViewsConfig(), ViewsConfig(resizers=(Resizer.PILLOW, Resizer.NEAREST))
    keys = [
        answer_keys.of_view(view, 0, 0, IMAGES, ROWS, views.draw(view, 0, 0, IMAGES, ROWS))
        for view in (usual, varied)
    ]
    assert np.array_equal(*keys)


def test_a_recipe_without_later_settings_of_views_keeps_its_keys() -> None:
    view = dataclasses.asdict(ViewsConfig())
    later = ("resizers", "area", "plain")
    assert runner._without_later({"view": view, "px": 9, "resizers": ViewsConfig.resizers}) == {
        "view": {name: value for name, value in view.items() if name not in later},
        "px": 9,
    }
    varied = {"view": {"resizers": (Resizer.IOS,)}}
    assert runner._without_later(varied) == varied


def test_calibration_images_are_drawn_from_the_resizers_and_no_others(tmp_path: Path) -> None:
    source = open_source(str(noise_folder(tmp_path)))
    data = build_dataset(source, DataConfig(cache_px=32))
    names = (Resizer.PILLOW, Resizer.NEAREST)
    plain = build_inputs(source, data, 16, 0, calibration=20, golden=4)
    varied = build_inputs(source, data, 16, 0, calibration=20, golden=4, resizers=names)
    assert (plain.test, plain.val, plain.golden) == (varied.test, varied.val, varied.golden)
    rules = pixel_rules.from_facts(data.facts, 16, "squash")
    found = input_images(varied, "calibration", 1)[..., 0]
    drawn = []
    for image, (_, whole) in zip(
        found, originals(source, data, varied.rows["calibration"], rules), strict=True
    ):
        made = [np.array_equal(image, fitted(whole, 16, "squash", name)) for name in names]
        assert sum(made) == 1
        drawn.append(made[0])
    assert 3 < sum(drawn) < 17


# --- the report -----------------------------------------------------------------------------------


def judged(kind: VariantKind, name: str, wrong: int, trained: tuple[Resizer, ...]) -> AppInput:
    """The row of a way that makes so many of 200 right answers wrong."""
    labels = np.arange(200) % 2
    right = np.eye(2, dtype=np.float32)[labels]
    after = right.copy()
    after[:wrong] = 1 - after[:wrong]
    way = next(
        way
        for way in app_variants.variants(16, "squash", coloured=True)
        if (way.kind, way.name) == (kind, name)
    )
    before = Compared(right, labels, 300, 0.01, trained, 0)
    block = app_inputs.report(before, [Prepared(way, after)], [])
    assert (block.n, block.of, block.top1) == (200, 300, 1.0)
    return block.rows[0]


@pytest.mark.parametrize(
    ("wrong", "state"),
    [(0, StageState.WITHIN), (2, StageState.WITHIN), (4, StageState.UNCLEAR), (20, "beyond")],
)
def test_a_loss_is_flagged_where_it_is_no_chance(wrong: int, state: StageState) -> None:
    row = judged(VariantKind.RESIZER, "nearest", wrong, (Resizer.PILLOW,))
    assert (row.state, row.flips_bad, row.flips_good) == (state, wrong, 0)
    assert isinstance(row.remedy, str) == (state == "beyond")


def test_one_remedy_serves_all_resizers_that_cost_too_much() -> None:
    labels = np.arange(200) % 2
    right = np.eye(2, dtype=np.float32)[labels]
    wrong = right.copy()
    wrong[:50] = 1 - wrong[:50]
    ways = app_variants.variants(16, "squash", coloured=True)
    shown = [Prepared(way, wrong if way.name in ("android", "ios") else right) for way in ways]
    before = Compared(right, labels, 200, 0.01, (Resizer.PILLOW,), 0)
    ((rows, told),) = app_inputs.report(before, shown, []).remedies()
    assert [row.name for row in rows] == ["android", "ios"]
    assert """--set 'views.resizers=["pillow","android","ios"]'""" in told


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (VariantKind.RESIZER, "android"),
        (VariantKind.FIT, "crop"),
        (VariantKind.ORIENTATION, "turned"),
        (VariantKind.COMPRESSION, "jpeg60"),
        (VariantKind.CHANNELS, "bgr"),
    ],
)
@pytest.mark.parametrize("trained", [(), (Resizer.PILLOW,), (Resizer.PILLOW, Resizer.ANDROID)])
def test_a_remedys_settings_are_taken_by_a_build(
    kind: VariantKind, name: str, trained: tuple[Resizer, ...]
) -> None:
    remedy = judged(kind, name, 50, trained).remedy
    assert isinstance(remedy, str)
    assert ("--qat" in remedy) == (not trained and "views." in remedy)
    sets = [word.strip("'") for word in remedy.split() if "=" in word and "." in word]
    assert bool(sets) == (kind is not VariantKind.CHANNELS)
    recipe.load(None, sets)


@pytest.mark.parametrize("key", ["views.resizers", "ports.frame"])
def test_a_wrong_list_is_answered_with_one_that_works(key: str) -> None:
    with pytest.raises(RecipeError, match=f"{key} is .*expected a list of") as refused:
        recipe.load(None, [f'{key}=["foo"]'])
    example = refused.value.next_step.rpartition("--set ")[2].replace("'", "")
    recipe.load(None, [example])
