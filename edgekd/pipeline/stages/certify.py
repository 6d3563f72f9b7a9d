"""distil, qat, export, convert, evaluate -> certify: is the .tflite the network that was
trained?
"""

from __future__ import annotations

import numpy as np

from edgekd.core.artifacts import (
    Certificate,
    Dataset,
    Evaluation,
    Exported,
    Inputs,
    LiteModel,
    QuantNetwork,
)
from edgekd.core.context import Context
from edgekd.core.records import to_json
from edgekd.data.datasets import input_images
from edgekd.pipeline.stage_settings import CertifySettings
from edgekd.proof.certificate import Gates, Published, certify
from edgekd.proof.golden import further_arrays, golden_npz


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
    """Certify on the whole test split, with the trained network's outputs from the evaluation."""
    del context  # nothing random
    logits = np.frombuffer(evaluation.logits, np.float32).reshape(
        len(evaluation.stages), -1, evaluation.classes
    )
    body = certify(
        qat,
        model,
        input_images(inputs, "test", len(qat.mean)),
        logits[evaluation.stages.index("qat")],
        Gates(settings.config.max_lsb, settings.config.min_agreement),
        Published(
            exported.qdq,
            dataset.classes,
            golden_npz(inputs, evaluation, qat),
            evaluation.further,
            further_arrays(evaluation, evaluation.further_trained),
        ),
        np.frombuffer(evaluation.codes, np.int8).reshape(logits.shape[1:]),
    )
    return Certificate(to_json(body))
