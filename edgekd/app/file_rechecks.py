"""The checks of an out folder that `edgekd verify` makes.

Every figure of certificate.json that rests on published files is computed again: the file's form,
ranges, codes and structure against model.onnx, each operator in each kernel family on golden
images, and the golden answers. The images of the test split are not published, so figures about
them are compared with the golden set instead.

Each check adds what it finds wrong to `failures`, and returns one sentence about what it found.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edgekd.app.format_rechecks import formats
from edgekd.app.published_files import PublishedFiles
from edgekd.core.artifacts import sha256
from edgekd.core.errors import DeviceError, ModelFileError
from edgekd.core.records import Record, present, to_json
from edgekd.proof import answer_agreement, companion_files, expected_model, further_outputs
from edgekd.proof.certificate import OP_LOCAL_IMAGES
from edgekd.proof.code_checks import check_layers, check_operands
from edgekd.proof.companion_files import AGAIN
from edgekd.proof.failures import Failures
from edgekd.proof.form_checks import check_form
from edgekd.proof.kernel_check import check_ops
from edgekd.proof.range_checks import check_ranges
from edgekd.proof.shape_checks import check_shapes
from edgekd.proof.structure_checks import check_structure
from edgekd.proof.trained_op_check import check_edges
from edgekd.tflite import onnx_runner, runtime
from edgekd.tflite.runtime import LiteRunner, tensor_range

type Check = Callable[[PublishedFiles, Failures], str]

NOT_RUN = "not run"
# The largest difference that verify accepts, even where a build set a larger certify.max_lsb.
LSB = 1
# Golden images on which model.onnx and the file may answer differently. The one computes with
# fake-quantized floats and the other with integers, so images near the decision boundary may flip:
# of about 32 images, two. A wrong operator is found by the check "edges".
FLIPS, FLIPPED_SHARE = 2, 0.1


def certificate(files: PublishedFiles, failures: Failures) -> str:
    """The certificate says that it passed."""
    body = files.certificate
    if not body.passed or body.failures:
        found = f"{len(body.failures)} failures"
        failures.add("certificate", "file", "certificate.json", "passed", found, AGAIN)
    return "passed"


def hashes(files: PublishedFiles, failures: Failures) -> str:
    """The model and the ONNX file are those that certificate and report name."""
    digest = sha256(files.model)
    for name, found, expected in (
        ("model.tflite", digest, files.certificate.model_sha256),
        ("model.tflite", digest, files.report.artifact.sha256),
        ("model.onnx", sha256(files.onnx), files.certificate.onnx_sha256),
    ):
        if found != expected:
            wanted = f"sha256 {str(expected)[:16]}"
            failures.add("hashes", "file", name, wanted, f"sha256 {found[:16]}", AGAIN)
    return digest


def labels_and_golden(files: PublishedFiles, failures: Failures) -> str:
    """Labels and golden set belong to the certificate, the report and the model's output."""
    bound = files.bound
    companion_files.check_bound(bound, files.labels, files.golden, failures)
    classes = files.report.data.classes
    if classes != bound.labels:
        place = "report.json: data.classes"
        failures.add("labels", "file", place, bound.labels, classes, AGAIN)
    output = files.graph.tensors[files.graph.outputs[0]]
    count = len(bound.labels)
    if output.shape[-1] != count:
        failures.add("labels", "tensor", output.name, count, list(output.shape), AGAIN)
    images = len(files.golden["inputs"])
    return f"{count} labels, {images} golden images, mean {bound.input.mean}"


def normalisation(files: PublishedFiles, failures: Failures) -> str:
    """The input's scale and zero point follow from the normalization that the certificate names."""
    bound, tensor = files.bound.input, files.graph.tensors[files.graph.inputs[0]]
    companion_files.check_input(bound.mean, bound.std, tensor, failures)
    return f"input code = pixel - 128, mean {bound.mean}, std {bound.std}"


def form(files: PublishedFiles, failures: Failures) -> str:
    """The file has the form that TensorFlow's converter writes, and its shapes fit each other."""
    check_form(files.model, files.graph, failures)
    check_shapes(files.graph, failures)
    return str(files.graph.counts())


def ranges(files: PublishedFiles, failures: Failures) -> str:
    """Activation ranges and the graph's structure equal those of model.onnx."""
    named, stored = files.certificate.correspondence, files.certificate
    claimed = expected_model.from_onnx(files.onnx)
    found = check_ranges(claimed, named, files.graph, failures)
    _same("ranges", found, stored.ranges, failures)
    structure = check_structure(claimed, named, files.graph, failures)
    _same("structure", structure, stored.structure, failures)
    return f"{found.identical} of {found.tensors} scales and zero points identical to model.onnx"


def codes(files: PublishedFiles, failures: Failures) -> str:
    """Codes of weights and biases equal the rounded values of model.onnx."""
    claims, stored = expected_model.from_onnx(files.onnx), files.certificate
    found = check_layers(claims, files.graph, failures)
    orders = present(stored.orders) or {}
    check_operands(claims, stored.correspondence, orders, files.graph, failures)
    _same("weights", found.weights, files.certificate.weights, failures)
    _same("biases", found.biases, files.certificate.biases, failures)
    return "; ".join(
        f"{counts.identical_codes} of {counts.total_codes} codes of {part}"
        for part, counts in (("weights", found.weights), ("biases", found.biases))
    )


def edges(files: PublishedFiles, failures: Failures) -> str:
    """Each trained operator of model.onnx gives the file's answers, on the file's own inputs."""
    images = files.golden["inputs"][:OP_LOCAL_IMAGES]
    orders = present(files.certificate.orders)
    found = check_edges(files.onnx, files.model, images, failures, orders)
    if not found:
        return NOT_RUN
    return f"{found.edges} trained ops, largest difference {found.max_lsb} LSB"


def ops(files: PublishedFiles, failures: Failures) -> str:
    """Each operator computes what exact arithmetic gives, in every kernel family."""
    images = files.golden["inputs"][:OP_LOCAL_IMAGES]
    found = check_ops(files.model, images, failures, LSB)
    # Another runtime may differ from the certificate's by LSB of its own.
    if files.certificate.runtime == runtime.load_runtime()[0]:
        for family, figures in found.families.items():
            certified = files.certificate.op_local.families.get(family)
            stored = None if certified is None else certified.max_lsb
            if stored != figures.max_lsb:
                place = f"certificate.json: op_local.families.{family}"
                failures.add("op_local", "file", place, figures.max_lsb, stored, AGAIN)
    return ", ".join(f"{name} {figures.max_lsb} LSB" for name, figures in found.families.items())


def golden_answers(files: PublishedFiles, failures: Failures) -> str:
    """The file gives the stored answers to the golden images, and model.onnx agrees with it."""
    golden = files.golden
    try:
        runner = LiteRunner(files.model)
        answers = runner.codes(golden["inputs"]).reshape(len(golden["inputs"]), -1)
    except (ModelFileError, DeviceError) as error:
        wanted = "a runtime that runs it"
        failures.add("golden", "file", "model.tflite", wanted, error.what, error.next_step)
        return NOT_RUN
    stored, place = golden["logits_int8"], "golden.npz: logits_int8"
    if answers.shape != stored.shape:
        failures.add("golden", "file", place, list(answers.shape), list(stored.shape), AGAIN)
        return NOT_RUN
    labels, zero_point = companion_files.labels_of(golden), tensor_range(runner.output).zero_point
    same = answer_agreement.compare(answers, stored, labels, zero_point)
    told = (
        f"{len(answers)} images, agreement of {answer_agreement.AGREEMENT_UNITS[labels]} "
        f"{same.argmax_agreement:.1%}, largest difference {same.max_abs_lsb} LSB"
    )
    if same.max_abs_lsb:
        failures.add("golden", "file", place, "the answers of model.tflite", told, AGAIN)
    agreement = _agreement_with_onnx(files, runner, answers, failures)
    further = further_outputs.check_golden(runner, golden, failures)
    return f"{told}; model.onnx agrees on {agreement:.1%}{'; ' if further else ''}{further}"


def _agreement_with_onnx(
    files: PublishedFiles, runner: LiteRunner, answers: npt.NDArray[np.int8], failures: Failures
) -> float:
    """The share of golden answers on which model.onnx and the file agree; a failure if too low."""
    golden, grid = files.golden, tensor_range(runner.output)
    expected = grid.quantize(onnx_runner.logits(files.onnx, golden["inputs"]))
    labels = companion_files.labels_of(golden)
    figures = answer_agreement.compare(
        answers, expected.reshape(answers.shape), labels, grid.zero_point
    )
    count = golden["labels"].size  # one answer for each image, or one for each label of each image
    flips = round((1 - figures.argmax_agreement) * count)
    allowed = max(FLIPS, int(FLIPPED_SHARE * count))
    if flips > allowed:
        wanted = f"at most {allowed} answers that differ from model.tflite's"
        failures.add("golden", "file", "model.onnx", wanted, f"{flips} that differ", AGAIN)
    return figures.argmax_agreement


def _same(name: str, found: Record, stored: Record | None, failures: Failures) -> None:
    """Compare a block of the certificate with the same block computed again."""
    if stored != found:
        place = f"certificate.json: {name}"
        body = None if stored is None else to_json(stored)
        failures.add(name, "file", place, to_json(found), body, AGAIN)


# In the order in which they run.
CHECKS: dict[str, Check] = {
    "certificate": certificate,
    "hashes": hashes,
    "labels and golden set": labels_and_golden,
    "normalisation": normalisation,
    "form": form,
    "ranges": ranges,
    "codes": codes,
    "edges": edges,
    "ops": ops,
    "golden answers": golden_answers,
    "formats": formats,
}
# These run the file, which is not safe when its shapes do not fit each other.
RUN_THE_FILE = frozenset({"edges", "ops", "golden answers"})
