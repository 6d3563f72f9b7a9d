"""Lines about delegates: who was asked to run the operators, and who runs them."""

from __future__ import annotations

from edgekd.device.log_lines.line import LogLine, Says, Tool

SUBGRAPH = "tflite/core/subgraph.cc"
BENCHMARK = "tflite/tools/benchmark/benchmark_tflite_model.cc"
GPU_BUILDER = "tflite/delegates/gpu/common/model_builder.cc"
PROVIDERS = "tflite/tools/delegates"
PLUGIN = "litert/compiler/plugin/compiler_plugin.cc"


def _line(
    regex: str,
    example: str,
    meaning: str,
    source: str,
    versions: str = "all",
    says: Says = Says.DELEGATE,
    tool: Tool = Tool.RUNTIME,
) -> LogLine:
    return LogLine(tool, says, regex, versions, example, meaning, source)


_WHERE = r"(?: for (?:the whole graph|subgraph (?P<subgraph>\d+)(?: \(.*\))?))?\.?"
REPLACING = _line(
    r"Replacing (?P<part>\d{1,9}) out of (?P<whole>\d{1,9}) node\(s\) with delegate "
    r"\((?P<delegate>[^()]{1,80})\) node(?:, yielding (?P<pieces>\d{1,9}) partitions)?" + _WHERE,
    "Replacing 12 out of 65 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 3 "
    "partitions for subgraph 0 (main).",
    "The delegate takes a part of the operators of a subgraph. It may still fail afterwards.",
    SUBGRAPH,
    "newer TensorFlow 2, LiteRT",
)
OLD_REPLACING = _line(
    r"Replacing (?P<part>\d{1,9}) node\(s\) with delegate \((?P<delegate>[^()]{1,80})\) node"
    r"(?:, yielding (?P<pieces>\d{1,9}) partitions)?\.?",
    "Replacing 31 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 1 partitions.",
    "The same without how many operators there are.",
    SUBGRAPH,
    "older TensorFlow 2",
)
COMPLETELY = _line(
    r"Explicitly applied (?P<delegate>[\w ]{1,60}?) delegate, and the model graph will be "
    r"completely executed by the delegate\.?",
    "Explicitly applied GPU delegate, and the model graph will be completely executed by the "
    "delegate.",
    "Every operator is in one node of the delegate.",
    BENCHMARK,
    "TensorFlow 2, LiteRT",
    tool=Tool.BENCHMARK_MODEL,
)
PARTIALLY = _line(
    r"Explicitly applied (?P<delegate>[\w ]{1,60}?) delegate, and the model graph will be "
    r"partially executed by the delegate(?: w/ (?P<kernels>\d{1,9}) delegate kernels)?\.?",
    "Explicitly applied XNNPACK delegate, and the model graph will be partially executed by the "
    "delegate w/ 2 delegate kernels.",
    "The delegate runs a part of the operators, in so many pieces.",
    BENCHMARK,
    "TensorFlow 2, LiteRT",
    tool=Tool.BENCHMARK_MODEL,
)
NOT_AT_ALL = _line(
    r"Though (?P<delegate>[\w ]{1,60}?) delegate is explicitly applied, the model graph will not "
    r"be executed by the delegate\.?",
    "Though EdgeTPU delegate is explicitly applied, the model graph will not be executed by the "
    "delegate.",
    "The delegate was created and runs nothing: the times are those of the CPU.",
    BENCHMARK,
    "TensorFlow 2, LiteRT",
    tool=Tool.BENCHMARK_MODEL,
)
CREATED = _line(
    r"(?P<delegate>\w{1,60}) delegate created\.",
    "XNNPACK delegate created.",
    "The delegate exists, which does not say that it runs anything.",
    PROVIDERS,
    says=Says.PROGRESS,
    tool=Tool.BENCHMARK_MODEL,
)
CREATED_FOR = _line(
    r"Created TensorFlow Lite (?:\w+ )?delegate for [\w /-]{1,60}\.",
    "Created TensorFlow Lite XNNPACK delegate for CPU.",
    "The same, by the runtime.",
    "tflite/delegates",
    says=Says.PROGRESS,
)
GPU_KERNELS = _line(
    r"Created (?P<kernels>\d{1,9}) GPU delegate kernels\.",
    "Created 1 GPU delegate kernels.",
    "How many nodes the GPU got.",
    "tflite/delegates/gpu/delegate.cc",
    says=Says.PROGRESS,
)
SEVERAL = _line(
    r"Going to apply (?P<count>\d{1,9}) delegates one after another\.",
    "Going to apply 2 delegates one after another.",
    "What the first one leaves is offered to the next.",
    BENCHMARK,
    says=Says.PROGRESS,
    tool=Tool.BENCHMARK_MODEL,
)
UNSUPPORTED = _line(
    r"(?:Following|Next) operations are not supported by (?P<delegate>\w{1,60}) delegate:",
    "Following operations are not supported by GPU delegate:",
    "A list follows, one operator a line with the reason: `UNPACK: Operation is not supported.`",
    GPU_BUILDER,
)
GPU_SHARE = _line(
    r"(?:First )?(?P<part>\d{1,9}) operations will run on the GPU, and the remaining "
    r"(?P<rest>\d{1,9})(?: operations will run)? on the CPU\.",
    "294 operations will run on the GPU, and the remaining 3 operations will run on the CPU.",
    "The end of that list. Older versions begin the line with `First`.",
    GPU_BUILDER,
)
GPU_NOTHING = _line(
    r"No operations will run on the GPU, and all (?P<rest>\d{1,9}) operations will run on the "
    r"CPU\.",
    "No operations will run on the GPU, and all 65 operations will run on the CPU.",
    "The end of that list when the GPU gets nothing.",
    GPU_BUILDER,
    "newer TensorFlow 2, LiteRT",
)
GPU_FIRST = _line(
    r"\d+ cannot be handled by this delegate\. +Only the first (?P<part>\d{1,9}) ops will run on "
    r"the GPU, and the remaining (?P<rest>\d{1,9}) on the CPU",
    "25 cannot be handled by this delegate.  Only the first 30 ops will run on the GPU, and the "
    "remaining 1 on the CPU",
    "The same in the first releases of the GPU delegate.",
    "github.com/tensorflow/tensorflow/issues/31720",
    "TensorFlow 1.13 and 1.14",
)
NOT_HERE = _line(
    r"(?P<delegate>\w{1,60}) acceleration is unsupported on this platform\.",
    "GPU acceleration is unsupported on this platform.",
    "The delegate could not be created, and the tool goes on without it.",
    PROVIDERS,
    tool=Tool.BENCHMARK_MODEL,
)
RESTORED = _line(
    r"Restored (?:original|previous) execution plan after delegate application failure\.",
    "Restored original execution plan after delegate application failure.",
    "The delegate failed after it had taken its operators; they are given back.",
    SUBGRAPH,
    says=Says.CONSEQUENCE,
)
NO_FALLBACK = _line(
    r"Disallowed CPU fallback detected\.",
    "Disallowed CPU fallback detected.",
    "--require_full_delegation was given, and the delegate did not take everything.",
    BENCHMARK,
    says=Says.CAUSE,
    tool=Tool.BENCHMARK_MODEL,
)
NOT_WHOLE = _line(
    r"Hint fully delegated to single delegate is set, but the graph is not fully delegated\.",
    "Hint fully delegated to single delegate is set, but the graph is not fully delegated.",
    "The caller wants the whole graph on one delegate, and it did not take everything.",
    SUBGRAPH,
    "LiteRT",
    says=Says.CAUSE,
)

NPU_PARTITION = _line(
    r"Partitioned subgraph<(?P<subgraph>\d{1,9})>, selected (?P<part>\d{1,9}) ops, from a total of "
    r"(?P<whole>\d{1,9}) ops\. +resulted in (?P<pieces>\d{1,9}) partitions\.",
    "Partitioned subgraph<0>, selected 68 ops, from a total of 68 ops. resulted in 1 partitions.",
    "The NPU's compiler plug-in takes a part of the operators. It may still fail to compile them.",
    PLUGIN,
    "LiteRT 2",
)
NPU_LIBRARIES = _line(
    r"(?:dispatch_library_path|compiler_plugin_library_path|compiler_cache_path): .*",
    "dispatch_library_path: .",
    "Where the tool looks for the vendor's libraries.",
    "litert/tools/benchmark_litert_model.cc",
    "LiteRT 2",
    says=Says.PROGRESS,
    tool=Tool.LITERT_BENCHMARK,
)

LINES = tuple(value for value in list(vars().values()) if isinstance(value, LogLine))
