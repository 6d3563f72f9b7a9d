"""source -> data: decoded images, labels and splits. source, data -> inputs: what the device will
see.
"""

from __future__ import annotations

from edgekd.core.artifacts import Dataset, Inputs
from edgekd.core.context import Context
from edgekd.data import client_parts, dataset_builder, datasets, input_builder, unsorted
from edgekd.data.decoding import AHEAD
from edgekd.pipeline.pretrain_settings import UnlabelledSettings
from edgekd.pipeline.stage_settings import DataSettings, InputsSettings


def run(*, settings: DataSettings, context: Context) -> Dataset:
    """Decode every image once. With `settings.federated`, divide the training images among clients.

    Raises DataError for images or labels that cannot be used.
    """
    found = dataset_builder.build_dataset(
        context.source,
        settings.config,
        context.seed,
        lambda done, total: context.progress("images", done, total),
    )
    if settings.federated is None:
        return found
    return client_parts.divide(found, settings.federated, context.seed)


def unlabelled(*, settings: UnlabelledSettings, context: Context) -> Dataset:
    """Decode images of which none has a label, to train and validate on. Raises DataError."""
    return unsorted.build(
        context.source,
        settings.config,
        [],
        context.seed,
        lambda done, total: context.progress("images", done, total),
    )


def inputs(dataset: Dataset, *, settings: InputsSettings, context: Context) -> Inputs:
    """Decode validation, test, calibration and golden images straight to the student's input size.

    Raises RecipeError when `settings.channels` does not fit the images: here, before a teacher is
    trained.
    """
    datasets.student_channels(dataset, settings.channels)
    found = input_builder.build_inputs(
        context.source,
        dataset,
        settings.px,
        context.seed,
        settings.fit,
        settings.calibration,
        settings.golden,
        settings.resizers,
        settings.frame,
        lambda done, total: context.progress("inputs", done, total),
    )
    AHEAD.forget()  # no stage behind this one asks for images of this size
    return found
