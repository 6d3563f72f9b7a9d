"""data -> teacher: a finished network of the user's that teaches exactly as it is."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from edgekd.core.artifacts import Dataset, Network
from edgekd.core.context import Context
from edgekd.core.errors import RecipeError
from edgekd.data import datasets, on_demand
from edgekd.data.on_demand import PixelRows
from edgekd.networks import builders, compute
from edgekd.networks.foreign import preprocessings
from edgekd.networks.foreign.model import TEACHER
from edgekd.networks.inference import precision
from edgekd.pipeline.stage_settings import GivenTeacherSettings
from edgekd.quantization import given_teacher
from edgekd.settings.teacher_settings import AS_IT_IS
from edgekd.training import views
from edgekd.training.processes import team
from edgekd.training.teacher_figures import TeacherFigures

SEED_OF_SAMPLE = 0  # of the images that the preprocessing is tested on


def run(dataset: Dataset, *, settings: GivenTeacherSettings, context: Context) -> Network:
    """The network as an artifact, with its figures on validation and test.

    Raises what reading it raises, and RecipeError where its answers show that the preprocessing is
    wrong.
    """
    made = given_teacher.network(settings.config)
    given_teacher.check_outputs(made, settings.config.model, dataset.classes)
    on = compute.of(context)
    net = on.place(builders.restore(made))
    pixels = on_demand.pixels(dataset, context.source)
    render = views.Renderer(pixels, made.px, made.mean, made.std, on.device)
    dtype = precision(settings.precision, net, on)
    figures = TeacherFigures(net, render, dataset, settings.batch, dtype)
    if dataset.labels == "one":
        _check_preprocessing(dataset, pixels, made, settings)
    for told in figures.told(str(made.facts["name"]), str(made.facts["weights"])):
        context.say(told)
    facts = {**made.facts, "mode": AS_IT_IS, "metrics": team().once(figures.both)}
    return dataclasses.replace(made, facts=facts)


def _check_preprocessing(
    dataset: Dataset, pixels: PixelRows, made: Network, settings: GivenTeacherSettings
) -> None:
    """Raise RecipeError when a usual preprocessing is right much more often."""
    labels = datasets.training_labels(dataset)
    known = np.flatnonzero(labels >= 0)
    stream = np.random.default_rng(SEED_OF_SAMPLE)
    rows = np.sort(stream.permutation(known)[: preprocessings.IMAGES])
    channels = len(made.mean)
    render = views.Renderer(pixels, made.px, [0.0] * channels, [1.0] * channels)
    plain = render.plain(torch.from_numpy(rows))
    shown = (plain.permute(0, 2, 3, 1) * 255).round().clamp(0, 255).to(torch.uint8).numpy()
    better = preprocessings.better(made, shown, labels[rows])
    if better is not None:
        raise RecipeError(
            f"{settings.config.model}: {better.told(TEACHER, settings.config.order)}",
            f"use {better.way.flags(TEACHER, settings.config.order)}",
        )
