"""data, inputs, float student, qat -> why: which operators lose most by int8, and which remedies
help.

Measured on validation images. `edgekd report --why` runs this stage; a build does not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgekd.core.artifacts import Dataset, Inputs, Network, QuantNetwork, Sensitivity
from edgekd.core.context import Context
from edgekd.core.records import to_json
from edgekd.data import datasets, on_demand
from edgekd.networks import builders, compute
from edgekd.networks.inference import logits_of
from edgekd.pipeline.stage_settings import SensitivitySettings
from edgekd.quantization import framing, remedies, remedy_ranking, rerun, sensitivity
from edgekd.quantization.qat_network import QatNetwork
from edgekd.quantization.restoring import rebuild
from edgekd.quantization.sensitivity_record import (
    Divergence,
    OperatorSensitivity,
    Remedy,
    SensitivityReport,
)
from edgekd.training import views

# In nats. Probabilities then move by at most 2.2 points on average (Pinsker: sqrt(KL / 2)).
NOTHING = 1e-3
# One of the two divergences is called the larger when it is at least this many times the other.
LARGER = 2.0

Floats = npt.NDArray[np.floating]


@compute.in_full_float32
def run(
    dataset: Dataset,
    inputs: Inputs,
    float_student: Network,
    trained: QuantNetwork,
    *,
    settings: SensitivitySettings,
    context: Context,
) -> Sensitivity:
    """The sensitivity run as JSON (schema edgekd.why/1), without the time that it took."""
    config, seed = settings.config, context.seed
    channels = len(trained.mean)
    large = float_student.facts["macs"] > settings.large
    count = settings.fewer if large else settings.images
    picked = np.sort(np.random.default_rng(seed).permutation(len(inputs.rows["val"]))[:count])
    images = datasets.network_images(inputs, "val", channels)[picked]
    labels = datasets.labels(dataset, "val")[picked]
    student = builders.restore(float_student)
    if trained.frame:  # its reduction has no remedy
        trained = framing.framed(trained, student, ())
    network = rebuild(trained)

    units = rerun.units(network)
    runs = sensitivity.measure(network, images, context.progress, context.checkpoint)
    ops = sensitivity.table(units, runs, labels, seed)
    ops = _with_parts(ops, units, network, images, runs, labels, context)

    reference = logits_of(student, _batches(images, trained, config.batch))
    shown = datasets.network_images(inputs, "calibration", channels)
    calibration = _batches(shown, trained, config.batch)
    more = _more_calibration(dataset, inputs, trained, config.batch, context)
    case = remedies.Case(
        network, student, images, calibration, more, config, context.progress, seed
    )
    best, tried = _remedies(case, units, runs, _worth_a_remedy(ops, settings), reference, labels)
    whole = sensitivity.compare(runs.whole, runs.float_, labels, seed)
    training = sensitivity.compare(runs.float_, reference, labels, seed)
    report = SensitivityReport(
        split="val",
        images=len(images),
        calibration=len(inputs.rows["calibration"]),
        seed=seed,
        whole=whole,
        training=training,
        reading=reading(whole, training),
        ops=ops,
        remedies=best,
        tried=len(tried),
        candidates=tried,
    )
    return Sensitivity(to_json(report))


def _batches(images: npt.NDArray[np.uint8], trained: QuantNetwork, batch: int) -> list[Tensor]:
    """Normalised batches of images uint8 [n, px, px, channels]."""
    return [
        builders.normalised(images[start : start + batch], trained.mean, trained.std)
        for start in range(0, len(images), batch)
    ]


def _remedies(
    case: remedies.Case,
    units: Sequence[rerun.Unit],
    runs: sensitivity.Runs,
    names: Sequence[str],
    reference: Floats,
    labels: npt.NDArray[np.int64],
) -> tuple[list[Remedy], list[Remedy]]:
    """(the best remedies, all that were tried) for the operators `names`."""
    by_name = {unit.name: (number, unit) for number, unit in enumerate(units)}
    candidates = remedies.candidates(
        case,
        [by_name[name][1] for name in names],
        {name: runs.without[by_name[name][0]] for name in names},
    )
    return remedy_ranking.rank(candidates, runs.whole, reference, labels, case.seed)


def _with_parts(
    ops: Sequence[OperatorSensitivity],
    units: Sequence[rerun.Unit],
    network: QatNetwork,
    images: npt.NDArray[np.uint8],
    runs: sensitivity.Runs,
    labels: npt.NDArray[np.int64],
    context: Context,
) -> list[OperatorSensitivity]:
    """The rows, the first of them with the costs of their weights and of their range apart."""
    by_name = {unit.name: unit for unit in units}
    chosen = [by_name[row.name] for row in ops[: sensitivity.SPLIT_OPS]]
    parts = sensitivity.blame(network, images, chosen, context.progress)
    return [
        sensitivity.with_parts(row, parts[row.name], runs, labels, context.seed)
        if row.name in parts
        else row
        for row in ops
    ]


def _worth_a_remedy(ops: Sequence[OperatorSensitivity], settings: SensitivitySettings) -> list[str]:
    """Names of the operators that remedies are tried on, each once."""
    giving = sorted(ops, key=lambda row: row.without.rank)[: settings.giving]
    return list(dict.fromkeys(row.name for row in [*ops[: settings.worst], *giving]))


def _more_calibration(
    dataset: Dataset, inputs: Inputs, trained: QuantNetwork, batch: int, context: Context
) -> list[Tensor]:
    """Batches of training images that calibration did not use, as many as it did; [] when there are
    none.
    """
    calibrated = inputs.rows["calibration"]
    spare = sorted(set(datasets.rows(dataset, "train").tolist()) - set(calibrated))
    if not spare:
        return []
    rows = (
        np.random.default_rng(context.seed).permutation(spare)[: len(calibrated)].astype(np.int64)
    )
    pixels = on_demand.pixels(dataset, context.source)
    render = views.Renderer(pixels, trained.px, trained.mean, trained.std)
    return [render.plain(part) for part in torch.from_numpy(np.sort(rows)).split(batch)]


def reading(whole: Divergence, training: Divergence) -> str:
    """Where to look first, by the divergence of the rounding to int8 and that of the training with
    it.
    """
    told = (
        f"QAT's training moved the weights' answers {training.kl:.3g} nats from the float "
        f"student's, and rounding them to int8 moved them {whole.kl:.3g} nats further"
    )
    if max(training.kl, whole.kl) < NOTHING:
        return f"{told}. Both are close to nothing: the tables below rank small differences."
    if training.kl > LARGER * whole.kl:
        return f"{told}. Look at the training (qat.lr, qat.epochs, qat.alpha) before the operators."
    if whole.kl > LARGER * training.kl:
        return f"{told}. Look at the operators below."
    return f"{told}. Neither stands out."
