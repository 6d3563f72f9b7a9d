"""Lines about faults of the runtime, the shell and the loader: which is a cause, which follows."""

from __future__ import annotations

from edgekd.device.log_lines.line import LogLine, Says, Tool

SUBGRAPH = "tflite/core/subgraph.cc"
BENCHMARK = "tflite/tools/benchmark/benchmark_tflite_model.cc"


def _line(
    says: Says, regex: str, example: str, meaning: str, source: str, tool: Tool = Tool.RUNTIME
) -> LogLine:
    return LogLine(tool, says, regex, "all", example, meaning, source)


NO_SUCH_VERSION = _line(
    Says.CAUSE,
    r"Didn't find op for builtin opcode '(?P<op>\w+)' version '(?P<version>\d+)'\.?.*",
    "Didn't find op for builtin opcode 'EXP' version '2'. An older version of this builtin might "
    "be supported. Are you using an old TFLite binary with a newer model?",
    "The runtime in the tool is older than the model.",
    "tflite/core/api/op_resolver.cc",
)
NO_SUCH_CODE = _line(
    Says.CAUSE,
    r"Op builtin_code out of range: (?P<code>\d+)\..*",
    "Op builtin_code out of range: 151. Are you using old TFLite binary with newer model?",
    "The model has an operator that this runtime has never heard of.",
    "tflite/core/api/op_resolver.cc",
)
UNRESOLVED = _line(
    Says.CAUSE,
    r"Encountered unresolved custom op: (?P<op>[^\s]+?)\.(?: ?See instructions.*)?",
    "Encountered unresolved custom op: edgetpu-custom-op.",
    "The model has a custom operator for which the tool has no kernel.",
    SUBGRAPH,
)
NO_SUBGRAPH = _line(
    Says.CAUSE,
    r"Did not get operators, tensors, or buffers in subgraph \d+\.",
    "Did not get operators, tensors, or buffers in subgraph 0.",
    "The file is damaged, or newer than the reader.",
    "tflite/core/interpreter_builder.cc",
)
DYNAMIC_SIZES = _line(
    Says.CAUSE,
    r"Attempting to use a delegate that only supports static-sized tensors with a graph that has "
    r"dynamic-sized tensors.*",
    "Attempting to use a delegate that only supports static-sized tensors with a graph that has "
    "dynamic-sized tensors.",
    "A shape is computed at run time, and the delegate cannot have that.",
    SUBGRAPH,
)
GPU_REFUSES = _line(
    Says.CAUSE,
    r"TfLite(?:Gpu|Metal)Delegate (?:Init|Prepare|Invoke): (?!delegate is not initialized)\S.*",
    "TfLiteGpuDelegate Init: FULLY_CONNECTED: Amount of input data should match weights width",
    "The GPU delegate took an operator and then could not build it.",
    "tflite/delegates/gpu/delegate.cc",
)
GPU_NOT_READY = _line(
    Says.CONSEQUENCE,
    r"TfLite(?:Gpu|Metal)Delegate Prepare: delegate is not initialized",
    "TfLiteGpuDelegate Prepare: delegate is not initialized",
    "What the GPU delegate says after its Init failed.",
    "tflite/delegates/gpu/delegate.cc",
)
NNAPI_ERROR = _line(
    Says.CAUSE,
    r"NN API returned error (?P<code>ANEURALNETWORKS_\w+|\d+) at line \d+.*",
    "NN API returned error ANEURALNETWORKS_BAD_DATA at line 1068 while setting new operand value.",
    "The driver of the accelerator refuses the graph.",
    "tflite/delegates/nnapi/nnapi_delegate.cc",
)
NODE_FAILED = _line(
    Says.CONSEQUENCE,
    r"Node number \d+ \(.*\) failed to (?:prepare|invoke)\.?",
    "Node number 230 (TfLiteGpuDelegateV2) failed to prepare.",
    "Which node failed; the line before it says why.",
    SUBGRAPH,
)
NOT_REGISTERED = _line(
    Says.CONSEQUENCE,
    r"Registration failed\.",
    "Registration failed.",
    "What is said after an operator that was not found.",
    "tflite/core/interpreter_builder.cc",
)
NOT_APPLIED = _line(
    Says.CONSEQUENCE,
    r"Failed to apply (?P<delegate>[\w ]{1,60}?)(?: delegate)?\.?",
    "Failed to apply GPU delegate.",
    "The delegate failed, and the tool ends.",
    BENCHMARK,
    Tool.BENCHMARK_MODEL,
)
NOT_ALLOCATED = _line(
    Says.CONSEQUENCE,
    r"Failed to (?:allocate tensors!|initialize the interpreter|invoke!?)",
    "Failed to allocate tensors!",
    "The model cannot be run; the lines before say why.",
    BENCHMARK,
    Tool.BENCHMARK_MODEL,
)
CPUINFO = _line(
    Says.HARMLESS,
    r"Error in cpuinfo: .*",
    "Error in cpuinfo: prctl(PR_SVE_GET_VL) failed",
    "The processor has no SVE, which is asked for on every Arm.",
    "github.com/pytorch/cpuinfo, src/arm/linux",
)
NOT_LINKED = _line(
    Says.CAUSE,
    r"CANNOT LINK EXECUTABLE .*",
    'CANNOT LINK EXECUTABLE "./benchmark_model": library "libc++_shared.so" not found',
    "Android's loader misses a library that the program was built with.",
    "Android's bionic, linker/linker_main.cpp",
    Tool.SYSTEM,
)
NO_LSE = _line(
    Says.CAUSE,
    r"FATAL ERROR: This binary was compiled with (?P<feature>\w+) enabled, but this feature is "
    r"not available on this processor.*",
    "FATAL ERROR: This binary was compiled with lse enabled, but this feature is not available on "
    "this processor (go/sigill-fail-fast).",
    "The program needs a newer Arm core than this one.",
    "absl, and github.com/google-ai-edge/LiteRT-LM/issues/1847",
    Tool.SYSTEM,
)
UNCAUGHT = _line(
    Says.CAUSE,
    r"(?:libc\+\+abi: )?terminat(?:ing|e called).*",
    "libc++abi: terminating with uncaught exception of type std::out_of_range: vector",
    "The program ended itself with an exception that nobody caught.",
    "libc++abi and libstdc++",
    Tool.SYSTEM,
)
KILLED = _line(
    Says.CAUSE,
    r"(?:\S+: line \d+: +\d+ )?(?:Segmentation fault|Aborted|Killed|Bus error|Illegal "
    r"instruction|Trace/breakpoint trap) *(?:\(core dumped\))?.*",
    "/usr/bin/edgetpu_compiler: line 3:  1531 Segmentation fault      (core dumped) "
    "${d}/edgetpu_compiler_bin/ld-linux-x86-64.so.2 --library-path ${d}/edgetpu_compiler_bin",
    "What a shell says of a program that a signal ended.",
    "github.com/google-coral/edgetpu/issues/643",
    Tool.SYSTEM,
)

LINES = tuple(value for value in list(vars().values()) if isinstance(value, LogLine))
