"""data, inputs, float student, qat -> why: which operators int8 costs most, and which remedies help, on validation images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgekd.core.artifacts import Dataset, Inputs, Network, QuantNetwork, Sensitivity
from edgekd.core.context import Context
from edgekd.data import datasets
from edgekd.networks import builders
from edgekd.networks.inference import logits_of
from edgekd.quantization import remedies, sensitivity
from edgekd.quantization.qat_network import restore
from edgekd.settings.recipe import QatConfig
from edgekd.training import views

SCHEMA = "edgekd.why/1"
NOTHING = (
    1e-3  # nats: probabilities then move by 2.2 points at most on average (Pinsker: sqrt(KL / 2))
)
TRAINING_SHARE = 2.0  # times the other divergence, for training or rounding to be called the larger


@dataclasses.dataclass(frozen=True)
class Extent:
    """How much is measured. `images`: of the validation split, `fewer` for a student of more than `large` multiply-adds.

    Remedies are tried on the `worst` operators by their divergence alone, and on the `giving` ones that give back most
    when they alone stay in float.
    """

    # A divergence that matters shows in 256 images. Half as many keep MobileNetV2 at 224 px (300 M multiply-adds) a matter
    # of minutes on two cores.
    images: int = 256
    fewer: int = 128
    large: float = 100e6
    worst: int = 5
    giving: int = 3


def run(
    dataset: Dataset,
    inputs: Inputs,
    float_student: Network,
    trained: QuantNetwork,
    *,
    config: QatConfig,
    extent: Extent,
    context: Context,
) -> Sensitivity:
    """The sensitivity run as plain JSON (schema edgekd.why/1), without the time it took."""
    seed, progress = context.seed, context.progress
    channels = len(trained.mean)
    count = extent.fewer if float_student.facts["macs"] > extent.large else extent.images
    picked = np.sort(np.random.default_rng(seed).permutation(len(inputs.rows["val"]))[:count])
    images = datasets.input_images(inputs, "val", channels)[picked]
    labels = datasets.labels(dataset, "val")[picked]
    network = restore(trained, builders.create(trained.arch, trained.options))
    student = builders.restore(float_student)

    def batches(of: Any) -> list[Any]:
        return [
            builders.normalised(of[start : start + config.batch], trained.mean, trained.std)
            for start in range(0, len(of), config.batch)
        ]

    units = sensitivity.units(network)
    runs = sensitivity.measure(network, images, progress, context.checkpoint)
    ops = sensitivity.table(units, runs, labels, seed)
    _name_the_part(ops, units, network, images, runs, labels, context)

    by_name = {unit.name: (number, unit) for number, unit in enumerate(units)}
    names = _worth_a_remedy(ops, extent)
    reference = logits_of(student, batches(images))
    calibration = batches(datasets.input_images(inputs, "calibration", channels))
    more = _more_calibration(dataset, inputs, trained, config.batch, seed)
    case = remedies.Case(network, student, images, calibration, more, config, progress, seed)
    candidates = remedies.candidates(
        case,
        [by_name[name][1] for name in names],
        {name: runs.without[by_name[name][0]] for name in names},
    )
    best, tried = remedies.rank(candidates, runs.whole, reference, labels, seed)
    whole = sensitivity.compare(runs.whole, runs.float_, labels, seed)
    training = sensitivity.compare(runs.float_, reference, labels, seed)
    return Sensitivity(
        {
            "schema": SCHEMA,
            "split": "val",
            "images": len(images),
            "calibration": len(inputs.rows["calibration"]),
            "seed": seed,
            "whole": whole,
            "training": training,
            "reading": reading(whole, training),
            "ops": ops,
            "remedies": best,
            "tried": len(tried),
            "candidates": tried,
        }
    )


def _name_the_part(
    ops: list[dict[str, Any]],
    units: Sequence[Any],
    network: Any,
    images: Any,
    runs: Any,
    labels: Any,
    context: Context,
) -> None:
    """Say of the first rows of `ops` which part costs more, the weights or the activations. Changes `ops`."""
    by_name = {unit.name: unit for unit in units}
    told = [by_name[row["name"]] for row in ops[: sensitivity.SPLIT_OPS]]
    for name, parts in sensitivity.blame(network, images, told, context.progress).items():
        row = next(row for row in ops if row["name"] == name)
        kl = {
            part: sensitivity.compare(logits, runs.float_, labels, context.seed)["kl"]
            for part, logits in parts.items()
        }
        row["alone"] |= {f"{part}_kl": value for part, value in kl.items()}
        larger, smaller = sorted(kl, key=lambda part: -kl[part])
        row["part"] = larger if kl[larger] > sensitivity.MOSTLY * kl[smaller] else None


def _worth_a_remedy(ops: Sequence[Mapping[str, Any]], extent: Extent) -> list[str]:
    """Names of the operators that remedies are tried on, each once."""
    giving = sorted(ops, key=lambda row: row["without"]["rank"])[: extent.giving]
    return list(dict.fromkeys(row["name"] for row in [*ops[: extent.worst], *giving]))


def _more_calibration(
    dataset: Dataset, inputs: Inputs, trained: QuantNetwork, batch: int, seed: int
) -> list[Tensor]:
    """Batches of training images that calibration did not use, as many as it did; empty when there are none left."""
    calibrated = inputs.rows["calibration"]
    spare = sorted(set(datasets.rows(dataset, "train").tolist()) - set(calibrated))
    if not spare:
        return []
    rows = np.random.default_rng(seed).permutation(spare)[: len(calibrated)].astype(np.int64)
    render = views.Renderer(datasets.pixels(dataset), trained.px, trained.mean, trained.std)
    return [render.plain(part) for part in torch.from_numpy(np.sort(rows)).split(batch)]


def reading(whole: Mapping[str, Any], training: Mapping[str, Any]) -> str:
    """What the two divergences say of where to look: at the rounding to int8, or at the training with it."""
    told = (
        f"QAT's training moved the weights' answers {training['kl']:.3g} nats from the float student's, and rounding "
        f"them to int8 {whole['kl']:.3g} nats further"
    )
    if max(training["kl"], whole["kl"]) < NOTHING:
        return f"{told}: both next to nothing, so what follows ranks small differences."
    if training["kl"] > TRAINING_SHARE * whole["kl"]:
        return f"{told}: look at the training (qat.lr, qat.epochs, qat.alpha) before the ops."
    if whole["kl"] > TRAINING_SHARE * training["kl"]:
        return f"{told}: look at the ops below."
    return f"{told}: neither stands out."
