"""Compares EdgeKD with other converters on one trained student, and prints a Markdown table.

    python tools/compare_converters.py builds/demo --cache ~/.cache/edgekd-converters

The columns are accuracy, agreement with the float student, operators, size, conversion time and
latency. The float student, the calibration images and the test images come from a finished build.
EdgeKD has two rows: with ranges from the calibration images alone, as the other converters have
them, and as trained with quantization in the loop.

Each other converter runs in a virtual environment of its own, which uv makes with the versions
below. When a converter does not install or fails, its row gives the reason. For the latency, one
process calls each file in turn, in a new order every round.

In the environment of a converter, this file is run again with --worker. It imports nothing of
edgekd then.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from edgekd.core.artifacts import Network

# The newest versions that installed together on Python 3.12 on 2026-11-24. torch has the version
# that edgekd pins.
ONNX2TF = ("onnx2tf==2.6.9", "onnxsim==0.6.5")
PINS: dict[str, tuple[str, ...]] = {
    "onnx2tf": ONNX2TF,
    "ai-edge-quantizer": ("ai-edge-quantizer==0.10.0", "ai-edge-litert==2.3.0"),
    "tensorflow": ("tensorflow==2.21.0", "tf-keras==2.21.0", "keras==3.15.0", *ONNX2TF),
    "litert-torch": (
        "litert-torch==0.10.0",
        "torch==2.14.1",
        "torchao==0.18.0",
        "timm==1.0.31",
        "safetensors==0.8.0",
    ),
}
TITLES = {
    "onnx2tf": "onnx2tf, its int8 option",
    "ai-edge-quantizer": "ai-edge-quantizer, its calibration",
    "tensorflow": "TensorFlow's converter (SavedModel by onnx2tf)",
    "litert-torch": "litert-torch, PT2E",
}
INSTALL_S = 1800  # TensorFlow is a download of half a gigabyte
CONVERT_S = 1800  # TensorFlow's converter calibrates image by image
WARMUP = 20  # calls of each file before the timed ones
REASON_LETTERS = 160  # of an error in the table; the log has the whole message
# Codes added before rounding. They are far above float32's rounding errors, and too small to matter
# for a pixel that is not half way between two codes.
TIES = (1e-3, -1e-3)
# Counted beside the total of operators: a clean full-integer file has none of them.
CONVERSIONS = ("QUANTIZE", "DEQUANTIZE", "TRANSPOSE")
QAT_ROW = "EdgeKD, QAT"
HEAD = (
    "| converter | top-1 | AUC | agrees with float | KL to float, nats | ops | KiB "
    "| conversion, s | median ms | ms / EdgeKD |\n|---|---|---|---|---|---|---|---|---|---|"
)
NOTE = (
    "\nPixels half way between two codes are rounded up or down, whichever serves the file better. "
    "Conversion: from the trained float network to the file, calibration included; for EdgeKD with "
    "QAT only from the exported network, since training comes before it.\n\nOps by file:\n"
)


class Student(NamedTuple):
    """The float student, as student.json describes it. `options`: arguments of timm's builder."""

    arch: str
    options: dict[str, Any]
    px: int
    mean: list[float]
    std: list[float]


class Made(NamedTuple):
    """A .tflite, and the seconds of its conversion (None: not measured)."""

    model: bytes
    seconds: float | None


# --- in the environment of a converter ------------------------------------------------------------


def worker(name: str, folder: Path) -> None:
    """Convert the student in `folder` with one library.

    Writes NAME.tflite, and NAME.json with the seconds of the conversion.
    """
    student = Student(**json.loads((folder / "student.json").read_text()))
    start, model = CONVERTERS[name](folder, student)
    seconds = time.perf_counter() - start
    (folder / f"{name}.tflite").write_bytes(model)
    (folder / f"{name}.json").write_text(json.dumps({"seconds": seconds}))


def inputs(folder: Path, student: Student) -> Iterator[np.ndarray]:
    """The calibration images as input of the network: float32 [1, px, px, c]."""
    mean, std = np.asarray(student.mean, np.float32), np.asarray(student.std, np.float32)
    for image in np.load(folder / "calibration.npy"):
        yield ((image.astype(np.float32) / 255 - mean) / std)[None]


def by_onnx2tf(folder: Path, student: Student) -> tuple[float, bytes]:
    """The integer file that onnx2tf writes with its int8 option."""
    import onnx2tf

    np.save(folder / "unit.npy", np.load(folder / "calibration.npy").astype(np.float32) / 255)
    # onnx2tf writes to its input file, so that it gets a copy.
    work = Path(shutil.copy(folder / "float.onnx", folder / "onnx2tf.onnx"))
    start = time.perf_counter()
    onnx2tf.convert(
        input_onnx_file_path=str(work),
        output_folder_path=str(folder / "onnx2tf"),
        non_verbose=True,
        output_integer_quantized_tflite=True,
        quant_type="per-channel",
        input_quant_dtype="int8",
        output_quant_dtype="int8",
        custom_input_op_name_np_data_path=[
            ["input", str(folder / "unit.npy"), [[[student.mean]]], [[[student.std]]]]
        ],
    )
    return start, one(folder / "onnx2tf", "*full_integer_quant.tflite")


def by_ai_edge_quantizer(folder: Path, student: Student) -> tuple[float, bytes]:
    """onnx2tf's float file, quantized by ai-edge-quantizer."""
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer, recipe

    model = folder / "float.tflite"
    if not model.is_file():
        raise SystemExit(
            "it quantizes the float .tflite that onnx2tf writes, and onnx2tf did not run"
        )
    ((signature, ports),) = Interpreter(str(model)).get_signature_list().items()
    (port,) = ports["inputs"]
    images = [{port: image} for image in inputs(folder, student)]
    start = time.perf_counter()
    work = quantizer.Quantizer(str(model), recipe.static_wi8_ai8())
    known = work.calibrate({signature: images}, num_threads=1)
    return start, bytes(work.quantize(known).quantized_model)


def by_tensorflow(folder: Path, student: Student) -> tuple[float, bytes]:
    """A SavedModel by onnx2tf, converted by TensorFlow."""
    import onnx2tf
    import tensorflow as tf

    work = Path(shutil.copy(folder / "float.onnx", folder / "tensorflow.onnx"))
    onnx2tf.convert(
        input_onnx_file_path=str(work),
        output_folder_path=str(folder / "saved"),
        non_verbose=True,
        tflite_backend="tf_converter",
    )
    start = time.perf_counter()
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "saved"))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image] for image in inputs(folder, student))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return start, bytes(converter.convert())


def by_litert_torch(folder: Path, student: Student) -> tuple[float, bytes]:
    """A PT2E-quantized network, converted by litert-torch."""
    import litert_torch
    import safetensors.torch
    import timm
    import torch
    from litert_torch.quantize import pt2e_quantizer, quant_config
    from torchao.quantization.pt2e import move_exported_model_to_eval
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    model = timm.create_model(student.arch, pretrained=False, **student.options).eval()
    model.load_state_dict(safetensors.torch.load_file(folder / "student.safetensors"))
    model = litert_torch.to_channel_last_io(model, args=[0])
    images = [torch.from_numpy(image) for image in inputs(folder, student)]
    start = time.perf_counter()
    rules = pt2e_quantizer.get_symmetric_quantization_config(is_per_channel=True, is_dynamic=False)
    work = pt2e_quantizer.PT2EQuantizer().set_global(rules)
    prepared = prepare_pt2e(torch.export.export(model, (images[0],), strict=True).module(), work)
    with torch.no_grad():
        for image in images:
            prepared(image)
    quantized = move_exported_model_to_eval(convert_pt2e(prepared, fold_quantize=False))
    made = litert_torch.convert(
        quantized,
        (images[0],),
        strict_export=True,
        quant_config=quant_config.QuantConfig(pt2e_quantizer=work),
    )
    made.export(str(folder / "litert-torch.raw"))
    return start, (folder / "litert-torch.raw").read_bytes()


# Each function converts the student in a folder, and returns (time of the start, .tflite).
CONVERTERS: dict[str, Callable[[Path, Student], tuple[float, bytes]]] = {
    "onnx2tf": by_onnx2tf,
    "ai-edge-quantizer": by_ai_edge_quantizer,
    "tensorflow": by_tensorflow,
    "litert-torch": by_litert_torch,
}


def one(folder: Path, pattern: str) -> bytes:
    """The only file that matches a pattern. Raises SystemExit if there is not exactly one."""
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise SystemExit(
            f"expected one {pattern}, found {[path.name for path in folder.glob('*.tflite')]}"
        )
    return found[0].read_bytes()


# --- the environments -----------------------------------------------------------------------------


def environment(name: str, cache: Path) -> Path:
    """The Python of a converter's environment, which is made once for each list of versions.

    Raises RuntimeError if it cannot be made.
    """
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        raise RuntimeError("uv is not installed: pip install uv")
    digest = hashlib.sha256(" ".join(PINS[name]).encode()).hexdigest()[:8]
    folder = cache / f"{name}-{digest}"
    python = folder / "bin" / "python"
    if (folder / "ready").is_file():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for command in (
        [uv, "venv", "--quiet", "--python", version, str(folder)],
        [uv, "pip", "install", "--quiet", "--python", str(python), *PINS[name]],
    ):
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=INSTALL_S, check=False
        )
        if done.returncode:
            raise RuntimeError(f"does not install: {last_words(done.stderr)}")
    (folder / "ready").touch()
    return python


def convert(name: str, cache: Path, folder: Path) -> Made:
    """Run one converter in a process of its own. Raises RuntimeError with its error."""
    try:
        python = environment(name, cache)
        path = f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}"  # onnx2tf calls onnxsim
        done = subprocess.run(
            [str(python), "-I", str(Path(__file__).resolve()), "--worker", name, str(folder)],
            capture_output=True,
            text=True,
            timeout=CONVERT_S,
            check=False,
            cwd=folder,
            env={
                **os.environ,
                "PATH": path,
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "CUDA_VISIBLE_DEVICES": "-1",
            },
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"took more than {error.timeout:.0f} s") from None
    (folder / f"{name}.log").write_text(done.stdout + done.stderr)
    if done.returncode:
        raise RuntimeError(last_words(done.stderr) or f"exit code {done.returncode}")
    seconds = json.loads((folder / f"{name}.json").read_text())["seconds"]
    return Made((folder / f"{name}.tflite").read_bytes(), seconds)


def last_words(text: str) -> str:
    """The error in the output of a program, short enough for a table.

    This is the first error of a chain, or else the last line with text.
    """
    lines = [
        line.strip()
        for line in text.splitlines()
        if line.strip() and not set(line.strip()) <= set("^~─╰╯│ ")
    ]
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b.*:", line)]
    told = (errors or lines[-1:] or [""])[0]
    if len(told) > REASON_LETTERS:
        told = told[:REASON_LETTERS] + "…"
    return told.replace("|", "/")


# --- the figures ----------------------------------------------------------------------------------


class Lite:
    """A .tflite of any converter: float or 8-bit, with channels first or last.

    `tie`: added to a code before rounding. With a mean of 0.5, every pixel is half way between two
    codes, and the sign of `tie` decides between them.
    """

    def __init__(
        self, model: bytes, mean: list[float], std: list[float], tie: float = TIES[0]
    ) -> None:
        from edgekd.tflite.runtime import load_runtime

        self.interpreter = load_runtime()[1].Interpreter(model_content=model, num_threads=1)
        self.interpreter.allocate_tensors()
        (self.input,) = self.interpreter.get_input_details()
        (self.output,) = self.interpreter.get_output_details()
        self.mean, self.std = np.asarray(mean, np.float32), np.asarray(std, np.float32)
        self.tie = tie

    def feed(self, image: np.ndarray) -> None:
        """Set the input from one uint8 image [px, px, c]."""
        x = (image.astype(np.float32) / 255 - self.mean) / self.std
        if self.input["shape"][1] == x.shape[-1] != self.input["shape"][-1]:
            x = x.transpose(2, 0, 1)
        dtype = self.input["dtype"]
        if dtype in (np.int8, np.uint8):
            scale, zero_point = self.input["quantization"]
            x = np.clip(
                np.rint(x / scale + self.tie) + zero_point, np.iinfo(dtype).min, np.iinfo(dtype).max
            )
        self.interpreter.set_tensor(self.input["index"], x.astype(dtype)[None])

    def logits(self, images: np.ndarray) -> np.ndarray:
        """The outputs float32 [n, k] for uint8 images [n, px, px, c]."""
        rows = []
        for image in images:
            self.feed(image)
            self.interpreter.invoke()
            found = self.interpreter.get_tensor(self.output["index"]).reshape(-1)
            if self.output["dtype"] in (np.int8, np.uint8):
                scale, zero_point = self.output["quantization"]
                found = (found.astype(np.float32) - zero_point) * scale
            rows.append(np.array(found, np.float32))
        return np.stack(rows)


def latencies(
    load: Callable[[str], Lite], names: list[str], image: np.ndarray, rounds: int
) -> dict[str, np.ndarray]:
    """The latencies in ms, float64 [rounds], of each file. Each round calls every file once.

    The order within a round is random. The files are loaded in the given order for one half of the
    rounds, and in reverse order for the other: the file that was loaded first was 1 to 5 % slower
    than the same file loaded last.
    """
    random = np.random.default_rng(0)
    times: dict[str, list[float]] = {name: [] for name in names}
    for order in (names, names[::-1]):
        runners = {name: load(name) for name in order}
        for runner in runners.values():
            runner.feed(image)
            for _ in range(WARMUP):
                runner.interpreter.invoke()
        for _ in range(rounds // 2):
            for name in random.permutation(order):
                start = time.perf_counter_ns()
                runners[name].interpreter.invoke()
                times[name].append((time.perf_counter_ns() - start) / 1e6)
    return {name: np.array(values) for name, values in times.items()}


def by_edgekd(student: Network, rules: dict[str, Any], calibration: np.ndarray) -> Made:
    """EdgeKD without QAT, as `qat.epochs=0` builds it.

    Ranges and corrected biases come from the calibration images. `rules`: Int8Rules as JSON.
    """
    from edgekd.core.artifacts import QuantNetwork
    from edgekd.export.onnx_export import export
    from edgekd.export.tflite_convert import convert as lower
    from edgekd.networks import builders
    from edgekd.quantization import qat_network
    from edgekd.quantization.post_training import quantize
    from edgekd.tflite.int8_rules import Int8Rules

    start = time.perf_counter()
    network = qat_network.prepare(
        builders.restore(student),
        student.px,
        student.mean,
        student.std,
        Int8Rules.from_dict(rules),
    )
    batches = [
        builders.normalised(calibration[first : first + 32], student.mean, student.std)
        for first in range(0, len(calibration), 32)
    ]
    qat_network.calibrate(network, batches)
    quantize(network, batches)
    done = qat_network.finish(network)
    made = QuantNetwork(
        arch=student.arch,
        options=student.options,
        px=student.px,
        mean=student.mean,
        std=student.std,
        history=[],
        rules=network.rules.to_dict(),
        ranges=done.ranges,
        layers=done.layers,
        facts={},
        state=done.state,
    )
    exported = export(made, builders.create(student.arch, student.options))
    return Made(bytes(lower(exported).tflite), time.perf_counter() - start)


def prepare(folder: Path, student: Network, calibration: np.ndarray) -> None:
    """Write what the workers read: the weights, a float ONNX file, and the calibration images."""
    import torch

    from edgekd.networks import builders

    (folder / "student.safetensors").write_bytes(bytes(student.state))
    described = Student(student.arch, student.options, student.px, student.mean, student.std)
    (folder / "student.json").write_text(json.dumps(described._asdict()))
    np.save(folder / "calibration.npy", calibration)
    with warnings.catch_warnings():
        # torch warns that this exporter is old. The new one writes average pooling as a Loop.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            builders.restore(student),
            (torch.zeros(1, len(student.mean), student.px, student.px),),
            str(folder / "float.onnx"),
            input_names=["input"],
            output_names=["output"],
            dynamo=False,
            opset_version=17,
        )


def ops(model: bytes) -> tuple[dict[str, int], int]:
    """({operator: count}, how many of them write floats), as the interpreter lists them.

    EdgeKD's own reader refuses files with weights behind the flatbuffer, which newer converters
    write.
    """
    from edgekd.tflite.runtime import load_runtime

    module = load_runtime()[1]
    interpreter = module.Interpreter(
        model_content=model,
        experimental_op_resolver_type=module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    floats = {
        tensor["index"]
        for tensor in interpreter.get_tensor_details()
        if tensor["dtype"] == np.float32
    }
    listed = interpreter._get_ops_details()
    counts: dict[str, int] = {}
    for op in listed:
        counts[op["op_name"]] = counts.get(op["op_name"], 0) + 1
    return counts, sum(any(index in floats for index in op["outputs"]) for op in listed)


class Judge(NamedTuple):
    """What every file is compared with.

    `labels`: int64 [n]. `float_logits`: of the float student, [n, k]. `own_times`: latencies of
    EdgeKD's file in ms, [rounds].
    """

    labels: np.ndarray
    float_logits: np.ndarray
    own_times: np.ndarray


def row(name: str, made: Made, logits: np.ndarray, times: np.ndarray, judge: Judge) -> str:
    """One line of the table. `logits`: of the file, [n, k]. `times`: its latencies in ms."""
    from edgekd.evaluation import metrics

    counts, in_float = ops(made.model)
    odd = [f"{counts[op]} {op}" for op in CONVERSIONS if op in counts]
    if in_float:
        odd.append(f"{in_float} in float")
    area = metrics.auc(logits, judge.labels)
    agree = (logits.argmax(1) == judge.float_logits.argmax(1)).mean()
    cells = [
        name,
        f"{metrics.top1(logits, judge.labels):.2%}",
        "–" if area is None else f"{area:.4f}",
        f"{agree:.2%}",
        f"{metrics.divergence(logits, judge.float_logits).mean():.2g}",
        f"{sum(counts.values())}" + (f" ({', '.join(odd)})" if odd else ""),
        f"{len(made.model) / 1024:.0f}",
        "–" if made.seconds is None else f"{made.seconds:.1f}",
        f"{np.median(times):.3f}",
        f"{np.median(times / judge.own_times):.2f}",
    ]
    return "| " + " | ".join(cells) + " |"


class Build(NamedTuple):
    """What the comparison takes from a finished build. Images are uint8 [n, px, px, c]."""

    data: str
    student: Network
    rules: dict[str, Any]  # Int8Rules as JSON, as the artifact of QAT holds them
    tflite: Made
    calibration: np.ndarray
    images: np.ndarray
    labels: np.ndarray


def open_build(arguments: argparse.Namespace) -> Build:
    """Read the build that the arguments name. Raises SystemExit if it is not finished."""
    from edgekd.app.why import float_stage
    from edgekd.core.errors import EdgeKDError
    from edgekd.core.store import Store
    from edgekd.data import datasets
    from edgekd.pipeline.jobs import load
    from edgekd.reporting.out_folder import finished, read_report

    try:
        done = finished(
            arguments.build,
            read_report(arguments.build),
            Store(arguments.build, arguments.store),
            ("data", "inputs", "distil", "qat", "convert"),
        )
    except EdgeKDError as error:
        raise SystemExit(str(error)) from None
    dataset, sets, student = load(done, "data"), load(done, "inputs"), load(done, float_stage(done))
    channels = len(student.mean)
    images, labels = datasets.input_images(sets, "test", channels), datasets.labels(dataset, "test")
    if arguments.images:
        # Spread over the whole split, which is sorted by class.
        count = min(arguments.images, len(images))
        picked = np.unique(np.linspace(0, len(images) - 1, count).round().astype(int))
        images, labels = images[picked], labels[picked]
    return Build(
        data=dataset.name,
        student=student,
        rules=load(done, "qat").rules,
        tflite=Made(bytes(load(done, "convert").tflite), done["convert"].entry.seconds),
        calibration=np.array(datasets.input_images(sets, "calibration", channels)),
        images=images,
        labels=labels,
    )


def convert_all(
    names: list[str], cache: Path, folder: Path
) -> tuple[dict[str, Made], dict[str, str]]:
    """Run the other converters. Returns the files, and the reasons of those that failed, by row."""
    models: dict[str, Made] = {}
    failed: dict[str, str] = {}
    for name in names:
        print(f"== {name}", file=sys.stderr, flush=True)
        versions = f"{TITLES[name]} {PINS[name][0].partition('==')[2]}"
        try:
            models[versions] = convert(name, cache.resolve(), folder)
        except RuntimeError as error:
            failed[versions] = str(error)
        if name == "onnx2tf":
            # ai-edge-quantizer reads onnx2tf's float file, which is there even if int8 failed.
            for path in sorted((folder / "onnx2tf").glob("*float32.tflite"))[:1]:
                shutil.copy(path, folder / "float.tflite")
                models["onnx2tf, float32"] = Made(path.read_bytes(), None)
    return models, failed


def answer(student: Network, model: bytes, images: np.ndarray, said: np.ndarray) -> np.ndarray:
    """The logits [n, k] of a file, with the sign of TIES whose logits are nearer to `said`.

    Raises RuntimeError or ValueError if the interpreter does not accept the file.
    """
    from edgekd.evaluation import metrics

    fed = [Lite(model, student.mean, student.std, tie) for tie in TIES]
    return min(
        (runner.logits(images) for runner in fed),
        key=lambda logits: float(metrics.divergence(logits, said).mean()),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("build", type=Path, nargs="?", help="the out folder of a finished build")
    parser.add_argument("--store", type=Path, help="the store of the build, if it has its own")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "edgekd-converters")
    parser.add_argument("--only", nargs="+", choices=list(PINS), default=list(PINS))
    parser.add_argument("--images", type=int, default=0, help="number of test images; 0: all")
    parser.add_argument("--rounds", type=int, default=300, help="timed calls of each file")
    parser.add_argument(
        "--keep", type=Path, help="folder for the files and logs (default: a temporary one)"
    )
    parser.add_argument("--worker", nargs=2, metavar=("NAME", "DIR"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments.worker[0], Path(arguments.worker[1]))
        return
    if arguments.build is None:
        parser.error("name the out folder of a finished build")
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.keep or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        compare(arguments, folder)


def compare(arguments: argparse.Namespace, folder: Path) -> None:
    """Convert with every converter, measure every file, and print the table."""
    from edgekd.networks import builders
    from edgekd.networks.inference import logits_of

    build = open_build(arguments)
    student, images = build.student, build.images
    said = logits_of(
        builders.restore(student),
        (
            builders.normalised(images[first : first + 64], student.mean, student.std)
            for first in range(0, len(images), 64)
        ),
    )
    prepare(folder, student, build.calibration)
    calibrated = by_edgekd(student, build.rules, build.calibration)
    others, failed = convert_all(arguments.only, arguments.cache, folder)
    models = {QAT_ROW: build.tflite, "EdgeKD, calibrated only": calibrated, **others}
    answers: dict[str, np.ndarray] = {}
    for name, made in models.items():
        file = f"{name.split(' ')[0].strip(',')}-{len(answers)}.tflite"
        (folder / file).write_bytes(made.model)
        try:
            answers[name] = answer(student, made.model, images, said)
        except (RuntimeError, ValueError) as error:
            reason = last_words(str(error))
            failed[name] = f"converts, and the interpreter refuses the file: {reason}"
    times = latencies(
        lambda name: Lite(models[name].model, student.mean, student.std),
        list(answers),
        images[0],
        arguments.rounds,
    )
    print(
        f"\n{student.arch} at {student.px} px on {build.data}: {len(images)} test images, "
        f"{len(build.calibration)} calibration images, {dt.datetime.now(dt.UTC).date()}, "
        f"{platform.machine()}, one thread, {arguments.rounds} rounds interleaved. "
        f"Float student: top-1 {(said.argmax(1) == build.labels).mean():.2%}.\n"
    )
    print(HEAD)
    judge = Judge(build.labels, said, times[QAT_ROW])
    for name, logits in answers.items():
        print(row(name, models[name], logits, times[name], judge))
    for name, reason in failed.items():
        print(f"| {name} | – {reason} | | | | | | | | |")
    print(NOTE)
    for name in answers:
        print(f"* {name}: {histogram(models[name].model)}")


def histogram(model: bytes) -> str:
    """The operators of a file with their counts, the most frequent first."""
    return ", ".join(
        f"{count} {op}"
        for op, count in sorted(ops(model)[0].items(), key=lambda item: (-item[1], item[0]))
    )


if __name__ == "__main__":
    main()
