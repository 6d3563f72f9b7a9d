"""source -> data: decoded images, labels and splits. source, data -> inputs: what the device will see."""

from __future__ import annotations

from edgekd.core.artifacts import Dataset, Inputs
from edgekd.core.context import Context
from edgekd.data import client_parts, dataset_builder, datasets, input_builder
from edgekd.settings.recipe import DataConfig, FederatedConfig


def run(
    *,
    config: DataConfig,
    fingerprint: str,
    context: Context,
    federated: FederatedConfig | None = None,
    parts_sha256: str = "",
) -> Dataset:
    """Decode every image once. `fingerprint` stands for the source's content in the stage's key.

    `federated`: how the training images are divided among clients.
    """
    found = dataset_builder.build_dataset(
        context.source,
        config,
        context.seed,
        lambda done, total: context.progress("images", done, total),
    )
    return found if federated is None else client_parts.divide(found, federated, context.seed)


def inputs(
    dataset: Dataset,
    *,
    px: int,
    fit: str,
    calibration: int,
    golden: int,
    channels: str,
    context: Context,
) -> Inputs:
    """Decode validation, test, calibration and golden images straight to the student's input size.

    `channels`: data.channels, which images of this data set can refuse, here and not after a teacher was trained.
    """
    datasets.student_channels(dataset, channels)
    return input_builder.build_inputs(
        context.source,
        dataset,
        px,
        context.seed,
        fit,
        calibration,
        golden,
        lambda done, total: context.progress("inputs", done, total),
    )
