"""Lines of Coral's `edgetpu_compiler`, versions 1.0 to 16.0, and of its .log file."""

from __future__ import annotations

from edgekd.device.log_lines.line import LogLine, Says, Tool

DOCS = "coral.ai/docs/edgetpu/compiler"
ISSUES = "github.com/google-coral/edgetpu/issues"
SIZE = r"\d{1,12}(?:\.\d{1,9})? ?(?:B|KiB|MiB|GiB)"


def _line(
    says: Says, regex: str, example: str, meaning: str, source: str = DOCS, versions: str = "all"
) -> LogLine:
    return LogLine(Tool.EDGETPU_COMPILER, says, regex, versions, example, meaning, source)


def _size(label: str, name: str, example: str, meaning: str, versions: str = "all") -> LogLine:
    regex = rf"{label}: +(?P<{name}>{SIZE})"
    return _line(Says.FIGURE, regex, f"{example}", meaning, DOCS, versions)


def _count(label: str, name: str, meaning: str) -> LogLine:
    return _line(Says.FIGURE, rf"{label}: +(?P<{name}>\d{{1,9}})", f"{label}: 48", meaning)


VERSION = _line(
    Says.PROGRESS,
    r"Edge TPU Compiler version (?P<version>\S+)",
    "Edge TPU Compiler version 16.0.384591198",
    "The first line of standard output, and of the .log file.",
)
TIMER = _line(
    Says.PROGRESS,
    r"Started a compilation timeout timer of (?P<seconds>\d+) seconds\.",
    "Started a compilation timeout timer of 180 seconds.",
    "An attempt begins.",
    versions="16.0",
)
SEARCH = _line(
    Says.PROGRESS,
    r"Searching for valid delegate with step (?P<step>\d+)",
    "Searching for valid delegate with step 10",
    "-d: attempts follow, each with fewer operators, until one succeeds. With -n there is one "
    "search for each segment.",
    f"{ISSUES}/671",
    "16.0",
)
ATTEMPT = _line(
    Says.PROGRESS,
    r"Try to compile segment with (?P<ops>\d+) ops",
    "Try to compile segment with 246 ops",
    "-d: the attempt that begins.",
    f"{ISSUES}/671",
    "16.0",
)
CUT = _line(
    Says.PROGRESS,
    r"Intermediate tensors: (?P<tensors>.+)",
    "Intermediate tensors: Reshape_5,Sigmoid1,Relu6_12;box-0-bn-7/FusedBatchNormV3",
    "-d: the tensors behind which this attempt leaves the rest to the CPU.",
    f"{ISSUES}/444",
    "16.0",
)
COMPILED = _line(
    Says.FIGURE,
    r"Models? compiled successfully in (?P<milliseconds>\d{1,12}) ms[.!]?",
    "Model compiled successfully in 542 ms.",
    "The attempt succeeded. `Models` when several share the cache.",
)
INPUT_MODEL = _line(
    Says.PROGRESS,
    r"Input(?: model)?: (?P<file>.+)",
    "Input model: quantized_model.tflite",
    "The file that was read; `Input:` in the .log file.",
)
OUTPUT_MODEL = _line(
    Says.PROGRESS,
    r"Output(?: model)?: (?P<file>.+)",
    "Output model: quantized_model_edgetpu.tflite",
    "The file that was written; `Output:` in the .log file.",
)
INPUT_SIZE = _size("Input size", "input_bytes", "Input size: 4.04MiB", "Size of the file read.")
OUTPUT_SIZE = _size(
    "Output size", "output_bytes", "Output size: 801.45KiB", "Size of the file written."
)
CACHED = _size(
    "On-chip memory used for caching model parameters",
    "cached_bytes",
    "On-chip memory used for caching model parameters: 604.50KiB",
    "Parameters that stay on the chip between inferences.",
)
CACHE_LEFT = _size(
    "On-chip memory (?:remaining|available) for caching model parameters",
    "cache_left_bytes",
    "On-chip memory remaining for caching model parameters: 7.67MiB",
    "Room on the chip. Versions 1.0 and 2.0 say `available`, which counts what is used, too.",
)
STREAMED = _size(
    "Off-chip memory used for streaming uncached model parameters",
    "streamed_bytes",
    "Off-chip memory used for streaming uncached model parameters: 0.00B",
    "Parameters that are sent to the chip for every inference.",
)
SUBGRAPHS = _count(
    "Number of Edge TPU subgraphs", "subgraphs", "Parts of the graph that run on the Edge TPU."
)
OPERATIONS = _count("Total number of operations", "operations", "Operators of the model.")
MAPPED = _count(
    "Number of operations that will run on Edge TPU",
    "mapped",
    "Printed only when not every operator is mapped.",
)
ON_CPU = _count("Number of operations that will run on CPU", "on_cpu", "As the line before it.")
NOT_ALL = _line(
    Says.PROGRESS,
    r"Model successfully compiled but not all operations are supported by the Edge TPU\..*",
    "Model successfully compiled but not all operations are supported by the Edge TPU. A "
    "percentage of the model will instead run on the CPU, which is slower.",
    "Some operators run on the CPU.",
)
LOG_FILE = _line(
    Says.PROGRESS,
    r"Operation log: (?P<file>.+)",
    "Operation log: quantized_model_edgetpu.log",
    "The file with the whole table.",
)
SEE_LOG = _line(
    Says.PROGRESS,
    r"See the operation log file for individual operation details\.",
    "See the operation log file for individual operation details.",
    "Without -s, instead of the table.",
)
TABLE_HEAD = _line(
    Says.PROGRESS,
    r"Operator\s+Count\s+Status",
    "Operator                       Count      Status",
    "The head of the table, with -s and in the .log file. An empty line may follow.",
)
TABLE_ROW = _line(
    Says.FIGURE,
    r"(?P<op>[A-Z][A-Z_0-9]*)\s+(?P<count>\d{1,9})\s+(?P<status>\S.*)",
    "RESHAPE                        15         Mapped to Edge TPU",
    "So many operators of this kind have this status; a kind may have several rows.",
)
TABLE_CUT = _line(
    Says.PROGRESS,
    r"\.\.\. All other operators were mapped successfully\..*",
    "... All other operators were mapped successfully. See FRC_model_edgetpu.log.",
    "The table above holds only what was not mapped; the .log file has all rows.",
    "github.com/google-coral, logs of compiler 16.0 without -s",
    "16.0",
)
IN_TIME = _line(
    Says.PROGRESS,
    r"Compilation child process completed within timeout period\.",
    "Compilation child process completed within timeout period.",
    "The attempt ended; the next line says how.",
    versions="16.0",
)
SUCCEEDED = _line(
    Says.PROGRESS,
    r"Compilation succeeded!",
    "Compilation succeeded!",
    "The attempt succeeded.",
    versions="16.0",
)
FAILED = _line(
    Says.CONSEQUENCE,
    r"Compilation failed!",
    "Compilation failed!",
    "The attempt failed; the lines before say why, or nothing does.",
    f"{ISSUES}/800",
    "16.0",
)
FAILED_IN_INTERPRETER = _line(
    Says.CONSEQUENCE,
    r"Compilation failed: Model failed in Tflite interpreter\..*",
    "Compilation failed: Model failed in Tflite interpreter. Please ensure model can be "
    "loaded/run in Tflite interpreter.",
    "The interpreter inside the compiler refused the model; the ERROR before it says why.",
    f"{ISSUES}/829",
    "16.0",
)
FAILED_BECAUSE = _line(
    Says.CAUSE,
    r"Compilation failed: (?!Model failed in Tflite interpreter)(?P<why>\S.*)",
    "Compilation failed: Compilation failed due to large activation tensors in model.",
    "Why the attempt failed.",
    f"{ISSUES}/449",
    "16.0",
)
TOO_LONG = _line(
    Says.CAUSE,
    r"Compilation timeout\..*",
    "Compilation timeout. This is usually caused by large activations.",
    "The attempt took longer than -t.",
    f"{ISSUES}/686",
    "16.0",
)
INTERNAL = _line(
    Says.CAUSE,
    r"Internal compiler error\. Aborting!",
    "Internal compiler error. Aborting!",
    "The compiler gave up and does not say why.",
    f"{ISSUES}/189",
    "2.0 to 16.0",
)
INVALID = _line(
    Says.CONSEQUENCE,
    r"Invalid model: (?P<file>.+)",
    "Invalid model: mobilenet_v2_1.0_224_quant.tflite",
    "The model was refused; the next line says why, or an ERROR before it.",
    f"{ISSUES}/313",
)
NOT_QUANTIZED = _line(
    Says.CAUSE,
    r"Model not quantized",
    "Model not quantized",
    "A tensor is not of 8 bits.",
    f"{ISSUES}/313",
)
NOT_PARSED = _line(
    Says.CONSEQUENCE,
    r"Model could not be parsed",
    "Model could not be parsed",
    "The ERROR before it says why.",
    f"{ISSUES}/845",
)
TOO_MANY_SEGMENTS = _line(
    Says.HARMLESS,
    r"For the given model, you're creating more segments than is necessary.*",
    "For the given model, you're creating more segments than is necessary, which can increase "
    "latency.",
    "-n is larger than the model needs.",
    f"{ISSUES}/321",
    "15.0 and 16.0",
)

LINES = tuple(value for value in list(vars().values()) if isinstance(value, LogLine))
