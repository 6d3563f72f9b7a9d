"""A file with its resize inside: what it takes, what it computes, and its certificate."""

from __future__ import annotations

import copy
import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from edgekd.core.errors import RecipeError
from edgekd.core.frames import FACTORS, Frame
from edgekd.data import frames
from edgekd.data.dataset_builder import build_dataset
from edgekd.data.datasets import input_images, network_images
from edgekd.data.input_builder import build_inputs
from edgekd.data.source_registry import open_source
from edgekd.proof.certificate import Published, certify
from edgekd.quantization.framing import framed
from edgekd.settings import recipe
from edgekd.settings.recipe import DataConfig
from edgekd.tflite import onnx_runner, runtime
from tests.noise_folder import noise_folder
from tests.routes import Route, follow
from tests.small_networks import MEAN, PX, STD, artifact, calibrated

FRAME = Frame(3 * PX, 3 * PX + 10, PX)  # whose sides are cut off, too


def golden_npz(route: Route) -> bytes:
    """golden.npz of the route's images."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        inputs=route.images,
        labels=route.labels,
        logits=route.logits,
        logits_int8=runtime.run(route.lite.tflite, route.images),
        mean=np.float32(MEAN),
        std=np.float32(STD),
    )
    return buffer.getvalue()


@pytest.fixture(scope="module")
def routes() -> tuple[Route, Route]:
    """A small network without and with its resize, and frames as the images of both."""
    network, model, _ = calibrated("Excite")
    whole = np.random.default_rng(7).integers(0, 256, (6, *FRAME.sides, 3), dtype=np.uint8)
    labels = np.zeros(6, np.int64)
    plain = artifact(network)
    inside = framed(plain, copy.deepcopy(model), FRAME.sides)
    return (
        follow(plain, lambda: copy.deepcopy(model), frames.reduced(whole, FRAME), labels),
        follow(inside, lambda: copy.deepcopy(model), whole, labels),
    )


def test_the_file_computes_what_reduced_says(routes: tuple[Route, Route]) -> None:
    plain, inside = routes
    counts = runtime.describe(inside.lite.tflite)
    assert counts["input"]["shape"] == [1, *FRAME.sides, 3]
    assert counts["full_integer"]
    assert counts["ops"]["CONCATENATION"] == 2
    for kernels in runtime.KERNELS:
        codes = [runtime.run(each.lite.tflite, each.images, kernels=kernels) for each in routes]
        assert np.array_equal(*codes)
    assert np.array_equal(plain.logits, inside.logits)
    answers = onnx_runner.logits(inside.exported.qdq, inside.images)
    assert np.array_equal(answers, onnx_runner.logits(plain.exported.qdq, plain.images))


def test_nothing_that_was_learned_changes(routes: tuple[Route, Route]) -> None:
    plain, inside = routes
    learned = safetensors.numpy.load(bytes(plain.qnet.state))
    found = safetensors.numpy.load(bytes(inside.qnet.state))
    assert all(np.array_equal(found[name], value) for name, value in learned.items())
    assert all(name.startswith("resize_inside.") for name in found.keys() - learned.keys())
    back = framed(inside.qnet, inside.model(), ())
    assert dataclasses.asdict(back) == dataclasses.asdict(plain.qnet)


def test_the_certificate_holds_and_names_the_new_operators(routes: tuple[Route, Route]) -> None:
    route = routes[1]
    published = Published(route.exported.qdq, ["a", "b", "c"], golden_npz(route))
    body = certify(route.qnet, route.lite, route.images, route.logits, published=published)
    assert body.failures == []
    assert body.passed
    assert body.bound is not None
    checked = [row.op for row in body.op_local.by_op or []]
    assert any("resize_inside" in label for label in checked)


def test_a_file_that_cuts_elsewhere_is_not_certified(
    routes: tuple[Route, Route], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Frame, "left", property(lambda _frame: 0))
    network, model, _ = calibrated("Excite")
    right = routes[1]
    found = follow(
        framed(artifact(network), model, FRAME.sides),
        lambda: copy.deepcopy(model),
        right.images,
        right.labels,
    )
    published = Published(right.exported.qdq, ["a", "b", "c"], golden_npz(found))
    body = certify(right.qnet, found.lite, right.images, right.logits, published=published)
    assert not body.passed
    assert "resize_inside" in str(body.failures[0])


def test_the_square_of_a_frame() -> None:
    frame = Frame(240, 320, 80)
    assert (frame.factor, frame.side, frame.top, frame.left) == (3, 240, 0, 40)
    picture = np.random.default_rng(0).integers(0, 256, (240, 240, 3), dtype=np.uint8)
    whole = frames.placed(picture, frame)
    assert whole.shape == (240, 320, 3)
    assert not whole[:, :40].any()
    assert not whole[:, 280:].any()
    assert np.array_equal(frames.reduced(whole[None], frame)[0], by_pillow(picture, 80))


def by_pillow(image: np.ndarray, px: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((px, px), Image.Resampling.BILINEAR))


@pytest.mark.parametrize("factor", FACTORS)
def test_a_frame_is_reduced_to_the_pixels_of_pillow(factor: int) -> None:
    frame = Frame(factor * PX, factor * PX, PX)
    assert frame.factor == factor
    numbers = np.random.default_rng(factor)
    noise = numbers.integers(0, 256, (*frame.sides, 3), dtype=np.uint8)
    smooth = by_pillow(noise[:4, :4], frame.side)
    # Of noise, one place in a few dozen has a mean halfway between two pixels.
    for picture in (noise, smooth, 255 * (noise > 127).astype(np.uint8)):
        assert np.array_equal(frames.reduced(picture[None], frame)[0], by_pillow(picture, PX))


def test_a_triangle_of_weights_and_the_one_at_the_edge() -> None:
    odd, even = Frame(48, 48, 16), Frame(32, 32, 16)
    assert (odd.filter.weights, odd.outside) == ((1, 2, 3, 2, 1), 1)
    assert (odd.first_filter.weights, odd.last_filter.weights) == ((2, 3, 2, 1), (1, 2, 3, 2))
    assert (even.filter.weights, even.first_filter.weights) == ((1, 3, 3, 1), (3, 3, 1))
    for factor in FACTORS:
        by = Frame(factor * 16, factor * 16, 16).filter
        assert by.divisor == sum(by.codes)
        assert max(by.codes) <= 127
        assert 0 < by.nudge < by.fineness / 2  # a mean below a half stays below it


def test_inputs_are_frames_and_the_network_sees_them_reduced(tmp_path: Path) -> None:
    source = open_source(str(noise_folder(tmp_path)))
    data = build_dataset(source, DataConfig(cache_px=32))
    inputs = build_inputs(source, data, 16, 0, calibration=8, golden=4, sides=(48, 48))
    assert input_images(inputs, "golden", 3).shape == (4, 48, 48, 3)
    seen = network_images(inputs, "calibration", 1)
    assert seen.shape == (8, 16, 16, 1)
    plain = build_inputs(source, data, 16, 0, calibration=8, golden=4)
    assert np.array_equal(network_images(plain, "test", 3), input_images(plain, "test", 3))
    # The files have the frame's size.
    row = inputs.rows["calibration"][0]
    file = np.asarray(Image.open(tmp_path / data.images[row]["name"]))
    assert np.array_equal(seen[0, ..., 0], by_pillow(file, 16))


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["ports.frame=[190,300]"], "ports.frame is \\[190, 300\\], and data.input_px is 96"),
        (["ports.frame=[288]"], "expected a height and a width of at least 2 times"),
        (['convert.formats=["float16"]'], "makes the int8 file alone"),
    ],
)
def test_frames_that_no_file_can_have(sets: list[str], words: str) -> None:
    with pytest.raises(RecipeError, match=words) as refused:
        recipe.load(None, ["ports.resize=inside", *sets])
    remedy = refused.value.next_step
    if "--set" in remedy:
        recipe.load(None, ["ports.resize=inside", remedy.split("'")[1]])


def test_the_usual_frame_and_none() -> None:
    assert recipe.load(None, ["ports.resize=inside"]).ports.sides(96) == (288, 288)
    assert recipe.load(None, ["ports.frame=[192,192]"]).ports.sides(96) == ()
    wide = recipe.load(None, ["ports.resize=inside", "ports.frame=[480,640]"]).ports.sides(96)
    assert Frame.of(wide, 96) == Frame(480, 640, 96)
    assert Frame(480, 640, 96).factor == 5
    assert Frame(700, 640, 96).side == 480  # six times would fit, and is not Pillow's to the bit
