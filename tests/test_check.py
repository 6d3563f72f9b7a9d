"""`edgekd check` on graphs, files and a real untrained student; its edits; the gate of a build."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from edgekd.app import cli
from edgekd.assessment import build_gate, graph_edits, student_check
from edgekd.assessment.assess import assess
from edgekd.assessment.check_record import CompiledBlock, DeviceCheck
from edgekd.assessment.edit_ranking import next_step
from edgekd.assessment.graph_check import check_graph
from edgekd.core.errors import GateFailed, ModelFileError
from edgekd.core.records import from_json, json_schema, to_json
from edgekd.settings.device_profiles import load_profile, profile_names
from edgekd.tflite.flatbuffer import read
from tests.conftest import REPOSITORY, SHARED
from tests.lite_graphs import Net, T, separable

KEYS = {
    "schema",
    "model",
    "profile",
    "passed",
    "mapped",
    "memory",
    "predicted",
    "edits",
    "failures",
    "notes",
    "loading",
}


@pytest.mark.parametrize("profile", profile_names())
def test_the_answer_is_whole_json(profile: str):
    found = check_graph(separable(hard_swish=True).read(), load_profile(profile), "x")
    body = to_json(found)
    assert body.keys() == KEYS | (set() if found.passed else {"next_step"})
    assert body["schema"] == "edgekd.check/1"
    text = json.dumps(body, allow_nan=False)
    assert json.loads(text) == body
    assert from_json(DeviceCheck, json.loads(text), "x") == found
    jsonschema.validate(body, json_schema(DeviceCheck, "edgekd.check/1"))
    told = body["predicted"]
    if told["latency_ms"] is not None:
        assert told["low_ms"] < told["latency_ms"] < told["high_ms"]
    assert told["basis"]
    assert (told["latency_ms"] is None) == (not load_profile(profile).latency)


def test_hard_swish_fails_the_edge_tpu_and_one_edit_fixes_it():
    body = check_graph(separable(hard_swish=True).read(), load_profile("coral-usb"), "x")
    assert not body.passed
    assert "HARD_SWISH #1: Operation not supported" in body.failures[0]
    assert body.mapped.ends_at.op == "HARD_SWISH"
    best = next(edit for edit in body.edits if edit.mapped == edit.ops)
    assert best.key == "hard_swish"
    assert "relu6" in next_step(body)
    _, edited = graph_edits.drop_activation(separable(hard_swish=True).read(), "HARD_SWISH")
    assert check_graph(edited, load_profile("coral-usb"), "x").passed


def test_edits_are_ranked_by_predicted_gain():
    body = check_graph(
        separable(hard_swish=True, squeeze_excite=True, side=224, width=36).read(),
        load_profile("pi4"),
        "x",
    )
    gains = [edit.gain_ms for edit in body.edits]
    assert gains == sorted(gains, reverse=True)
    assert {"hard_swish", "squeeze_excite", "width", "input"} == {edit.key for edit in body.edits}
    for edit in body.edits:
        assert edit.latency_ms == pytest.approx(body.predicted.latency_ms - edit.gain_ms)


def test_no_edit_for_a_network_that_needs_none():
    assert [
        edit.key for edit in check_graph(separable(side=32).read(), load_profile("pi4"), "x").edits
    ] == []


def test_average_pooling_is_not_proposed_where_it_cuts_the_delegate():
    body = check_graph(separable(side=224).read(), load_profile("pi4"), "x")
    assert "pooling" not in {edit.key for edit in body.edits}


def test_squeeze_and_excite_goes_as_a_whole():
    count, edited = graph_edits.drop_squeeze_excite(separable(squeeze_excite=True).read())
    assert count == 1
    assert [op.name for op in edited.ops] == [op.name for op in separable().read().ops]
    assert (
        assess(edited, load_profile("pi4")).memory.arena_bytes
        == assess(separable().read(), load_profile("pi4")).memory.arena_bytes
    )


def test_a_mul_that_is_no_gate_stays():
    net = Net((1, 8, 8, 8))
    trunk = net.conv(8)
    other = net.conv(8)
    net.op("MUL", T((1, 8, 8, 8)), inputs=[trunk, other], version=2)
    assert graph_edits.drop_squeeze_excite(net.read())[0] == 0


def test_widths_round_down_and_the_classes_stay():
    count, edited = graph_edits.round_widths(separable(width=36).read(), 8)
    assert count == 2
    assert edited.tensors[edited.ops[0].outputs[0]].shape[-1] == 32
    assert edited.tensors[edited.ops[1].inputs[1]].shape == (1, 3, 3, 32)
    assert edited.tensors[edited.outputs[0]].shape == (1, 10)


def test_a_smaller_image_scales_every_map():
    edited = graph_edits.resize(separable(side=96).read(), 64 / 96)
    assert edited.tensors[edited.inputs[0]].shape == (1, 64, 64, 3)
    assert edited.tensors[edited.ops[0].outputs[0]].shape == (1, 32, 32, 16)
    assert [t.shape for t in edited.tensors if t.data is not None] == [
        t.shape for t in separable(side=96).read().tensors if t.data is not None
    ]


def test_parameters_beyond_the_cache_are_streamed():
    net = Net((1, 1, 1, 4096))
    net.conv(4096)
    body = check_graph(net.read(), load_profile("coral-usb"), "x")
    memory = body.memory
    assert (
        memory.edgetpu_cached_bytes + memory.edgetpu_streamed_bytes
        == memory.parameter_bytes
        > 16 * 2**20
    )
    assert memory.edgetpu_budget_bytes < 8 * 2**20
    slow = memory.streaming_ms
    assert slow["usb2"] > slow["usb3"] > slow["pcie"] > 0
    assert slow["usb2"] == pytest.approx(memory.edgetpu_streamed_bytes / 38e6 * 1e3)
    assert body.predicted.latency_ms > slow["usb3"] / 2


def test_fallbacks_are_priced_as_on_the_cpu():
    whole = check_graph(separable(side=224).read(), load_profile("coral-usb"), "x").predicted
    graph = separable(side=224, hard_swish=True).read()
    cut = check_graph(graph, load_profile("coral-usb"), "x").predicted
    assert cut.latency_ms > whole.latency_ms
    assert "ops on the CPU as on pi4" in cut.basis


def test_memory_beyond_the_floor_fails(tmp_path: Path):
    path = tmp_path / "tiny.toml"
    path.write_text(
        'extends = "pi4"\nname = "tiny"\ntitle = "tiny"\nmeasured_on_hardware = false\n'
        'memory_mib = { value = 1, source = "test" }\n'
    )
    body = check_graph(separable(side=512).read(), load_profile(str(path)), "x")
    assert not body.passed
    assert "MiB" in body.failures[0]


def test_a_deprecated_device_and_a_suspicious_file_are_remarked_on():
    assert any(
        "deprecated" in note
        for note in check_graph(separable().read(), load_profile("android-nnapi"), "x").notes
    )
    net = Net((1, 8, 8, 8))
    net.conv(8, version=1)
    assert any(
        "ai-edge-quantizer" in note
        for note in check_graph(net.read(), load_profile("coral-usb"), "x").notes
    )


def test_the_command_line_on_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "a; b'.tflite"
    path.write_bytes(separable(hard_swish=True).bytes())
    assert cli.main(["check", str(path), "--profile", "pi4", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["memory"]["interpreter_arena_bytes"] == pytest.approx(
        body["memory"]["arena_bytes"], rel=0.02
    )
    assert cli.main(["check", str(path), "--profile", "coral-usb"]) == 1
    said = capsys.readouterr()
    assert "HARD_SWISH: Operation not supported" in said.out
    assert "next: 1 HARD_SWISH to RELU6" in said.err


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "no such file"), (b"", "not a .tflite"), (b"x" * 64, "not a .tflite")],
)
def test_bad_files_at_the_command_line(
    tmp_path: Path, content: bytes | None, words: str, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "bad.tflite"
    if content is not None:
        path.write_bytes(content)
    assert cli.main(["check", str(path)]) == 2
    assert words in capsys.readouterr().err


def test_a_file_that_the_interpreter_refuses_fails_in_its_words(tmp_path: Path):
    net = Net((1, 8, 8, 8))
    net.op(
        "CONV_2D",
        T((1, 8, 8, 8)),
        T((8, 1, 1, 7), data="zeros"),
        T((8,), "INT32", "zeros"),
        version=3,
    )
    path = tmp_path / "odd.tflite"
    path.write_bytes(net.bytes())
    body = student_check.check_file(path, load_profile("pi4"))
    assert body.memory.interpreter_arena_bytes is None
    assert not body.passed
    assert "Node number 0 (CONV_2D) failed to prepare" in body.failures[0]
    assert (body.mapped.mapped, body.predicted.latency_ms) == (0, None)


def test_a_compiled_file_is_read_as_it_is():
    path = SHARED / "data" / "tflite" / "mobilenet_v1_0.25_128_quant_edgetpu.tflite"
    if not path.is_file():
        pytest.skip(f"{path} is not here: compiled models are not part of the repository")
    body = student_check.check_file(path, load_profile("coral-usb"))
    assert body.compiled == CompiledBlock(1, 778_324, [], [])
    assert body.predicted.latency_ms is None


def test_a_broken_path_says_so(tmp_path: Path):
    with pytest.raises(ModelFileError):
        student_check.check_file(tmp_path / "none.tflite", load_profile("pi4"))


@pytest.fixture(scope="module")
def student() -> DeviceCheck:
    """The answer on a real student, untrained: slow to import, so it is asked once."""
    return student_check.check_named("mobilenetv2_035", "coral-usb", ["data.input_px=64"])


def test_an_untrained_student(student: DeviceCheck):
    assert student.passed
    assert student.model == "mobilenetv2_035 at 64 px"
    mapped = student.mapped
    assert mapped.mapped == mapped.ops == 70


def test_a_recipe_is_checked_like_its_student(tmp_path: Path, student: DeviceCheck):
    path = tmp_path / "recipe.toml"
    path.write_text('[data]\ninput_px = 64\n[distil]\nstudent = "mobilenetv2_035"\n')
    assert student_check.check_named(str(path), "coral-usb").mapped == student.mapped


def test_a_build_keeps_its_answer_and_stops_at_the_floor(tmp_path: Path, student: DeviceCheck):
    """A kept answer is taken as it is, so a changed one is seen, and it stops the build."""
    from edgekd.settings import model_specs, recipe

    settings = recipe.load(None, ["data.input_px=64"], {"distil.student": "mobilenetv2_035"})
    kept = tmp_path / "check.json"
    first = build_gate.before_build(
        model_specs.spec("mobilenetv2_035"), settings, load_profile("coral-usb"), kept
    )
    assert first.mapped == student.mapped
    kept.write_text(json.dumps({**to_json(first), "passed": False, "failures": ["0 % map"]}))
    again = build_gate.before_build(
        model_specs.spec("mobilenetv2_035"), settings, load_profile("coral-usb"), kept
    )
    with pytest.raises(GateFailed, match="before training: 0 % map") as caught:
        build_gate.refuse(again)
    assert caught.value.exit_code == 1
    assert "next:" in str(caught.value)


def test_a_build_below_the_floor_exits_1_and_trains_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    profile = tmp_path / "greedy.toml"
    profile.write_text(
        'extends = "pi4"\nname = "greedy"\ntitle = "greedy"\nmeasured_on_hardware = false\n'
        'memory_mib = { value = 1, source = "test" }\n'
        'max_memory_share = { value = 0.1, source = "test" }\n'
    )
    arguments = [
        *("build", "--profile", str(profile), "--data", "phantom:120@40", "--teacher", "none"),
        *("--student", "mobilenetv2_035", "--set", "data.input_px=32"),
        *("--out", str(tmp_path / "out")),
    ]
    assert cli.main(arguments) == 1
    assert "before training" in capsys.readouterr().err
    assert (tmp_path / "out" / "check.json").is_file()
    assert not (tmp_path / "out" / "report.json").exists()


def test_checking_leaves_torchs_random_state_alone():
    import torch

    from edgekd.export.untrained_model import untrained_tflite
    from edgekd.settings import model_specs
    from edgekd.tflite.int8_rules import Int8Rules

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = untrained_tflite(model_specs.spec("mobilenetv2_035"), 32, 3, Int8Rules())
    assert torch.equal(torch.rand(3), expected)
    assert read(first).counts()["CONV_2D"] == 35


def test_a_student_is_made_once_and_a_damaged_copy_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The second answer comes without torch, in under 5 s of CPU, and is the first one's."""
    monkeypatch.setenv("EDGEKD_SKETCHES", str(tmp_path))
    script = (
        "import sys, time; from edgekd.app import cli; cli.main(sys.argv[1:]); "
        "print(time.process_time(), 'torch' in sys.modules, file=sys.stderr)"
    )
    command = [
        sys.executable,
        "-c",
        script,
        "check",
        "mobilenetv2_035",
        "--set",
        "data.input_px=32",
        "--json",
    ]

    def ask() -> tuple[str, float, bool]:
        done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=True)
        spent, torch = done.stderr.split()[-2:]
        return done.stdout, float(spent), torch == "True"

    first, _, imported = ask()
    assert imported
    second, spent, imported = ask()
    assert not imported
    assert spent < 5.0
    assert second == first
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:-1])
    assert ask()[::2] == (first, True)
