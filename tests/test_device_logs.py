"""Whole logs of device tools, as files in data/device_logs: figures, delegates, causes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgekd.assessment.edgetpu import compiler_log, status
from edgekd.core.errors import DeviceError
from edgekd.core.records import to_json
from edgekd.device import benchmark_output, benchmark_tool
from edgekd.device.android_delegate import AndroidDelegate
from edgekd.device.delegation import Extent, read_delegation
from edgekd.device.log_lines.reader import first_error
from edgekd.device.log_lines.table import TABLE
from edgekd.device.thermal_service import Thermal, read_thermal, throttled_note

LOGS = Path(__file__).parent / "data" / "device_logs"


def log(name: str) -> str:
    return (LOGS / f"{name}.txt").read_text(encoding="utf-8")


def test_every_log_has_its_source_in_the_list():
    listed = (LOGS / "README.md").read_text(encoding="utf-8")
    assert {path.name for path in LOGS.glob("*.txt")} == {
        line.split("`")[1] for line in listed.splitlines() if line.startswith("| `")
    }


# name -> figures in milliseconds and kibibytes, and the memory of the JSON
BENCHMARKS = {
    "benchmark_old": (
        {"avg": 115.062, "min": 88.216, "max": 129.193, "init": 1.892, "num_runs": 50},
        {"run_growth": 6400},
    ),
    "benchmark_xnnpack_part": (
        {"avg": 74.4816, "first_inference": 140.706, "average_warm_up": 85.7912, "init": 18.738},
        {"load_growth": 6596, "run_growth": 66420},
    ),
    "benchmark_peak": (
        {
            "avg": 104.012,
            "median": 104.0,
            "p95": 105.5,
            "stddev": 0.49,
            "num_runs": 50,
            "num_warmup_runs": 5,
        },
        {"peak": 72909, "load_growth": 31744, "run_growth": 67184},
    ),
    "benchmark_slow": (
        {"avg": 1300.0, "min": 1300.0, "max": 1300.0, "median": 1300.0, "init": 1060.312},
        {"load_growth": 137791, "run_growth": 213708},
    ),
    "android_gpu_part": ({"avg": 309.35, "init": 2028.36}, {"run_growth": 117976}),
    "benchmark_litert": (
        # its results have two digits after the point, and the line before them has more
        {"avg": 0.463904, "median": 0.462, "min": 0.44, "stddev": 0.014, "num_warmup_runs": 1055},
        {"peak": 36045, "load_growth": 9155, "run_growth": 11786},
    ),
}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_figures_of_a_benchmark(name: str):
    figures, memory = BENCHMARKS[name]
    found = benchmark_output.figures(None, log(name))
    assert {key: found[key] for key in figures} == pytest.approx(figures)
    assert memory.items() <= to_json(benchmark_output.memory(found)).items()


def test_a_log_that_ends_after_the_warm_up_has_no_figures():
    whole = log("benchmark_peak")
    with pytest.raises(DeviceError, match="told no time"):
        benchmark_output.figures(
            None, whole[: whole.index("INFO: Running benchmark for at least 50")]
        )


# name, delegate -> how much it runs, and words of each note
DELEGATES = {
    ("benchmark_peak", "xnnpack"): (Extent.WHOLE, []),
    ("benchmark_litert", "gpu"): (Extent.WHOLE, []),
    ("benchmark_xnnpack_part", "xnnpack"): (
        Extent.PART,
        ["XNNPACK took some of the operators, in 22 parts", "does not know --allow_fp16"],
    ),
    ("benchmark_xnnpack_part", "gpu"): (
        Extent.NOTHING,
        ["gpu took no operator", "XNNPACK took some", "--allow_fp16"],
    ),
    ("android_gpu_part", "gpu"): (
        Extent.PART,
        [
            (
                "TfLiteGpuDelegateV2 took 54 of 559 operators in 3 parts; the rest was offered to "
                "TfLiteXNNPackDelegate"
            ),
            "TfLiteXNNPackDelegate took 448 of 506 operators in 16 parts; the rest ran on the CPU",
            (
                "does not run CAST: Not supported Cast case; GATHER_ND: Operation is not "
                "supported; SELECT_V2: Operation is not supported; and 1 more"
            ),
        ],
    ),
    ("android_gpu_old", "gpu"): (
        Extent.PART,
        ["took 2 of 251 operators in 1 part; the rest ran on the CPU", "not run MAXIMUM"],
    ),
    ("android_nnapi_nothing", "nnapi:acme-npu"): (Extent.NOTHING, ["nnapi took no operator"]),
    ("android_two_delegates", "nnapi"): (
        Extent.PART,
        ["TfLiteNnapiDelegate took 5 of 64", "TfLiteXNNPackDelegate took 59 of 62"],
    ),
    ("android_gpu_failed", "gpu"): (Extent.NOTHING, ["gpu took no operator", "gave them back"]),
    ("benchmark_npu", "npu"): (
        Extent.PART,
        [
            "NPU plug-in took 62 of 64 operators in 2 parts; the rest was offered to Dispatch",
            "DispatchDelegate took 2 of 4 operators in 2 parts; the rest was offered to TfLiteXNN",
            "TfLiteXNNPackDelegate took 2 of 4 operators in 2 parts; the rest ran on the CPU",
        ],
    ),
    ("benchmark_npu_none", "npu"): (
        Extent.NOTHING,
        ["npu took no operator", "NPU plug-in took 0 of 64 operators"],
    ),
    ("benchmark_litert", "npu"): (None, ["the log does not say that npu took any operator"]),
    ("benchmark_old", "nnapi"): (None, ["the log does not say that nnapi took any operator"]),
}


@pytest.mark.parametrize(("name", "delegate"), DELEGATES)
def test_what_a_delegate_took(name: str, delegate: str):
    extent, words = DELEGATES[name, delegate]
    asked, found = AndroidDelegate(delegate), read_delegation(log(name))
    assert found.extent(asked.kind) == extent
    notes = asked.taken(found)
    assert len(notes) == len(words), notes
    assert all(part in note for part, note in zip(words, notes, strict=True)), notes
    assert asked.used(found) == ("none" if extent == Extent.NOTHING else delegate)


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        (
            "android_gpu_failed",
            (
                "TfLiteGpuDelegate Init: FULLY_CONNECTED: Amount of input data should match "
                "weights width"
            ),
        ),
        ("compiler_new_op", "Didn't find op for builtin opcode 'TRANSPOSE_CONV' version '4'"),
        ("compiler_activations", "Compilation failed due to large activation tensors"),
        ("compiler_crash", "Segmentation fault"),
        ("compiler_not_quantized", "Model not quantized"),
        ("compiler_search_failed", "Compilation timeout."),
        ("benchmark_peak", None),
        ("android_gpu_part", None),
    ],
)
def test_the_cause_is_the_first_error_of_the_chain(name: str, cause: str | None):
    found = first_error(log(name))
    assert (found is None) == (cause is None)
    assert found is None or cause in found


def test_a_failed_benchmark_tells_its_cause():
    error = benchmark_tool.failed(1, log("android_gpu_failed"))
    assert "exit code 1; it said: TfLiteGpuDelegate Init: FULLY_CONNECTED" in error.what


# name -> succeeded, attempts, mapped, operations, milliseconds, sizes
COMPILATIONS = {
    "compiler_search": (True, 3, 247, 267, 1524, {"cached_bytes": round(4.21 * 2**20)}),
    "compiler_search_failed": (False, 2, 0, 0, None, {}),
    "compiler_segments": (True, 2, 93, 94, 2000, {"input_bytes": round(5.2 * 2**20) + 512 * 2**10}),
    "compiler_segment_failed": (False, 2, 84, 84, 1857, {}),
    "compiler_cut_table": (True, 1, 138, 141, 2210, {"cache_left_bytes": 1792}),
    "compiler_new_op": (False, 1, 0, 0, None, {}),
    "compiler_activations": (False, 1, 0, 0, None, {}),
    "compiler_crash": (False, 1, 0, 0, None, {}),
    "compiler_not_quantized": (False, 1, 0, 0, None, {}),
    "compiler_none_mapped": (True, 1, 0, 69, 17, {"streamed_bytes": 0}),
    "compiler_2_0": (True, 1, 77, 77, 2356, {"cache_left_bytes": round(6.25 * 2**20)}),
}


@pytest.mark.parametrize("name", COMPILATIONS)
def test_a_compilation(name: str):
    succeeded, attempts, mapped, operations, milliseconds, sizes = COMPILATIONS[name]
    found = compiler_log.parse(log(name))
    assert (found.succeeded, found.attempts) == (succeeded, attempts)
    assert (found.mapped, found.operations) == (mapped, operations)
    assert found.milliseconds == milliseconds
    assert sizes.items() <= found.sizes.items()
    assert (found.cause is None) == succeeded


def test_errors_of_a_search_are_kept_once_and_do_not_fail_it():
    found = compiler_log.parse(log("compiler_search"))
    assert found.errors == [
        "Restored original execution plan after delegate application failure.",
        "Compilation failed: Compilation failed due to large activation tensors in model.",
        "Compilation failed!",
    ]
    assert found.rows[-1].status == status.DATA_TYPE


def test_errors_that_come_before_all_the_rest():
    """Standard error is not buffered, so its lines may precede those of standard output."""
    whole = log("compiler_search").splitlines()
    errors = [line for line in whole if line.startswith("ERROR")]
    others = [line for line in whole if not line.startswith("ERROR")]
    found = compiler_log.parse("\n".join([*errors, *others]))
    assert (found.succeeded, found.mapped, found.attempts) == (True, 247, 3)
    failed = log("compiler_activations").splitlines()
    swapped = "\n".join(sorted(failed, key=lambda line: not line.startswith("ERROR")))
    assert "large activation" in (compiler_log.parse(swapped).cause or "")


def test_a_table_that_is_cut_without_its_file():
    text = log("compiler_cut_table")
    found = compiler_log.parse(text[: text.rindex("Edge TPU Compiler version")])
    assert not found.whole_table
    assert (found.mapped, found.operations, len(found.rows)) == (138, 141, 2)


def test_the_thermal_service_of_a_phone():
    """Live temperatures count, not cached ones, and sensors that are not there do not."""
    found = read_thermal(log("thermalservice"))
    assert found == Thermal(2, 48.25)
    note = throttled_note(Thermal(0, 30.0), found)
    assert note is not None
    assert "0 (none) before and 2 (moderate) after" in note
    assert throttled_note(Thermal(0), Thermal(0)) is None
    assert throttled_note(Thermal(), Thermal()) is None
    assert read_thermal("Can't find service: thermalservice") == Thermal()


NASTY = ("", "-1", "1e999", "9" * 400, "1.2.3", "nan", "٣", "\x1b[2J", "1,5", "(", "0x", "\u2028")


def test_lines_with_anything_in_the_place_of_a_number_are_survived():
    """Every example of the table, with nasty numbers in turn, through every reader of logs."""
    for word in NASTY:
        lines = [re.sub(r"\d+(\.\d+)?", lambda _, word=word: word, row.example) for row in TABLE]
        text = "\n".join(["Operator Count Status", *lines])
        compiler_log.parse(text)
        read_delegation(text)
        read_thermal(text)
        first_error(text)
        try:
            found = benchmark_output.figures(None, text)
        except DeviceError:
            continue
        benchmark_output.memory(found)
        benchmark_output.latency(found)
