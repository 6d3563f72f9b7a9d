"""A graph that is derived for another size or width is the graph that a build would write."""

from __future__ import annotations

from typing import Any

import pytest

from edgekd.assessment.assess import assess
from edgekd.assessment.derived_graph import NotDerivable, derived
from edgekd.assessment.sketch import Asked
from edgekd.assessment.sketches import PX, Drawn, Sketchbook
from edgekd.assessment.untrained_cache import untrained_model
from edgekd.networks.planned_widths import narrowed
from edgekd.settings.compression_settings import PruneConfig
from edgekd.settings.device_profiles import DeviceProfile, load_profile
from edgekd.settings.loss_reading import Place
from edgekd.settings.model_specs import ModelSpec, spec
from edgekd.tflite.flatbuffer import LiteGraph, read

CLASSES = 10
# TensorFlow's border; torch's, and a max pool with a border of its own.
STUDENTS = ("tf_mobilenetv3_small_minimal_100", "resnet18")


def facts(graph: LiteGraph) -> dict[str, Any]:
    """All of a graph but the values of its weights and ranges."""
    return {
        "tensors": [
            (one.name, one.shape, one.dtype, one.scale.size, one.data is None)
            for one in graph.tensors
        ],
        "parameters": [
            one.data.tolist()
            for one in graph.tensors
            if one.data is not None and not one.scale.size
        ],
        "operators": graph.ops,
        "ends": (graph.inputs, graph.outputs),
    }


def check_equal(drawn: Drawn, built: bytes, profile: DeviceProfile) -> None:
    """Fail unless a derived student is the one that was built."""
    graph = read(built)
    found, expected = facts(drawn.graph), facts(graph)
    for what, value in expected.items():
        assert found[what] == value, what
    assert drawn.file_bytes == len(built)
    assert assess(drawn.graph, profile) == assess(graph, profile)


@pytest.fixture(scope="module")
def book() -> Sketchbook:
    return Sketchbook()


@pytest.mark.parametrize("name", STUDENTS)
def test_another_size_is_what_a_build_would_write(name: str, book: Sketchbook) -> None:
    """61 is odd at every stride, so that no border is as it is at 96."""
    profile = load_profile("coral-usb")
    student = spec(name)
    drawn = book.draw(Asked(student, 61, CLASSES, profile.rules))
    check_equal(drawn, untrained_model(student, 61, CLASSES, profile.rules), profile)


def test_a_narrower_student_is_what_pruning_leaves(book: Sketchbook) -> None:
    profile = load_profile("pi4")
    student, multiple = spec("mobilenetv3_small_050"), profile.channel_multiple
    reads = (Place.POOLED,)
    asked = Asked(student, 64, CLASSES, profile.rules, (), reads)
    cut = narrowed(student, PruneConfig(ratio=0.5), multiple, CLASSES, 64, reads)
    assert cut.options["widths"]
    built = untrained_model(cut, 64, CLASSES, profile.rules)
    check_equal(book.draw(asked, 0.5, multiple), built, profile)


def test_channels_that_losses_read_stay(book: Sketchbook) -> None:
    student, rules = spec("mobilenetv3_small_050"), load_profile("pi4").rules
    free, kept = (
        book.draw(Asked(student, 64, CLASSES, rules, (), reads), 0.5, 8)
        for reads in ((), (Place.POOLED,))
    )
    assert kept.file_bytes > free.file_bytes


def test_a_network_that_cannot_be_derived_is_captured_at_its_size() -> None:
    """A transformer is built for one size of image."""
    student = ModelSpec("vit", "ViT", "vit_tiny_patch16_224", ("student",))
    options = {"img_size": 64, "depth": 1, "embed_dim": 48, "num_heads": 3}
    profile = load_profile("pi4")
    student = student.with_options(options)
    drawn = Sketchbook().draw(Asked(student, 64, CLASSES, profile.rules))
    check_equal(drawn, untrained_model(student, 64, CLASSES, profile.rules), profile)
    with pytest.raises(NotDerivable):
        derived(drawn.graph, 96, {}, ())


def test_a_border_that_was_computed_is_not_guessed(book: Sketchbook) -> None:
    """Without the names of the layers that pad by the size, an uneven border shows no rule."""
    rules = load_profile("pi4").rules
    student = spec("tf_mobilenetv3_small_minimal_100")
    captured = book.draw(Asked(student, PX, CLASSES, rules)).graph
    with pytest.raises(NotDerivable, match="may depend on the size"):
        derived(captured, 64, {}, ())
