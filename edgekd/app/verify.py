"""`edgekd verify`: check an out folder again from the bytes that lie there, trusting nothing that it says of itself.

Every figure of certificate.json that rests on published files is worked out anew: the file's form, ranges, codes and
structure against model.onnx, each op in each kernel family on the golden images, the golden answers. What rests on the
test split (its images are not published) is held to the golden set instead.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgekd.bundle import verify_bundle
from edgekd.core.artifacts import sha256
from edgekd.core.errors import DeviceError, ModelFileError
from edgekd.core.records import Record, from_json, to_json
from edgekd.core.store import read_json
from edgekd.device.model_file import read_model
from edgekd.proof import answer_agreement, companion_files, expected_model
from edgekd.proof.certificate import OP_LOCAL_IMAGES
from edgekd.proof.certificate_record import Bound, CertificateBody, Failure
from edgekd.proof.code_checks import check_layers
from edgekd.proof.companion_files import AGAIN
from edgekd.proof.failures import Failures
from edgekd.proof.form_checks import check_form
from edgekd.proof.kernel_check import check_ops
from edgekd.proof.range_checks import check_ranges
from edgekd.proof.shape_checks import check_shapes
from edgekd.proof.structure_checks import check_structure
from edgekd.proof.trained_op_check import check_edges
from edgekd.tflite import onnx_runner, runtime
from edgekd.tflite.flatbuffer import read
from edgekd.tflite.runtime import LiteRunner, tensor_range

Check = dict[str, Any]
LSB = 1  # a certificate made with a looser certify.max_lsb is looser than what verify promises
# Golden images on which model.onnx and the file may answer differently: fake-quantised floats against integers, on images at
# the decision boundary. Of some 32, two may lie there; an op that is wrong shows in "edges" long before.
FLIPS, FLIPPED_SHARE = 2, 0.1


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelFileError(
            f"{path}: {error.strerror}", "name the out folder of a finished `edgekd build`"
        ) from None


class Folder:
    """The published files of one build, read once. Raises ModelFileError for one that is missing or torn."""

    def __init__(self, folder: Path) -> None:
        stored = read_json(folder / "certificate.json", "edgekd.certificate/1")
        self.report = read_json(folder / "report.json", "edgekd.report/1")
        self.model = read_model(folder / "model.tflite")
        self.onnx = _bytes(folder / "model.onnx")
        self.golden = companion_files.read_golden(_bytes(folder / "golden.npz"))
        self.labels = _labels(folder)
        self.graph = read(self.model)
        if not isinstance(stored.get("bound"), dict) or not isinstance(
            stored.get("op_local"), dict
        ):
            raise ModelFileError(
                f"{folder / 'certificate.json'} was made by an older edgekd: it is not bound to labels "
                "and golden set",
                "build again with this edgekd; training is not repeated",
            )
        self.certificate = from_json(CertificateBody, stored, str(folder / "certificate.json"))
        assert self.certificate.bound is not None
        self.bound: Bound = self.certificate.bound


def verify(folder: Path) -> list[Check]:
    """Every check of an out folder or a bundle as {"check", "passed", "found"}; an out folder's also have "failures".

    Each failure names its tensor, op or file. Raises ModelFileError when a file is missing or unreadable.
    """
    if verify_bundle.is_bundle(folder):
        return verify_bundle.verify(folder)
    files = Folder(folder.parent if folder.is_file() else folder)
    shapes = Failures()
    check_shapes(files.graph, shapes)
    return [
        _check(name, function if not shapes.count or name not in RUN else _not_run, files)
        for name, function in CHECKS.items()
    ]


def _not_run(_files: Folder, failures: Failures) -> str:
    failures.add(
        "shapes",
        "file",
        "model.tflite",
        "shapes that fit each other",
        "not run: see the form",
        AGAIN,
    )
    return "not run"


def _check(name: str, function: Callable[[Folder, Failures], str], files: Folder) -> Check:
    failures = Failures()
    found = function(files, failures)
    if failures.count:
        found = "; ".join(_sentence(row) for row in failures.rows[:3])
        found += f"; and {failures.count - 3} more" if failures.count > 3 else ""
    return {
        "check": name,
        "passed": failures.count == 0,
        "found": found,
        "failures": [to_json(row) for row in failures.rows],
    }


def _sentence(row: Failure) -> str:
    return f"{row.place}: expected {row.expected}, found {row.found}"


def _labels(folder: Path) -> list[str]:
    try:
        return (folder / "labels.txt").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def _certificate(files: Folder, failures: Failures) -> str:
    body = files.certificate
    if not body.passed or body.failures:
        failures.add(
            "certificate",
            "file",
            "certificate.json",
            "passed",
            f"{len(body.failures)} failures",
            AGAIN,
        )
    return "passed"


def _hashes(files: Folder, failures: Failures) -> str:
    digest = sha256(files.model)
    for name, found, expected in (
        ("model.tflite", digest, files.certificate.model_sha256),
        ("model.tflite", digest, files.report["artifact"]["sha256"]),
        ("model.onnx", sha256(files.onnx), files.certificate.onnx_sha256),
    ):
        if found != expected:
            failures.add(
                "hashes",
                "file",
                name,
                f"sha256 {str(expected)[:16]}",
                f"sha256 {found[:16]}",
                AGAIN,
            )
    return digest


def _labels_and_golden(files: Folder, failures: Failures) -> str:
    bound = files.bound
    companion_files.check_bound(bound, files.labels, files.golden, failures)
    if files.report["data"]["classes"] != bound.labels:
        failures.add(
            "labels",
            "file",
            "report.json: data.classes",
            bound.labels,
            files.report["data"]["classes"],
            AGAIN,
        )
    classes = len(bound.labels)
    if files.graph.tensors[files.graph.outputs[0]].shape[-1] != classes:
        failures.add(
            "labels",
            "tensor",
            files.graph.tensors[files.graph.outputs[0]].name,
            classes,
            list(files.graph.tensors[files.graph.outputs[0]].shape),
            AGAIN,
        )
    return f"{classes} labels, {len(files.golden['inputs'])} golden images, mean {bound.input.mean}"


def _normalisation(files: Folder, failures: Failures) -> str:
    bound = files.bound.input
    companion_files.check_input(
        bound.mean, bound.std, files.graph.tensors[files.graph.inputs[0]], failures
    )
    return f"a pixel less 128 is the input's code, mean {bound.mean}, std {bound.std}"


def _form(files: Folder, failures: Failures) -> str:
    check_form(files.model, files.graph, failures)
    check_shapes(files.graph, failures)
    return str(files.graph.counts())


def _same(name: str, found: Record, stored: Record | None, failures: Failures) -> None:
    """A block of the certificate, worked out again."""
    if stored != found:
        failures.add(
            name,
            "file",
            f"certificate.json: {name}",
            to_json(found),
            None if stored is None else to_json(stored),
            AGAIN,
        )


def _ranges(files: Folder, failures: Failures) -> str:
    named, stored = files.certificate.correspondence, files.certificate
    claimed = expected_model.from_onnx(files.onnx)
    found = check_ranges(claimed, named, files.graph, failures)
    _same("ranges", found, stored.ranges, failures)
    structure = check_structure(claimed, named, files.graph, failures)
    _same("structure", structure, stored.structure, failures)
    return f"{found.identical} of {found.tensors} scales and zero points identical to model.onnx"


def _codes(files: Folder, failures: Failures) -> str:
    found = check_layers(expected_model.from_onnx(files.onnx), files.graph, failures)
    _same("weights", found.weights, files.certificate.weights, failures)
    _same("biases", found.biases, files.certificate.biases, failures)
    return "; ".join(
        f"{counts.identical_codes} of {counts.total_codes} codes of {part}"
        for part, counts in (("weights", found.weights), ("biases", found.biases))
    )


def _edges(files: Folder, failures: Failures) -> str:
    found = check_edges(files.onnx, files.model, files.golden["inputs"][:OP_LOCAL_IMAGES], failures)
    return (
        f"{found.edges} trained ops, largest difference {found.max_lsb} LSB" if found else "not run"
    )


def _ops(files: Folder, failures: Failures) -> str:
    found = check_ops(files.model, files.golden["inputs"][:OP_LOCAL_IMAGES], failures, LSB)
    if (
        files.certificate.runtime == runtime.load_runtime()[0]
    ):  # other runtimes may differ by their own LSB
        for family, figures in found.families.items():
            certified = files.certificate.op_local.families.get(family)
            if certified is None or certified.max_lsb != figures.max_lsb:
                failures.add(
                    "op_local",
                    "file",
                    f"certificate.json: op_local.families.{family}",
                    figures.max_lsb,
                    None if certified is None else certified.max_lsb,
                    AGAIN,
                )
    return ", ".join(
        f"{family} {figures.max_lsb} LSB" for family, figures in found.families.items()
    )


def _answers(files: Folder, failures: Failures) -> str:
    """The same runtime gives the same bytes; a difference of the images' order is told by `binding`."""
    golden = files.golden
    try:
        runner = LiteRunner(files.model)
        codes = runner.codes(golden["inputs"]).reshape(len(golden["inputs"]), -1)
    except (ModelFileError, DeviceError) as error:
        failures.add(
            "golden", "file", "model.tflite", "a runtime that runs it", error.what, error.next_step
        )
        return "not run"
    if codes.shape != golden["logits_int8"].shape:
        failures.add(
            "golden",
            "file",
            "golden.npz: logits_int8",
            list(codes.shape),
            list(golden["logits_int8"].shape),
            AGAIN,
        )
        return "not run"
    labels, grid = companion_files.labels_of(golden), tensor_range(runner.output)
    stored = answer_agreement.compare(codes, golden["logits_int8"], labels, grid.zero_point)
    told = (
        f"{len(codes)} images, agreement of {answer_agreement.AGREEMENT_UNITS[labels]} "
        f"{stored.argmax_agreement:.1%}, largest difference {stored.max_abs_lsb} LSB"
    )
    if stored.max_abs_lsb:
        failures.add(
            "golden", "file", "golden.npz: logits_int8", "the answers of model.tflite", told, AGAIN
        )
    expected = grid.quantize(onnx_runner.logits(files.onnx, golden["inputs"]))
    figures = answer_agreement.compare(
        codes, expected.reshape(codes.shape), labels, grid.zero_point
    )
    count = golden["labels"].size  # of answers: one an image, or one a label
    flips, allowed = (
        round((1 - figures.argmax_agreement) * count),
        max(FLIPS, int(FLIPPED_SHARE * count)),
    )
    if flips > allowed:
        failures.add(
            "golden",
            "file",
            "model.onnx",
            f"model.tflite's answers, save at most {allowed}",
            f"{flips} others",
            AGAIN,
        )
    return f"{told}; model.onnx agrees on {figures.argmax_agreement:.1%}"


CHECKS: dict[str, Callable[[Folder, Failures], str]] = {
    "certificate": _certificate,
    "hashes": _hashes,
    "labels and golden set": _labels_and_golden,
    "normalisation": _normalisation,
    "form": _form,
    "ranges": _ranges,
    "codes": _codes,
    "edges": _edges,
    "ops": _ops,
    "golden answers": _answers,
}
RUN = frozenset(
    {"edges", "ops", "golden answers"}
)  # checks that run the file; one whose shapes do not fit is not run
