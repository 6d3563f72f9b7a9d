"""Proof that a .tflite is the network that was trained: form, ranges, codes, each op's arithmetic, answers on real images.

    full_integer, canonical, shapes, ranges, structure, weights, biases     `edgekd.proof.file_checks`, from the bytes alone
    edges        each op of the trained graph, fed with the file's inputs, gives the file's output: `edgekd.proof.trained_op_check`
    op_local     each op in each kernel family against exact arithmetic: `edgekd.proof.kernel_check`
    end_to_end   the trained network and the file agree on the test images: `edgekd.proof.answer_agreement`
    bound        labels, normalisation and golden set that belong to the file: `edgekd.proof.companion_files`

`edgekd verify` repeats all of it from a build folder, with model.onnx in the place of the trained network.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from edgekd.core.artifacts import (
    Blob,
    Certificate,
    Dataset,
    Evaluation,
    Exported,
    Inputs,
    Json,
    Labels,
    LiteModel,
    QuantNetwork,
    sha256,
)
from edgekd.core.context import Context
from edgekd.core.errors import DataError
from edgekd.data.datasets import input_images
from edgekd.pipeline.stage_settings import CertifySettings
from edgekd.proof import companion_files, expected_model
from edgekd.proof.answer_agreement import NOTHING, by_family, check_answers, second_runtime
from edgekd.proof.failures import Failures
from edgekd.proof.file_checks import (
    check_form,
    check_layers,
    check_ports,
    check_ranges,
    check_shapes,
    check_structure,
)
from edgekd.proof.golden import golden_npz
from edgekd.proof.kernel_check import NOT_RUN, check_ops
from edgekd.proof.trained_op_check import check_edges
from edgekd.settings.recipe import CertifyConfig
from edgekd.tflite.flatbuffer import read
from edgekd.tflite.runtime import load_runtime

SCHEMA = "edgekd.certificate/1"
OP_LOCAL_IMAGES = (
    4  # every op sees thousands of values an image; an image and family take a tenth of a second
)
FAMILY_IMAGES = 64  # the reference kernels are some 40 times as slow as XNNPACK


@dataclasses.dataclass(frozen=True)
class Published:
    """What is published beside the .tflite: model.onnx (Q/DQ form), the classes in the order of the outputs, golden.npz."""

    onnx: Blob
    labels: list[str]
    golden: bytes


def certify(
    qnet: QuantNetwork,
    lite: LiteModel,
    images: npt.NDArray[np.uint8],
    qat_logits: npt.NDArray[np.float32],
    config: CertifyConfig | None = None,
    published: Published | None = None,
) -> Certificate:
    """Compare a .tflite with the trained int8 network.

    `images`: uint8 [n >= 1, px, px, channels] (the test split). `qat_logits`: float32 [n, classes], the trained
    network's own outputs on them (`quantnet.predict`). `config` holds the gates on LSB and agreement; form, ranges, weights
    and biases have none to loosen. Without `published` the checks that need it are null in the body ("structure", "edges",
    "bound"), and `edgekd verify` refuses such a certificate. Never raises for a check that fails: see `body["passed"]` and
    `body["failures"]`. Raises ModelFileError for a file that cannot be read, DataError when images and logits do not fit.
    """
    config = config or CertifyConfig()
    if not len(images) or len(images) != len(qat_logits):
        raise DataError(
            f"{len(images)} images and {len(qat_logits)} rows of logits",
            "certify on the images predicted",
        )
    graph = read(lite.tflite)
    failures = Failures()
    trained = expected_model.from_trained(qnet)
    named = {
        row["tensor"]: row["edge"] for row in lite.correspondence if row["kind"] == "activation"
    }
    few = images[:OP_LOCAL_IMAGES]
    structure = edges = bound = onnx_sha256 = None
    head = {
        "canonical": check_form(lite.tflite, graph, failures),
        "shapes": check_shapes(graph, failures),
        "ranges": check_ranges(trained, named, graph, failures),
        **check_layers(trained, graph, failures),
    }
    check_ports(str(qnet.rules.get("io_dtype", "int8")), graph, failures)
    sound = not failures.of("shapes")
    companion_files.check_input(qnet.mean, qnet.std, graph.tensors[graph.inputs[0]], failures)
    if published is not None:
        golden = companion_files.read_golden(published.golden)
        few = golden["inputs"][:OP_LOCAL_IMAGES]  # the images that `edgekd verify` has, too
        onnx_sha256, bound = sha256(published.onnx), companion_files.bind(published.labels, golden)
        structure = check_structure(
            expected_model.from_onnx(published.onnx), named, graph, failures
        )
        edges = check_edges(published.onnx, lite.tflite, few, failures) if sound else None
    labels = golden_labels(published)
    figures: dict[str, Json] = {
        "op_local": dict(NOT_RUN),
        "end_to_end": {"images": 0, **NOTHING},
        "reference": {"runtime": None, "argmax_agreement": None},
    }
    if sound:
        figures = _run_checks(lite, few, images, qat_logits, config, failures, labels)
    body: dict[str, Json] = {
        "schema": SCHEMA,
        "model_sha256": sha256(lite.tflite),
        "onnx_sha256": onnx_sha256,
        "runtime": load_runtime()[0],
        "bound": bound,
        "correspondence": {tensor: edge for tensor, edge in named.items() if tensor != edge},
        **head,
        "structure": structure,
        "edges": edges,
        **figures,
        "failures": failures.rows,
    }
    return Certificate({**body, "failures_total": failures.count, "passed": failures.count == 0})


def golden_labels(published: Published | None) -> Labels:
    """How many labels an image has: the golden set's are one a row, or one a label."""
    return (
        "one"
        if published is None
        else companion_files.labels_of(companion_files.read_golden(published.golden))
    )


def _run_checks(
    lite: LiteModel,
    few: npt.NDArray[np.uint8],
    images: npt.NDArray[np.uint8],
    logits: npt.NDArray[np.float32],
    config: CertifyConfig,
    failures: Failures,
    labels: Labels,
) -> dict[str, Json]:
    """What needs a runtime: "op_local" on `few` images, "end_to_end" on all of them, "reference" where there is one."""
    part = slice(FAMILY_IMAGES)
    reference = second_runtime(lite.tflite, images[part], logits[part], labels)
    if reference["runtime"]:
        reference["op_local"] = check_ops(lite.tflite, few, failures, config.max_lsb, "tensorflow")
    return {
        "op_local": check_ops(lite.tflite, few, failures, config.max_lsb),
        "end_to_end": {
            **check_answers(lite.tflite, images, logits, failures, config.min_agreement, labels),
            "families": by_family(lite.tflite, images[part], logits[part], labels),
        },
        "reference": reference,
    }


def run(
    dataset: Dataset,
    inputs: Inputs,
    qat: QuantNetwork,
    exported: Exported,
    model: LiteModel,
    evaluation: Evaluation,
    *,
    settings: CertifySettings,
    context: Context,
) -> Certificate:
    """The stage: the whole test split, and the trained network's answers to it as the evaluation holds them."""
    del context  # nothing random
    logits = np.frombuffer(evaluation.logits, np.float32).reshape(
        len(evaluation.stages), -1, evaluation.classes
    )
    images = input_images(inputs, "test", len(qat.mean))
    published = Published(exported.qdq, dataset.classes, golden_npz(inputs, evaluation, qat))
    return certify(
        qat, model, images, logits[evaluation.stages.index("qat")], settings.config, published
    )
