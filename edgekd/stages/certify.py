"""Proof that a .tflite is the network that was trained: ranges, codes, each op's arithmetic, answers on real images.

Five checks, each from the file's own bytes:

    ranges      scale (as float32, bit for bit) and zero point of every activation are the learned ones
    weights     every int8 code is round(weight / scale) of the trained weight, worked out here again
    biases      every int32 code is round(bias / (s_in * s_w))
    op_local    each op, fed with the runtime's own inputs, is within 1 LSB of the reference arithmetic: fixed-point
                multipliers with one or two roundings stay within that
    end_to_end  the trained network and the file agree on the test images. Up to 20 LSB at the logits were seen between
                kernels of one runtime, so the gate is on the answer; half a per cent of the images may lie on the
                decision boundary
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from edgekd.artifacts import Certificate, Evaluation, Inputs, Json, LiteModel, QuantNetwork, sha256
from edgekd.context import Context
from edgekd.data import input_images
from edgekd.errors import DataError, MissingExtra
from edgekd.flatbuffer import LiteGraph, LiteOp, LiteTensor, is_full_integer, read
from edgekd.int8 import SAME_SCALE_OPS, WEIGHTED_OPS
from edgekd.int8_kernels import KERNELS, Operand
from edgekd.lite import LiteRunner, load_runtime, quantize_pixels, tensor_range
from edgekd.recipe import CertifyConfig

SCHEMA = "edgekd.certificate/1"
OP_LOCAL_IMAGES = 4  # every op sees thousands of values an image; four images take seconds in numpy
MAX_FAILURES = 50  # a wholly wrong file would otherwise print every tensor
HISTOGRAM_TOP = 8  # differences of this many LSB and more share the last bin

AGAIN = "convert again from the exported network; if it persists, the file was changed after conversion"


class _Failures:
    """Failures in the order they were found, the first MAX_FAILURES kept."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Json]] = []
        self.count = 0

    def add(self, check: str, where: str, name: str, expected: Json, found: Json, next_step: str = AGAIN) -> None:
        """`where` says what `name` is: "tensor" or "op"."""
        self.count += 1
        if len(self.rows) < MAX_FAILURES:
            self.rows.append({"check": check, where: name, "expected": expected, "found": found,
                              "next_step": next_step})


def certify(qnet: QuantNetwork, lite: LiteModel, images: npt.NDArray[np.uint8], qat_logits: npt.NDArray[np.float32],
            config: CertifyConfig | None = None) -> Certificate:
    """Compare a .tflite with the trained int8 network.

    `images`: uint8 [n >= 1, px, px, channels] (the test split). `qat_logits`: float32 [n, classes], the trained
    network's own outputs on them (`quantnet.predict`). `config` holds the gates on LSB and agreement; ranges, weights
    and biases have none to loosen. Never raises for a check that fails: see `body["passed"]` and `body["failures"]`.
    Raises ModelFileError for a file that cannot be read, DataError when images and logits do not fit.
    """
    config = config or CertifyConfig()
    if not len(images) or len(images) != len(qat_logits):
        raise DataError(f"{len(images)} images and {len(qat_logits)} rows of logits", "certify on the images predicted")
    graph = read(lite.tflite)
    failures = _Failures()
    if not is_full_integer(graph):
        failures.add("full_integer", "op", "graph", "only integer tensors", graph.counts())
    body: dict[str, Json] = {
        "schema": SCHEMA,
        "model_sha256": sha256(lite.tflite),
        "runtime": load_runtime()[0],
        "ranges": check_ranges(qnet, lite, graph, failures),
        **check_layers(qnet, graph, failures),
        "op_local": check_ops(lite, images[:OP_LOCAL_IMAGES], failures, config.max_lsb),
        "end_to_end": check_answers(lite, images, qat_logits, failures, config.min_agreement),
        "reference": check_reference(lite, images, qat_logits),
        "failures": failures.rows,
        "failures_total": failures.count,
        "passed": failures.count == 0,
    }
    return Certificate(body)


def check_ranges(qnet: QuantNetwork, lite: LiteModel, graph: LiteGraph, failures: _Failures) -> dict[str, Json]:
    """Every activation tensor of the file against the learned range of its edge, and every edge present."""
    learned = {row["edge"]: row for row in qnet.ranges}
    edge_of = {row["tensor"]: row["edge"] for row in lite.correspondence if row["kind"] == "activation"}
    worst: dict[str, Json] = {"tensor": None, "scale_ratio": 1.0, "zero_point_delta": 0}
    written = set(graph.inputs) | {index for op in graph.ops for index in op.outputs}
    identical = 0
    for index in sorted(written):
        tensor = graph.tensors[index]
        row = learned.get(edge_of.get(tensor.name, ""))
        if row is None or tensor.scale.size != 1:
            failures.add("ranges", "tensor", tensor.name, "a learned range", "none")
            continue
        ratio = float(tensor.scale[0]) / float(np.float32(row["scale"]))
        delta = tensor_range(tensor).zero_point - int(row["zero_point"])  # of a uint8 port: less 128
        if tensor.scale[0].tobytes() == np.float32(row["scale"]).tobytes() and delta == 0:
            identical += 1
            continue
        failures.add("ranges", "tensor", tensor.name, {"scale": row["scale"], "zero_point": row["zero_point"]},
                     {"scale": float(tensor.scale[0]), "zero_point": int(tensor.zero_point[0])})
        if abs(np.log(max(ratio, 1e-30))) + abs(delta) > abs(np.log(max(worst["scale_ratio"], 1e-30))) + abs(
                worst["zero_point_delta"]):
            worst = {"tensor": tensor.name, "scale_ratio": ratio, "zero_point_delta": delta}
    for op in graph.ops:
        if op.name in SAME_SCALE_OPS:
            _check_same_range(op, graph, failures)
    carried = set(edge_of.values())
    for name, row in learned.items():
        if name not in carried and row["op"] not in ("PAD", "RESHAPE"):  # these may be merged into a neighbour
            failures.add("ranges", "tensor", name, "a tensor in the file", "none")
    return {"tensors": len(written), "identical": identical, "worst": worst}


def _check_same_range(op: LiteOp, graph: LiteGraph, failures: _Failures) -> None:
    output = graph.tensors[op.outputs[0]]
    for index in op.inputs:
        source = graph.tensors[index]
        if source.data is None and (source.scale.tobytes() != output.scale.tobytes()
                                    or source.zero_point.tolist() != output.zero_point.tolist()):
            failures.add("ranges", "op", op.label(graph.tensors), "one range for inputs and output",
                         {source.name: source.scale.tolist(), output.name: output.scale.tolist()})


def check_layers(qnet: QuantNetwork, graph: LiteGraph, failures: _Failures) -> dict[str, Json]:
    """Weights and biases of every layer: codes worked out from the trained state, scales bit for bit."""
    state = safetensors.numpy.load(bytes(qnet.state))
    source_scale = {row["edge"]: np.float64(np.float32(row["scale"])) for row in qnet.ranges}
    tensors = graph.by_name()
    counts = {part: {"tensors": 0, "identical_codes": 0, "total_codes": 0} for part in ("weights", "biases")}
    for row in qnet.layers:
        name = row["name"]
        scale = state[f"{name}.scale"].astype(np.float32)
        step = source_scale[row["source"]] * scale.astype(np.float64)
        weight = state[f"{name}.weight"].astype(np.float32)
        column = scale.reshape([-1] + [1] * (weight.ndim - 1))
        expected = {  # the rounding is written out here, and not taken from edgekd.int8, which the converter uses
            "weights": (f"{name}.weight", _to_lite_layout(np.clip(np.rint(weight / column), -127, 127), row["op"]),
                        scale),
            "biases": (f"{name}.bias", np.rint(state[f"{name}.bias"].astype(np.float64) / step),
                       step.astype(np.float32)),
        }
        for part, (tensor_name, codes, scales) in expected.items():
            _compare_codes(part, tensor_name, tensors.get(tensor_name), codes, scales, counts[part], failures)
    known = {f"{row['name']}.weight" for row in qnet.layers}
    for op in graph.ops:
        if op.name in WEIGHTED_OPS and graph.tensors[op.inputs[1]].name not in known:
            failures.add("weights", "op", op.label(graph.tensors), "a trained layer", graph.tensors[op.inputs[1]].name)
    return dict(counts)


def _to_lite_layout(codes: npt.NDArray[Any], op: str) -> npt.NDArray[Any]:
    """From torch's OIHW (or O1HW of a depthwise layer) to TFLite's OHWI (or 1HWO)."""
    if op == "CONV_2D":
        return codes.transpose(0, 2, 3, 1)
    return codes.transpose(1, 2, 3, 0) if op == "DEPTHWISE_CONV_2D" else codes


def _compare_codes(part: str, name: str, tensor: LiteTensor | None, codes: npt.NDArray[Any],
                   scale: npt.NDArray[np.float32], counts: dict[str, int], failures: _Failures) -> None:
    counts["tensors"] += 1
    counts["total_codes"] += codes.size
    dtype = "INT8" if part == "weights" else "INT32"
    if tensor is None or tensor.data is None or tensor.data.shape != codes.shape or tensor.dtype != dtype:
        found = "none" if tensor is None else {"shape": list(tensor.shape), "dtype": tensor.dtype}
        failures.add(part, "tensor", name, {"shape": list(codes.shape), "dtype": dtype}, found)
        return
    same = tensor.data == codes
    counts["identical_codes"] += int(same.sum())
    if not same.all():
        first = tuple(int(i) for i in np.argwhere(~same)[0])
        failures.add(part, "tensor", name, {"code": int(codes[first]), "at": list(first)},
                     {"code": int(tensor.data[first]), "differing": int((~same).sum())})
    if tensor.scale.tobytes() != scale.tobytes() or tensor.zero_point.any():
        odd = int(np.argmax(tensor.scale != scale)) if tensor.scale.shape == scale.shape else -1
        failures.add(part, "tensor", name, {"scale": float(scale[odd]), "channel": odd, "scales": len(scale)},
                     {"scale": float(tensor.scale[odd]) if tensor.scale.size else None,
                      "scales": int(tensor.scale.size), "zero_points": "not all 0" if tensor.zero_point.any() else "0"})


def check_ops(lite: LiteModel, images: npt.NDArray[np.uint8], failures: _Failures, max_lsb: int) -> dict[str, Json]:
    """Each op of the runtime (TFLite's own kernels, no delegate) against reference arithmetic on its own inputs."""
    runner = LiteRunner(lite.tflite, kernels="builtin", keep="everything")
    graph = runner.graph
    worst: dict[str, tuple[int, int, int]] = {}  # label -> (max LSB, exact, total)
    for image in images:
        runner.invoke(quantize_pixels(image[None], runner.input))
        for op in graph.ops:
            label = op.label(graph.tensors)
            kernel = KERNELS.get(op.name)
            if kernel is None:
                worst[label] = (-1, 0, 1)
                continue
            operands = [Operand(graph.tensors[i], _value(runner, graph.tensors[i])) for i in op.inputs if i >= 0]
            found = runner.value(op.outputs[0]).astype(np.int64)
            expected = kernel(op, operands, graph.tensors[op.outputs[0]])
            off = np.abs(found - expected)
            before = worst.get(label, (0, 0, 0))
            worst[label] = (max(before[0], int(off.max())), before[1] + int((off == 0).sum()), before[2] + off.size)
    for label, (lsb, _, _) in worst.items():
        if lsb > max_lsb:
            failures.add("op_local", "op", label, f"at most {max_lsb} LSB", f"{lsb} LSB",
                         "report the op and the runtime's version; a kernel of this runtime is off")
        elif lsb < 0:
            failures.add("op_local", "op", label, "an op with reference arithmetic", "none",
                         "take a student of the models that `edgekd models` lists")
    if not worst:
        return {"ops": 0, "max_lsb": 0, "share_exact": 1.0, "worst_op": None}
    share = sum(row[1] for row in worst.values()) / max(sum(row[2] for row in worst.values()), 1)
    label = max(worst, key=lambda name: (worst[name][0], 1 - worst[name][1] / worst[name][2]))
    return {"ops": len(worst), "max_lsb": max(row[0] for row in worst.values()), "share_exact": share,
            "worst_op": {"op": label, "max_lsb": worst[label][0], "share_exact": worst[label][1] / worst[label][2]}}


def _value(runner: LiteRunner, tensor: LiteTensor) -> npt.NDArray[Any]:
    return runner.value(tensor.index) if tensor.data is None else tensor.data


def check_answers(lite: LiteModel, images: npt.NDArray[np.uint8], qat_logits: npt.NDArray[np.float32],
                  failures: _Failures, min_agreement: float) -> dict[str, Json]:
    """The file (default kernels, as an app runs it) against the trained network on all images, in LSB of the output."""
    runner = LiteRunner(lite.tflite)
    found = runner.codes(images).reshape(len(images), -1).astype(np.int64)
    expected = tensor_range(runner.output).quantize(qat_logits).astype(np.int64).reshape(len(images), -1)
    if found.shape != expected.shape:
        failures.add("end_to_end", "tensor", runner.output.name, list(expected.shape), list(found.shape))
        return {"images": len(images), "argmax_agreement": 0.0, "mean_abs_lsb": None, "max_abs_lsb": None,
                "histogram": {}}
    off = np.abs(found - expected)
    # Ties in the codes are decided alike on both sides: argmax takes the first of the largest.
    agreement = float((found.argmax(axis=1) == expected.argmax(axis=1)).mean())
    if agreement < min_agreement:
        failures.add("end_to_end", "tensor", runner.output.name, f"argmax agreement of at least {min_agreement}",
                     agreement, "look at mean_abs_lsb: small means images on the decision boundary (train longer), "
                     "large a wrong file")
    bins = np.bincount(np.minimum(off, HISTOGRAM_TOP).reshape(-1), minlength=HISTOGRAM_TOP + 1)
    names = [*(str(lsb) for lsb in range(HISTOGRAM_TOP)), f"{HISTOGRAM_TOP}+"]
    return {"images": len(images), "argmax_agreement": agreement, "mean_abs_lsb": float(off.mean()),
            "max_abs_lsb": int(off.max()), "histogram": dict(zip(names, bins.tolist(), strict=True))}


def check_reference(lite: LiteModel, images: npt.NDArray[np.uint8], qat_logits: npt.NDArray[np.float32]
                    ) -> dict[str, Json]:
    """The same agreement through TensorFlow's own interpreter, where TensorFlow is installed; else nulls."""
    try:
        runner = LiteRunner(lite.tflite, kernels="reference", runtime="tensorflow")
    except MissingExtra:
        return {"runtime": None, "argmax_agreement": None}
    found = runner.codes(images).reshape(len(images), -1)
    expected = tensor_range(runner.output).quantize(qat_logits).reshape(len(images), -1)
    agreement = float((found.argmax(axis=1) == expected.argmax(axis=1)).mean())
    return {"runtime": runner.name, "argmax_agreement": agreement}


def run(inputs: Inputs, qat: QuantNetwork, model: LiteModel, evaluation: Evaluation, *, config: CertifyConfig,
        context: Context) -> Certificate:
    """The stage: the whole test split, and the trained network's answers to it as the evaluation holds them."""
    del context  # nothing random
    logits = np.frombuffer(evaluation.logits, np.float32).reshape(len(evaluation.stages), -1, evaluation.classes)
    images = input_images(inputs, "test", len(qat.mean))
    return certify(qat, model, images, logits[evaluation.stages.index("qat")], config)
