"""report.html: whole, well-formed, alone in the world, safe against names, and true to report.json."""

from __future__ import annotations

import base64
import copy
import dataclasses
import math
import re
from html.parser import HTMLParser
from importlib import resources

import pytest

from edgekd.evaluation.examples import Example
from edgekd.reporting import charts
from edgekd.reporting.html_report import page

VOID = {"meta", "link", "img", "br", "hr", "input", "rect", "circle", "line", "polyline"}
SVG_EMPTY = {
    "rect",
    "circle",
    "line",
    "polyline",
}  # written as <rect .../> or with a <title> inside
HOSTILE = (
    "\"><script>alert(1)</script><img src=http://evil.example/x onerror=alert(2)>'&\u202e\x00\udce9"
)
SHA = "0123456789abcdef" * 4
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)


class Page(HTMLParser):
    """A strict reader: every tag must be closed in order; texts, attributes and headings are kept."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.attributes, self.headings, self.texts, self.rows = [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag == "tr":
            self.rows.append("")
        if tag in ("h1", "h2", "h3", "h4"):
            self.headings.append(int(tag[1]))
        if tag not in VOID - SVG_EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> without its start"
        assert self.open[-1] == tag, f"</{tag}> inside {self.open}"
        self.open.pop()

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)
            if "tr" in self.open:
                self.rows[-1] += data + " "

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.texts))

    def values(self, tag, name):
        return [value for t, n, value in self.attributes if t == tag and n == name]

    def row(self, start):
        """Cells of the table row that starts with a text, joined."""
        return next(
            row
            for row in (re.sub(r"\s+", " ", row).strip() for row in self.rows)
            if row.startswith(start)
        )


def stage(name, top1, before=0.97, **judged):
    return {
        "stage": name,
        "top1": top1,
        "top1_ci95": [top1 - 0.031, top1 + 0.027],
        "auc": top1 + 0.04,
        "auc_ci95": [top1 + 0.01, top1 + 0.06],
        "agree_with_previous": before,
        "flips_bad": 11,
        "flips_good": 4,
        **judged,
    }


def judged(state, change, margin=3.2):
    """What the waterfall adds to a stage."""
    flip = {
        "name": "test/normal/b.png",
        "label": "normal",
        "was": "normal",
        "now": "pneumonia",
        "margin_lsb": margin,
    }
    return {
        "state": state,
        "verdict": f"lost {-change}",
        "budget": {"top1": 0.005, "auc": 0.003},
        "change": {
            "top1": change,
            "top1_ci95": [change - 0.012, change + 0.011],
            "top1_p": 0.4,
            "auc": change / 2,
            "auc_ci95": [change / 2 - 0.004, change / 2 + 0.003],
        },
        "flipped": {"bad": [flip], "good": [{**flip, "name": "c.png", "margin_lsb": None}]},
    }


WHY = {
    "schema": "edgekd.why/1",
    "split": "val",
    "images": 256,
    "calibration": 64,
    "seed": 0,
    "seconds": 71.5,
    "tried": 42,
    "reading": "Look at the ops below.",
    "whole": {"kl": 0.0371, "kl_ci95": [0.03, 0.04], "top1": -0.012, "auc": -0.004},
    "training": {"kl": 0.001, "kl_ci95": [0, 0.01], "top1": 0, "auc": 0},
    "ops": [
        {
            "name": f"blocks.{number}.conv",
            "op": "DEPTHWISE_CONV_2D",
            "part": "weights" if number == 0 else None,
            "shares_range_with": [],
            "alone": {
                "kl": 0.02 / (number + 1),
                "kl_ci95": [0.01 / (number + 1), 0.03 / (number + 1)],
                "top1": -0.008,
                "auc": -0.002,
            },
            "without": {"kl": 0.01, "kl_gained": 0.0123, "top1_gained": 0.004, "rank": number + 1},
        }
        for number in range(15)
    ],
    "remedies": [
        {
            "kind": "tighter range",
            "what": "blocks.0.conv",
            "text": "Give it a tighter range.",
            "next_step": '--set "qat.pin=blocks.0.conv=99.9"',
            "bound": False,
            "kl_before": 0.0371,
            "kl_after": 0.0123,
            "kl_gain_ci95": [0.02, 0.03],
            "sure": True,
            "top1": 0.008,
            "auc": 0.001,
        },
        {
            "kind": "another op",
            "what": "blocks.1.conv",
            "text": "Replace it.",
            "next_step": "another student",
            "bound": True,
            "kl_before": 0.0371,
            "kl_after": 0.03,
            "kl_gain_ci95": [-0.001, 0.03],
            "sure": False,
            "top1": 0.0,
            "auc": 0.0,
        },
    ],
}


def bench(**changes):
    samples = [1.5 + 0.01 * number for number in range(99)] + [9.876]
    return {
        "schema": "edgekd.bench/1",
        "model_sha256": SHA,
        "runner_version": "1",
        "profile": "host",
        "transport": "local",
        "emulated": False,
        "warnings": ["the governor is not known"],
        "runtime": {
            "name": "ai_edge_litert",
            "version": "2.1.2",
            "delegate": "XNNPACK",
            "threads": 2,
        },
        "host": {
            "machine": "x86_64",
            "cpu": "Xeon 8481C",
            "cores": 2,
            "kernel": "6",
            "python": "3.12",
            "governor": None,
            "clock_khz": None,
            "temperature_c": None,
            "throttled": None,
        },
        "settings": {"warmup_runs": 5, "runs": 100, "min_seconds": 1.0, "seed": 0},
        "latency_ms": {
            "load": 13.37,
            "first": 4.44,
            "p50": 1.99,
            "p90": 2.39,
            "p95": 2.44,
            "p99": 2.48,
            "mean": 2.07,
            "std": 0.8,
            "min": 1.5,
            "max": 9.876,
            "samples": samples,
        },
        "memory_kib": {"baseline": 40960, "after_load": 46080, "peak": 51200},
        "golden": {"images": 32, "argmax_agreement": 1.0, "max_abs_lsb": 0, "top1": 0.875},
        **changes,
    }


CERTIFICATE = {
    "schema": "edgekd.certificate/1",
    "model_sha256": SHA,
    "runtime": "ai_edge_litert 2.1.2",
    "passed": True,
    "ranges": {"tensors": 71, "identical": 71, "worst": None},
    "weights": {"tensors": 53, "identical_codes": 691376, "total_codes": 691376},
    "canonical": {"deviations": 0},
    "shapes": {"ops": 66},
    "structure": {"ops": 65},
    "edges": {
        "edges": 65,
        "max_lsb": 1,
        "share_exact": 0.9974,
        "worst_op": {"op": "MEAN #65 -> pool", "max_lsb": 1},
    },
    "op_local": {"ops": 66, "max_lsb": 1, "share_exact": 0.99999, "worst_op": "MEAN"},
    "end_to_end": {
        "images": 624,
        "argmax_agreement": 0.9968,
        "mean_abs_lsb": 0.42,
        "max_abs_lsb": 6,
        "histogram": {"0": 14_321, "1": 905, "2": 17, "3": 0, "8+": 2},
    },
    "reference": {"runtime": None, "argmax_agreement": None},
    "failures": [],
}
FAILURE = {
    "check": "ranges",
    "tensor": "block_3/expand/Relu6",
    "expected": "scale 0.0235",
    "found": "scale 0.0236",
    "next_step": "convert again",
}


def whole():
    """A finished build's report."""
    epochs = [
        {"epoch": epoch, "loss": 1 / epoch, "top1": 1 - 0.4 / epoch, "auc": 1 - 0.2 / epoch}
        for epoch in range(1, 7)
    ]
    return copy.deepcopy(
        {
            "schema": "edgekd.report/1",
            "edgekd": "0.1.0",
            "profile": "pi4",
            "seed": 3,
            "gates": [],
            "data": {
                "name": "chest",
                "digest": SHA,
                "classes": ["normal", "pneumonia"],
                "train": 900,
                "val": 100,
                "test": 200,
                "licence": "CC BY 4.0",
                "source": "https://example.org/chest",
                "synthetic": False,
                "warnings": ["7 groups have images in train and in test"],
                "skipped": [],
                "ignored": {"hidden": 3},
                "counts": {
                    "train": {"normal": 400, "pneumonia": 500},
                    "val": {"normal": 50, "pneumonia": 50},
                    "test": {"normal": 90, "pneumonia": 110},
                },
                "fit": "squash",
                "groups": {"train": 800, "val": 90, "test": 150},
                "duplicates": {"images": 0, "dropped": 0},
            },
            "stages": [
                {"stage": "data", "key": SHA, "digest": SHA[::-1], "seconds": 12.3, "cached": True},
                {
                    "stage": "bench",
                    "key": SHA,
                    "digest": SHA[::-1],
                    "seconds": 125.0,
                    "cached": False,
                },
            ],
            "models": {
                "teacher": {
                    "arch": "vit_small",
                    "params": 21_600_000,
                    "macs": 2_210_000_000,
                    "input": [140, 140, 3],
                    "weights": "file",
                    "licence": "Apache-2.0",
                },
                "student": {
                    "arch": "mobilenetv2_050",
                    "params": 689_000,
                    "macs": 18_100_000,
                    "input": [96, 96, 3],
                },
            },
            "training": {"teacher": epochs, "distil": epochs, "qat": epochs[:1]},
            "accuracy": {
                "split": "test",
                "n": 200,
                "metric": "top1",
                "waterfall": [
                    stage("teacher", 0.931, None, state="first"),
                    stage("student", 0.894, **judged("within", -0.037)),
                    stage("qat", 0.887, **judged("unclear", -0.007)),
                    stage("onnx", 0.886, **judged("within", -0.001)),
                    stage("tflite", 0.8812, **judged("beyond", -0.0048)),
                ],
                "paired": {
                    "method": "paired bootstrap",
                    "paper": "Efron 1986",
                    "draws": 1000,
                    "seed": 0,
                    "test": "exact McNemar test",
                },
                "verdict": {
                    "stage": "tflite",
                    "state": "bad",
                    "text": "The TFLite conversion lost it.",
                    "notes": ["QAT may have, too."],
                },
                "device": {
                    "stage": "device",
                    "profile": "pi4",
                    "emulated": False,
                    "n": 32,
                    "top1": 0.844,
                    "top1_ci95": [0.68, 0.93],
                    "agree_with_previous": 0.9688,
                    "max_abs_lsb": 3,
                    "state": "within",
                    "verdict": "The device: 1 of 32 stored images got another answer",
                },
                "confusion": {"classes": ["normal", "pneumonia"], "counts": [[72, 18], [6, 104]]},
            },
            "artifact": {
                "path": "model.tflite",
                "sha256": SHA,
                "bytes": 1_048_576,
                "full_integer": True,
                "ops": {"CONV_2D": 35, "SOFTMAX": 1, "ADD": 10},
                "input": {
                    "name": "i",
                    "dtype": "int8",
                    "shape": [1, 96, 96, 3],
                    "scale": 0.0186,
                    "zero_point": -14,
                },
                "output": {
                    "name": "o",
                    "dtype": "int8",
                    "shape": [1, 2],
                    "scale": 0.112,
                    "zero_point": 3,
                },
            },
            "device": {
                "predicted": {
                    "latency_ms": None,
                    "low_ms": None,
                    "high_ms": None,
                    "basis": "no latency model yet",
                },
                "memory": {"file_bytes": 1_048_576},
                "mapped": {"ops": 46, "mapped": 45, "fallback": [{"op": "SOFTMAX", "count": 1}]},
            },
            "certificate": CERTIFICATE,
            "bench": [bench()],
            "why": WHY,
        }
    )


EXAMPLES = [
    Example(
        PNG,
        "test/normal/a.png",
        "normal",
        {
            "teacher": ("normal", 0.91),
            "student": ("normal", 0.62),
            "qat": ("normal", 0.6),
            "onnx": ("normal", 0.6),
            "tflite": ("pneumonia", 0.53),
        },
        "student and int8 differ, int8 is wrong",
        {"teacher": PNG, "tflite": PNG},
    )
]


@pytest.fixture(scope="module")
def full():
    return Page(page(whole(), EXAMPLES))


def every_text(value):
    """The same report with every text in it hostile, keys of ops and counts included."""
    if isinstance(value, dict):
        return {key: every_text(item) for key, item in value.items()}
    if isinstance(value, list):
        return [every_text(item) for item in value]
    return HOSTILE + value if isinstance(value, str) else value


# Alone in the world ---------------------------------------------------------------------------------------------------


def assert_alone(text):
    read = Page(text)
    for tag, name, value in read.attributes:
        assert name not in ("srcset", "action", "ping", "background", "poster", "xlink:href"), (
            tag,
            name,
        )
        assert not name.startswith("on"), (tag, name, value)
        if name in ("src", "href"):
            assert value.startswith(("#", "data:")), (tag, name, value)
        if name == "style":
            assert re.fullmatch(r"--s:[01]\.\d+", value), value
    assert not re.search(r"@import|url\s*\(", text.split("</style>")[0])
    assert "<script" not in text.lower()
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in read.values(
        "meta", "content"
    )
    return read


def test_nothing_is_loaded_from_elsewhere():
    assert_alone(page(whole(), EXAMPLES))


def test_hostile_texts_are_only_texts():
    body = every_text(whole())
    body["training"] = {HOSTILE: body["training"]["distil"]}
    body["models"] = {HOSTILE: body["models"]["student"]}
    body["artifact"]["ops"] = {HOSTILE: 3}
    body["device"]["memory"] = {HOSTILE: 3}
    body["certificate"] |= {"passed": False, "failures": [every_text(FAILURE)]}
    example = Example(PNG, HOSTILE, HOSTILE, {"tflite": (HOSTILE, 0.5)}, HOSTILE)
    text = page(body, [example])
    read = assert_alone(text)
    text.encode()  # a lone surrogate, as in a file name that is not UTF-8, must not stop the report
    assert "\u202e" not in text
    assert "\x00" not in text
    assert "<script>alert(1)</script>" in read.text  # shown as it is written, as text
    assert "script" not in {tag for tag, _, _ in read.attributes}
    assert len(read.values("img", "src")) == 1


def test_charts_escape_what_they_are_given():
    made = [
        charts.intervals([charts.Interval(HOSTILE, 0.5, 0.4, 0.6, HOSTILE)], HOSTILE),
        charts.lines([charts.Line(HOSTILE, [(1, 2), (2, 3)], HOSTILE)], HOSTILE),
        charts.histogram([1, 2, 3], {HOSTILE: 2}, HOSTILE, HOSTILE),
        charts.bar(0.5, HOSTILE),
    ]
    for chart in made:
        read = Page(chart)
        assert not {name for _, name, _ in read.attributes} & {"onerror", "src"}


# Whole and readable ---------------------------------------------------------------------------------------------------


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
        "data",
        "provenance",
    }
    assert {link[1:] for link in full.values("a", "href")} == sections | {"content"}


@pytest.mark.parametrize(
    "part", ["accuracy", "why", "examples", "certificate", "bench", "training", "models", "data"]
)
def test_an_absent_part_is_left_out_with_its_link(part):
    body, examples = whole(), EXAMPLES
    if part == "examples":
        examples = []
    else:
        del body[part]
    read = Page(page(body, examples))
    assert part not in read.values("section", "id")
    assert f"#{part}" not in read.values("a", "href")
    assert part == "accuracy" or "accuracy" in read.values("section", "id")


def test_nothing_is_needed():
    Page(page({}))
    for (
        key,
        block,
    ) in whole().items():  # each block alone, empty, and with any one of its keys missing
        Page(page({key: block}))
        Page(page(whole() | {key: type(block)()}))
        for missing in block if isinstance(block, dict) else []:
            Page(
                page(
                    whole()
                    | {key: {name: value for name, value in block.items() if name != missing}}
                )
            )
    for missing in bench():
        Page(
            page(
                whole()
                | {"bench": [{name: value for name, value in bench().items() if name != missing}]}
            )
        )


def test_a_build_that_stopped_early_says_so():
    body = {
        key: value
        for key, value in whole().items()
        if key in ("schema", "profile", "data", "stages", "models")
    }
    del body["models"]["teacher"]
    body["stages"][-1]["stage"] = "distil"
    read = Page(page(body))
    assert "Not finished" in read.text
    assert "stopped after distil" in read.text
    assert "Passed" not in read.text
    assert "without a teacher" in read.text


def test_headings_go_down_step_by_step(full):
    assert full.headings[0] == 1
    assert full.headings.count(1) == 1
    assert all(
        after <= before + 1 for before, after in zip(full.headings, full.headings[1:], strict=False)
    )


def test_readers_of_screens_find_their_way(full):
    tags = [tag for tag, _, _ in full.attributes]
    text = page(whole(), EXAMPLES)
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
                f"{round(0.38 * int(theme[colour][p : p + 2], 16) + 0.62 * int(panel[p : p + 2], 16)):02x}"
                for panel in [theme["panel"]]
                for p in (0, 2, 4)
            )
            assert contrast(theme["ink"], mixed) >= 4.5, (colour, theme)
        for line in ("accent", "other"):
            assert contrast(theme[line], theme["paper"]) >= 3


# True to report.json -----------------------------------------------------------------------------------------------


def test_every_stage_of_the_waterfall_is_in_chart_and_table(full):
    for name, top1, low, high, auc in (
        ("Teacher", "93.1%", "90.0", "95.8%", "0.971"),
        ("Student", "89.4%", "86.3", "92.1%", "0.934"),
        ("After QAT", "88.7%", "85.6", "91.4%", "0.927"),
        ("ONNX", "88.6%", "85.5", "91.3%", "0.926"),
        ("TFLite int8", "88.1%", "85.0", "90.8%", "0.921"),
    ):
        row = full.row(name)
        assert f"{top1} {low}–{high} {auc}" in row
        assert ("97.0% 11 4" in row) == (name != "Teacher")
        assert (
            f"{name}: {top1}, 95% interval {low}% to {high}" in full.text
        )  # the chart's own titles
    assert "−1.3" in full.text  # points from the float student to int8


def test_the_verdict_its_changes_and_the_flipped_images_are_shown(full):
    assert "Verdict: The TFLite conversion lost it. Also: QAT may have, too." in full.text
    assert "−0.7 −1.9 to +0.4" in full.row("After QAT")
    assert full.row("After QAT").endswith("over, maybe by chance")
    assert full.row("TFLite int8").endswith("beyond its budget")
    changes = next(
        label for label in full.values("svg", "aria-label") if label.startswith("Change of top-1")
    )
    assert "After QAT −0.7, −1.9 to +0.4, over, maybe by chance" in changes
    assert "test/normal/b.png lost normal pneumonia 3.2" in full.row("test/normal/b.png")
    assert full.row("c.png") == "c.png won normal pneumonia –"
    assert "10 more lost" in full.text
    assert "1,000 draws" in full.text
    assert "On the device, 32 stored images: top-1 84.4%" in full.text


def test_a_report_without_a_verdict_still_reads():
    body = whole()
    for row in body["accuracy"]["waterfall"]:
        for key in ("state", "verdict", "budget", "change", "flipped"):
            row.pop(key, None)
    for key in ("paired", "verdict", "device"):
        del body["accuracy"][key]
    read = Page(page(body))
    assert "Verdict" not in read.text
    assert "After QAT" in read.row("After QAT")


def test_changes_lie_where_the_figures_say():
    rows = [
        charts.Change("a", -0.02, -0.04, 0.0, 0.01),
        charts.Change("b", 0.01, 0.0, 0.02, None, "x", "beyond"),
    ]
    chart = charts.changes(rows, "x")
    assert re.findall(r'circle cx="([\d.]+)%"', chart) == ["33.33", "83.33"]
    assert 'class="zero" x1="66.67%"' in chart
    assert 'x="50.00%" width="16.67%"' in chart  # what "a" may lose: a point
    assert charts.changes([], "x") == ""
    assert 'circle cx="50.00%"' in charts.changes([charts.Change("a", 0, 0, 0)], "x")
    assert charts.points(-0.012) == "−1.2"
    assert charts.points(-0.0001) == "0.0"


# The sensitivity run --------------------------------------------------------------------------------------------------


def test_the_worst_ops_and_the_remedies_are_told(full):
    assert "0.0371 → 0.0123" in full.text
    assert '--set "qat.pin=blocks.0.conv=99.9"' in full.text
    assert "An upper bound" in full.text
    assert "it may be chance" in full.text
    assert "Look at the ops below." in full.text
    assert "mostly its weights" in full.row("DEPTHWISE_CONV_2D blocks.0.conv")
    assert "0.02 0.01 to 0.03 −0.8 −0.002 0.0123 1" in full.row("DEPTHWISE_CONV_2D blocks.0.conv")
    assert "3 more ops" in full.text
    assert full.row("DEPTHWISE_CONV_2D blocks.14.conv")


def test_no_remedy_is_said_to_be_none():
    body = whole()
    body["why"]["remedies"] = []
    assert "None of the 42 remedies" in Page(page(body)).text


# The certificate's histograms -----------------------------------------------------------------------------------------


def test_the_histogram_of_differences_is_drawn(full):
    label = next(label for label in full.values("svg", "aria-label") if "14,321 by 0" in label)
    assert "2 by 8+" in label
    chart = charts.columns({"0": 400, "1": 100, "2": 0}, "LSB", "x")
    heights = [float(x) for x in re.findall(r'height="([\d.]+)"><title>', chart)]
    assert heights[0] == pytest.approx(2 * heights[1], rel=0.01)  # square roots
    assert len(heights) == 2
    assert "100 of 500 (20.00%) differ by 1 LSB" in chart
    assert charts.columns({}, "LSB", "x") == charts.columns({"0": 0}, "LSB", "x") == ""


def test_further_histograms_are_found_wherever_they_stand():
    body = whole()
    assert "more histograms" not in Page(page(body)).text
    body["certificate"]["op_local"] |= {
        "families": {"xnnpack": {"histogram": {"0": 5, "1": 1}}},
        "rows": [
            {"op": "CONV_2D conv_stem", "histogram": {"0": 7}},
            {"op": "none", "histogram": "not one"},
        ],
    }
    read = Page(page(body))
    assert "2 more histograms, by check and op" in read.text
    assert "op_local, families, xnnpack" in read.text
    assert "op_local, rows, CONV_2D conv_stem" in read.text


def test_a_certificate_without_histograms():
    body = whole()
    del body["certificate"]["end_to_end"]["histogram"]
    assert "How far the file" not in Page(page(body)).text


def test_an_unknown_stage_keeps_its_name():
    body = whole()
    body["accuracy"]["waterfall"].insert(2, stage("pruned", 0.9))
    body["accuracy"]["waterfall"].insert(3, stage("sparse", 0.9))
    text = Page(page(body)).text
    assert "Pruned student" in text
    assert "sparse" in text


def test_dots_lie_where_the_figures_say():
    chart = charts.intervals(
        [charts.Interval("a", 0.80, 0.70, 0.90), charts.Interval("b", 0.85, 0.75, 0.90)], "x"
    )
    read = Page(chart)
    first, second = (float(value.rstrip("%")) for value in read.values("circle", "cx"))
    ends = sorted({float(v.rstrip("%")) for v in read.values("line", "x1")})
    assert ends[0] == 0
    assert ends[-1] == 100
    assert first == pytest.approx(50, abs=0.01)  # the axis runs from 70 to 90 %
    assert second == pytest.approx(75, abs=0.01)
    assert [text for text in read.texts if re.fullmatch(r"8\d\.\d%", text)] == ["80.0%", "85.0%"]
    assert [text for text in read.texts if text in ("70%", "90%")] == ["70%", "90%"]


def test_tick_labels_tell_the_place_exactly():
    for low, high in (
        (0.835, 0.923),
        (0.5, 0.52),
        (0.0, 1.0),
        (0.97, 0.99),
        (0.9, 0.902),
        (1.0, 1.0),
    ):
        chart = charts.intervals([charts.Interval("a", low, low, high)], "x")
        marks = re.findall(r'class="tick" x="([\d.]+)%"[^>]*>([\d.]+)%<', chart)
        places, values = [float(x) for x, _ in marks], [float(v) for _, v in marks]
        assert 2 <= len(marks) <= 6
        assert values[0] <= 100 * low + 1e-9
        assert values[-1] >= 100 * high - 1e-9
        for place, value in zip(places, values, strict=True):
            assert place == pytest.approx(
                100 * (value - values[0]) / (values[-1] - values[0]), abs=0.02
            )


def test_lines_end_at_the_last_epoch_and_skip_what_is_missing():
    chart = charts.lines([charts.Line("loss", [(1, 1.0), (2, math.nan), (3, 0.5), (4, 0.25)])], "x")
    points = [
        tuple(map(float, pair.split(",")))
        for pair in Page(chart).values("polyline", "points")[0].split()
    ]
    assert [round(x) for x, _ in points] == [0, 67, 100]
    assert points[0][1] < points[1][1] < points[2][1]  # y grows downwards, the loss falls
    assert (points[1][1] - points[0][1]) / (points[2][1] - points[1][1]) == pytest.approx(
        2, abs=0.01
    )
    assert "loss: 0.25 at epoch 4" in chart
    assert charts.lines([charts.Line("loss", [])], "x") == ""


def test_the_histogram_counts_every_sample():
    samples = [1.0] * 30 + [1.5] * 60 + [2.0] * 9 + [50.0]
    chart = charts.histogram(samples, {"p50": 1.5, "p99": 2.0}, "ms", "x")
    counts = [int(count) for count in re.findall(r"<title>(\d+) of 100", chart)]
    assert sum(counts) == 100
    assert {30, 60} <= set(counts)
    assert "1 beyond" in chart  # the stall does not squeeze the rest
    places = [float(x) for x in re.findall(r'<text class="mark" x="([\d.]+)%"', chart)]
    assert places == pytest.approx([40, 80], abs=0.01)  # the axis runs from 1 to 2.25 ms
    assert charts.histogram([], {}, "ms", "x") == ""
    assert "5 of 5" in charts.histogram([2.0] * 5, {"p50": 2.0}, "ms", "x")


def test_bars_are_in_proportion():
    assert 'width="25.00%"' in charts.bar(0.25)
    assert 'width="100.00%"' in charts.bar(7)


def test_no_share_is_rounded_up_to_everything():
    assert charts.percent(0.99999, 2) == "99.99%"
    assert charts.percent(1.0) == "100.0%"
    assert "99.99% of the results exact" in Page(page(whole())).text


def test_confusion_of_two_classes(full):
    assert full.row("normal 72 18") == "normal 72 18 90 80.0%"
    assert full.row("pneumonia 6 104") == "pneumonia 6 104 110 94.5%"
    assert "92.3% 85.2%" in full.row("Answer is right")


def test_each_check_of_the_certificate_is_told_as_it_is(full):
    text = full.text
    assert text.count("not run;") == 1  # the second runtime, which the sample has none of
    for found in (
        "0 deviations",
        "66 ops follow",
        "65 ops follow",
        "at most 1 LSB off (MEAN #65 -> pool)",
    ):
        assert found in text


def test_confusion_of_many_classes_lists_the_worst():
    body = whole()
    classes = [f"class {number}" for number in range(30)]
    counts = [[20 if i == j else 0 for j in range(30)] for i in range(30)]
    counts[3][5], counts[7][2] = 9, 4
    body["accuracy"]["confusion"] = {"classes": classes, "counts": counts}
    read = Page(page(body))
    assert read.row("class 3 ") == "class 3 class 5 9 31.0%"
    assert read.row("class 7 ").startswith("class 7 class 2 4")
    assert "cell" not in read.values("td", "class")
    assert "The matrix of 30 classes is in report.json" in read.text


def test_a_passed_certificate(full):
    assert "✓ Passed" in full.text
    assert "71 of 71 identical" in full.text
    assert "691,376 of 691,376 codes identical" in full.text
    assert "✗ failed" not in full.text
    assert "not run" in full.text  # the reference runtime


def test_a_failed_certificate_tells_tensor_and_next_step():
    body = whole()
    body["certificate"] |= {
        "passed": False,
        "failures": [FAILURE],
        "ranges": {
            "tensors": 71,
            "identical": 70,
            "worst": {
                "tensor": "block_3/expand/Relu6",
                "scale_ratio": 1.00391,
                "zero_point_delta": 1,
            },
        },
    }
    body["artifact"]["path"] = "uncertified.tflite"
    read = Page(page(body))
    assert "✗ Failed" in read.text
    assert "Passed" not in read.text
    for told in (
        "block_3/expand/Relu6",
        "Expected scale 0.0235, found scale 0.0236",
        "convert again",
        "1.00391",
        "uncertified.tflite",
        "An uncertified int8",
    ):
        assert told in read.text
    assert read.text.count("✗ failed") == 1  # the ranges alone


def test_many_failures_are_counted():
    body = whole()
    body["certificate"] |= {"passed": False, "failures": [FAILURE] * 30}
    assert "18 more are in certificate.json" in Page(page(body)).text


def test_a_gate_of_the_recipe_fails_the_build():
    body = whole() | {"gates": ["accuracy: int8 loses 4.0% of top-1; train longer"]}
    text = Page(page(body)).text
    assert "✗ Failed" in text
    assert "int8 loses 4.0% of top-1; train longer" in text


def test_without_gates_only_the_certificate_is_claimed():
    body = whole()
    del body["gates"]
    text = Page(page(body)).text
    assert "the certificate passed" in text
    assert "recipe's gates" not in text


def test_the_machine_measured_is_named_and_is_not_the_device(full):
    assert "Xeon 8481C" in full.text
    assert "These times are this machine's, not those of pi4." in full.text
    assert "Latency on pi4 is not predicted yet" in full.text
    assert "on the machine measured, not on pi4" in full.text
    for told in ("1.99 ms", "2.44 ms", "2.48 ms", "13.37 ms", "50.0 MiB"):
        assert told in full.text


def test_a_measurement_on_the_device_itself():
    text = Page(page(whole() | {"bench": [bench(profile="pi4", transport="ssh")]})).text
    assert "Measured as pi4, the device of this build." in text
    assert "not those of" not in text
    elsewhere = [
        "measured on Xeon (x86_64), which is not a Raspberry Pi 4: these are not the times of pi4"
    ]
    text = Page(page(whole() | {"bench": [bench(profile="pi4", warnings=elsewhere)]})).text
    assert "not those of pi4" in text
    assert "Measured as pi4" not in text


@pytest.mark.parametrize("emulated", [True, None])
def test_an_emulated_measurement_shows_no_times(emulated):
    text = page(whole() | {"bench": [bench(emulated=emulated)]})
    read = Page(text)
    assert "the times are void" in read.text
    assert not re.search(r"\d ms\b", read.text)
    for value in ("1.99", "2.44", "2.48", "13.37", "4.44", "9.88", "p50", "p95"):
        assert value not in text
    assert 'class="chart histogram"' not in text
    assert "same class on 100.0%" in read.text  # the golden answers count


def test_a_predicted_latency_is_shown_as_a_prediction():
    body = whole()
    body["device"]["predicted"] = {
        "latency_ms": 7.25,
        "low_ms": 6.1,
        "high_ms": 9.4,
        "basis": "fitted on 31 models",
    }
    text = Page(page(body)).text
    assert "Predicted latency: 7.25 ms (6.1–9.4 ms)" in re.sub(r" +", " ", text)
    assert "not predicted yet" not in text


def test_ops_and_their_place_on_the_device(full):
    assert full.row("CONV_2D") == "CONV_2D 35 ✓ mapped"
    assert full.row("SOFTMAX") == "SOFTMAX 1 ✗ not mapped"
    assert "45 of 46" in full.text


def test_examples_show_the_answers_of_teacher_student_and_int8(full):
    assert full.row("teacher ✓ normal") == "teacher ✓ normal (right) 91%"
    assert full.row("int8") == "int8 ✗ pneumonia (wrong) 53%"
    assert full.values("img", "src")[0] == "data:image/png;base64," + base64.b64encode(PNG).decode()


def test_examples_show_where_each_network_looks(full):
    told = [value for value in full.values("img", "alt") if value.startswith("Where")]
    assert told == [
        "Where the teacher looks in test/normal/a.png",
        "Where the int8 looks in test/normal/a.png",
    ]
    assert "The small pictures show where each network looks" in full.text
    assert (
        "small pictures"
        not in Page(page(whole(), [dataclasses.replace(EXAMPLES[0], looks={})])).text
    )


def test_synthetic_data_is_said_at_the_top():
    body = whole()
    assert "synthetic" not in Page(page(body)).text.lower()
    body["data"]["synthetic"] = True
    assert "Synthetic data." in Page(page(body)).text


def test_data_stages_and_provenance(full):
    assert full.row("normal 400") == "normal 400 50 90"
    assert full.row("All") == "All 900 100 200"
    assert "12.3 s from the store" in full.row("data")
    assert "2 min 05 s made" in full.row("bench")
    assert {SHA, SHA[::-1]} <= set(full.values("code", "title"))
    for told in ("CC BY 4.0", "7 groups have images", SHA, "0.1.0", "21.6 M", "18.1 M"):
        assert told in full.text


def test_equal_bodies_give_equal_pages():
    assert page(whole(), EXAMPLES) == page(whole(), EXAMPLES)
