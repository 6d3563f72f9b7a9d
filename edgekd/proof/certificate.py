"""The certificate: is a .tflite the network that was trained?

These are the checks, by the name that they have in a failure:

    full_integer, canonical   the form of the file: `form_checks`
    shapes                    the shape of every tensor follows from its operator: `shape_checks`
    ranges                    scales and zero points are the learned ones: `range_checks`
    structure                 operators and connections are the trained ones: `structure_checks`
    weights, biases           every code is the rounded trained value: `code_checks`
    edges                     each trained operator gives the file's output: `trained_op_check`
    op_local                  each operator against exact arithmetic: `kernel_check`
    end_to_end                the file agrees with the trained network: `answer_agreement`
    normalisation, labels, golden
                              the files that belong to the model: `companion_files`

`edgekd verify` repeats them from a build folder, with model.onnx in the place of the trained
network.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from edgekd.core.artifact_rows import FurtherRow
from edgekd.core.artifacts import Blob, Labels, LiteModel, QuantNetwork, sha256
from edgekd.core.errors import DataError
from edgekd.core.records import UNSET, UnsetType
from edgekd.proof import companion_files, expected_model
from edgekd.proof.answer_agreement import by_family, check_answers, second_runtime
from edgekd.proof.certificate_record import (
    Bound,
    CertificateBody,
    CheckedOps,
    Edges,
    EndToEnd,
    FurtherOutput,
    OpLocal,
    Reference,
)
from edgekd.proof.code_checks import check_layers, check_operands
from edgekd.proof.failures import Failures
from edgekd.proof.form_checks import check_form, check_ports
from edgekd.proof.further_outputs import check_further
from edgekd.proof.kernel_check import check_ops
from edgekd.proof.range_checks import check_ranges
from edgekd.proof.shape_checks import check_shapes
from edgekd.proof.structure_checks import check_structure
from edgekd.proof.trained_op_check import check_edges
from edgekd.tflite.flatbuffer import LiteGraph, read
from edgekd.tflite.runtime import load_runtime

# Every operator sees thousands of values in one image, and an image takes a tenth of a second in
# each kernel family.
OP_LOCAL_IMAGES = 4
# The comparison of kernel families has no gate, and the reference kernels are about 40 times as
# slow as XNNPACK: 0.15 s for an image of EfficientNet-Lite0 at 224 px. Of images above LARGE pixels
# a side it therefore takes fewer.
FAMILY_IMAGES, LARGE, FAMILY_IMAGES_IF_LARGE = 64, 128, 8


@dataclasses.dataclass(frozen=True)
class Gates:
    """What a file must reach. Form, ranges, weights and biases must be exact and have no gate.

    `max_lsb`: the largest difference of an operator that rounds. `min_agreement`: the share of
    answers that agree. The defaults are those of a recipe's [certify] table.
    """

    max_lsb: int = 1
    min_agreement: float = 0.995


@dataclasses.dataclass(frozen=True)
class Published:
    """What is published beside the .tflite: model.onnx in Q/DQ form, labels.txt and golden.npz.

    `labels`: the classes in the order of the outputs. `golden`: the bytes of golden.npz. `further`:
    the outputs beside the answers, and `trained` the trained network's codes of them, by the name
    of the array in golden.npz.
    """

    onnx: Blob
    labels: list[str]
    golden: bytes
    further: Sequence[FurtherRow] = ()
    trained: Mapping[str, npt.NDArray[np.int8]] = dataclasses.field(default_factory=dict)


def certify(
    qnet: QuantNetwork,
    lite: LiteModel,
    images: npt.NDArray[np.uint8],
    qat_logits: npt.NDArray[np.float32],
    gates: Gates = Gates(),
    published: Published | None = None,
    codes: npt.NDArray[np.int8] | None = None,
) -> CertificateBody:
    """Compare a .tflite with the trained int8 network.

    `images`: of the test split, uint8 [n, px, px, channels]. `qat_logits`: float32 [n, classes],
    the trained network's outputs. Without `published`, some blocks are None, and `verify` refuses.
    `codes`: int8 [n, classes], what the file gave in the default kernels, where it has run already.
    A check that fails does not raise: see `passed` and `failures`. Raises ModelFileError for a file
    that cannot be read, and DataError when images and logits do not fit.
    """
    if not len(images) or len(images) != len(qat_logits):
        raise DataError(
            f"{len(images)} images and {len(qat_logits)} rows of logits",
            "give one row of logits for each image, and at least one image",
        )
    graph, failures = read(lite.tflite), Failures()
    trained = expected_model.from_trained(qnet)
    named, orders = _places(lite)
    form, shapes = check_form(lite.tflite, graph, failures), check_shapes(graph, failures)
    ranges = check_ranges(trained, named, graph, failures)
    layers = check_layers(trained, graph, failures)
    check_operands(trained, named, orders, graph, failures)
    check_ports(str(qnet.rules.get("io_dtype", "int8")), graph, failures)
    runnable = not failures.of("shapes")
    companion_files.check_input(qnet.mean, qnet.std, graph.tensors[graph.inputs[0]], failures)
    beside = _Beside(few=images[:OP_LOCAL_IMAGES])
    if published is not None:
        beside = _check_published(published, lite, graph, named, orders, runnable, failures)
    figures = _Figures()
    if runnable:
        figures = _run(lite, beside, images, qat_logits, gates, codes, failures)
    return CertificateBody(
        model_sha256=sha256(lite.tflite),
        onnx_sha256=None if published is None else sha256(published.onnx),
        runtime=load_runtime()[0],
        bound=beside.bound,
        correspondence={tensor: edge for tensor, edge in named.items() if tensor != edge},
        orders=orders or UNSET,
        canonical=form,
        shapes=shapes,
        ranges=ranges,
        weights=layers.weights,
        biases=layers.biases,
        structure=beside.structure,
        edges=beside.edges,
        op_local=figures.op_local,
        end_to_end=figures.end_to_end,
        further_outputs=beside.further,
        reference=figures.reference,
        failures=failures.rows,
        failures_total=failures.count,
        passed=failures.count == 0,
    )


def _places(lite: LiteModel) -> tuple[dict[str, str], dict[str, list[int]]]:
    """{tensor: its edge} of activations and constant operands, and {tensor: order of its axes}."""
    named = {
        row["tensor"]: row["edge"]
        for row in lite.correspondence
        if row["kind"] in ("activation", "constant")
    }
    return named, {row["tensor"]: row["order"] for row in lite.correspondence if "order" in row}


@dataclasses.dataclass(frozen=True)
class _Beside:
    """What the published files give. `few`: the images for the checks of single operators."""

    few: npt.NDArray[np.uint8]
    labels: Labels = "one"
    bound: Bound | None = None
    structure: CheckedOps | None = None
    edges: Edges | None = None
    further: list[FurtherOutput] | UnsetType = UNSET


def _check_published(
    published: Published,
    lite: LiteModel,
    graph: LiteGraph,
    named: dict[str, str],
    orders: dict[str, list[int]],
    runnable: bool,
    failures: Failures,
) -> _Beside:
    golden = companion_files.read_golden(published.golden)
    few = golden["inputs"][:OP_LOCAL_IMAGES]  # the images that `edgekd verify` has, too
    claims = expected_model.from_onnx(published.onnx)
    further: list[FurtherOutput] | UnsetType = UNSET
    if published.further and runnable:
        shown = golden["inputs"]
        further = check_further(lite.tflite, shown, published.further, published.trained, failures)
    return _Beside(
        few=few,
        labels=companion_files.labels_of(golden),
        bound=companion_files.bind(published.labels, golden),
        structure=check_structure(claims, named, graph, failures),
        edges=(
            check_edges(published.onnx, lite.tflite, few, failures, orders) if runnable else None
        ),
        further=further,
    )


@dataclasses.dataclass(frozen=True)
class _Figures:
    """The blocks that need a runtime."""

    op_local: OpLocal = dataclasses.field(default_factory=lambda: OpLocal(by_op=[]))
    end_to_end: EndToEnd = dataclasses.field(default_factory=EndToEnd)
    reference: Reference = dataclasses.field(default_factory=Reference)


def _run(
    lite: LiteModel,
    beside: _Beside,
    images: npt.NDArray[np.uint8],
    logits: npt.NDArray[np.float32],
    gates: Gates,
    codes: npt.NDArray[np.int8] | None,
    failures: Failures,
) -> _Figures:
    few = FAMILY_IMAGES if images.shape[1] <= LARGE else FAMILY_IMAGES_IF_LARGE
    part, labels = slice(few), beside.labels
    reference = second_runtime(lite.tflite, images[part], logits[part], labels)
    if reference.runtime:
        op_local = check_ops(lite.tflite, beside.few, failures, gates.max_lsb, "tensorflow")
        reference = msgspec.structs.replace(reference, op_local=op_local)
    op_local = check_ops(lite.tflite, beside.few, failures, gates.max_lsb)
    end_to_end = check_answers(
        lite.tflite, images, logits, failures, gates.min_agreement, labels, codes
    )
    families = by_family(lite.tflite, images[part], logits[part], labels)
    return _Figures(op_local, msgspec.structs.replace(end_to_end, families=families), reference)
