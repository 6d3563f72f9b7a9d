"""NPUs: the operators and data types that each vendor's LiteRT plug-in takes.

The rules come from the plug-ins' sources. Google's plug-in, which ai-edge-litert brings, decides
without its vendor's SDK, and is asked here.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgekd.assessment.graph_check import check_graph
from edgekd.assessment.mappers.npu import vendor_of
from edgekd.assessment.mappers.registry import mapper_for
from edgekd.assessment.npu.compiled_model import DISPATCH, answer_of
from edgekd.assessment.npu.vendor_types import Vendor, refused_type
from edgekd.core.errors import DeviceError, ProfileError
from edgekd.settings.device_profiles import load_profile
from edgekd.tflite import aot_compiler
from edgekd.tflite.flatbuffer import LiteGraph, LiteTensor, read
from tests.lite_graphs import Net, T, separable
from tests.one_op_files import one_op_file

PROFILES = {
    "android-npu-qualcomm": Vendor.QUALCOMM,
    "android-npu-mediatek": Vendor.MEDIATEK,
    "android-npu-google-tensor": Vendor.GOOGLE_TENSOR,
    "intel-npu": Vendor.INTEL_OPENVINO,
}


def tensor(dtype: str, *, scales: int = 0, constant: bool = False) -> LiteTensor:
    data = np.zeros(1) if constant else None
    none = np.zeros(scales, np.float32)
    return LiteTensor(0, "t", (1, 4), dtype, none, np.zeros(scales, np.int64), 0, data)


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_names_its_vendor_and_its_sources(name: str) -> None:
    profile = load_profile(name)
    assert vendor_of(profile) == PROFILES[name]
    assert "commit" in profile.sources["ops"]
    assert not profile.measured_on_hardware


@pytest.mark.parametrize(
    ("vendor", "given", "why"),
    [
        ("qualcomm", tensor("INT8", scales=1), ""),
        ("qualcomm", tensor("INT8", scales=8), ""),
        ("qualcomm", tensor("INT4"), "QNN takes INT4 only with a scale"),
        ("qualcomm", tensor("INT64", scales=1), "QNN takes no quantized INT64"),
        ("qualcomm", tensor("STRING"), "QNN has no STRING"),
        ("mediatek", tensor("INT8", scales=1), ""),
        ("mediatek", tensor("INT8"), "NeuroPilot takes INT8 only with a scale"),
        ("mediatek", tensor("INT16", scales=1), ""),
        ("mediatek", tensor("INT16", scales=8), "NeuroPilot takes INT16 only with one scale"),
        ("mediatek", tensor("INT64"), "NeuroPilot takes INT64 only as a constant"),
        ("mediatek", tensor("INT64", constant=True), ""),
        ("mediatek", tensor("FLOAT64"), "NeuroPilot has no FLOAT64"),
        ("google-tensor", tensor("STRING"), ""),
        ("intel-openvino", tensor("INT8", scales=1), ""),
        ("intel-openvino", tensor("STRING"), "OpenVINO has no STRING"),
    ],
)
def test_the_data_types_of_each_vendor(vendor: str, given: LiteTensor, why: str) -> None:
    found = refused_type(Vendor(vendor), given)
    assert found.startswith(why)
    assert bool(found) == bool(why)


# operator -> the vendors whose plug-in does not take it
LEFT = {
    "CONV_2D": [],
    "HARD_SWISH": [],
    "GELU": [],
    "RELU6": ["android-npu-mediatek", "intel-npu"],
    "ELU": ["android-npu-mediatek", "intel-npu"],
    "L2_NORMALIZATION": ["android-npu-mediatek"],
}


@pytest.mark.parametrize("op", LEFT)
def test_which_vendor_leaves_an_operator_to_the_cpu(op: str) -> None:
    graph = read(one_op_file(op))
    left = [
        name for name in PROFILES if check_graph(graph, load_profile(name), "x").mapped.fallback
    ]
    assert left == LEFT[op]


def test_the_profile_of_any_phone_is_what_all_three_take() -> None:
    three = [load_profile(name).ops.keys() for name in PROFILES if name != "intel-npu"]
    assert load_profile("android-npu").ops.keys() == three[0] & three[1] & three[2]
    assert not check_graph(separable().read(), load_profile("android-npu"), "x").mapped.fallback


def test_a_data_type_is_named_with_the_vendor_s_reason() -> None:
    net = Net((1, 8), "FLOAT32")
    net.op("RELU", T((1, 8), "FLOAT32"))
    graph = net.read()
    graph.tensors[0] = dataclasses.replace(graph.tensors[0], dtype="STRING")
    (row,) = check_graph(graph, load_profile("android-npu-mediatek"), "x").mapped.fallback
    assert (row.status, row.why) == ("data type not supported", "NeuroPilot has no STRING")


def test_a_check_says_that_the_vendor_s_compiler_was_not_run() -> None:
    found = check_graph(separable().read(), load_profile("android-npu-qualcomm"), "x")
    assert found.mapped.consumer == "the NPU's plug-in (qualcomm)"
    assert any("the vendor's compiler was not run" in note for note in found.notes)


def test_an_unknown_vendor_lists_the_known() -> None:
    profile = dataclasses.replace(load_profile("android-npu"), accelerator="samsung")
    with pytest.raises(ProfileError, match="which is no vendor of NPUs") as raised:
        vendor_of(profile)
    assert "qualcomm, mediatek, google-tensor, intel-openvino" in raised.value.next_step


# Google's own plug-in


def litert() -> Path:
    spec = importlib.util.find_spec("ai_edge_litert")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def partitioned_tool() -> Path:
    tool = litert() / "tools" / "apply_plugin_main"
    if not tool.exists() or not (litert() / "vendors" / "google_tensor").is_dir():
        pytest.skip("this ai-edge-litert has no compiler plug-ins")
    return tool


def partitioned(model: Path, out: Path) -> tuple[int, int]:
    """(operators that Google's plug-in takes, all operators), in its own words."""
    home, tool = litert(), partitioned_tool()
    plugin = home / "vendors" / "google_tensor" / "compiler"
    asked = ["--cmd=partition", f"--model={model}", f"--o={out}", f"--libs={plugin}", "--err=--"]
    done = subprocess.run(
        [str(tool), *asked, "--soc_manufacturer=Google", "--soc_model=Tensor_G5"],
        env={**os.environ, "LD_LIBRARY_PATH": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    found = re.search(r"selected (\d+) ops, from a total of (\d+) ops", done.stdout + done.stderr)
    assert found, done.stdout + done.stderr
    return int(found[1]), int(found[2])


def custom(name: str) -> LiteGraph:
    net = Net((1, 8, 8, 4))
    net.op("RELU", T((1, 8, 8, 4)))
    net.op("CUSTOM", T((1, 8, 8, 4)), custom=name)
    return net.read()


@pytest.mark.parametrize("graph", [separable(hard_swish=True).read(), custom("Mfcc")])
def test_google_s_plug_in_takes_what_is_predicted(graph: LiteGraph, tmp_path: Path) -> None:
    model = tmp_path / "model.tflite"
    model.write_bytes(graph.data)
    mapped = check_graph(graph, load_profile("android-npu-google-tensor"), "x").mapped
    assert partitioned(model, tmp_path / "out.tflite") == (mapped.mapped, mapped.ops)


# Ahead-of-time compilation


def test_without_a_compiler_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(aot_compiler.GOOGLE_VARIABLE, raising=False)
    for name in PROFILES:
        profile = load_profile(name)
        if not aot_compiler.has_compiler(vendor_of(profile) or ""):
            assert mapper_for(profile).compile(separable().bytes(), profile) is None


def test_a_compiler_that_does_not_load_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The real AOT module and plug-in, up to the vendor's library, which is not there."""
    partitioned_tool()
    monkeypatch.setenv(aot_compiler.GOOGLE_VARIABLE, str(tmp_path))
    profile = load_profile("android-npu-google-tensor")
    with pytest.raises(DeviceError, match=r"liblitert_plugin_compiler\.so"):
        mapper_for(profile).compile(separable().bytes(), profile)


def test_a_compiled_file_decides_where_operators_run() -> None:
    """The compiler took all operators but the last, whose tensor keeps its name."""
    graph = separable().read()
    net = Net((1, 8, 8, 8))
    net.op("CUSTOM", T((1, 8)), custom=DISPATCH)
    last = graph.tensors[graph.ops[-1].outputs[0]]
    net.op("SOFTMAX", T(last.shape))
    net.graph.tensors[net.last].name = last.name
    count = len(graph.ops)
    made = aot_compiler.AotAnswer(net.bytes(), count - 1, count, 1, "2.1.2")
    profile = load_profile("android-npu-qualcomm")
    answer = answer_of(graph, made, "model_qualcomm_SM8650.tflite")
    check = check_graph(graph, profile, "x", compiler=answer)
    assert check.mapped.origin == "compiler"
    assert (check.mapped.mapped, check.mapped.ops) == (count - 1, count)
    assert [row.index for row in check.mapped.fallback] == [count - 1]
    assert answer.files == {"model_qualcomm_SM8650.tflite": net.bytes()}
