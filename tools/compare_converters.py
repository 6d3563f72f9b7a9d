"""One trained student through several converters: accuracy, agreement with float, ops, size, time, latency side by side.

    python tools/compare_converters.py builds/demo --cache ~/.cache/edgekd-converters

Takes the float student, the calibration images and the test images of a finished build. EdgeKD stands there twice: with
its ranges from the calibration images alone, as the others have them, and as trained with int8 in the loop. Each other
converter runs in a virtual environment of its own, made by uv with the versions below; one that does not install, or
that fails, is a row that says why. Latency: all files in one process, one call of each in turn, in a new order every round.

This file is its own worker: in a converter's environment it is run again with --worker and imports nothing of edgekd.
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
from typing import Any

import numpy as np

# The newest versions that installed together on Python 3.12 on 2026-11-24. torch as edgekd pins it.
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
INSTALL_S, CONVERT_S = (
    1800,
    1800,
)  # TensorFlow is half a gigabyte; TensorFlow's converter calibrates image by image
WARMUP = 20  # calls of each file before any is timed
REASON_LETTERS = 160  # of an error shown in the table; the log holds all of it
TIES = (
    1e-3,
    -1e-3,
)  # codes: far above float32's noise, far below what matters for a pixel that is not half way
CONVERSIONS = (
    "QUANTIZE",
    "DEQUANTIZE",
    "TRANSPOSE",
)  # named beside the total: a clean full-integer file has none


# In a converter's own environment ------------------------------------------------------------------------------------


def worker(name: str, folder: Path) -> None:
    """Convert folder's student with one library; writes NAME.tflite, and NAME.json with the seconds that it took."""
    facts = json.loads((folder / "student.json").read_text())
    start, model = CONVERTERS[name](folder, facts)
    seconds = time.perf_counter() - start
    (folder / f"{name}.tflite").write_bytes(model)
    (folder / f"{name}.json").write_text(json.dumps({"seconds": seconds}))


def inputs(folder: Path, facts: dict[str, Any]) -> Iterator[np.ndarray]:
    """The calibration images as the network takes them: float32 [1, px, px, c]."""
    mean, std = (np.asarray(facts[key], np.float32) for key in ("mean", "std"))
    for image in np.load(folder / "calibration.npy"):
        yield ((image.astype(np.float32) / 255 - mean) / std)[None]


def by_onnx2tf(folder: Path, facts: dict[str, Any]) -> tuple[float, bytes]:
    import onnx2tf

    np.save(folder / "unit.npy", np.load(folder / "calibration.npy").astype(np.float32) / 255)
    work = Path(
        shutil.copy(folder / "float.onnx", folder / "onnx2tf.onnx")
    )  # it rewrites its input file
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
            ["input", str(folder / "unit.npy"), [[[facts["mean"]]]], [[[facts["std"]]]]]
        ],
    )
    return start, one(folder / "onnx2tf", "*full_integer_quant.tflite")


def by_ai_edge_quantizer(folder: Path, facts: dict[str, Any]) -> tuple[float, bytes]:
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer, recipe

    model = folder / "float.tflite"
    if not model.is_file():
        raise SystemExit(
            "it quantises a float .tflite, and onnx2tf, which writes that, did not run"
        )
    ((signature, ports),) = Interpreter(str(model)).get_signature_list().items()
    (port,) = ports["inputs"]
    images = [{port: image} for image in inputs(folder, facts)]
    start = time.perf_counter()
    work = quantizer.Quantizer(str(model), recipe.static_wi8_ai8())
    known = work.calibrate({signature: images}, num_threads=1)
    return start, bytes(work.quantize(known).quantized_model)


def by_tensorflow(folder: Path, facts: dict[str, Any]) -> tuple[float, bytes]:
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
    converter.representative_dataset = lambda: ([image] for image in inputs(folder, facts))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return start, bytes(converter.convert())


def by_litert_torch(folder: Path, facts: dict[str, Any]) -> tuple[float, bytes]:
    import litert_torch
    import safetensors.torch
    import timm
    import torch
    from litert_torch.quantize import pt2e_quantizer, quant_config
    from torchao.quantization.pt2e import move_exported_model_to_eval
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    model = timm.create_model(facts["arch"], pretrained=False, **facts["options"]).eval()
    model.load_state_dict(safetensors.torch.load_file(folder / "student.safetensors"))
    model = litert_torch.to_channel_last_io(model, args=[0])
    images = [torch.from_numpy(image) for image in inputs(folder, facts)]
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


CONVERTERS: dict[str, Callable[[Path, dict[str, Any]], tuple[float, bytes]]] = {
    "onnx2tf": by_onnx2tf,
    "ai-edge-quantizer": by_ai_edge_quantizer,
    "tensorflow": by_tensorflow,
    "litert-torch": by_litert_torch,
}


def one(folder: Path, pattern: str) -> bytes:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise SystemExit(
            f"expected one {pattern}, found {[path.name for path in folder.glob('*.tflite')]}"
        )
    return found[0].read_bytes()


# The environments ----------------------------------------------------------------------------------------------------


def environment(name: str, cache: Path) -> Path:
    """The Python of a converter's environment, made once for each list of versions. Raises RuntimeError."""
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


def convert(name: str, cache: Path, folder: Path) -> tuple[bytes, float]:
    """(model, seconds) of one converter in its own process. Raises RuntimeError with what it said last."""
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
    return (folder / f"{name}.tflite").read_bytes(), json.loads(
        (folder / f"{name}.json").read_text()
    )["seconds"]


def last_words(text: str) -> str:
    """What went wrong, short enough for a table: the first error of a chain, else the last line that says something."""
    lines = [
        line.strip()
        for line in text.splitlines()
        if line.strip() and not set(line.strip()) <= set("^~─╰╯│ ")
    ]
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b.*:", line)]
    told = (errors or lines[-1:] or [""])[0]
    return (told if len(told) <= REASON_LETTERS else told[:REASON_LETTERS] + "…").replace("|", "/")


# The figures ---------------------------------------------------------------------------------------------------------


class Lite:
    """A .tflite of anybody's: float or 8-bit, images last or channels first.

    `tie`: codes added before rounding. With a mean of 0.5 every pixel falls half way between two codes, and the sign of
    `tie` says which one it gets.
    """

    def __init__(
        self, model: bytes, mean: list[float], std: list[float], tie: float = TIES[0]
    ) -> None:
        from edgekd.tflite.runtime import load_runtime

        self.interpreter = load_runtime()[1].Interpreter(model_content=model, num_threads=1)
        self.interpreter.allocate_tensors()
        (self.input,), (self.output,) = (
            self.interpreter.get_input_details(),
            self.interpreter.get_output_details(),
        )
        self.mean, self.std, self.tie = (
            np.asarray(mean, np.float32),
            np.asarray(std, np.float32),
            tie,
        )

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
    """Milliseconds [rounds] of each file: one call each in turn, in a new order every round.

    Half the rounds after loading the files in the order given, half in the opposite one: what a process loads first was
    1 to 5 % slower than the same file loaded last.
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


def by_edgekd(
    student: Any, profile_rules: dict[str, Any], calibration: np.ndarray
) -> tuple[bytes, float]:
    """EdgeKD without QAT, as `qat.epochs=0` builds it: ranges and corrected biases from the calibration images."""
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
        Int8Rules.from_dict(profile_rules),
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
    return bytes(lower(exported).tflite), time.perf_counter() - start


def prepare(folder: Path, student: Any, calibration: np.ndarray) -> None:
    """What the workers read: weights, a float ONNX, the calibration images."""
    import torch

    from edgekd.networks import builders

    (folder / "student.safetensors").write_bytes(bytes(student.state))
    (folder / "student.json").write_text(
        json.dumps(
            {
                "arch": student.arch,
                "options": student.options,
                "px": student.px,
                "mean": student.mean,
                "std": student.std,
            }
        )
    )
    np.save(folder / "calibration.npy", calibration)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # that this exporter is old: the new one writes average pooling as a Loop
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
    """({op: count}, how many of them write floats), as the interpreter lists them.

    edgekd's own reader refuses files that keep weights behind the flatbuffer, as newer converters write them.
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


def row(
    name: str,
    model: bytes,
    seconds: float | None,
    student: np.ndarray,
    labels: np.ndarray,
    logits: np.ndarray,
    times: np.ndarray,
    own: np.ndarray,
) -> str:
    from edgekd.evaluation import metrics

    counts, in_float = ops(model)
    odd = [f"{counts[op]} {op}" for op in CONVERSIONS if op in counts] + (
        [f"{in_float} in float"] if in_float else []
    )
    area = metrics.auc(logits, labels)
    cells = [
        name,
        f"{metrics.top1(logits, labels):.2%}",
        "–" if area is None else f"{area:.4f}",
        f"{(logits.argmax(1) == student.argmax(1)).mean():.2%}",
        f"{metrics.divergence(logits, student).mean():.2g}",
        f"{sum(counts.values())}" + (f" ({', '.join(odd)})" if odd else ""),
        f"{len(model) / 1024:.0f}",
        "–" if seconds is None else f"{seconds:.1f}",
        f"{np.median(times):.3f}",
        f"{np.median(times / own):.2f}",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("build", type=Path, nargs="?", help="the out folder of a finished build")
    parser.add_argument("--store", type=Path, help="the store the build was given, if any")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "edgekd-converters")
    parser.add_argument("--only", nargs="+", choices=list(PINS), default=list(PINS))
    parser.add_argument("--images", type=int, default=0, help="test images, 0 = all")
    parser.add_argument("--rounds", type=int, default=300, help="timed calls of each file")
    parser.add_argument(
        "--keep", type=Path, help="a folder for the files and logs (default: a temporary one)"
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
    """Convert with all, measure all, print the table."""
    from edgekd.app.why import float_stage
    from edgekd.core.errors import EdgeKDError
    from edgekd.core.store import Store
    from edgekd.data import datasets
    from edgekd.evaluation import metrics
    from edgekd.networks import builders
    from edgekd.networks.inference import logits_of
    from edgekd.pipeline.jobs import load
    from edgekd.reporting.out_folder import finished, read_report

    try:
        report = read_report(arguments.build)
        done = finished(
            arguments.build,
            report,
            Store(arguments.build, arguments.store),
            ("data", "inputs", "distil", "qat", "convert"),
        )
    except EdgeKDError as error:
        raise SystemExit(str(error)) from None
    dataset, sets, student, trained = (
        load(done, name) for name in ("data", "inputs", float_stage(done), "qat")
    )
    channels = len(student.mean)
    calibration = np.array(datasets.input_images(sets, "calibration", channels))
    images, labels = datasets.input_images(sets, "test", channels), datasets.labels(dataset, "test")
    if arguments.images:  # spread over the whole set, which is sorted by class
        picked = np.unique(
            np.linspace(0, len(images) - 1, min(arguments.images, len(images))).round().astype(int)
        )
        images, labels = images[picked], labels[picked]
    said = logits_of(
        builders.restore(student),
        (
            builders.normalised(images[first : first + 64], student.mean, student.std)
            for first in range(0, len(images), 64)
        ),
    )
    prepare(folder, student, calibration)
    models: dict[str, tuple[bytes, float | None]] = {}
    failed: dict[str, str] = {}
    models["EdgeKD, QAT"] = bytes(load(done, "convert").tflite), done["convert"].entry.seconds
    models["EdgeKD, calibrated only"] = by_edgekd(student, trained.rules, calibration)
    for name in arguments.only:
        print(f"== {name}", file=sys.stderr, flush=True)
        versions = f"{TITLES[name]} {PINS[name][0].partition('==')[2]}"
        try:
            models[versions] = convert(name, arguments.cache.resolve(), folder)
        except RuntimeError as error:
            failed[versions] = str(error)
        if (
            name == "onnx2tf"
        ):  # ai-edge-quantizer starts from its float file, written even where its int8 option fails
            for path in sorted((folder / "onnx2tf").glob("*float32.tflite"))[:1]:
                shutil.copy(path, folder / "float.tflite")
                models["onnx2tf, float32"] = path.read_bytes(), None
    answers: dict[str, np.ndarray] = {}
    for name, (model, _) in models.items():
        (folder / f"{name.split(' ')[0].strip(',')}-{len(answers)}.tflite").write_bytes(model)
        try:
            fed = [Lite(model, student.mean, student.std, tie) for tie in TIES]
        except (RuntimeError, ValueError) as error:
            failed[name] = (
                f"converts, and the interpreter refuses the file: {last_words(str(error))}"
            )
            continue
        answers[name] = min(
            (runner.logits(images) for runner in fed),
            key=lambda logits: float(metrics.divergence(logits, said).mean()),
        )
    times = latencies(
        lambda name: Lite(models[name][0], student.mean, student.std),
        list(answers),
        images[0],
        arguments.rounds,
    )
    print(
        f"\n{student.arch} at {student.px} px on {dataset.name}: {len(images)} test images, {len(calibration)} calibration "
        f"images, {dt.datetime.now(dt.UTC).date()}, {platform.machine()}, one thread, {arguments.rounds} rounds "
        f"interleaved. Float student: top-1 {(said.argmax(1) == labels).mean():.2%}.\n"
    )
    print(
        "| converter | top-1 | AUC | agrees with float | KL to float, nats | ops | KiB | conversion, s | median ms | "
        "ms / EdgeKD |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    for name, runner_answers in answers.items():
        print(
            row(
                name, *models[name], said, labels, runner_answers, times[name], times["EdgeKD, QAT"]
            )
        )
    for name, reason in failed.items():
        print(f"| {name} | – {reason} | | | | | | | | |")
    print(
        "\nPixels half way between two codes are rounded up or down, whichever serves the file better. "
        "Conversion: from the trained float network to the file, calibration included; for EdgeKD with QAT only from "
        "the exported network, since training comes before it.\n\nOps by file:\n"
    )
    for name in answers:
        print(f"* {name}: {histogram(models[name][0])}")


def histogram(model: bytes) -> str:
    return ", ".join(
        f"{count} {op}"
        for op, count in sorted(ops(model)[0].items(), key=lambda item: (-item[1], item[0]))
    )


if __name__ == "__main__":
    main()
