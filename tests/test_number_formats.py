"""Number formats beside int8: one small network, converted once, and what is said of its files."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from edgekd.app import format_rechecks
from edgekd.app.cli import main
from edgekd.app.published_files import (
    PublishedFiles,
    Reported,
    ReportedAccuracy,
    ReportedData,
    ReportedFormat,
    ReportedModel,
)
from edgekd.assessment.format_latency import format_latencies
from edgekd.bundle import format_card, other_formats
from edgekd.bundle.other_formats import OtherFormats
from edgekd.core.artifacts import Dataset, Evaluation, Formats, Inputs, LiteModel, Network, sha256
from edgekd.core.context import Context
from edgekd.core.errors import MissingExtra, UnsupportedNetwork
from edgekd.core.number_formats import NumberFormat, file_name
from edgekd.core.records import from_json
from edgekd.data.phantom_source import PhantomSource
from edgekd.device import edgebench
from edgekd.evaluation import format_accuracy, format_offers
from edgekd.evaluation.accuracy_record import (
    Change,
    FailedFormat,
    FormatRow,
    Verdict,
    VerdictState,
)
from edgekd.export import float_conversion, format_packages
from edgekd.networks import builders, recorded_graph, weight_files
from edgekd.networks.inference import logits_of
from edgekd.pipeline.jobs import Job
from edgekd.pipeline.stage_settings import FormatsSettings
from edgekd.pipeline.stage_table import stages
from edgekd.pipeline.stages import formats as stage
from edgekd.proof.certificate_record import Bound, BoundGolden, BoundInput, CertificateBody
from edgekd.proof.failures import Failures
from edgekd.quantization import foreign_graph
from edgekd.reporting import build_gates
from edgekd.settings import recipe
from edgekd.settings.convert_settings import ConvertConfig
from edgekd.settings.device_profiles import load_profile
from edgekd.settings.verdict_settings import CertifyConfig
from edgekd.tflite import flatbuffer, real_runner, runtime
from edgekd.tflite.float16 import with_float16_weights
from tests import given_int8, sample_report, small_networks
from tests.small_networks import MEAN, PX, STD
from tests.tiny_tflite import tiny

# A network that int8 costs nothing has no mixed file: tests/test_mixed_precision.py.
MADE = tuple(one for one in NumberFormat if one is not NumberFormat.MIXED)
OTHERS = MADE[1:]
IMAGES = 12


class Made(NamedTuple):
    """The network, its test images, its own answers to them, and the stage's result."""

    network: Network
    images: np.ndarray
    expected: np.ndarray
    formats: Formats
    files: dict[NumberFormat, bytes]


@pytest.fixture(scope="module")
def made() -> Made:
    """A network with a concatenation and a residual sum, and a mean for each channel."""
    torch.manual_seed(0)
    module = small_networks.Branches()
    with torch.no_grad():
        module.train()(torch.randn(32, 3, PX, PX))
    graph = foreign_graph.recorded(module.eval(), torch.randn(2, 3, PX, PX))
    options = {recorded_graph.GRAPH: recorded_graph.to_json(graph), "num_classes": 3}
    state = weight_files.to_bytes(graph.state_dict())
    facts = {"name": "branches", "macs": foreign_graph.macs(graph)}
    network = Network(recorded_graph.ARCH, options, PX, MEAN, STD, [], facts, state)
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, PX, PX, 3), np.uint8)
    everything = list(range(IMAGES))
    rows = {"val": everything, "test": everything, "calibration": everything, "golden": [0]}
    inputs = Inputs(PX, 3, rows, *[images.tobytes()] * 3, images[:1].tobytes())
    qat = given_int8.calibrated(network, images)
    found = stage.run(
        Dataset("made up", ["a", "b", "c"], PX, 3, [], {}, b""),
        inputs,
        network,
        None,
        qat,
        given_int8.file_of(qat),
        settings=FormatsSettings(OTHERS, {}),
        context=Context(0, PhantomSource(90, 32)),
    )
    expected = logits_of(builders.restore(network), [builders.normalised(images, MEAN, STD)])
    files = {one: bytes(data) for one, data in format_accuracy.made_files(found).items()}
    return Made(network, images, expected, found, files)


def evaluation(made: Made) -> Evaluation:
    """As if the student's answers were int8's and the labels, too."""
    labels = made.expected.argmax(1).tolist()
    logits = np.stack([made.expected] * 2).astype(np.float32)
    return Evaluation(["student", "tflite"], 3, labels, logits.tobytes(), b"")


@pytest.mark.parametrize(
    ("wanted", "share"),
    [
        (NumberFormat.FLOAT32, 1e-5),
        (NumberFormat.FLOAT16, 5e-3),
        (NumberFormat.DYNAMIC, 0.05),
        (NumberFormat.INT16X8, 0.05),
    ],
)
def test_each_file_answers_as_the_float_network(
    made: Made, wanted: NumberFormat, share: float
) -> None:
    """Borders included: nothing of the normalisation is folded into the first layer."""
    found = real_runner.answers(made.files[wanted], made.images, MEAN, STD)
    assert np.abs(found - made.expected).max() < share * np.ptp(made.expected)
    other = real_runner.answers(made.files[wanted], made.images, [0.5] * 3, [0.5] * 3)
    assert np.abs(other - made.expected).max() > np.abs(found - made.expected).max()


def test_float16_weights_run_in_one_part(made: Made) -> None:
    """XNNPACK unpacks the weights and takes every operator, as from TensorFlow's own files."""
    runner = runtime.LiteRunner(made.files[NumberFormat.FLOAT16])
    taken = [op for op in runner.interpreter._get_ops_details() if op["op_name"] == "DELEGATE"]
    assert len(taken) == 1
    graph = runner.graph
    assert graph.outputs[0] in taken[0]["outputs"]
    weights = [row for row in graph.tensors if row.data is not None and row.data.dtype.kind == "f"]
    assert weights
    assert all(row.dtype == "FLOAT16" for row in weights)
    unpacking = {op.version for op in graph.ops if op.name == "DEQUANTIZE"}
    assert unpacking == {3}
    again = with_float16_weights(made.files[NumberFormat.FLOAT32])
    assert again == made.files[NumberFormat.FLOAT16]


def test_files_of_the_library_state_the_versions_that_they_need(made: Made) -> None:
    """Else an older runtime loads a scale for each channel and takes the first one for all."""
    found = {
        one: {op.name: op.version for op in flatbuffer.read(made.files[one]).ops}
        for one in (NumberFormat.DYNAMIC, NumberFormat.INT16X8)
    }
    dynamic, int16 = found.values()
    assert (dynamic["CONV_2D"], dynamic["FULLY_CONNECTED"]) == (5, 12)
    assert (int16["ADD"], int16["CONCATENATION"], int16["CONV_2D"]) == (3, 3, 1)
    assert "FULLY_CONNECTED" in int16


def test_a_weight_beyond_float16_is_refused(made: Made) -> None:
    graph = flatbuffer.read(made.files[NumberFormat.FLOAT32])
    (bias,) = [row for row in graph.tensors if row.dtype == "FLOAT32" and row.shape == (3,)][:1]
    large = np.array([1e6, 0, 0], "<f4").tobytes()
    graph.model.buffers[graph.model.subgraphs[0].tensors[bias.index].buffer].data = large
    with pytest.raises(UnsupportedNetwork, match=r"holds 1e\+06, and float16 ends at 65504"):
        with_float16_weights(flatbuffer.write(graph.model))


def test_what_a_library_cannot_make_is_told_in_its_words() -> None:
    node = helper.make_node("Unheard", ["input"], ["output"], domain="org.example")
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8])
        for name in ("input", "output")
    ]
    graph = helper.make_graph([node], "g", ports[:1], ports[1:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("org.example", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    with pytest.raises(UnsupportedNetwork, match="onnx2tf: it has no TFLite operator for UNHEARD"):
        float_conversion.float32_file(onnx.ModelProto.SerializeToString(model))
    with pytest.raises(UnsupportedNetwork, match="onnx2tf: Error parsing message"):
        float_conversion.float32_file(b"no ONNX")


def test_the_report_compares_each_file_with_the_float_student(made: Made) -> None:
    int8 = LiteModel(runtime.describe(tiny().model), [], tiny().model)
    rows = format_accuracy.rows(evaluation(made), int8, made.formats, 0)
    assert [row.format for row in rows] == list(MADE)
    by_format = {row.format: row for row in rows}
    exact = by_format[NumberFormat.FLOAT32]
    assert (exact.agree_with_float, exact.top1, exact.n) == (1.0, 1.0, IMAGES)
    assert exact.agree_ci95[0] < 1.0
    assert (exact.input, by_format[NumberFormat.INT16X8].input) == ("float32", "int16")
    assert by_format[NumberFormat.FLOAT16].bytes < exact.bytes
    assert exact.path == "formats/model_float32.tflite"
    broken = [{**row, "message": "onnx2tf: no", "images": []} for row in made.formats.rows[:1]]
    none = dataclasses.replace(made.formats, rows=broken, logits=b"")
    assert format_accuracy.answered(none, evaluation(made)) == []
    first = NumberFormat(made.formats.rows[0]["format"])
    assert format_accuracy.failed(none) == [FailedFormat(first, "onnx2tf: no")]


def test_the_runner_feeds_int16_and_float_files(made: Made, tmp_path: Path) -> None:
    """The same pixels as EdgeKD's own runner feeds, from the golden set's mean and std."""
    labels = made.expected.argmax(1)
    arrays = {
        "inputs": made.images,
        "logits_int8": np.clip(np.rint(made.expected * 40), -128, 127).astype(np.int8),
        "labels": labels,
        "mean": np.float32(MEAN),
        "std": np.float32(STD),
    }
    np.savez(tmp_path / "golden.npz", **arrays)
    golden = edgebench.read_golden(str(tmp_path / "golden.npz"))
    for wanted, data in made.files.items():
        model = edgebench.Model(runtime.LiteRunner(data).interpreter)
        model.fill(0)
        found = edgebench.agreement(model, golden, None, None, lambda _share: None)
        own = real_runner.answers(data, made.images, MEAN, STD).argmax(1)
        assert found["top1"] == pytest.approx(float((own == labels).mean()), abs=1e-6), wanted
        assert found["max_abs_lsb"] is None


def test_a_bundle_holds_the_files_and_finds_a_wrong_one(made: Made) -> None:
    others = OtherFormats(made.files, MEAN, STD)
    files = other_formats.bundle_parts(others, made.images)
    stated = other_formats.models(others)
    reported = {file_name(one): "" for one in made.files}
    assert files.keys() == {*reported, other_formats.ANSWERS}
    assert other_formats.check(files, stated, reported, made.images) == []
    float32, dynamic = file_name(NumberFormat.FLOAT32), file_name(NumberFormat.DYNAMIC)
    assert isinstance(stated, list)
    shifted = [msgspec.structs.replace(row, mean=[0.0, 0.0, 0.0]) for row in stated]
    assert any("outputs' spread" in row for row in _wrong(files, shifted, reported, made))
    exchanged = {**files, float32: files[file_name(NumberFormat.INT16X8)]}
    (told,) = _wrong(exchanged, stated, reported, made)
    assert told == f"{float32} has other tensors than deployment.json states"
    less = {name: data for name, data in files.items() if name != dynamic}
    assert _wrong(less, stated, reported, made) == [f"{dynamic} is missing"]
    more = {**files, "formats/more.tflite": b""}
    assert _wrong(more, stated, reported, made)[0].endswith("formats/more.tflite")
    assert other_formats.bundle_parts(OtherFormats({}, MEAN, STD), made.images) == {}
    assert other_formats.check({}, msgspec.UNSET, {}, made.images) == []


def _wrong(files, stated, reported, made: Made) -> list[str]:
    return other_formats.check(files, stated, reported, made.images)


def row(wanted: NumberFormat, loss: float) -> FormatRow:
    change = Change(-loss, (-loss - 0.01, -loss + 0.01), 0.5, None, None)
    return FormatRow(
        format=wanted,
        n=200,
        top1=0.9 - loss,
        top1_ci95=(0.8, 0.95),
        auc=None,
        auc_ci95=None,
        agree_with_float=0.99,
        agree_ci95=(0.97, 1.0),
        change=change,
        path=file_name(wanted),
        sha256="0" * 64,
        bytes=4096,
        input="float32",
        output="float32",
    )


def reported():
    """The sample report with two more formats, of which one could not be made."""
    found = sample_report.report(sample_report.whole())
    rows = [row(NumberFormat.INT8, 0.05), row(NumberFormat.FLOAT16, 0.001)]
    accuracy = msgspec.structs.replace(
        found.accuracy,
        formats=rows,
        formats_failed=[FailedFormat(NumberFormat.INT16X8, "ai-edge-quantizer: <no>")],
        int8=rows[0].change,
    )
    return msgspec.structs.replace(found, accuracy=accuracy)


def test_the_page_and_the_card_show_every_format() -> None:
    from edgekd.reporting.html_report import page

    text = page(reported())
    assert "Number formats" in text
    assert "float16" in text
    assert "ai-edge-quantizer: &lt;no&gt;" in text
    assert "Number formats" not in page(sample_report.report(sample_report.whole()))
    card = "\n".join(format_card.lines(reported().accuracy.formats))
    assert "| `formats/model_float16.tflite` | 89.9% | 80.0%–95.0% | 99.0% | 200 | 4 |" in card


def test_a_failed_gate_names_what_other_formats_lose() -> None:
    limits = CertifyConfig(max_drop=0.02)
    failed = build_gates.judge(reported(), limits, 4).failed
    assert "float16 -0.1 points (-1.1 to +0.9)" in "".join(failed)
    assert build_gates.int8_fails(reported(), limits)
    without = reported()
    accuracy = msgspec.structs.replace(without.accuracy, formats=msgspec.UNSET)
    without = msgspec.structs.replace(without, accuracy=accuracy)
    assert "`--formats float16,int16x8,mixed`" in "".join(
        build_gates.judge(without, limits, 4).failed
    )
    assert not build_gates.int8_fails(without, CertifyConfig(max_drop=0.05))


@pytest.mark.parametrize(
    ("stage_", "state", "noted"),
    [
        ("qat", VerdictState.BAD, True),
        ("qat", VerdictState.UNCLEAR, False),
        ("student", VerdictState.BAD, False),
    ],
)
def test_a_verdict_on_int8_notes_the_other_formats(
    stage_: str, state: VerdictState, *, noted: bool
) -> None:
    accuracy = msgspec.structs.replace(reported().accuracy, verdict=Verdict(stage_, state, "", []))
    told = format_offers.with_offers(accuracy).verdict.notes
    assert any("float16 -0.1 points" in note for note in told) == noted


def test_latency_is_predicted_only_where_float_models_were_measured() -> None:
    graph = flatbuffer.read(tiny().model)
    asked = (NumberFormat.INT8, NumberFormat.FLOAT16, NumberFormat.INT16X8)
    on_pi, on_phone = (
        {row.format: row.predicted for row in format_latencies(graph, load_profile(name), asked)}
        for name in ("pi4", "android-cpu")
    )
    assert on_pi.keys() == {NumberFormat.FLOAT16, NumberFormat.INT16X8}
    assert on_pi[NumberFormat.FLOAT16].latency_ms is not None
    assert "fp32" in on_pi[NumberFormat.FLOAT16].basis
    for unknown in (on_pi[NumberFormat.INT16X8], on_phone[NumberFormat.FLOAT16]):
        assert unknown.latency_ms is None
        assert "models alone" in unknown.basis


def test_profiles_of_gpus_ask_for_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, pi = load_profile("android-gpu"), load_profile("pi4")
    default, asked = ConvertConfig(), ConvertConfig(formats=(NumberFormat.DYNAMIC,))
    both = (NumberFormat.INT8, NumberFormat.FLOAT16)
    assert format_packages.wanted(default, gpu) == both
    assert format_packages.wanted(default, pi) == (NumberFormat.INT8,)
    assert format_packages.wanted(asked, gpu) == (NumberFormat.INT8, NumberFormat.DYNAMIC)
    assert not format_packages.left_out(default, gpu)
    format_packages.missing.cache_clear()
    monkeypatch.setitem(format_packages.PACKAGES, "nowhere-installed", "nowhere_installed")
    try:
        assert format_packages.wanted(default, gpu) == (NumberFormat.INT8,)
        assert "pip install 'edgekd[formats]'" in format_packages.left_out(default, gpu)
        with pytest.raises(MissingExtra, match="nowhere-installed"):
            format_packages.check(format_packages.wanted(asked, gpu), gpu)
        format_packages.check((NumberFormat.INT8, NumberFormat.MIXED), pi)
    finally:
        format_packages.missing.cache_clear()


def test_formats_change_no_other_stage() -> None:
    """A format that is added later repeats nothing, and only the stage "formats" is new."""
    asked = recipe.load(None, ['convert.formats=["float16"]'])
    jobs = (
        Job(settings, load_profile(profile), PhantomSource(90, 32))
        for settings, profile in ((recipe.load(None), "pi4"), (asked, "pi4"))
    )
    plain, more = (
        {stage.name: stage.settings and stage.settings(job) for stage in stages(job)}
        for job in jobs
    )
    made = more.pop("formats")
    assert isinstance(made, FormatsSettings)
    assert made.formats == (NumberFormat.FLOAT16,)
    assert more == plain
    on_gpu = Job(recipe.load(None), load_profile("android-gpu"), PhantomSource(90, 32))
    assert "formats" in [stage.name for stage in stages(on_gpu)]


def test_verify_finds_a_format_of_another_build(made: Made) -> None:
    name = file_name(NumberFormat.FLOAT16)
    files = published(made, sha256(made.files[NumberFormat.FLOAT16]))
    failures = Failures()
    assert format_rechecks.formats(files, failures) == f"beside int8: {name}"
    assert not failures.rows
    format_rechecks.formats(published(made, "0" * 64), failures)
    assert [row.place for row in failures.rows] == [name]


def published(made: Made, digest: str) -> PublishedFiles:
    """An out folder with float16, of which report.json states this digest."""
    name = file_name(NumberFormat.FLOAT16)
    golden = {"inputs": made.images, "mean": np.float32(MEAN), "std": np.float32(STD)}
    labels = ["a", "b", "c"]
    bound = Bound(labels, BoundInput(PX, "RGB", MEAN, STD), BoundGolden(IMAGES, "", "", ""))
    accuracy = ReportedAccuracy([ReportedFormat(name, digest)])
    report = Reported(ReportedData(labels), ReportedModel(""), accuracy)
    certificate = from_json(CertificateBody, sample_report.whole()["certificate"], "the sample")
    graph = flatbuffer.read(tiny().model)
    others = {name: made.files[NumberFormat.FLOAT16]}
    return PublishedFiles(
        certificate, bound, report, tiny().model, graph, b"", golden, labels, others
    )


def test_a_wrong_format_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    assert main(["build", "--formats", "float16,float17", "--out", out]) == 2
    told = capsys.readouterr().err
    assert "float17" in told
    assert '"int16x8"' in told
    assert not Path(out).exists()
