"""report.html says what report.json says, section by section."""

from __future__ import annotations

import base64
import dataclasses
import re

import pytest

from edgekd.app.terminal.teachers import show_teachers
from edgekd.core.records import to_json
from edgekd.reporting import charts
from edgekd.reporting.html_report import page
from edgekd.reporting.text import percent
from edgekd.settings import preset_record, presets, recipe
from tests.html_reader import Page
from tests.sample_report import (
    EXAMPLES,
    FAILURE,
    PNG,
    SHA,
    bench,
    kernels,
    report,
    shown,
    stage,
    whole,
)


@pytest.fixture(scope="module")
def full() -> Page:
    return shown(whole(), EXAMPLES)


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
    assert full.row("After QAT").endswith("over budget, maybe by chance")
    assert full.row("TFLite int8").endswith("over budget")
    changes = next(
        label for label in full.values("svg", "aria-label") if label.startswith("Change of top-1")
    )
    assert "After QAT −0.7, −1.9 to +0.4, over budget, maybe by chance" in changes
    assert "test/normal/b.png lost normal pneumonia 3.2" in full.row("test/normal/b.png")
    assert full.row("c.png") == "c.png gained normal pneumonia –"
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
    read = shown(body)
    assert "Verdict" not in read.text
    assert "After QAT" in read.row("After QAT")


def test_the_worst_ops_and_the_remedies_are_told(full):
    assert "0.0371 → 0.0123" in full.text
    assert '--set "qat.pin=blocks.0.conv=99.9"' in full.text
    assert "This is an upper bound" in full.text
    assert "it may be chance" in full.text
    assert "Look at the ops below." in full.text
    assert "mostly its weights" in full.row("DEPTHWISE_CONV_2D blocks.0.conv")
    worst = full.row("DEPTHWISE_CONV_2D blocks.0.conv")
    assert "0.02 0.01 to 0.03 −0.8 −0.002 0.0123 1" in worst
    assert "3 more operators" in full.text
    assert full.row("DEPTHWISE_CONV_2D blocks.14.conv")


def test_no_remedy_is_said_to_be_none():
    body = whole()
    body["why"]["remedies"] = []
    assert "None of the 42 remedies" in shown(body).text


def test_the_histogram_of_differences_is_drawn(full):
    label = next(label for label in full.values("svg", "aria-label") if "14,321 by 0" in label)
    assert "2 by 8+" in label
    chart = charts.columns({"0": 400, "1": 100, "2": 0}, "LSB", "x")
    heights = [float(x) for x in re.findall(r'height="([\d.]+)"><title>', chart)]
    assert heights[0] == pytest.approx(2 * heights[1], rel=0.01)  # square roots
    assert len(heights) == 2
    assert "100 of 500 (20.00%) differ by 1 LSB" in chart
    assert charts.columns({}, "LSB", "x") == charts.columns({"0": 0}, "LSB", "x") == ""


def test_each_kernel_family_has_its_histogram():
    body = whole()
    assert "more histograms" not in shown(body).text
    same = {"argmax_agreement": 1.0, "mean_abs_lsb": 0.1, "max_abs_lsb": 1}
    body["certificate"]["end_to_end"]["families"] = {
        "xnnpack": {**same, "histogram": {"0": 5, "1": 1}},
        "builtin": None,  # a family that does not run the file
    }
    body["certificate"]["op_local"]["families"] = {"reference": kernels(0.99, [900, 100, 0, 0])}
    read = shown(body)
    assert "2 more histograms, by check and kernel family" in read.text
    labels = [label for label in read.values("svg", "aria-label") if "by their difference" in label]
    assert labels[1:] == [
        "End to end, xnnpack: outputs by their difference in LSB: 5 by 0, 1 by 1",
        (
            "Operator by operator, reference: outputs by their difference in LSB: 900 by 0, "
            "100 by 1, 0 by 2, 0 by 3+"
        ),
    ]


def test_a_certificate_without_histograms():
    body = whole()
    body["certificate"]["end_to_end"]["histogram"] = {}
    assert "How far the file" not in shown(body).text


def test_an_unknown_stage_keeps_its_name():
    body = whole()
    body["accuracy"]["waterfall"].insert(2, stage("pruned", 0.9))
    body["accuracy"]["waterfall"].insert(3, stage("sparse", 0.9))
    text = shown(body).text
    assert "Pruned student" in text
    assert "sparse" in text


def test_no_share_is_rounded_up_to_everything():
    assert percent(0.99999, 2) == "99.99%"
    assert percent(1.0) == "100.0%"
    assert "99.99% of the results exact" in shown(whole()).text


def test_confusion_of_two_classes(full):
    assert full.row("normal 72 18") == "normal 72 18 90 80.0%"
    assert full.row("pneumonia 6 104") == "pneumonia 6 104 110 94.5%"
    assert "92.3% 85.2%" in full.row("Precision")


def test_each_check_of_the_certificate_is_told_as_it_is(full):
    text = full.text
    assert text.count("not run;") == 1  # the second runtime, which the sample has none of
    for found in (
        "0 deviations",
        "correct for 66 operators",
        "65 operators as in the trained graph",
        "at most 1 LSB off (MEAN #65 -> pool)",
    ):
        assert found in text


def test_confusion_of_many_classes_lists_the_worst():
    body = whole()
    classes = [f"class {number}" for number in range(30)]
    counts = [[20 if i == j else 0 for j in range(30)] for i in range(30)]
    counts[3][5], counts[7][2] = 9, 4
    body["accuracy"]["confusion"] = {"classes": classes, "counts": counts}
    read = shown(body)
    assert read.row("class 3 ") == "class 3 class 5 9 31.0%"
    assert read.row("class 7 ").startswith("class 7 class 2 4")
    assert "cell" not in read.values("td", "class")
    assert "The matrix of 30 classes is in report.json" in read.text


def test_a_passed_certificate(full):
    assert "✓ Certified" in full.text
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
    read = shown(body)
    assert "✗ Not certified" in read.text
    assert "✓ Certified" not in read.text
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
    assert "18 more are in certificate.json" in shown(body).text


def stamps(read: Page) -> list[str]:
    """The words of the verdicts at the top, each of which is drawn in the same way."""
    words = re.findall(
        r"[✓✗?…] (Certified|Not certified|Not finished|Accuracy [a-z ]+budget)", read.text
    )
    classes = [value for value in read.values("strong", "class") if value.startswith("stamp")]
    assert len(classes) >= len(words)
    return words


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("good", "Accuracy within budget"),
        ("unclear", "Accuracy may be over budget"),
        ("bad", "Accuracy over budget"),
    ],
)
def test_a_certified_file_and_its_accuracy_have_verdicts_of_equal_weight(state, words):
    """A file that is the trained network may still be a bad network: the top says both."""
    body = whole()
    body["accuracy"]["verdict"] |= {"state": state, "text": "The student lost 9 points."}
    read = shown(body)
    assert stamps(read) == ["Certified", words]
    assert "Passed" not in read.text
    assert read.text.count("The student lost 9 points.") == 2  # at the top and in its section
    style = {"good": "good", "unclear": "warn", "bad": "bad"}[state]
    assert f"stamp {style}" in read.values("strong", "class")


def test_a_gate_of_the_recipe_fails_the_build():
    body = whole() | {"gates": ["accuracy: int8 loses 4.0% of top-1; train longer"]}
    text = shown(body).text
    assert "✗ Failed 1 gate" in text
    assert "Failed gate: accuracy: int8 loses 4.0% of top-1; train longer" in text
    assert "✓ Certified" in text


def test_without_failed_gates_nothing_is_said_of_them():
    body = whole()
    assert "Failed" not in shown(body).text
    del body["gates"]
    assert "Failed" not in shown(body).text


def test_the_machine_measured_is_named_and_is_not_the_device(full):
    assert "Xeon 8481C" in full.text
    assert "These times are this machine’s, not those of pi4." in full.text
    assert "The latency on pi4 is not predicted" in full.text
    assert "on the machine measured, not on pi4" in full.text
    for told in ("1.99 ms", "2.44 ms", "2.48 ms", "13.37 ms", "50.0 MiB"):
        assert told in full.text


def test_a_measurement_on_the_device_itself():
    text = shown(whole() | {"bench": [bench(profile="pi4", transport="ssh")]}).text
    assert "Measured as pi4, the device of this build." in text
    assert "not those of" not in text
    elsewhere = [
        "measured on Xeon (x86_64), which is not a Raspberry Pi 4: these are not the times of pi4"
    ]
    text = shown(whole() | {"bench": [bench(profile="pi4", warnings=elsewhere)]}).text
    assert "not those of pi4" in text
    assert "Measured as pi4" not in text


def test_an_emulated_measurement_shows_no_times():
    text = page(report(whole() | {"bench": [bench(emulated=True)]}))
    read = Page(text)
    assert "the times are void" in read.text
    assert not re.search(r"\d ms\b", read.text)
    for value in ("1.99", "2.44", "2.48", "13.37", "4.44", "9.88", "p50", "p95"):
        assert value not in text
    assert 'class="chart histogram"' not in text
    assert "same class as in the build on 100.0%" in read.text  # the golden answers count


def test_a_predicted_latency_is_shown_as_a_prediction():
    body = whole()
    body["device"]["predicted"] = {
        "latency_ms": 7.25,
        "low_ms": 6.1,
        "high_ms": 9.4,
        "basis": "fitted on 31 models",
    }
    text = shown(body).text
    assert "Predicted latency: 7.25 ms (6.1–9.4 ms)" in re.sub(r" +", " ", text)
    assert "is not predicted" not in text


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
    assert "small pictures" not in shown(whole(), [dataclasses.replace(EXAMPLES[0], looks={})]).text


def test_synthetic_data_is_said_at_the_top():
    body = whole()
    assert "synthetic" not in shown(body).text.lower()
    body["data"]["synthetic"] = True
    assert "Synthetic data." in shown(body).text


def test_what_each_step_gained_the_teacher(full):
    row = "linear head on the class token"
    assert full.row(row) == f"{row} 91.0% 0.951 0.250 0.31"
    row = "linear head on the mean of the patch tokens"
    assert full.row(row) == f"{row} 93.5% 0.200 yes"
    tables = []
    show_teachers(tables.append, report(whole()))
    (table,) = tables
    cells = [list(column.cells) for column in table.columns]
    assert cells[1:] == [["91.0%", "93.5%"], ["0.951", ""], ["", "yes"]]


def test_data_stages_and_provenance(full):
    assert full.row("normal 400") == "normal 400 50 90"
    assert full.row("All") == "All 900 100 200"
    assert "12.3 s from the store" in full.row("data")
    assert "2 min 05 s made" in full.row("bench")
    assert {SHA, SHA[::-1]} <= set(full.values("code", "title"))
    for told in ("CC BY 4.0", "7 groups have images", SHA, "0.1.0", "21.6 M", "18.1 M"):
        assert told in full.text


def test_a_preset_stands_above_the_training_with_its_values_and_reasons(full):
    assert "Preset" not in full.text
    settings = recipe.load(None, ["distil.preset=quick", "distil.epochs=7"])
    found = shown({**whole(), "preset": to_json(preset_record.block(settings))})
    assert "Preset quick: views.per_image 2, qat.epochs 1, teacher.epochs 3; yours: " in found.text
    assert found.row("distil.epochs").startswith("distil.epochs 5 7 you ")
    assert found.row("views.per_image").startswith("views.per_image 2 2 the preset a quarter of")
    settings = recipe.load(None, ["prune.preset=distil-prune-quantise"])
    both = {"prune_preset": to_json(preset_record.block(settings, presets.COMPRESSION))}
    found = shown({**whole(), **both})
    assert found.row("prune.target_macs").startswith("prune.target_macs 0.62 0.62 the preset as in")


def test_a_plan_stands_above_the_training_with_planned_and_taken_times(full):
    assert "Planned for" not in full.text
    row = {"stage": "distil", "what": "9 epochs", "planned_seconds": 240.0, "seconds": 270.0}
    plan = {
        "minutes": 10,
        "settings": {"distil.epochs": 9},
        "reasons": ["preset standard: it learns fastest"],
        "corrections": ["distil takes 1.3 times as long: distil.epochs 9 instead of 12"],
        "rows": [row, {"stage": "rest", "what": "benchmark", "planned_seconds": 60.0}],
        "seconds": 630.0,
    }
    found = shown({**whole(), "plan": plan})
    assert "Planned for 10 minutes, and the command took 10 min 30 s." in found.text
    assert found.row("distil 9 epochs") == "distil 9 epochs 4 min 00 s 4 min 30 s"
    assert found.row("rest benchmark").endswith("1 min 00 s –")
    for told in ("distil.epochs=9", "it learns fastest", "Corrected: distil takes 1.3 times"):
        assert told in found.text
