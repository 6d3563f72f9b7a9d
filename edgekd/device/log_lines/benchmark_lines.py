"""Lines of LiteRT's `benchmark_model` and of the newer `benchmark_litert_model`.

Times of the first are in microseconds, those of the second in milliseconds. Memory is in MB of
2^20 bytes in both.
"""

from __future__ import annotations

from edgekd.device.log_lines.line import NUMBER, LogLine, Says, Tool

CLASSIC = "tflite/tools/benchmark/benchmark_model.cc"
LITERT = "litert/tools/benchmark_litert_model.h"

RUNNING = LogLine(
    Tool.BENCHMARK_MODEL,
    Says.PROGRESS,
    rf"Running benchmark for (?:at least )?(?P<runs>\d+) iterations"
    rf"(?: and at least {NUMBER} seconds)?(?: but terminate if exceeding {NUMBER} seconds)?\.?",
    "all",
    "Running benchmark for at least 50 iterations and at least 1 seconds but terminate if "
    "exceeding 150 seconds.",
    "A part of the run begins: the warm-up first, then what is measured.",
    CLASSIC,
)
COUNT = LogLine(
    Tool.BENCHMARK_MODEL,
    Says.FIGURE,
    rf"count=(?P<count>\d{{1,9}})(?P<figures>(?: [a-z]\w*={NUMBER}(?:\(all same\))?)*)",
    "all; p5, median and p95 in newer builds",
    "count=50 first=104978 curr=104696 min=103266 max=105607 avg=104012 std=490 p5=103300 "
    "median=104000 p95=105500",
    "The times of one part in microseconds. Of one run, or of equal ones, only `curr` is told.",
    "tensorflow/core/util/stats_calculator.h, Stat::OutputToStream",
)
TIMINGS = LogLine(
    Tool.BENCHMARK_MODEL,
    Says.FIGURE,
    rf"Inference timings in us: Init: (?P<init>{NUMBER}), "
    rf"First inference: (?P<first_inference>{NUMBER}), "
    rf"Warmup \(avg\): (?P<average_warm_up>{NUMBER}), Inference \(avg\): (?P<avg>{NUMBER})",
    "TensorFlow 2, LiteRT",
    "Inference timings in us: Init: 224228, First inference: 151333, Warmup (avg): 113841, "
    "Inference (avg): 1.04012e+06",
    "The summary, in microseconds; means have six digits, and an exponent from 1e+06 on.",
    CLASSIC,
)
OLD_TIMINGS = LogLine(
    Tool.BENCHMARK_MODEL,
    Says.FIGURE,
    rf"Average inference timings in us: Warmup: (?P<average_warm_up>{NUMBER}), "
    rf"Init: (?P<init>{NUMBER}), (?:Inference|no stats): (?P<avg>{NUMBER})(?:Overall.*)?",
    "TensorFlow 1 and the first of 2, and the Android app of that time",
    "Average inference timings in us: Warmup: 83235, Init: 38467, no stats: 79760.9",
    "The summary, in microseconds. The app adds its memory to the same line.",
    "tensorflow/lite/tools/benchmark/benchmark_model.cc and android/jni, early releases",
)
SESSION = LogLine(
    Tool.BENCHMARK_MODEL,
    Says.FIGURE,
    rf"Initialized session in (?P<init_ms>{NUMBER}) ?ms\.?",
    "all",
    "Initialized session in 224.228ms.",
    "Time until the tensors are allocated, in milliseconds.",
    CLASSIC,
)
MODEL_SIZE = LogLine(
    Tool.BENCHMARK_MODEL,
    Says.FIGURE,
    rf"The input model file size \(MB\): (?P<model_size_mb>{NUMBER})",
    "TensorFlow 2, LiteRT",
    "The input model file size (MB): 13.6828",
    "Size of the .tflite, in MB of 10^6 bytes.",
    CLASSIC,
)
NO_MODEL_SIZE = LogLine(
    Tool.BENCHMARK_MODEL,
    Says.HARMLESS,
    r"Failed to get the input model file size\.",
    "TensorFlow 2, LiteRT",
    "Failed to get the input model file size.",
    "The model came from a file descriptor; nothing is wrong with it.",
    CLASSIC,
)
MEMORY_NOTE = LogLine(
    Tool.BENCHMARK_MODEL,
    Says.PROGRESS,
    r"Note: as the benchmark tool itself affects memory footprint, .*",
    "TensorFlow 2, LiteRT",
    "Note: as the benchmark tool itself affects memory footprint, the following is only "
    "APPROXIMATE to the actual memory footprint of the model at runtime. Take the information at "
    "your discretion.",
    "The figures of memory follow.",
    CLASSIC,
)
MEMORY_GROWTH = LogLine(
    Tool.BENCHMARK_MODEL,
    Says.FIGURE,
    r"Memory footprint delta from the start of the tool \(MB\): "
    rf"init=(?P<init_footprint_mb>{NUMBER}) overall=(?P<overall_footprint_mb>{NUMBER})",
    "TensorFlow 2.7 and later (end of 2021), LiteRT",
    "Memory footprint delta from the start of the tool (MB): init=31 overall=65.6094",
    "How much the process grew until the model was loaded, and until the end.",
    CLASSIC,
)
OLD_MEMORY_GROWTH = LogLine(
    Tool.BENCHMARK_MODEL,
    Says.FIGURE,
    rf"Peak memory footprint \(MB\): init=(?P<init_footprint_mb>{NUMBER}) "
    rf"overall=(?P<overall_footprint_mb>{NUMBER})",
    "TensorFlow 2 until 2021",
    "Peak memory footprint (MB): init=4.92969 overall=138.809",
    "The same figures under another name: both are counted from the start of the tool.",
    "tensorflow/lite/tools/benchmark/benchmark_model.cc of 2021",
)
OLDEST_MEMORY = LogLine(
    Tool.BENCHMARK_MODEL,
    Says.FIGURE,
    rf"\[Overall\] - Memory usage: max resident set size = (?P<overall_footprint_mb>{NUMBER}) MB, "
    rf"total malloc-ed size = {NUMBER} MB"
    rf"(?:, in-use allocated/mmapped size = {NUMBER} MB)?",
    "TensorFlow 1 and the first of 2",
    "[Overall] - Memory usage: max resident set size = 6.25 MB, total malloc-ed size = 0 MB, "
    "in-use allocated/mmapped size = 1.5 MB",
    "How much the process grew until the end.",
    "tensorflow/lite/profiling/memory_info.cc, early releases",
)
PEAK_MEMORY = LogLine(
    Tool.BENCHMARK_MODEL,
    Says.FIGURE,
    rf"Overall peak memory footprint \(MB\) via periodic monitoring: (?P<peak_mem_mb>{NUMBER})",
    "newer TensorFlow 2, LiteRT; with --report_peak_memory_footprint",
    "Overall peak memory footprint (MB) via periodic monitoring: 71.2",
    "The most resident memory of the whole process, looked at every 50 ms.",
    CLASSIC,
)
RESIDENT_AT_END = LogLine(
    Tool.BENCHMARK_MODEL,
    Says.FIGURE,
    rf"- VmRSS +: (?P<end_rss_mb>{NUMBER}) MB",
    "late TensorFlow 2, LiteRT; on Linux",
    "- VmRSS              : 13 MB",
    "Resident memory when the tool ends, in whole MB.",
    CLASSIC,
)
RESIDENT_PARTS = LogLine(
    Tool.BENCHMARK_MODEL,
    Says.FIGURE,
    rf"\+ Rss(?:Anon|Annon|File \+ RssShmem) +: {NUMBER} MB",
    "late TensorFlow 2, LiteRT; on Linux",
    "+ RssAnnon           : 7 MB",
    "A part of the line before it.",
    CLASSIC,
)
ACCELERATORS = LogLine(
    Tool.BENCHMARK_MODEL,
    Says.DELEGATE,
    r"NNAPI accelerators available: \[(?P<names>[^\]]{0,500})\]",
    "TensorFlow 2, LiteRT; on Android 10 and later",
    "NNAPI accelerators available: [acme-npu,nnapi-reference]",
    "The accelerators by name; nnapi-reference is the CPU.",
    "tflite/tools/delegates/nnapi_delegate_provider.cc",
)
UNKNOWN_FLAGS = LogLine(
    Tool.BENCHMARK_MODEL,
    Says.DELEGATE,
    r"Unconsumed cmdline flags: (?P<flags>\S.*)",
    "TensorFlow 2, LiteRT",
    "Unconsumed cmdline flags: --use_gpu=true",
    "The tool does not know these flags, ignores them and goes on.",
    CLASSIC,
)
NOT_BENCHMARKED = LogLine(
    Tool.BENCHMARK_MODEL,
    Says.CONSEQUENCE,
    r"Benchmarking failed\.",
    "all",
    "Benchmarking failed.",
    "The last line of every run that failed.",
    "tflite/tools/benchmark/benchmark_main.cc",
)


def _litert(regex: str, example: str, meaning: str, source: str = LITERT) -> LogLine:
    return LogLine(Tool.LITERT_BENCHMARK, Says.FIGURE, regex, "LiteRT", example, meaning, source)


def _ms(label: str, name: str) -> str:
    return rf"{label}: +(?P<{name}>{NUMBER})(?: ms)?"


LITERT_INIT = _litert(
    _ms("Model initialization", "init"),
    "Model initialization: 4.48 ms",
    "Time until the model is compiled for its accelerator.",
)
LITERT_FIRST = _litert(
    _ms(r"(?:Warmup \(first\)|First inference)", "first_inference"),
    "Warmup (first):       1.03 ms",
    "The first inference. Its README calls it `First inference`.",
)
LITERT_WARM_UP = _litert(
    _ms(r"Warmup \(avg\)", "average_warm_up") + r"(?: \((?P<num_warmup_runs>\d+) runs\))?",
    "Warmup (avg):         0.47 ms (1055 runs)",
    "Mean of the warm-up.",
)
LITERT_MEAN = _litert(
    _ms(r"Inference \(avg\)", "avg") + r"(?: \((?P<num_runs>\d+) runs\))?",
    "Inference (avg):      0.46 ms (2112 runs)",
    "Mean of the runs, with two digits after the point.",
)
LITERT_MIN = _litert(
    _ms(r"Inference \(min\)", "min"), "Inference (min):      0.44 ms", "The fastest run."
)
LITERT_MAX = _litert(
    _ms(r"Inference \(max\)", "max"), "Inference (max):      0.98 ms", "The slowest run."
)
LITERT_STD = _litert(
    _ms(r"Inference \(std\)", "stddev"),
    "Inference (std):      0.01",
    "Standard deviation in milliseconds; the tool leaves the unit out.",
)
LITERT_MEDIAN = _litert(
    _ms(r"Inference \(median\)", "median"), "Inference (median):   0.46 ms", "The median run."
)
LITERT_P5 = _litert(
    _ms(r"Inference \(p5\)", "p5"), "Inference (p5):       0.45 ms", "The 5th percentile."
)
LITERT_P95 = _litert(
    _ms(r"Inference \(p95\)", "p95"), "Inference (p95):      0.48 ms", "The 95th percentile."
)
LITERT_INIT_MEMORY = _litert(
    rf"Init footprint: +(?P<init_footprint_mb>{NUMBER}) MB",
    "Init footprint:       8.94 MB",
    "How much the process grew until the model was loaded.",
)
LITERT_ALL_MEMORY = _litert(
    rf"Overall footprint: +(?P<overall_footprint_mb>{NUMBER}) MB",
    "Overall footprint:    11.51 MB",
    "How much the process grew until the end.",
)
LITERT_PEAK = _litert(
    rf"Peak memory: +(?P<peak_mem_mb>{NUMBER}) MB",
    "Peak memory:          35.20 MB",
    "The most resident memory of the whole process.",
)
LITERT_NO_PEAK = LogLine(
    Tool.LITERT_BENCHMARK,
    Says.HARMLESS,
    r"Peak memory usage not available\..*",
    "LiteRT",
    "Peak memory usage not available. (peak_mem_mb <= 0)",
    "The peak was not asked for.",
    LITERT,
)

LINES = tuple(value for value in list(vars().values()) if isinstance(value, LogLine))
# Lines whose named groups are figures of the same name, by the unit of their times.
MICROSECONDS = (TIMINGS, OLD_TIMINGS)
MILLISECONDS = tuple(line for line in LINES if line.tool == Tool.LITERT_BENCHMARK)
