"""report.html as a page: whole, well-formed, alone in the world, and safe against names."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from edgekd.core.errors import ModelFileError
from edgekd.evaluation.examples import Example
from edgekd.reporting.html_report import page
from tests.html_reader import HOSTILE, Page, assert_alone
from tests.sample_report import EXAMPLES, FAILURE, PNG, every_text, report, shown, whole


@pytest.fixture(scope="module")
def full() -> Page:
    return shown(whole(), EXAMPLES)


def test_nothing_is_loaded_from_elsewhere():
    assert_alone(page(report(whole()), EXAMPLES))


def test_hostile_texts_are_only_texts():
    body = every_text(whole())
    body["training"] = {HOSTILE: body["training"]["distil"]}
    body["models"] = {HOSTILE: body["models"]["student"]}
    body["artifact"]["ops"] = {HOSTILE: 3}
    body["certificate"] |= {"passed": False, "failures": [every_text(FAILURE)]}
    example = Example(PNG, HOSTILE, HOSTILE, {"tflite": (HOSTILE, 0.5)}, HOSTILE)
    text = page(report(body), [example])
    read = assert_alone(text)
    text.encode()  # a lone surrogate, as in a file name that is not UTF-8, must not stop the report
    assert "\u202e" not in text
    assert "\x00" not in text
    assert "<script>alert(1)</script>" in read.text  # shown as it is written, as text
    assert "script" not in {tag for tag, _, _ in read.attributes}
    assert len(read.values("img", "src")) == 1


def test_every_section_is_there_and_linked(full):
    sections = set(full.values("section", "id"))
    assert sections == {
        "accuracy",
        "why",
        "examples",
        "certificate",
        "device",
        "bench",
        "training",
        "models",
        "teacher",
        "data",
        "provenance",
    }
    assert {link[1:] for link in full.values("a", "href")} == sections | {"content"}


@pytest.mark.parametrize(
    "part", ["accuracy", "why", "examples", "certificate", "bench", "training", "models"]
)
def test_an_absent_part_is_left_out_with_its_link(part):
    body, examples = whole(), EXAMPLES
    if part == "examples":
        examples = []
    elif part in ("training", "models"):
        body[part] = {}
    else:
        del body[part]
    read = shown(body, examples)
    assert part not in read.values("section", "id")
    assert f"#{part}" not in read.values("a", "href")
    assert part == "accuracy" or "accuracy" in read.values("section", "id")


def test_each_block_may_be_absent():
    body = whole()
    for part in ("accuracy", "artifact", "device", "certificate", "bench", "why", "gates"):
        shown({key: value for key, value in body.items() if key != part})
    needed = ("schema", "edgekd", "profile", "seed", "data", "stages", "models", "training")
    bare = {key: body[key] for key in needed}
    shown(bare | {"stages": [], "models": {}, "training": {}})
    for part in ("accuracy", "artifact", "device", "certificate", "bench", "why"):
        shown(bare | {part: body[part]})


@pytest.mark.parametrize("part", ["data", "accuracy", "artifact", "why"])
def test_a_block_that_lacks_a_field_is_refused_by_its_name(part):
    """Fields of the first published version. Later ones may be absent, and are read as absent."""
    body = whole()
    first = next(iter(body[part]))
    field = {"data": "name", "why": "split"}.get(part, first)
    del body[part][field]
    with pytest.raises(ModelFileError, match=f"{part}: the field '{field}' is missing"):
        report(body)


def test_a_build_that_stopped_early_says_so():
    body = {
        key: value
        for key, value in whole().items()
        if key in ("schema", "edgekd", "profile", "seed", "data", "stages", "models")
    }
    body["training"] = {}
    del body["models"]["teacher"]
    body["stages"][-1]["stage"] = "distil"
    read = shown(body)
    assert "Not finished" in read.text
    assert "stopped after distil" in read.text
    assert "Certified" not in read.text
    assert "without a teacher" in read.text


def test_headings_go_down_step_by_step(full):
    assert full.headings[0] == 1
    assert full.headings.count(1) == 1
    assert all(
        after <= before + 1 for before, after in zip(full.headings, full.headings[1:], strict=False)
    )


def test_readers_of_screens_find_their_way(full):
    tags = [tag for tag, _, _ in full.attributes]
    text = page(report(whole()), EXAMPLES)
    for landmark in ("<main", "<header", "<nav", "<footer", '<html lang="en"'):
        assert landmark in text
    assert len(re.findall(r"<th\b", text)) == text.count("<th scope=") > 20
    assert text.count('<svg class="chart') == len(
        [1 for tag, name, value in full.attributes if (tag, name, value) == ("svg", "role", "img")]
    )
    assert all(label.strip() for label in full.values("svg", "aria-label"))
    assert (
        len(full.values("img", "alt")) == tags.count("img") // 2 == 3
    )  # two attributes an image: src and alt
    assert "test/normal/a.png" in full.values("img", "alt")[0]
    identities = [value for _, name, value in full.attributes if name == "id"]
    assert len(identities) == len(set(identities))
    for tag, name, value in full.attributes:
        if name == "aria-labelledby":
            assert value in identities, (tag, value)


def contrast(one, other):
    def luminance(colour):
        colour = "".join(c * 2 for c in colour) if len(colour) == 3 else colour
        parts = [int(colour[place : place + 2], 16) / 255 for place in (0, 2, 4)]
        red, green, blue = (
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_every_text_colour_stands_out_on_every_ground():
    style = (
        resources.files("edgekd.reporting")
        .joinpath("templates/page.css")
        .read_text(encoding="utf-8")
    )
    themes = [
        dict(re.findall(r"--(\w+): #([0-9a-f]{3,6});", block))
        for block in re.findall(r":root \{(.*?)\}", style, re.S)
    ]
    assert len(themes) == 3  # light, dark, print
    for theme in themes:
        for text in ("ink", "soft", "accent", "good", "bad", "warn"):
            for ground in ("paper", "panel"):
                assert contrast(theme[text], theme[ground]) >= 4.5, (text, ground, theme)
        for colour in (
            "accent",
            "other",
        ):  # the darkest cell of the confusion matrix: 38 % of a colour on the panel
            mixed = "".join(
                f"{round(0.38 * int(one, 16) + 0.62 * int(other, 16)):02x}"
                for one, other in (
                    (theme[colour][p : p + 2], theme["panel"][p : p + 2]) for p in (0, 2, 4)
                )
            )
            assert contrast(theme["ink"], mixed) >= 4.5, (colour, theme)
        for line in ("accent", "other"):
            assert contrast(theme[line], theme["paper"]) >= 3


def test_equal_bodies_give_equal_pages():
    assert page(report(whole()), EXAMPLES) == page(report(whole()), EXAMPLES)
