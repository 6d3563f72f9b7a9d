"""The table of the lines that device tools print, walked line by line, and how lines are read."""

from __future__ import annotations

import pytest

from edgekd.device.log_lines.line import LogLine, Severity, bare, number
from edgekd.device.log_lines.reader import first_error, read_log
from edgekd.device.log_lines.table import TABLE


@pytest.mark.parametrize("row", TABLE, ids=[row.example[:40] for row in TABLE])
def test_each_example_is_matched_by_its_own_row_alone(row: LogLine):
    matching = [other for other in TABLE if other.match(row.example) is not None]
    assert matching == [row]
    assert all((row.versions, row.meaning, row.source))
    assert bare(row.example).text == row.example, "an example has no prefix of a logger"


def test_no_row_is_there_twice():
    assert len({row.regex for row in TABLE}) == len(TABLE)
    assert len({row.example for row in TABLE}) == len(TABLE)


# Other forms of a line, as other versions print it -> what is read from it
FORMS = {
    "count=0": {"count": "0", "figures": ""},
    "count=1 curr=633430": {"figures": " curr=633430"},
    "count=50 curr=99(all same) p5=99 median=99 p95=99": {"count": "50"},
    "count=3 first=1.2e+06 curr=1e+06 min=1e+06 max=1.2e+06 avg=1.1e+06 std=9e4": {"count": "3"},
    "Running benchmark for 50 iterations": {"runs": "50"},
    "Running benchmark for at least 1 iterations and at least 0.5 seconds": {"runs": "1"},
    "Initialized session in 4.452ms": {"init_ms": "4.452"},
    "Average inference timings in us: Warmup: 91471, Init: 4108, Inference: 80660.1Overall max "
    "resident set size = 3 MB": {"avg": "80660.1", "init": "4108"},
    "Inference timings in us: Init: 1, First inference: 2, Warmup (avg): -nan, Inference (avg): "
    "3.5": {"average_warm_up": "-nan", "avg": "3.5"},
    "First inference:      120.45 ms": {"first_inference": "120.45"},
    "Inference (avg): 85.23 ms (50 runs)": {"avg": "85.23", "num_runs": "50"},
    "Replacing 31 out of 31 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 1 "
    "partitions.": {"part": "31", "whole": "31", "pieces": "1"},
    "Replacing 5 out of 64 node(s) with delegate (TfLiteNnapiDelegate) node, yielding 5 partitions "
    "for the whole graph.": {"delegate": "TfLiteNnapiDelegate", "pieces": "5"},
    "Replacing 518 out of 518 node(s) with delegate (TfLiteQnnDelegate) node": {"part": "518"},
    "Replacing 3 out of 9 node(s) with delegate (X) node, yielding 2 partitions for subgraph 4 "
    "(while_body).": {"subgraph": "4"},
    "Explicitly applied EXTERNAL delegate, and the model graph will be partially executed by the "
    "delegate w/ 2 delegate kernels.": {"delegate": "EXTERNAL", "kernels": "2"},
    "Though NNAPI delegate is explicitly applied, the model graph will not be executed by the "
    "delegate": {"delegate": "NNAPI"},
    "First 0 operations will run on the GPU, and the remaining 81 on the CPU.": {
        "part": "0",
        "rest": "81",
    },
    "Next operations are not supported by GPU delegate:": {"delegate": "GPU"},
    "Restored previous execution plan after delegate application failure.": {},
    "Didn't find op for builtin opcode 'RELU' version '2'": {"op": "RELU", "version": "2"},
    "Models compiled successfully in 7 ms.": {"milliseconds": "7"},
    "On-chip memory available for caching model parameters: 7.67MiB": {
        "cache_left_bytes": "7.67MiB"
    },
    "Off-chip memory used for streaming uncached model parameters: 163.72 KiB": {
        "streamed_bytes": "163.72 KiB"
    },
    "Input: quantized_model.tflite": {"file": "quantized_model.tflite"},
    "RESIZE_NEAREST_NEIGHBOR\t2\tMapped to Edge TPU": {"op": "RESIZE_NEAREST_NEIGHBOR"},
    "terminate called after throwing an instance of 'std::bad_alloc'": {},
    "Killed": {},
    "VCHI initialization failed": {},
}


@pytest.mark.parametrize("text", FORMS)
def test_other_forms_of_a_line(text: str):
    (found,) = read_log(text)
    assert found.line is not None
    assert sum(row.match(text) is not None for row in TABLE) == 1
    assert FORMS[text].items() <= found.groups.items()


@pytest.mark.parametrize(
    ("line", "severity", "text"),
    [
        ("07-14 13:23:15.443 25289 25289 I tflite  : count=0", Severity.INFO, "count=0"),
        ("2026-07-14 13:23:15.443  1  2 E tflite  : a: b", Severity.ERROR, "a: b"),
        ("07-08 15:40:38.060 I/tflite  ( 6794): INFO: a", Severity.INFO, "a"),
        ("W/tflite  ( 6794): a", Severity.WARNING, "a"),
        ("  ERROR: a ", Severity.ERROR, "a"),
        ("\x1b[31mERROR: \x1b[0ma", Severity.ERROR, "a"),
        ("INFO: [./litert/tools/benchmark_litert_model.h:82] a", Severity.INFO, "a"),
        ("E0000 00:00:1758455106.02   62590 engine.cc:807] a", Severity.ERROR, "a"),
        ("I 07-14 is no prefix", None, "I 07-14 is no prefix"),
        ("", None, ""),
    ],
)
def test_prefixes_of_loggers_come_off(line: str, severity: Severity | None, text: str):
    found = bare(line)
    assert (found.severity, found.text) == (severity, text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("104978", 104978.0),
        ("1.0e+06", 1e6),
        ("1E6", 1e6),
        ("0,46", 0.46),  # a locale with a comma
        ("85791,2", 85791.2),
        ("1,234,567", 1234567.0),
        ("1,234.5", 1234.5),
        ("104,978", None),  # by the locale, a hundred thousand or a hundred and four
        ("nan", None),
        ("-nan", None),
        ("inf", None),
        ("1.2.3", None),
        ("", None),
    ],
)
def test_numbers_of_any_locale(text: str, value: float | None):
    assert number(text) == value


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        ("", None),
        ("INFO: no error here\nSTARTING!", None),
        ("WARNING: failed to be fast", None),
        ("ERROR: a\nERROR: b", "a"),
        # what only follows gives way to a cause that comes after it
        ("ERROR: Registration failed.\nERROR: the cause", "the cause"),
        ("ERROR: Registration failed.\nERROR: Benchmarking failed.", "Registration failed."),
        ("use default_value\nthe file was not found", "the file was not found"),
        ("Error in cpuinfo: prctl(PR_SVE_GET_VL) failed\nERROR: x", "x"),
        ("Error in cpuinfo: prctl(PR_SVE_GET_VL) failed", None),
        # a list of what the CPU gets is no fault
        (
            (
                "ERROR: Following operations are not supported by GPU delegate:\n"
                "CAST: failed check\n3 operations will run on the GPU, and the remaining 1 "
                "operations will run on the CPU.\nERROR: y"
            ),
            "y",
        ),
    ],
)
def test_the_first_error_of_a_chain(log: str, cause: str | None):
    assert first_error(log) == cause
